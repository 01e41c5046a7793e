//! Passes over a registry, a log, a network and a cluster in memory, on a line that loses calls.

use std::{cell::RefCell, time::Duration};

use serde_json::json;
use shipway_aws::{
    runtime::answer,
    testing::{Line, Table, are_refused, begin, cut_everywhere, end},
};
use shipway_domain::{
    release::{Artifact, Outcome},
    smoke::Answer,
};
use shipway_ecs::testing::platform;

use super::*;

struct World {
    now: i64,
    image: Image,
    configuration: Option<String>,
    roles: BTreeMap<String, Role>,
    /// The secrets and parameters that are there.
    kept: BTreeMap<String, Kept>,
    /// Which of them the execution role may not read, by their whole ARNs.
    denied: BTreeSet<String>,
    /// The calls that were made, by their names.
    calls: Vec<&'static str>,
    /// What each look at the scan shows; the last one stays.
    reports: Vec<Report>,
    /// Which digests' scans were looked at.
    scanned: Vec<String>,
    log_group: bool,
    free: u32,
    /// Whether the alarm is on.
    alarm: bool,
    /// What smoke tests are answered, with how long each answer takes; the last one stays.
    answers: Vec<(u16, u64)>,
    /// What they asked for.
    asked: Vec<String>,
}

struct Fake {
    world: RefCell<World>,
    line: Line,
    store: Store,
    /// The table as others see it.
    aside: Store,
}

impl Fake {
    fn call<T>(&self, act: impl FnOnce(&mut World) -> T) -> Result<T, AwsError> {
        self.line.call(|| act(&mut self.world.borrow_mut()))
    }

    fn named<T>(&self, name: &'static str, act: impl FnOnce(&mut World) -> T) -> Result<T, AwsError> {
        self.call(|world| {
            world.calls.push(name);
            act(world)
        })
    }

    async fn steps(&self, run: &Run) -> Vec<String> {
        let record = self.aside.release(&run.app, &run.environment, &run.release).await.unwrap().unwrap();
        record.steps.into_iter().map(|step| step.what).collect()
    }
}

impl Calls for Fake {
    async fn image(&self, repository: &RepositoryName, _: &Digest) -> Result<Image, AwsError> {
        assert_eq!(repository.as_str(), "hello-api");
        self.call(|world| world.image.clone())
    }

    async fn configuration(&self, _: &RepositoryName, _: &Digest) -> Result<Option<String>, AwsError> {
        self.named("configuration", |world| world.configuration.clone())
    }

    async fn role(&self, arn: &str) -> Result<Role, AwsError> {
        self.named("role", |world| world.roles[arn.rsplit('/').next().unwrap()].clone())
    }

    async fn secret(&self, arn: &str) -> Result<Kept, AwsError> {
        self.named("secret", |world| world.kept.get(arn).cloned().unwrap_or(Kept::Missing))
    }

    async fn parameters(&self, arns: &BTreeSet<&str>) -> Result<BTreeSet<String>, AwsError> {
        let there = |world: &mut World| {
            let there = arns.iter().filter(|arn| world.kept.contains_key(**arn));
            there.map(|arn| (*arn).to_owned()).collect()
        };
        self.named("parameters", there)
    }

    async fn denied(&self, role: &str, _: &'static str, arns: &BTreeSet<&str>) -> Result<BTreeSet<String>, AwsError> {
        assert!(role.ends_with("/execution"), "{role}");
        self.named("denied", |world| world.denied.iter().filter(|arn| arns.contains(arn.as_str())).cloned().collect())
    }

    async fn scan(&self, _: &RepositoryName, digest: &Digest) -> Result<Report, AwsError> {
        self.call(|world| {
            world.scanned.push(digest.to_string());
            if world.reports.len() > 1 { world.reports.remove(0) } else { world.reports[0].clone() }
        })
    }

    async fn has_log_group(&self, name: &str) -> Result<bool, AwsError> {
        assert_eq!(name, "/shipway/hello-prod/api");
        self.call(|world| world.log_group)
    }

