//! Following one release to its end, by its record in the table.

#![allow(clippy::disallowed_methods, reason = "a person waits here; no function contains it")]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shipway_aws::{
    PublicError as _, Store,
    store::{EnvironmentRecord, StoreError},
};
use shipway_domain::{
    failure::Failure,
    manifest::Reference,
    name::{Component, ComponentName, ReleaseId},
    release::{Artifact, ComponentState, ReleaseRecord},
};

use crate::{
    exit::Exit,
    live::Live,
    place::Place,
    problem::Problem,
    screen::{self, Screen, faint},
};

/// How often the table is read.
const EVERY: Duration = Duration::from_secs(1);

/// How long an upload may take to be noticed: S3 and EventBridge need a second or two, and try again for longer.
const NOTICED: Duration = Duration::from_secs(120);

/// After so long without a sign a release has been stopped from outside: its claim is renewed by every pass, and would have run
/// out after 16 minutes.
const SILENT: Duration = Duration::from_secs(20 * 60);

/// How many times in a row the table may fail to answer.
const UNANSWERED: u32 = 10;

/// From how many characters a step is broken into lines.
const LONG: usize = 100;

/// How many of the newest releases of a component are looked through for the one that is followed.
const LOOKED_THROUGH: usize = 10;

/// By what a release is known before its record is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tracked {
    /// By what was uploaded for it.
    Artifact(Artifact),
    /// By the name of its execution.
    Execution(String),
    /// By its id.
    Release(ReleaseId),
}

impl Tracked {
    fn is(&self, release: &ReleaseRecord) -> bool {
        match self {
            Tracked::Artifact(artifact) => release.artifact == *artifact,
            Tracked::Execution(name) => release.execution == *name,
            Tracked::Release(id) => release.release == *id,
        }
    }
}

/// Why a release has no record yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Before {
    /// Nobody has noticed it.
    Unnoticed,
    /// It is wanted, and its execution is to begin.
    Begins,
    /// Another one must end first.
    Queued(ReleaseId),
}

impl Before {
    fn of(tracked: &Tracked, state: &ComponentState, now: Timestamp) -> Before {
        let wanted = state.desired.as_ref().is_some_and(|desired| match tracked {
            Tracked::Artifact(artifact) => desired.artifact == *artifact,
            Tracked::Execution(name) => desired.execution == *name,
            Tracked::Release(_) => false,
        });
        // A person's execution that queues is written down nowhere before its turn.
        let started = wanted || matches!(tracked, Tracked::Execution(_));
        match &state.claim {
            Some(claim) if claim.committed && claim.until > now && started => Before::Queued(claim.release.clone()),
            _ if wanted => Before::Begins,
            _ => Before::Unnoticed,
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Before::Unnoticed => NOTICED,
            Before::Begins | Before::Queued(_) => SILENT,
        }
    }

    fn told(&self) -> String {
        match self {
            Before::Unnoticed => "waits until Shipway has noticed it".to_owned(),
            Before::Begins => "noticed; its execution begins".to_owned(),
            Before::Queued(release) => format!("waits for {release}, which must not be stopped where it is"),
        }
    }
}

/// Follows a release and tells its steps as they come. Stopped by the person, it says how to go on.
pub(crate) async fn follow(
    screen: &Screen,
    store: &Store,
    place: &Place,
    component: &Component,
    tracked: Tracked,
) -> Result<ReleaseRecord, Problem> {
    follow_live(screen, store, place, component, tracked, None).await
}

/// The same, and tells what runs meanwhile.
pub(crate) async fn follow_live(
    screen: &Screen,
    store: &Store,
    place: &Place,
    component: &Component,
    tracked: Tracked,
    live: Option<Live>,
) -> Result<ReleaseRecord, Problem> {
    let again = match &tracked {
        Tracked::Release(release) => release.to_string(),
        Tracked::Artifact(_) | Tracked::Execution(_) => component.to_string(),
    };
    let follower = Follower { screen, store, place, component };
    let ended = tokio::select! {
        ended = follower.to_its_end(tracked, live) => ended,
        _ = tokio::signal::ctrl_c() => Err(Problem::new("no longer followed; the release goes on by itself")
            .remedy(format!("`shipway watch {again} --app {} --env {}` follows it again", place.app, place.environment))
            .exiting(Exit::Unknown)),
    };
    screen.cleared();
    ended
}

struct Follower<'a> {
    screen: &'a Screen,
    store: &'a Store,
    place: &'a Place,
    component: &'a Component,
}

