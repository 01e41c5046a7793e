//! What a stack should be.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use sha2::{Digest as _, Sha256};

use super::{Observed, StackName};

/// The tag with the hash of a stack's inputs: a stack that has it already is not touched.
pub const INPUTS_TAG: &str = "shipway:inputs";

/// The parameter of what holds data that says what becomes of it: `Retain`, `Snapshot` or `Delete`.
pub(super) const ON_DELETE: &str = "OnDelete";

/// The tag of a stack that a teardown leaves.
pub const KEEP_TAG: &str = "shipway:keep";

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Concern {
    /// A repository for images, shared by an app's environments.
    Repository,
    /// The cluster that services run on.
    Cluster,
    /// The load balancer and its listener.
    LoadBalancer,
    /// A service's log, roles, target group and rule.
    Service,
    /// A site's bucket and distribution.
    Site,
    /// A certificate.
    Certificate,
    /// The bucket that the load balancer logs to.
    AccessLogs,
    /// The DNS records of a host.
    Records,
    /// The instances that tasks run on.
    Instances,
    /// The namespace in which services find each other.
    Discovery,
    /// The log of the network's traffic.
    FlowLogs,
    /// A database server with its secrets.
    Database,
    /// The weekly export of a database.
    Export,
    /// A cache.
    Cache,
    /// A bucket for a service's files.
    Bucket,
    /// A generated secret.
    Secret,
    /// An email identity.
    Email,
    /// Who is told of alarms.
    Notifications,
    /// The alarms of a service or a database.
    Alarms,
    /// The dashboard.
    Dashboard,
    /// One of the user's own.
    Own,
}

/// A parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Known now.
    Text(String),
    /// Known when another stack stands.
    Output {
        /// The other stack.
        stack: StackName,
        /// Its output.
        key: Cow<'static, str>,
    },
    /// Known when the network stands.
    OfNetwork,
    /// What the stack has for a parameter already: others than us change it, so it is no part of what the stack should be.
    Kept {
        /// The parameter, which may be another one.
        parameter: &'static str,
        /// What it is where the stack has no such parameter yet.
        first: u32,
    },
    /// Several, between commas. Empty ones are left out.
    List(Vec<Value>),
    /// Several, one directly after the other.
    Joined(Vec<Value>),
}

impl Value {
    /// The text of one that is made of several.
    pub(super) fn put_together(&self, mut texts: Vec<String>) -> String {
        match self {
            Value::Joined(_) => texts.concat(),
            _ => {
                texts.retain(|text| !text.is_empty());
                texts.join(",")
            }
        }
    }

    /// The text, where all that it is made of is there.
    pub(super) fn known(&self, observed: &Observed) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Output { stack, key } => observed.get(stack)?.outputs.get(key.as_ref()).cloned(),
            Value::OfNetwork | Value::Kept { .. } => None,
            Value::List(values) | Value::Joined(values) => {
                let texts: Option<Vec<_>> = values.iter().map(|value| value.known(observed)).collect();
                Some(self.put_together(texts?))
            }
        }
    }

    /// Adds the stacks whose outputs it is made of.
    fn add_stacks(&self, stacks: &mut BTreeSet<StackName>) {
        match self {
            Value::Text(_) | Value::OfNetwork | Value::Kept { .. } => {}
            Value::Output { stack, .. } => {
                stacks.insert(stack.clone());
            }
            Value::List(values) | Value::Joined(values) => values.iter().for_each(|value| value.add_stacks(stacks)),
        }
    }
}

/// The parameters of a stack, by name.
pub type Parameters = BTreeMap<Cow<'static, str>, Value>;

pub(super) fn parameters<const N: usize>(parameters: [(&'static str, Value); N]) -> Parameters {
    parameters.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect()
}

pub(super) fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

/// A stack that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedStack {
    /// Its name.
    pub name: StackName,
    /// What it is for.
    pub concern: Concern,
    /// Its template.
    pub template: Cow<'static, str>,
    /// The region it is made in, where that is not the environment's own.
    pub region: Option<&'static str>,
    /// The role that CloudFormation makes it with, where that is not Shipway's own.
    pub role: Option<String>,
    /// Its parameters; every one the template has, so that none keeps an old value that is not [`Value::Kept`].
    pub parameters: Parameters,
    /// The tags that say whose it is. CloudFormation passes them on to what the stack makes.
    pub tags: BTreeMap<&'static str, String>,
    /// Whether it needs something of the network.
    pub needs_network: bool,
}

impl WantedStack {
    /// The stacks whose outputs it needs.
    pub fn stands_on(&self) -> BTreeSet<StackName> {
        let mut stacks = BTreeSet::new();
        self.parameters.values().for_each(|value| value.add_stacks(&mut stacks));
        stacks
    }

    /// Whether it may be deleted only after its termination protection was lifted, which nothing but a teardown does; nothing
    /// where it holds no data, and the protection is whoever's.
    pub(super) fn protected(&self) -> Option<bool> {
        let holds_data = matches!(self.concern, Concern::Database | Concern::Cache | Concern::Bucket);
        holds_data.then(|| self.parameters.get(ON_DELETE) != Some(&Value::Text("Delete".to_owned())))
    }

    /// The parameters that others change.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Cow<'static, str>> {
        self.parameters.iter().filter(|(_, value)| matches!(value, Value::Kept { .. })).map(|(key, _)| key)
    }

    /// The hash of all that decides what the stack is.
    pub(super) fn inputs(&self, parameters: &BTreeMap<Cow<'static, str>, String>) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        add(self.name.as_str());
        add(&self.template);
        let kept: BTreeSet<_> = self.kept().collect();
        for (key, value) in parameters.iter().filter(|(key, _)| !kept.contains(key)) {
            add(key);
            add(value);
        }
        for (key, value) in &self.tags {
            add(key);
            add(value);
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}