    async fn subnets(&self, ids: &BTreeSet<String>) -> Result<Vec<Subnet>, AwsError> {
        self.call(|world| ids.iter().map(|id| Subnet { id: id.clone(), free: world.free }).collect())
    }

    async fn standing(&self, cluster: &str, service: &str) -> Result<Option<Standing>, AwsError> {
        assert_eq!((cluster, service), ("hello-prod", "hello-prod-api"));
        self.call(|_| None)
    }

    async fn request(&self, load_balancer: &str, check: &Check) -> Came {
        assert_eq!(load_balancer, "hello-prod.elb");
        let mut world = self.world.borrow_mut();
        let test = check.test.as_ref().map(|value| format!(" {value}")).unwrap_or_default();
        world.asked.push(format!("{}{test}", check.url));
        let (status, took) = if world.answers.len() > 1 { world.answers.remove(0) } else { world.answers[0] };
        let answer = Ok(Answer { status, body: "it is what it is".to_owned() });
        Came { answer, took: Duration::from_secs(took) }
    }

    async fn instances(&self, _: &str) -> Result<Vec<Instance>, AwsError> {
        panic!("there are no instances on Fargate")
    }

    async fn alarms(&self, names: &BTreeSet<String>) -> Result<BTreeMap<String, bool>, AwsError> {
        self.call(|world| names.iter().map(|name| (name.clone(), world.alarm)).collect())
    }
}

fn stored(manifest: &str) -> Image {
    Image::There(Stored { manifest: manifest.to_owned(), configuration: None })
}

fn report(status: &str, criticals: Option<u32>) -> Report {
    let counts = criticals.map(|count| [("CRITICAL".to_owned(), count)].into());
    Report { status: Some(status.to_owned()), counts, ..Report::default() }
}

const GATED: &str = "version: 1
app: hello
environments: {prod: {production: true}}
services:
  api: {image: {repository: hello-api}, port: 8080, scan: {block: critical, wait: 1m}}
";

fn run(number: u8) -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Image {
            repository: "hello-api".parse().unwrap(),
            digest: format!("sha256:a{number}").parse().unwrap(),
        },
        release: format!("20261121T03154{number}123-3f9c2a").parse().unwrap(),
        fence: number.into(),
        repair: false,
    }
}