impl Follower<'_> {
    async fn to_its_end(&self, mut tracked: Tracked, mut live: Option<Live>) -> Result<ReleaseRecord, Problem> {
        let bar = self.screen.draw_waiting(&format!("{}", self.component));
        let (mut steps, mut told, mut unanswered) = (0, String::new(), 0);
        let (mut sign, mut since) = (None, Instant::now());
        loop {
            let (record, state) = match self.look(&tracked).await {
                Ok(seen) => seen,
                Err(error) if error.failure() == Failure::Transient && unanswered < UNANSWERED => {
                    unanswered += 1;
                    tokio::time::sleep(EVERY * unanswered).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            unanswered = 0;
            let newest = Some((state.revision, record.as_ref().map(|record| record.steps.len())));
            if sign != newest {
                (sign, since) = (newest, Instant::now());
            }
            let Some(record) = record else {
                let before = Before::of(&tracked, &state, Timestamp::now());
                if since.elapsed() > before.patience() {
                    return Err(self.unseen(&tracked, &state));
                }
                let note = before.told();
                if note != told {
                    bar.set_message(note.clone());
                    if !matches!(before, Before::Unnoticed) {
                        self.screen.line(faint(&note));
                    }
                    told = note;
                }
                tokio::time::sleep(EVERY).await;
                continue;
            };
            if !matches!(tracked, Tracked::Release(_)) {
                self.screen.line(format!("release {} of {}", record.release, record.component));
                tracked = Tracked::Release(record.release.clone());
            }
            for step in record.steps.iter().skip(steps) {
                self.screen.line(step_line(&record, step));
                bar.set_message(step.what.clone());
            }
            steps = record.steps.len();
            // Nothing is heard of it until somebody answers, or its time is over.
            if record.waits_for().is_some_and(|asked| asked.until > Timestamp::now()) {
                since = Instant::now();
                let command = approve_command(&record);
                if told != command {
                    self.screen.line(format!("  to answer: `{command}`"));
                    told = command;
                }
            }
            if record.outcome.is_some() {
                return Ok(record);
            }
            if let Some(live) = &mut live {
                Box::pin(live.tell(self.screen)).await;
            }
            if since.elapsed() > SILENT {
                return Err(Problem::new(format!(
                    "nothing was heard of the release for {} minutes",
                    SILENT.as_secs() / 60
                ))
                .at(format!("the execution {}", record.execution))
                .remedy(
                    "look at the execution in the Step Functions console; a new execution of its input begins again",
                )
                .exiting(Exit::Unknown));
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look(&self, tracked: &Tracked) -> Result<(Option<ReleaseRecord>, ComponentState), StoreError> {
        let Place { app, environment } = self.place;
        let record = async {
            match tracked {
                Tracked::Release(release) => self.store.release(app, environment, release).await,
                Tracked::Artifact(_) | Tracked::Execution(_) => {
                    let newest =
                        self.store.newest_releases(app, environment, Some(self.component), LOOKED_THROUGH).await?;
                    Ok(newest.into_iter().find(|release| tracked.is(release)))
                }
            }
        };
        tokio::try_join!(record, self.store.component(app, environment, self.component))
    }

    fn unseen(&self, tracked: &Tracked, state: &ComponentState) -> Problem {
        let problem = match tracked {
            Tracked::Artifact(artifact) => {
                let instead = state.desired.as_ref().filter(|desired| desired.artifact != *artifact);
                let instead =
                    instead.map(|desired| format!("; what is wanted is {}", desired.artifact)).unwrap_or_default();
                Problem::new(format!("no release of the upload began{instead}")).at(artifact).remedy(
                    "look at the log of the function start-release, and into the queue DeadLetters of Shipway's stack",
                )
            }
            Tracked::Execution(name) => Problem::new("the execution wrote nothing down")
                .at(name)
                .remedy("look at the execution in the Step Functions console"),
            Tracked::Release(release) => not_there(release, self.place),
        };
        problem.exiting(Exit::Unknown)
    }
}

/// A release that the table does not know.
pub(crate) fn not_there(release: &ReleaseId, place: &Place) -> Problem {
    Problem::new(format!("there is no release {release}"))
        .at(place)
        .remedy(format!("`shipway releases --app {} --env {}` lists them", place.app, place.environment))
}

/// A step, and how long after the release's start it was written.
pub(crate) fn step_line(release: &ReleaseRecord, step: &shipway_domain::release::Step) -> String {
    let after = screen::duration(step.at.duration_since(release.started_at));
    format!("  {} {}: {}", faint(format!("+{after}")), step.by, broken(&step.what))
}

/// A step that did much, with each thing on a line of its own.
fn broken(what: &str) -> String {
    if what.chars().count() <= LONG { what.to_owned() } else { what.replace("; ", ";\n      ") }
}

/// What answers a release that waits for approval.
pub(crate) fn approve_command(release: &ReleaseRecord) -> String {
    let ReleaseRecord { app, environment, release, .. } = release;
    format!("shipway approve {release} --app {app} --env {environment}")
}

/// How long a release took, or has taken until now.
pub(crate) fn took(release: &ReleaseRecord, now: Timestamp) -> SignedDuration {
    release.ended_at.unwrap_or(now).duration_since(release.started_at)
}

/// Where a component is seen, once it is live.
pub(crate) fn url(environment: &EnvironmentRecord, component: &Component) -> Option<String> {
    let platform = &environment.platform;
    let site = |name: &ComponentName| {
        let own = platform.values.get(&Reference::SiteUrl(name.clone()).to_string()).cloned();
        own.or_else(|| Some(format!("https://{}", platform.sites.get(name)?.domain)))
    };
    match component {
        Component::Site(name) => Some(format!("{}/", site(name)?)),
        Component::Preview(name, preview) => Some(format!("{}/_preview/{preview}", site(name)?)),
        Component::Service(name) => {
            let http = environment.applied.as_ref()?.spec.services.get(name)?.http.as_ref()?;
            let base = match &http.host {
                Some(host) => format!("https://{}", host.as_str()),
                None => platform.values.get(&Reference::LoadBalancerUrl.to_string())?.clone(),
            };
            Some(format!("{base}{}", http.path.trim_end_matches('*')))
        }
        Component::Platform => None,
    }
}

/// A release as a script sees it.
#[derive(Serialize)]
pub(crate) struct Told<'r> {
    #[serde(flatten)]
    release: &'r ReleaseRecord,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'r str>,
}

impl<'r> Told<'r> {
    /// A release, and where its component is seen.
    pub(crate) fn new(release: &'r ReleaseRecord, url: Option<&'r str>, now: Timestamp) -> Told<'r> {
        Told { release, seconds: took(release, now).as_secs_f64(), url: url.filter(|_| is_live(release)) }
    }
}

fn is_live(release: &ReleaseRecord) -> bool {
    release.outcome.is_some_and(|outcome| outcome.is_live())
}

/// Says how a release ended, and answers the exit code for it.
pub(crate) fn ended(screen: &Screen, release: &ReleaseRecord, url: Option<&str>) -> Exit {
    let took = screen::duration(took(release, Timestamp::now()));
    let reason = release.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    screen.line(format!("{} in {took}{reason}", screen::told(release)));
    if let Some(url) = url.filter(|_| is_live(release)) {
        screen.line(url);
    }
    release.outcome.map_or(Exit::Unknown, Exit::from)
}

#[cfg(test)]
pub(crate) mod tests {
    use shipway_aws::store::Manifest;
    use shipway_domain::release::{Claim, Contender, Order, Outcome, Wanted};

    use super::*;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    pub(crate) fn id(second: i64) -> ReleaseId {
        ReleaseId::of_execution(&format!("arn:{second}"), at(second))
    }

    pub(crate) fn zip(version: &str) -> Artifact {
        Artifact::Object { key: "sites/hello/prod/web/x.zip".to_owned(), version: version.to_owned() }
    }

    pub(crate) fn release(second: i64, artifact: Artifact, outcome: Option<Outcome>) -> ReleaseRecord {
        let (execution, started_at) = (format!("event-web-{second}"), at(second));
        let contender = Contender { release: id(second), artifact, execution, started_at };
        ReleaseRecord {
            ended_at: outcome.map(|_| at(second + 7)),
            outcome,
            reason: outcome.map(|_| "3 of 20 files were written".to_owned()),
            ..ReleaseRecord::opened(
                &contender,
                &"hello".parse().unwrap(),
                &"prod".parse().unwrap(),
                &"site/web".parse().unwrap(),
            )
        }
    }

    fn wanting(artifact: Artifact, execution: &str) -> ComponentState {
        let order = Order { at: at(0), sequencer: None };
        let desired = Wanted { artifact, order, execution: execution.to_owned(), since: at(0), outranked: Vec::new() };
        ComponentState { desired: Some(desired), ..ComponentState::default() }
    }

    #[test]
    fn a_release_without_a_record_is_unnoticed_or_begins_or_queues() {
        let upload = Tracked::Artifact(zip("b"));
        let person = Tracked::Execution("rollback-web-1".to_owned());
        let claimed = |state: ComponentState, committed, until| ComponentState {
            claim: Some(Claim { release: id(5), fence: 1, until, committed }),
            ..state
        };
        let (ours, other) = (wanting(zip("b"), "event-1"), wanting(zip("a"), "event-0"));
        let table = [
            (&upload, ComponentState::default(), Before::Unnoticed),
            (&upload, other.clone(), Before::Unnoticed),
            (&upload, ours.clone(), Before::Begins),
            (&upload, claimed(ours.clone(), true, at(100)), Before::Queued(id(5))),
            (&upload, claimed(ours.clone(), false, at(100)), Before::Begins),
            (&upload, claimed(ours, true, at(9)), Before::Begins),
            (&upload, claimed(other.clone(), true, at(100)), Before::Unnoticed),
            (&person, other.clone(), Before::Unnoticed),
            (&person, claimed(other, true, at(100)), Before::Queued(id(5))),
            (&person, wanting(zip("a"), "rollback-web-1"), Before::Begins),
        ];
        for (tracked, state, before) in table {
            assert_eq!(Before::of(tracked, &state, at(10)), before, "{tracked:?} {state:?}");
        }
    }

    #[test]
    fn a_release_is_known_by_what_was_uploaded_its_execution_or_its_id() {
        let record = release(5, zip("b"), None);
        let table = [
            (Tracked::Artifact(zip("b")), true),
            (Tracked::Artifact(zip("a")), false),
            (Tracked::Execution("event-web-5".to_owned()), true),
            (Tracked::Execution("event-web-6".to_owned()), false),
            (Tracked::Release(id(5)), true),
            (Tracked::Release(id(6)), false),
        ];
        for (tracked, is) in table {
            assert_eq!(tracked.is(&record), is, "{tracked:?}");
        }
    }

    #[test]
    fn only_a_step_that_did_much_is_broken_into_lines() {
        assert_eq!(broken("made vpc-1; made igw-1"), "made vpc-1; made igw-1");
        let much = ["made subnet-1"; 9].join("; ");
        assert_eq!(broken(&much).lines().collect::<Vec<_>>()[1], "      made subnet-1;");
        assert_eq!(broken(&much).lines().count(), 9);
    }

    #[test]
    fn a_script_gets_the_record_with_its_seconds_and_the_url_of_what_is_live() {
        let told = |outcome| {
            let record = release(5, zip("b"), outcome);
            serde_json::to_value(Told::new(&record, Some("https://x/"), at(20))).unwrap()
        };
        let live = told(Some(Outcome::Succeeded));
        assert_eq!((live["seconds"].as_f64(), live["url"].as_str()), (Some(7.0), Some("https://x/")));
        assert_eq!((live["outcome"].as_str(), live["component"].as_str()), (Some("succeeded"), Some("site/web")));
        assert!(told(Some(Outcome::Failed))["url"].is_null());
        assert_eq!(told(None)["seconds"], 15.0);
    }

    #[test]
    fn a_site_is_seen_under_its_domain_and_a_preview_under_its_name() {
        let mut environment = EnvironmentRecord::default();
        let site = serde_json::json!({"bucket": "b", "distribution": "D", "domain": "d1.cloudfront.net"});
        let outputs = serde_json::json!({"sites": {"web": site}});
        environment.platform = serde_json::from_value(outputs).unwrap();
        let url = |component: &str| url(&environment, &component.parse().unwrap());
        assert_eq!(url("site/web").as_deref(), Some("https://d1.cloudfront.net/"));
        assert_eq!(url("preview/web/pr-1").as_deref(), Some("https://d1.cloudfront.net/_preview/pr-1"));
        assert_eq!((url("site/docs"), url("service/api")), (None, None));
    }

    #[test]
    fn a_host_of_ones_own_comes_before_what_aws_calls_it() {
        let text = "version: 1\napp: hello\ndomain: {name: example.com, zone: Z1}\n\
                    services:\n  api: {image: {repository: hello-api}, port: 80, http: {host: api.example.com}}\n  \
                    old: {image: {repository: hello-old}, port: 80, http: {path: /old/*}}\n  \
                    worker: {image: {repository: hello-worker}}\n\
                    sites: {web: {hosts: [example.com]}}\nenvironments: {prod: {}}\n";
        let (_, spec) = shipway_domain::manifest::read_all(text).unwrap().remove(0);
        let mut environment =
            EnvironmentRecord { applied: Some(Manifest { artifact: zip("a"), spec }), ..EnvironmentRecord::default() };
        let outputs = serde_json::json!({
            "sites": {"web": {"bucket": "b", "distribution": "D", "domain": "d1.cloudfront.net"}},
            "values": {"sites.web.url": "https://example.com", "load_balancer.url": "http://lb-1.example"},
        });
        environment.platform = serde_json::from_value(outputs).unwrap();
        let url = |component: &str| url(&environment, &component.parse().unwrap());
        assert_eq!(url("site/web").as_deref(), Some("https://example.com/"));
        assert_eq!(url("preview/web/pr-1").as_deref(), Some("https://example.com/_preview/pr-1"));
        assert_eq!(url("service/api").as_deref(), Some("https://api.example.com/"));
        assert_eq!(url("service/old").as_deref(), Some("http://lb-1.example/old/"));
        assert_eq!(url("service/worker"), None);
    }
}
