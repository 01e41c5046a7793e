//! What is granted and what of it was used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use local_cloud::Decision;
use serde_json::Value;
use shipway_tests::{
    rights::{roles, shown},
    template::{items, names, statements, template},
};

use crate::unused::{UNUSED, Unused};

/// An action or a resource of a role's statement.
type Grant = (String, String, String);

/// What was used of what is granted.
pub struct Comparison {
    /// How often each was used.
    granted: BTreeMap<Grant, u64>,
    /// The resources of statements with several, and how often each was meant.
    resources: BTreeMap<Grant, u64>,
}

impl Comparison {
    /// Of all that tests left in a folder.
    ///
    /// # Errors
    /// Nothing is there, or what is there is not of this template.
    pub fn of(folder: &Path) -> Result<Comparison> {
        let mut decisions = Vec::new();
        let files =
            std::fs::read_dir(folder).with_context(|| format!("{}: no test left anything", folder.display()))?;
        for file in files {
            decisions.extend(serde_json::from_slice::<Vec<Decision>>(&std::fs::read(file?.path())?)?);
        }
        Comparison::with(&template()?, &decisions)
    }

    fn with(template: &Value, decisions: &[Decision]) -> Result<Comparison> {
        let mut compared = Comparison { granted: BTreeMap::new(), resources: BTreeMap::new() };
        let mut resources_of = BTreeMap::new();
        for role in roles(template) {
            for statement in statements(template, role)?.into_iter().filter(|one| one["Effect"] == "Allow") {
                let sid = statement["Sid"].as_str().with_context(|| format!("{role} has a statement without a Sid"))?;
                for action in names(&statement["Action"]) {
                    compared.granted.insert((role.into(), sid.into(), action.into()), 0);
                }
                let resources: Vec<String> = items(&statement["Resource"]).iter().map(shown).collect();
                for resource in resources.iter().filter(|_| resources.len() > 1) {
                    compared.resources.insert((role.into(), sid.into(), resource.clone()), 0);
                }
                resources_of.insert((role.to_owned(), sid.to_owned()), resources);
            }
        }
        for decision in decisions.iter().filter(|decision| decision.allowed) {
            compared.count(decision, &resources_of)?;
        }
        Ok(compared)
    }

    fn count(&mut self, decision: &Decision, resources_of: &BTreeMap<(String, String), Vec<String>>) -> Result<()> {
        let Decision { role, action, statement, position, times, .. } = decision;
        let used = self
            .granted
            .iter_mut()
            .find(|((of, sid, named), _)| of == role && sid == statement && is_one_of(action, named));
        let (_, used) = used.with_context(|| {
            format!("{role} used {action}, which no statement grants: what tests left is of another template")
        })?;
        *used += times;
        let resources = resources_of.get(&(role.clone(), statement.clone()));
        let resource = position.and_then(|position| resources?.get(position));
        if let Some(resource) = resource
            && let Some(used) = self.resources.get_mut(&(role.clone(), statement.clone(), resource.clone()))
        {
            *used += times;
        }
        Ok(())
    }

    /// Whether everything that is granted was used, but for what [`UNUSED`] gives a reason for, and nothing else has one.
    ///
    /// # Errors
    /// What was never used without a reason, and what has a reason but is not granted.
    pub fn hold(&self) -> Result<()> {
        let wrong = self.wrong(UNUSED);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    fn wrong(&self, reasons: &[Unused]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut holding = BTreeSet::new();
        for Row { role, statement, what, times } in self.rows() {
            match reasons.iter().position(|unused| unused.is_for(role, statement, what)) {
                Some(index) => drop(holding.insert(index)),
                None if times == 0 => wrong.push(format!("{role} {statement} grants {what}, which no test used")),
                None => {}
            }
        }
        // What has a reason may be used once in a while, as what happens at the same time comes in any order.
        let stale = reasons.iter().enumerate().filter(|(index, _)| !holding.contains(index));
        wrong.extend(stale.map(|(_, unused)| format!("it is not granted: {unused:?}")));
        wrong
    }

    /// What is granted: actions, then the resources of statements with several.
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.granted.iter().chain(&self.resources).map(|((role, statement, what), times)| Row {
            role,
            statement,
            what,
            times: *times,
        })
    }
}

/// A line of the table.
struct Row<'a> {
    role: &'a str,
    statement: &'a str,
    what: &'a str,
    times: u64,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Row { role, statement, what, times } in self.rows() {
            let why = UNUSED.iter().find(|unused| times == 0 && unused.is_for(role, statement, what));
            let why = why.map_or("", |unused| unused.why);
            writeln!(f, "{role:<22} {statement:<26} {what:<54} {times:>7}  {why}")?;
        }
        let mut sums: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
        for ((role, ..), times) in &self.granted {
            let [granted, used] = sums.entry(role).or_default();
            *granted += 1;
            *used += usize::from(*times > 0);
        }
        writeln!(f, "\n{:<22} {:>7} {:>7} {:>7}", "actions:", "granted", "used", "unused")?;
        for (role, [granted, used]) in sums {
            writeln!(f, "{role:<22} {granted:>7} {used:>7} {:>7}", granted - used)?;
        }
        Ok(())
    }
}

/// Whether an action is what a policy names, which may end with a `*`.
fn is_one_of(action: &str, named: &str) -> bool {
    named.strip_suffix('*').map_or(action == named, |start| action.starts_with(start))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decision(action: &str, position: usize) -> Decision {
        Decision {
            role: "WorkerRole".to_owned(),
            action: action.to_owned(),
            statement: "Work".to_owned(),
            position: Some(position),
            resource: String::new(),
            allowed: true,
            times: 2,
        }
    }

    fn worker() -> Value {
        let statement =
            json!({"Sid": "Work", "Effect": "Allow", "Action": ["s3:GetObject", "sqs:Get*"], "Resource": ["a", "b"]});
        let policies = json!([{"PolicyDocument": {"Statement": [statement]}}]);
        json!({"Resources": {"WorkerRole": {"Type": "AWS::IAM::Role", "Properties": {"Policies": policies}}}})
    }

    #[test]
    fn what_no_test_used_is_named_and_so_is_a_reason_that_is_none() -> Result<()> {
        let compared = Comparison::with(&worker(), &[decision("sqs:GetQueueUrl", 1)])?;
        let unused = |what| [Unused { roles: &["WorkerRole"], statement: "Work", what, why: "only on AWS" }];
        let no_test = |what| format!("WorkerRole Work grants {what}, which no test used");
        assert_eq!(compared.wrong(&[]), [no_test("s3:GetObject"), no_test("a")]);
        assert!(compared.wrong(&unused(&["s3:GetObject", "a"])).is_empty());
        let stale = compared.wrong(&unused(&["sqs:SendMessage"]));
        assert!(stale.len() == 3 && stale[2].starts_with("it is not granted"), "{stale:?}");
        assert!(Comparison::with(&worker(), &[decision("sqs:SendMessage", 0)]).is_err(), "it is of another template");
        Ok(())
    }
}
