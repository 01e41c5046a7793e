//! `shipway plan`: what applying a manifest would do, and what it would cost.
//!
//! It only looks: at the table, at EC2, at CloudFormation's stacks and their templates. The decisions are the functions' own.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::TemplateStage;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use shipway_aws::{
    AwsError, PublicError as _,
    store::{EnvironmentRecord, Teardown},
};
use shipway_domain::{
    failure::Failure,
    manifest::Spec,
    name::{Component, EnvironmentName},
    network::{Desired, Progress, Remembered},
    plan::{self, Looked, Plan, Standing},
    platform::{self, Names, ObservedStack, StackName, Wish},
    release::ComponentState,
};
use shipway_ec2::Ec2Error;

use crate::{
    cli::{self, Shared},
    exit::Exit,
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::{self, Screen},
};

/// The region of a plan for which AWS is not asked, unless another is said.
const OFFLINE_REGION: &str = "us-east-1";

/// How many requests to CloudFormation are under way at once: it takes few a second.
const AT_A_TIME: usize = 4;

/// Plans.
pub(crate) async fn run(asked: &cli::Plan, shared: &Shared, screen: &Screen) -> Result<Exit, Problem> {
    let (place, spec, others) = asked.place.specs()?;
    let plan = if asked.offline {
        plan::offline(&spec, &place.environment, &offline_region(shared))
    } else {
        let installation = Installation::find(shared).await?;
        screen.draw_waiting("looking at what stands");
        let plan = looked(&installation, &place, &spec, &others).await;
        screen.cleared();
        plan?
    };
    for line in plan.lines() {
        screen.line(screen::toned(&line));
    }
    screen.document(&plan);
    Ok(exit(&plan, asked.exit_code))
}

fn exit(plan: &Plan, told: bool) -> Exit {
    match plan {
        plan if plan.is_refused() => Exit::Rejected,
        plan if told && plan.does_something() => Exit::Drift,
        _ => Exit::Done,
    }
}

fn offline_region(shared: &Shared) -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|region| !region.is_empty());
    let said = shared.region.clone().or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
    said.unwrap_or_else(|| OFFLINE_REGION.to_owned())
}

async fn looked(
    installation: &Installation,
    place: &Place,
    spec: &Spec,
    others: &[(EnvironmentName, Spec)],
) -> Result<Plan, Problem> {
    let Place { app, environment } = place;
    let store = installation.store().await?;
    let record = store.environment(app, environment).await?.unwrap_or_default();
    let applied = record.applied.as_ref().map(|applied| &applied.spec);
    let planned = record.planned.as_ref().map(|planned| &planned.spec);
    let platform = store.component(app, environment, &Component::Platform).await?;
    let notes = notes(&record, &platform, Timestamp::now());
    let stands_in = stands_in(installation.output(Output::RoleBoundary).await?, installation.region())?;
    let wish = |spec| Wish { spec, environment, place: &stands_in, network: record.network.as_ref() };
    let mut names = BTreeMap::new();
    for wish in std::iter::once(spec).chain(applied).chain(planned).map(wish) {
        // Where the manifest asks for more than a stack can hold, the plan says so.
        let wanted = platform::stacks(&wish, &platform::Observed::new()).unwrap_or_default();
        names.extend(wanted.into_iter().map(|stack| (stack.name, stack.region)));
    }
    // What SES has once, another environment may have.
    for (environment, spec) in others {
        let names_there = Names { app, environment };
        names.extend(spec.email.keys().map(|email| (names_there.email(email), None)));
    }
    let progress: Option<Progress> = store.memory_of(app, environment, Progress::NAME).await?;
    let remembered = Remembered {
        vpc: record.network.as_ref().map(|network| network.vpc.clone()),
        progress: progress.unwrap_or_default().taken_over(),
    };
    let desired = Desired::of(app, environment, spec, applied);
    let network = match Box::pin(installation.ec2().look(&desired, remembered)).await {
        Ok(observed) => Some(observed),
        // What cannot be looked at is told in the plan.
        Err(Ec2Error::Refused(error)) if error.failure() == Failure::Denied => None,
        Err(Ec2Error::Refused(error) | Ec2Error::Behind(error)) => return Err(Problem::from(error).at(place)),
        Err(error) => return Err(Problem::new(error.to_string()).at(place)),
    };
    let (stacks, templates) = Stacks { installation, place }.all(names).await?;
    Ok(plan::plan(&Looked {
        spec,
        environment,
        place: &stands_in,
        applied,
        planned,
        network: network.as_ref(),
        outputs: record.network.as_ref(),
        stacks: Standing { stacks: &stacks, templates: &templates },
        notes: &notes,
        kept: record.teardown.as_ref().map_or(&[], |teardown| &teardown.kept),
        offline: false,
    }))
}