async fn cloud(manifest: &str, reports: Vec<Report>) -> Fake {
    let (table, line) = (Table::default(), Line::default());
    let trust = r#"{"Statement": {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}}"#;
    let world = RefCell::new(World {
        now: 0,
        image: stored(r#"{"layers": []}"#),
        configuration: None,
        roles: ["execution", "task"].map(|name| (name.to_owned(), Role::There(trust.to_owned()))).into(),
        kept: BTreeMap::new(),
        denied: BTreeSet::new(),
        calls: Vec::new(),
        reports,
        scanned: Vec::new(),
        log_group: true,
        free: 200,
        alarm: false,
        answers: vec![(200, 0)],
        asked: Vec::new(),
    });
    let fake = Fake { world, store: table.store(&line), aside: table.store(&Line::default()), line };
    platform(&fake.aside, manifest).await;
    begin(&fake.aside, &run(1)).await;
    fake
}

async fn pass_of(fake: &Fake, run: &Run, action: Ask) -> Result<Pass<Summary>, Error> {
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let now = Timestamp::from_second(1_800_000_000 + fake.world.borrow().now).unwrap();
    let input = PassInput { run: run.clone(), action };
    fake.line.end_pass(Box::pin(handle(&fake.store, fake, &surroundings, input, now)).await)
}

/// The machine: passes until the end, again after what a retry can help.
async fn finish(fake: &Fake, run: &Run) -> Result<Summary, Error> {
    finish_of(fake, run, Ask::Check).await
}

async fn finish_of(fake: &Fake, run: &Run, action: Ask) -> Result<Summary, Error> {
    for _ in 0..100 {
        match pass_of(fake, run, action).await {
            Ok(Pass::Done(summary)) => return Ok(summary),
            Ok(Pass::Again { seconds, .. }) => fake.world.borrow_mut().now += i64::from(seconds),
            Err(error) if error.failure().retryable() => {}
            Err(error) => return Err(error),
        }
    }
    panic!("no end")
}

#[tokio::test]
async fn a_release_that_has_all_it_needs_goes_on_without_a_step() {
    let fake = cloud(&GATED.replace(", scan: {block: critical, wait: 1m}", ""), Vec::new()).await;
    assert_eq!(finish(&fake, &run(1)).await.unwrap().note, "`api` has all that its rollout needs");
    assert_eq!(fake.steps(&run(1)).await, [""; 0], "a release that changes nothing stays unchanged");
}

#[tokio::test]
async fn everything_that_is_missing_is_told_at_once_before_any_scan() {
    let fake = cloud(GATED, vec![report("PENDING", None)]).await;
    {
        let mut world = fake.world.borrow_mut();
        (world.image, world.log_group, world.free) = (Image::Missing("ImageNotFound".to_owned()), false, 0);
    }
    let error = finish(&fake, &run(1)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::RejectedImage);
    let text = error.to_string();
    assert!(text.starts_with("`api` was not touched: 4 things are missing: (1) the image hello-api@"), "{text}");
    for part in ["ImageNotFound", "/shipway/hello-prod/api", "subnet-1", "subnet-2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(fake.world.borrow().scanned.is_empty());
    fake.world.borrow_mut().image = stored("{}");
    assert_eq!(finish(&fake, &run(1)).await.unwrap_err().failure(), Failure::Preflight);
}

const GIVEN: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api:
    image: {repository: hello-api}
    port: 8080
    secrets: {A: {secretsmanager: prod/a}, B: {secretsmanager: 'prod/b:key'}, C: {ssm: /c}, D: {ssm: /d}}
    migrate: {command: [migrate]}
";
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod";
const PARAMETER: &str = "arn:aws:ssm:eu-west-1:123456789012:parameter";

/// All that the service is given, readable.
async fn given() -> Fake {
    let fake = cloud(GIVEN, Vec::new()).await;
    let secrets = ["a", "b"].map(|name| (format!("{SECRET}/{name}"), Kept::There(format!("{SECRET}/{name}-abcdef"))));
    let parameters = ["c", "d"].map(|name| format!("{PARAMETER}/{name}"));
    let parameters = parameters.map(|arn| (arn.clone(), Kept::There(arn)));
    fake.world.borrow_mut().kept = secrets.into_iter().chain(parameters).collect();
    fake
}

#[tokio::test]
async fn what_a_service_is_given_takes_a_call_a_secret_and_one_for_all_parameters() {
    let fake = given().await;
    finish(&fake, &run(1)).await.unwrap();
    let world = fake.world.borrow();
    let count = |name: &str| world.calls.iter().filter(|call| **call == name).count();
    // Its migration is given the same, and is not asked about again.
    assert_eq!(["role", "secret", "parameters", "denied"].map(count), [2, 2, 1, 2]);
    assert_eq!(count("configuration"), 0, "this manifest names none");
}

#[tokio::test]
async fn secrets_and_roles_that_are_missing_or_shut_are_told_at_once() {
    let fake = given().await;
    {
        let mut world = fake.world.borrow_mut();
        world.kept.insert(format!("{SECRET}/a"), Kept::Deleted);
        world.kept.remove(&format!("{PARAMETER}/c"));
        world.denied = [format!("{SECRET}/b-abcdef"), format!("{PARAMETER}/d")].into();
        world.roles.insert("task".to_owned(), Role::Missing);
    }
    let error = finish(&fake, &run(1)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Preflight);
    let text = error.to_string();
    assert!(text.starts_with("`api` was not touched: 5 things are missing: (1) the task role"), "{text}");
    for part in [
        "the secret prod/a (`services.api.secrets.A`) is being deleted",
        "the parameter /c (`services.api.secrets.C`) is not there",
        "the secret prod/b (`services.api.secrets.B`) may not be read (secretsmanager:GetSecretValue)",
        "the parameter /d (`services.api.secrets.D`) may not be read (ssm:GetParameters)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn what_a_role_that_is_gone_may_read_is_not_asked() {
    let fake = given().await;
    fake.world.borrow_mut().roles.insert("execution".to_owned(), Role::Missing);
    let text = finish(&fake, &run(1)).await.unwrap_err().to_string();
    assert!(text.starts_with("`api` was not touched: the execution role"), "{text}");
    assert!(!fake.world.borrow().calls.contains(&"denied"));
}

#[tokio::test]
async fn an_image_for_another_architecture_is_rejected_by_its_configuration() {
    let fake = cloud(&GATED.replace(", scan: {block: critical, wait: 1m}", ""), Vec::new()).await;
    let kind = "application/vnd.oci.image.config.v1+json";
    {
        let mut world = fake.world.borrow_mut();
        world.image = stored(&format!(
            r#"{{"config": {{"mediaType": "{kind}", "digest": "sha256:cf", "size": 9}}, "layers": []}}"#
        ));
        world.configuration = Some(r#"{"os": "linux", "architecture": "arm64"}"#.to_owned());
    }
    let error = finish(&fake, &run(1)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::RejectedImage);
    let text = error.to_string();
    assert!(text.contains("the image is for linux/arm64, and the tasks of `api` are linux/amd64"), "{text}");
    fake.world.borrow_mut().configuration = None;
    finish(&fake, &run(1)).await.unwrap();
}

#[tokio::test]
async fn a_scan_is_waited_for_and_what_it_says_is_a_step() {
    let fake = cloud(GATED, vec![Report::default(), report("IN_PROGRESS", None), report("COMPLETE", Some(0))]).await;
    finish(&fake, &run(1)).await.unwrap();
    assert_eq!(fake.steps(&run(1)).await, ["ECR's scan found nothing critical"]);
    assert_eq!(fake.world.borrow().scanned.len(), 3);
    // Asked again, it answers the same.
    finish(&fake, &run(1)).await.unwrap();
    assert_eq!(fake.steps(&run(1)).await.len(), 1);
}

#[tokio::test]
async fn a_critical_finding_is_rejected() {
    let error = finish(&cloud(GATED, vec![report("COMPLETE", Some(2))]).await, &run(1)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::RejectedScan);
    assert!(error.to_string().starts_with("`api` was not touched: ECR's scan found 2 critical"), "{error}");
}

#[tokio::test]
async fn a_scan_that_does_not_end_fails_closed_in_production_and_is_told_elsewhere() {
    let fake = cloud(GATED, vec![report("PENDING", None)]).await;
    assert_eq!(finish(&fake, &run(1)).await.unwrap_err().failure(), Failure::RejectedScan);
    assert_eq!(fake.world.borrow().now, 60);
    let fake = cloud(&GATED.replace("{production: true}", "{}"), vec![report("PENDING", None)]).await;
    finish(&fake, &run(1)).await.unwrap();
    let [step] = &fake.steps(&run(1)).await[..] else { panic!() };
    assert!(step.starts_with("the image goes live unjudged"), "{step}");
}

#[tokio::test]
async fn of_an_index_the_scan_is_of_the_image_that_will_run() {
    let fake = cloud(GATED, vec![report("COMPLETE", Some(0))]).await;
    let platform = r#"{"os": "linux", "architecture": "amd64"}"#;
    fake.world.borrow_mut().image =
        stored(&format!(r#"{{"manifests": [{{"digest": "sha256:c7", "platform": {platform}}}]}}"#));
    finish(&fake, &run(1)).await.unwrap();
    assert_eq!(fake.world.borrow().scanned, ["sha256:c7"]);
}

#[tokio::test]
async fn the_way_back_to_what_was_live_is_not_shut_by_what_was_found_since() {
    let fake = cloud(GATED, vec![report("COMPLETE", Some(9))]).await;
    end(&fake.aside, &run(1), Outcome::Succeeded).await;
    begin(&fake.aside, &run(2)).await;
    assert_eq!(finish(&fake, &run(2)).await.unwrap_err().failure(), Failure::RejectedScan);
    end(&fake.aside, &run(2), Outcome::Rejected).await;
    let back = Run { artifact: run(1).artifact, ..run(3) };
    begin(&fake.aside, &back).await;
    finish(&fake, &back).await.unwrap();
    assert_eq!(fake.steps(&back).await, [""; 0]);
}

#[tokio::test]
async fn an_alarm_that_is_on_keeps_a_new_image_out_and_shuts_no_way_back() {
    let gated = GATED.replace("scan: {block: critical, wait: 1m}", "rollout: {alarms: [hello-5xx]}");
    let fake = cloud(&gated, Vec::new()).await;
    finish(&fake, &run(1)).await.unwrap();
    end(&fake.aside, &run(1), Outcome::Succeeded).await;
    fake.world.borrow_mut().alarm = true;
    begin(&fake.aside, &run(2)).await;
    let error = finish(&fake, &run(2)).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Preflight);
    assert!(error.to_string().starts_with("`api` was not touched: the alarm hello-5xx is on"), "{error}");
    end(&fake.aside, &run(2), Outcome::Failed).await;
    let back = Run { artifact: run(1).artifact, ..run(3) };
    begin(&fake.aside, &back).await;
    finish(&fake, &back).await.unwrap();
}

#[tokio::test]
async fn a_release_that_lost_its_claim_looks_at_nothing() {
    let fake = cloud(GATED, vec![report("COMPLETE", Some(0))]).await;
    begin(&fake.aside, &run(2)).await;
    assert_eq!(finish(&fake, &run(1)).await.unwrap_err().failure(), Failure::Superseded);
    assert!(fake.world.borrow().scanned.is_empty());
}

#[tokio::test]
async fn wherever_a_look_is_cut_off_the_next_one_comes_to_the_same_end() {
    cut_everywhere(async |cut| {
        let fake = given().await;
        fake.line.cut(cut);
        finish(&fake, &run(1)).await.unwrap();
        fake.line.calls()
    })
    .await;
}

#[tokio::test]
async fn wherever_a_pass_is_cut_off_the_next_ones_come_to_the_same_end() {
    cut_everywhere(async |cut| {
        let fake = cloud(GATED, vec![report("PENDING", None), report("COMPLETE", Some(0))]).await;
        fake.line.cut(cut);
        finish(&fake, &run(1)).await.unwrap();
        let calls = fake.line.calls();
        assert_eq!(fake.steps(&run(1)).await, ["ECR's scan found nothing critical"], "{cut:?}");
        calls
    })
    .await;
}

#[tokio::test]
async fn everything_that_ecr_can_say_of_a_scan_ends() {
    for status in ["FAILED", "UNSUPPORTED_IMAGE", "LIMIT_EXCEEDED", "IMAGE_ARCHIVED", "SOMETHING_NEW"] {
        let fake = cloud(GATED, vec![report(status, None)]).await;
        assert_eq!(finish(&fake, &run(1)).await.unwrap_err().failure(), Failure::RejectedScan, "{status}");
        assert_eq!(fake.world.borrow().now, 0, "{status}");
    }
}

const SMOKED: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api: {image: {repository: hello-api}, port: 8080, http: {}, smoke: [{path: /a, contains: what}, {path: /b, timeout: 9s}]}
";

async fn smoked(answers: &[(u16, u64)]) -> Fake {
    let fake = cloud(SMOKED, Vec::new()).await;
    fake.world.borrow_mut().answers = answers.to_vec();
    fake
}

#[tokio::test]
async fn smoke_tests_hold_one_after_the_other_and_each_is_a_step() {
    cut_everywhere(async |cut| {
        let fake = smoked(&[(503, 0), (200, 1), (200, 2)]).await;
        fake.line.cut(cut);
        let summary = finish_of(&fake, &run(1), Ask::Smoke).await.unwrap();
        assert_eq!(summary.note, "2 smoke tests of `api` hold", "{cut:?}");
        let steps = [
            "smoke test: GET http://hello-prod.elb/a was answered 200 with `what` in it, after 1000 ms",
            "smoke test: GET http://hello-prod.elb/b was answered 200, after 2000 ms",
        ];
        let (mut told, calls) = (fake.steps(&run(1)).await, fake.line.calls());
        // Asked once more, because what came before was not written down, it is answered sooner or later.
        told.iter_mut().for_each(|step| *step = step.replace("2000 ms", "1000 ms"));
        assert_eq!(told, steps.map(|step| step.replace("2000 ms", "1000 ms")), "{cut:?}");
        calls
    })
    .await;
}

#[tokio::test]
async fn a_smoke_test_that_does_not_hold_in_its_time_fails_the_release_and_stays_failed() {
    let fake = smoked(&[(200, 0), (500, 0)]).await;
    let failed = finish_of(&fake, &run(1), Ask::Smoke).await.unwrap_err();
    let expected = "a smoke test of `api` failed: GET http://hello-prod.elb/b: the answer was 500, not 200, and began: it is what it is; the last one after 0 ms, since 9 s";
    assert_eq!((failed.failure(), failed.to_string()), (Failure::Smoke, expected.to_owned()));
    assert_eq!(fake.world.borrow().asked.len(), 5, "one for the first, four in nine seconds for the second");
    fake.world.borrow_mut().answers = vec![(200, 0)];
    assert_eq!(finish_of(&fake, &run(1), Ask::Smoke).await.unwrap_err().to_string(), expected);
    assert_eq!(fake.steps(&run(1)).await.len(), 2);
}

#[tokio::test]
async fn slow_answers_are_waited_for_over_several_passes() {
    let fake = smoked(&[(200, 31), (200, 1)]).await;
    assert!(matches!(pass_of(&fake, &run(1), Ask::Smoke).await, Ok(Pass::Again { seconds: 1, .. })));
    assert_eq!(fake.world.borrow().asked.len(), 1);
    assert!(matches!(pass_of(&fake, &run(1), Ask::Smoke).await, Ok(Pass::Done(_))));
}

#[tokio::test]
async fn a_version_that_nobody_reaches_yet_is_asked_with_a_header() {
    let fake = smoked(&[(200, 0)]).await;
    finish_of(&fake, &run(1), Ask::SmokeAsTest).await.unwrap();
    assert_eq!(fake.world.borrow().asked, ["http://hello-prod.elb/a api", "http://hello-prod.elb/b api"]);
    let steps = fake.steps(&run(1)).await;
    assert!(steps.iter().all(|step| step.contains("as test traffic was answered 200")), "{steps:?}");
}

#[tokio::test]
async fn another_manifest_half_way_changes_nothing_about_the_smoke_tests() {
    let fake = smoked(&[(503, 0), (200, 0)]).await;
    pass_of(&fake, &run(1), Ask::Smoke).await.unwrap();
    platform(&fake.aside, &SMOKED.replace("/b", "/c")).await;
    finish_of(&fake, &run(1), Ask::Smoke).await.unwrap();
    assert_eq!(fake.world.borrow().asked.last().unwrap(), "http://hello-prod.elb/b");
}

#[tokio::test]
async fn an_input_that_no_machine_makes_is_refused_by_name_and_nothing_changes() {
    for action in ["check", "smoke", "smoke_as_test"] {
        let valid = json!({"run": run(1), "action": action});
        Box::pin(are_refused(&valid, &[], async |input| {
            let fake = smoked(&[(200, 0)]).await;
            let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            let pass = async |input| Box::pin(handle(&fake.store, &fake, &surroundings, input, now)).await;
            let answered = answer(&input, pass).await.map(|pass| json!(pass));
            (answered, fake.aside.written())
        }))
        .await;
    }
}
