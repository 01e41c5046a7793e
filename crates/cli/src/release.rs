//! `shipway release`: the story of one release.

use jiff::Timestamp;
use serde::Serialize;
use shipway_domain::{
    console::{execution_url, log_url},
    name::Component,
    release::{Artifact, ReleaseRecord},
};

use crate::{
    cli::Release,
    exit::Exit,
    follow::{self, Told},
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::{self, Screen, faint},
};

/// A release, its story, and where more of it is seen.
#[derive(Serialize)]
struct Story<'r> {
    #[serde(flatten)]
    told: Told<'r>,
    links: Links,
}

/// Where the consoles show a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Links {
    /// Its execution, in the console of Step Functions.
    execution: Option<String>,
    /// The log groups of its service, in the console of CloudWatch.
    logs: Vec<LogLink>,
}

/// A log group, and where it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct LogLink {
    group: String,
    url: String,
}

/// Tells it.
pub(crate) async fn run(asked: &Release, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let (release, record) =
        tokio::try_join!(store.release(app, environment, &asked.release), store.environment(app, environment))?;
    let release = release.ok_or_else(|| follow::not_there(&asked.release, &place))?;
    let machine = match installation.output(machine_of(&release)).await {
        Ok(machine) => Some(machine),
        // What the table says is told without it.
        Err(problem) if problem.is_denied() => {
            screen.note(format!("no link to the execution: {}", problem.what()));
            None
        }
        Err(problem) => return Err(problem),
    };
    let groups: Vec<String> = match (&release.component, &record) {
        (Component::Service(name), Some(record)) => record
            .platform
            .services
            .get(name)
            .map(|service| {
                std::iter::once(service.log_group.clone()).chain(service.migration_log_group.clone()).collect()
            })
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let region = installation.region();
    let links = Links {
        execution: machine.and_then(|machine| execution_url(&execution_arn(&machine, &release.execution)?)),
        logs: groups.into_iter().map(|group| LogLink { url: log_url(region, &group), group }).collect(),
    };
    let url = record.as_ref().and_then(|record| follow::url(record, &release.component));
    let now = Timestamp::now();
    for line in lines(&release, url.as_deref(), &links, now) {
        screen.line(line);
    }
    screen.document(&Story { told: Told::new(&release, url.as_deref(), now), links });
    Ok(Exit::Done)
}

/// The machine that a release is an execution of.
pub(crate) const fn machine_of(release: &ReleaseRecord) -> Output {
    match release.artifact {
        Artifact::Nothing => Output::TeardownMachine,
        Artifact::Image { .. } | Artifact::Public { .. } | Artifact::Object { .. } => {
            Output::machine_of(&release.component)
        }
    }
}

/// The ARN of a machine's execution.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html>
pub(crate) fn execution_arn(machine: &str, name: &str) -> Option<String> {
    let (before, after) = machine.split_once(":stateMachine:")?;
    // What is behind the machine's name is an alias or a version of it, which its executions do not carry.
    let machine = after.split(':').next()?;
    Some(format!("{before}:execution:{machine}:{name}"))
}

/// The story, as a person reads it.
fn lines(release: &ReleaseRecord, url: Option<&str>, links: &Links, now: Timestamp) -> Vec<String> {
    let second = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let ReleaseRecord { app, environment, .. } = release;
    let mut lines = vec![
        format!("release {} of {} in {app}/{environment}", release.release, release.component),
        format!("  artifact:  {}", release.artifact),
        format!("  outcome:   {} in {}", screen::told(release), screen::duration(follow::took(release, now))),
    ];
    let mut say = |what: &str, text: String| lines.push(format!("  {:<10} {text}", format!("{what}:")));
    if let Some(reason) = &release.reason {
        say("reason", reason.replace('\n', "\n             "));
    }
    if let Some(group) = &release.group {
        say("group", format!("{group}, which the releases of the same push have in common"));
    }
    say("started", second(release.started_at));
    if let Some(ended) = release.ended_at {
        say("ended", second(ended));
    }
    if let Some(before) = &release.previous {
        say("before", format!("{}, live since {} by {}", before.artifact, second(before.since), before.release));
    }
    if let Some(url) = url.filter(|_| release.outcome.is_some_and(|outcome| outcome.is_live())) {
        say("url", url.to_owned());
    }
    say("execution", links.execution.clone().unwrap_or_else(|| release.execution.clone()));
    for LogLink { url, .. } in &links.logs {
        say("log", url.clone());
    }
    if let Some(asked) = release.waits_for() {
        say("waits", format!("for approval until {}: `{}`", second(asked.until), follow::approve_command(release)));
        say("token", asked.token.clone());
    }
    if release.steps.is_empty() {
        lines.push("no step was written down".to_owned());
    }
    for step in &release.steps {
        lines.push(format!("{}{}", faint(step.at.strftime("%H:%M:%S")), follow::step_line(release, step)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use shipway_domain::{
        approval::Asked,
        release::{Live, Outcome, Step},
    };

    use super::*;
    use crate::follow::tests::{at, id, release, zip};

    fn links() -> Links {
        let group = "/shipway/hello-prod/api".to_owned();
        Links {
            execution: Some("https://execution".to_owned()),
            logs: vec![LogLink { url: log_url("eu-west-1", &group), group }],
        }
    }

    #[test]
    fn the_story_has_outcome_reason_steps_with_both_times_and_links() {
        let mut record = release(5, zip("3sL4kqtJlcpXro"), Some(Outcome::RolledBack));
        record.reason = Some("the container api exited with 1\npanic: no database".to_owned());
        record.group = Some("3f9c2a1b".to_owned());
        record.previous = Some(Live { artifact: zip("a"), release: id(1), since: at(2) });
        record.steps =
            vec![Step { at: at(7), by: "deploy-service".to_owned(), what: "the new tasks were started".to_owned() }];
        let text =
            anstream::adapter::strip_str(&lines(&record, Some("https://x/"), &links(), at(90)).join("\n")).to_string();
        for part in [
            "of site/web in hello/prod",
            "artifact:  sites/hello/prod/web/x.zip (3sL4kqtJ)",
            "rolled_back in 7.0 s",
            "reason:    the container api exited with 1\n             panic: no database",
            "group:     3f9c2a1b, which the releases of the same push have in common",
            "before:    sites/hello/prod/web/x.zip (a), live since",
            "execution: https://execution",
            "log:       https://eu-west-1.console.aws.amazon.com/cloudwatch/",
            "08:00:07  +2.0 s deploy-service: the new tasks were started",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("https://x/"), "it is not what is seen there: {text}");
        let mut live = release(5, zip("a"), Some(Outcome::Succeeded));
        live.reason = None;
        let text = lines(&live, Some("https://x/"), &Links { execution: None, logs: Vec::new() }, at(90)).join("\n");
        assert!(text.contains("url:       https://x/") && text.contains("no step was written down"), "{text}");
        assert!(text.contains("execution: event-web-5"), "{text}");
    }

    #[test]
    fn a_release_that_waits_for_approval_says_until_when_and_how_to_answer() {
        let mut record = release(5, zip("a"), None);
        record.approval = Some(Asked::new("AAAAtoken".to_owned(), 60, at(5)));
        let text = lines(&record, None, &links(), at(20)).join("\n");
        let command = format!("`shipway approve {} --app hello --env prod`", id(5));
        assert!(text.contains(&format!("waits:     for approval until 2027-01-15 08:01:05 UTC: {command}")), "{text}");
        assert!(text.contains("token:     AAAAtoken"), "{text}");
        record.approval.as_mut().unwrap().approved_by = Some("Ann".to_owned());
        assert!(!lines(&record, None, &links(), at(20)).join("\n").contains("AAAAtoken"));
    }

    #[test]
    fn a_script_gets_the_record_with_its_links() {
        let record = release(5, zip("b"), None);
        let story = Story { told: Told::new(&record, None, at(20)), links: links() };
        let story = serde_json::to_value(story).unwrap();
        assert_eq!((story["release"].as_str(), story["seconds"].as_f64()), (Some(id(5).as_str()), Some(15.0)));
        assert_eq!(story["links"]["logs"][0]["group"], "/shipway/hello-prod/api");
    }

    #[test]
    fn an_execution_belongs_to_the_machine_whatever_alias_started_it() {
        let machine = "arn:aws:states:eu-west-1:123456789012:stateMachine:shipway-rollout";
        let execution = "arn:aws:states:eu-west-1:123456789012:execution:shipway-rollout:event-1";
        for machine in [machine.to_owned(), format!("{machine}:live")] {
            assert_eq!(execution_arn(&machine, "event-1").as_deref(), Some(execution));
        }
        assert_eq!(execution_arn("rollout", "event-1"), None);
    }

    #[test]
    fn a_teardown_is_an_execution_of_its_own_machine() {
        let mut record = release(5, Artifact::Nothing, None);
        record.component = Component::Platform;
        assert_eq!(machine_of(&record), Output::TeardownMachine);
        record.artifact = zip("a");
        assert_eq!(machine_of(&record), Output::ProvisionMachine);
    }
}