/// What is known of the environment that a comparison does not show.
fn notes(record: &EnvironmentRecord, platform: &ComponentState, now: Timestamp) -> Vec<String> {
    let claim = platform.claim.as_ref().filter(|claim| claim.until > now);
    let mut notes = Vec::new();
    match (claim, &record.teardown) {
        (Some(claim), _) => notes.push(format!(
            "{} is under way; what it still changes is not in this plan: plan again when it ended",
            claim.release
        )),
        (None, Some(Teardown { torn_down_at: None, since, release, .. })) => notes.push(format!(
            "a teardown began at {since} ({release}) and did not come to its end; applying makes the environment again"
        )),
        // What it kept is told where it would be made again.
        (None, Some(_)) => {}
        (None, None) => {
            let begun = record.planned.as_ref().filter(|planned| record.applied.as_ref() != Some(*planned));
            notes.extend(begun.map(|begun| {
                format!(
                    "the last provisioning ({}) did not come to its end; what it made is in this plan as it stands",
                    begun.artifact
                )
            }));
        }
    }
    notes
}

/// Where stacks are made: as the ARN of the policy that bounds their roles says it.
fn stands_in(boundary: String, region: &str) -> Result<platform::Place, Problem> {
    platform::Place::bounded_by(boundary, region.to_owned()).map_err(|error| {
        Problem::new(error.to_string())
            .remedy("put the output RoleBoundary of Shipway's stack into SHIPWAY_ROLE_BOUNDARY")
    })
}

/// The stacks of an environment, as CloudFormation shows them.
struct Stacks<'a> {
    installation: &'a Installation,
    place: &'a Place,
}

impl Stacks<'_> {
    /// The stacks of these names that are there, and their templates.
    async fn all(
        &self,
        names: BTreeMap<StackName, Option<&'static str>>,
    ) -> Result<(platform::Observed, BTreeMap<StackName, String>), Problem> {
        let looks =
            names.into_iter().map(async |(name, region)| Ok::<_, Problem>((self.one(&name, region).await?, name)));
        let seen: Vec<_> = stream::iter(looks).buffered(AT_A_TIME).try_collect().await?;
        let (mut stacks, mut templates) = (BTreeMap::new(), BTreeMap::new());
        for (seen, name) in seen {
            let Some((stack, template)) = seen else { continue };
            templates.extend(template.map(|template| (name.clone(), template)));
            stacks.insert(name, stack);
        }
        Ok((stacks, templates))
    }

    async fn one(
        &self,
        name: &StackName,
        region: Option<&'static str>,
    ) -> Result<Option<(ObservedStack, Option<String>)>, Problem> {
        let client = self.installation.stacks(region);
        let told = |error: AwsError| Problem::from(error).at(format!("the stack {name} of {}", self.place));
        let described = shipway_stacks::describe(&client, name.as_str()).await.map_err(told)?;
        let Some(stack) = described else { return Ok(None) };
        // As it was handed over, not as macros have made it.
        let template = client.get_template().stack_name(&stack.id).template_stage(TemplateStage::Original).send().await;
        let template = template.map_err(AwsError::of("cloudformation:GetTemplate")).map_err(told)?;
        Ok(Some((stack, template.template_body)))
    }
}

