//! Passes over a registry, a log, a network and a cluster in memory, on a line that loses calls.

use std::cell::RefCell;

use shipway_aws::testing::{Line, Table, begin, cut_everywhere, end};
use shipway_domain::release::{Artifact, Outcome};
use shipway_ecs::testing::platform;

use super::*;

struct World {
    now: i64,
    image: Image,
    /// What each look at the scan shows; the last one stays.
    reports: Vec<Report>,
    /// Which digests' scans were looked at.
    scanned: Vec<String>,
    log_group: bool,
    free: u32,
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

    async fn instances(&self, _: &str) -> Result<Vec<Instance>, AwsError> {
        panic!("there are no instances on Fargate")
    }
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
    let image = Image::There(r#"{"layers": []}"#.to_owned());
    let world = RefCell::new(World { now: 0, image, reports, scanned: Vec::new(), log_group: true, free: 200 });
    let fake = Fake { world, store: table.store(&line), aside: table.store(&Line::default()), line };
    platform(&fake.aside, manifest).await;
    begin(&fake.aside, &run(1)).await;
    fake
}

async fn pass(fake: &Fake, run: &Run) -> Result<Pass<Summary>, Error> {
    let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
    let now = Timestamp::from_second(1_800_000_000 + fake.world.borrow().now).unwrap();
    let input = PassInput { run: run.clone(), action: Ask::Check };
    Box::pin(handle(&fake.store, fake, &surroundings, input, now)).await
}

/// The machine: passes until the end, again after what a retry can help.
async fn finish(fake: &Fake, run: &Run) -> Result<Summary, Error> {
    for _ in 0..100 {
        match pass(fake, run).await {
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
    fake.world.borrow_mut().image = Image::There("{}".to_owned());
    assert_eq!(finish(&fake, &run(1)).await.unwrap_err().failure(), Failure::Preflight);
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
        Image::There(format!(r#"{{"manifests": [{{"digest": "sha256:c7", "platform": {platform}}}]}}"#));
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
async fn a_release_that_lost_its_claim_looks_at_nothing() {
    let fake = cloud(GATED, vec![report("COMPLETE", Some(0))]).await;
    begin(&fake.aside, &run(2)).await;
    assert_eq!(finish(&fake, &run(1)).await.unwrap_err().failure(), Failure::Superseded);
    assert!(fake.world.borrow().scanned.is_empty());
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