#[cfg(test)]
mod tests {
    use shipway_aws::store::Manifest;
    use shipway_domain::{
        manifest,
        name::ReleaseId,
        release::{Artifact, Claim},
    };

    use super::*;

    #[test]
    fn a_boundary_that_is_no_policy_is_told_with_the_setting() {
        let problem = stands_in("shipway-RoleBoundary".to_owned(), "eu-west-1").unwrap_err().to_string();
        assert!(problem.contains("`shipway-RoleBoundary` is not the ARN of a policy"), "{problem}");
        assert!(problem.contains("SHIPWAY_ROLE_BOUNDARY"), "{problem}");
    }

    #[test]
    fn what_a_comparison_does_not_show_is_told() {
        let text = "version: 1\napp: hello\nsites: {web: {}}\nenvironments: {prod: {}}\n";
        let (_, spec) = manifest::read_all(text).unwrap().remove(0);
        let manifest = |version: &str| Manifest {
            artifact: Artifact::Object { key: "apps/hello/prod/shipway.yaml".to_owned(), version: version.to_owned() },
            spec: spec.clone(),
        };
        let now = Timestamp::UNIX_EPOCH;
        let release: ReleaseId = "20261121T120000000-012345".parse().unwrap();
        let told = |record: &EnvironmentRecord, until: Option<i64>| {
            let claim = until.map(|until| Claim {
                release: release.clone(),
                fence: 1,
                until: Timestamp::from_second(until).unwrap(),
                committed: false,
            });
            notes(record, &ComponentState { claim, ..ComponentState::default() }, now).join("; ")
        };
        let stands = EnvironmentRecord {
            planned: Some(manifest("1")),
            applied: Some(manifest("1")),
            ..EnvironmentRecord::default()
        };
        assert_eq!(told(&stands, None), "");
        assert_eq!(told(&stands, Some(-1)), "", "a claim that ran out is nobody's");
        assert!(told(&stands, Some(1)).contains("is under way; what it still changes is not in this plan"));
        let cut = EnvironmentRecord { planned: Some(manifest("2")), ..stands.clone() };
        assert!(told(&cut, None).starts_with("the last provisioning ("), "{}", told(&cut, None));
        let teardown = |torn_down_at| Teardown {
            release: release.clone(),
            since: now,
            torn_down_at,
            kept: vec!["the bucket files".to_owned()],
        };
        let going = EnvironmentRecord { teardown: Some(teardown(None)), ..cut.clone() };
        assert!(told(&going, None).contains("did not come to its end; applying makes the environment again"));
        let gone = EnvironmentRecord { teardown: Some(teardown(Some(now))), ..EnvironmentRecord::default() };
        assert_eq!(told(&gone, None), "");
    }

    #[test]
    fn what_is_to_do_is_no_failure_unless_that_is_asked_for() {
        let text = "version: 1\napp: hello\nsites: {web: {}}\nenvironments: {prod: {}}\n";
        let (environment, spec) = manifest::read_all(text).unwrap().remove(0);
        let plan = plan::offline(&spec, &environment, OFFLINE_REGION);
        assert_eq!((exit(&plan, false), exit(&plan, true)), (Exit::Done, Exit::Drift));
        let (network, stacks, services, sites) = Default::default();
        let nothing = Plan { network, stacks, services, sites, ..plan.clone() };
        assert_eq!((exit(&nothing, false), exit(&nothing, true)), (Exit::Done, Exit::Done));
        let warnings = vec![plan::Warning { kind: plan::WarningKind::Refused, what: "no".to_owned() }];
        assert_eq!(exit(&Plan { warnings, ..plan }, true), Exit::Rejected);
    }
}
