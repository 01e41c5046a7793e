use shipway_domain::{manifest, release::Outcome};

use super::*;
use crate::testing::{Line, Table, begin, cut_everywhere, end, provision};

const MANIFEST: &str = "version: 1
app: hello
services:
  api: {image: {repository: hello-api}, port: 8080}
  worker: {image: {repository: hello-api}}
environments: {prod: {}}
";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn run(number: u8) -> Run {
    Run {
        app: "hello".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        component: "service/api".parse().unwrap(),
        artifact: Artifact::Image { repository: "hello-api".parse().unwrap(), digest: "sha256:a1".parse().unwrap() },
        release: format!("20261121T0315421{number:02}-3f9c2a").parse().unwrap(),
        fence: u64::from(number),
        repair: false,
    }
}

fn step(what: &str) -> Step {
    Step { at: at(0), by: "deploy-service".to_owned(), what: what.to_owned() }
}

async fn component(store: &Store) -> ComponentState {
    let Run { app, environment, component, .. } = run(1);
    store.component(&app, &environment, &component).await.unwrap()
}

async fn record(store: &Store, run: &Run) -> ReleaseRecord {
    store.release(&run.app, &run.environment, &run.release).await.unwrap().unwrap()
}

/// A store with a run that holds the claim.
async fn begun() -> (Table, Line, Store) {
    let (table, line) = (Table::default(), Line::default());
    let store = table.store(&line);
    begin(&store, &run(1)).await;
    (table, line, store)
}

/// Everything that a run writes.
async fn write_all(store: &Store, run: &Run) -> Vec<Result<(), StoreError>> {
    let network = NetworkOutputs {
        vpc: "vpc".to_owned(),
        cidr: "10.0.0.0/16".to_owned(),
        public_subnets: Vec::new(),
        load_balancer_group: "sg-1".to_owned(),
        service_group: "sg-2".to_owned(),
        ..Default::default()
    };
    vec![
        store.renew(run, at(1)).await,
        store.commit(run, at(1)).await,
        store.mark_unfinished(run, at(1)).await,
        store.step(run, step("one")).await,
        store.save_progress(run, "deploy", &1, at(1)).await,
        store.save_progress_and_step(run, "deploy", &2, step("two")).await,
        store.save_memory(run, "network", &3, at(1)).await,
        store.forget_network(run, at(1)).await,
        store.set_network(run, &network, at(1)).await,
        store.set_platform(run, &PlatformOutputs::default(), at(1)).await,
    ]
}

#[tokio::test]
async fn a_network_that_is_forgotten_is_none() {
    let (.., store) = begun().await;
    let run = run(1);
    let network = || async { store.environment(&run.app, &run.environment).await.unwrap().unwrap().network };
    store.set_network(&run, &NetworkOutputs::default(), at(1)).await.unwrap();
    assert_eq!(network().await, Some(NetworkOutputs::default()));
    store.forget_network(&run, at(1)).await.unwrap();
    assert_eq!(network().await, None);
}

#[tokio::test]
async fn a_run_with_the_claim_writes_everything() {
    let (.., store) = begun().await;
    let run = run(1);
    for written in write_all(&store, &run).await {
        written.unwrap();
    }
    let state = component(&store).await;
    assert!(state.claim.as_ref().unwrap().committed && state.unfinished == [run.release.clone()], "{state:?}");
    assert_eq!(state.claim.unwrap().until, until(at(0)).max(until(at(1))));
    assert_eq!(record(&store, &run).await.steps, [step("one"), step("two")]);
    assert_eq!(store.progress::<u32>(&run, "deploy").await.unwrap(), Some(2));
    assert_eq!(store.memory::<u32>(&run, "network").await.unwrap(), Some(3));
    assert!(store.environment(&run.app, &run.environment).await.unwrap().unwrap().network.is_some());
}

#[tokio::test]
async fn a_run_that_lost_its_claim_writes_nothing() {
    let (_, line, store) = begun().await;
    let lost = run(1);
    begin(&store, &run(2)).await;
    let before = component(&store).await;
    for refused in write_all(&store, &lost).await {
        assert_eq!(refused.unwrap_err().failure(), Failure::Superseded);
    }
    assert_eq!(component(&store).await, before);
    assert_eq!(record(&store, &lost).await.steps, []);
    assert_eq!(store.environment(&lost.app, &lost.environment).await.unwrap(), None);
    // Nor does one of the same release whose claim ran out and was taken again, under another number.
    begin(&store, &Run { fence: 3, ..lost.clone() }).await;
    line.cut(None);
    assert_eq!(store.renew(&lost, at(2)).await.unwrap_err().failure(), Failure::Superseded);
}

#[tokio::test]
async fn a_run_that_is_noted_as_unfinished_is_noted_once() {
    let (.., store) = begun().await;
    for _ in 0..2 {
        store.mark_unfinished(&run(1), at(1)).await.unwrap();
    }
    assert_eq!(component(&store).await.unfinished, [run(1).release]);
}

#[tokio::test]
async fn progress_and_its_step_are_there_together_or_not_at_all() {
    cut_everywhere(async |cut| {
        let (_, line, store) = begun().await;
        line.cut(cut);
        let written = store.save_progress_and_step(&run(1), "deploy", &1, step("one")).await;
        let calls = line.calls();
        line.cut(None);
        let saved = store.progress::<u32>(&run(1), "deploy").await.unwrap().is_some();
        assert_eq!(record(&store, &run(1)).await.steps.len(), usize::from(saved), "{cut:?}: {written:?}");
        calls
    })
    .await;
}

#[tokio::test]
async fn a_component_that_changed_meanwhile_is_not_overwritten() {
    let (_, line, store) = begun().await;
    let Run { app, environment, component: name, .. } = run(1);
    let old = component(&store).await;
    store.renew(&run(1), at(5)).await.unwrap();
    let put = store.put_component(&app, &environment, &name, &old, &ComponentState::default()).await;
    assert_eq!(put.unwrap_err().failure(), Failure::Transient);
    let none = ComponentState::default();
    let created = store.put_component(&app, &environment, &name, &none, &none).await;
    assert!(matches!(created, Err(StoreError::Changed)), "{created:?}");
    assert!(component(&store).await.claim.is_some());
    assert!(line.calls() > 0);
}

#[tokio::test]
async fn a_transaction_that_meets_another_is_sent_again_and_one_that_is_throttled_is_a_retry_of_the_machine() {
    let (table, _, store) = begun().await;
    for _ in 1..CONFLICTED_ATTEMPTS {
        table.cancel_next("TransactionConflict");
    }
    store.renew(&run(1), at(1)).await.unwrap();
    for reason in ["TransactionConflict"; CONFLICTED_ATTEMPTS as usize] {
        table.cancel_next(reason);
    }
    assert!(matches!(store.renew(&run(1), at(1)).await, Err(StoreError::Changed)));
    for (reason, failure) in
        BUSY.map(|reason| (reason, Failure::Transient)).into_iter().chain([("ValidationError", Failure::Bug)])
    {
        table.cancel_next(reason);
        let error = store.renew(&run(1), at(1)).await.unwrap_err();
        assert_eq!(error.failure(), failure, "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_shipways_own_fault() {
    let (.., store) = begun().await;
    let error = store.save_progress(&run(1), "deploy", &std::collections::HashMap::from([((1, 2), 3)]), at(1)).await;
    assert_eq!(error.unwrap_err().failure(), Failure::Bug);
}

#[tokio::test]
async fn an_outcome_stays_what_it_was_first() {
    let (.., store) = begun().await;
    end(&store, &run(1), Outcome::Succeeded).await;
    let late = ReleaseRecord { outcome: Some(Outcome::Superseded), ..record(&store, &run(1)).await };
    assert!(matches!(store.end_superseded(&late).await, Err(StoreError::Changed)));
    assert!(matches!(store.record_ended(&late).await, Err(StoreError::Changed)));
    assert_eq!(record(&store, &run(1)).await.outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_platform_that_stands_has_the_routes_of_its_manifest_and_no_others_from_that_moment() {
    let (table, line) = (Table::default(), Line::default());
    let store = table.store(&line);
    let production = "prod".parse().unwrap();
    let services = async |repository: &str| {
        let routes = store.routes(&repository.parse().unwrap()).await.unwrap();
        routes.into_iter().map(|route| route.service.to_string()).collect::<Vec<_>>()
    };
    provision(&store, &production, MANIFEST, None).await;
    assert_eq!(services("hello-api").await, ["api", "worker"]);
    let moved = MANIFEST.replace("worker: {image: {repository: hello-api}}", "worker: {image: {repository: other}}");
    provision(&store, &production, &moved, None).await;
    assert_eq!(services("hello-api").await, ["api"]);
    assert_eq!(services("other").await, ["worker"]);
}

#[tokio::test]
async fn as_many_services_as_a_manifest_may_have_are_renamed_in_one_transaction() {
    let store = Table::default().store(&Line::default());
    let production = "prod".parse().unwrap();
    let app = "hello".parse().unwrap();
    let manifest = |count: usize, name: &str| {
        let services: String = (0..count).map(|n| format!("  {name}{n}: {{image: {{repository: r{n}}}}}\n")).collect();
        format!("version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n{services}")
    };
    let most = (1..100).take_while(|n| manifest::read(&manifest(*n, "a"), &app, &production).is_ok()).last().unwrap();
    for name in ["a", "b"] {
        provision(&store, &production, &manifest(most, name), None).await;
    }
    assert_eq!(store.routes(&"r0".parse().unwrap()).await.unwrap()[0].service.as_str(), "b0");
}

fn platform(number: u8) -> Run {
    Run { component: Component::Platform, artifact: Artifact::Nothing, ..run(number) }
}

/// A run of the platform that tears its environment down.
async fn tearing_down(store: &Store) -> Run {
    let run = platform(9);
    begin(store, &run).await;
    let state = store.component(&run.app, &run.environment, &run.component).await.unwrap();
    let teardown = Teardown { release: run.release.clone(), since: at(0), torn_down_at: None, kept: Vec::new() };
    store.begin_teardown(&run, &state, &state, None, &teardown).await.unwrap();
    run
}

#[tokio::test]
async fn while_an_environment_is_torn_down_only_its_platform_can_begin() {
    let store = Table::default().store(&Line::default());
    tearing_down(&store).await;
    let (run, old) = (run(1), ComponentState::default());
    let refused = store.begin(&run, &old, &ComponentState { fence: 1, ..old.clone() }, None, None).await;
    assert!(matches!(refused, Err(StoreError::Changed)), "{refused:?}");
    assert_eq!(component(&store).await, old);
    begin(&store, &platform(10)).await;
}

#[tokio::test]
async fn a_platform_that_stands_is_listed_and_takes_the_mark_of_a_teardown_away() {
    let store = Table::default().store(&Line::default());
    let Run { app, environment, .. } = tearing_down(&store).await;
    assert_eq!(store.environments().await.unwrap(), []);
    let missing = store.applied(&app, &environment).await.unwrap_err();
    assert!(missing.to_string().contains("is being torn down since"), "{missing}");
    provision(&store, &environment, MANIFEST, None).await;
    assert_eq!(store.environment(&app, &environment).await.unwrap().unwrap().teardown, None);
    assert_eq!(store.environments().await.unwrap(), [Place { app, environment }]);
}

#[tokio::test]
async fn a_component_that_changed_meanwhile_is_not_forgotten() {
    let store = Table::default().store(&Line::default());
    begin(&store, &run(1)).await;
    let teardown = tearing_down(&store).await;
    let known = store.components(&teardown.app, &teardown.environment).await.unwrap();
    assert_eq!(known.iter().map(|(component, _)| component.clone()).collect::<Vec<_>>(), [run(1).component]);
    store.renew(&run(1), at(1)).await.unwrap();
    let refused = store.forget(&teardown, &known, at(2)).await;
    assert!(matches!(refused, Err(StoreError::Changed)), "{refused:?}");
    let known = store.components(&teardown.app, &teardown.environment).await.unwrap();
    store.forget(&teardown, &known, at(3)).await.unwrap();
    assert_eq!(component(&store).await, ComponentState::default());
}

#[tokio::test]
async fn releases_are_listed_by_age() {
    let store = Table::default().store(&Line::default());
    for number in [2, 1, 3] {
        begin(&store, &run(number)).await;
    }
    begin(&store, &Run { component: Component::Platform, ..run(4) }).await;
    let Run { app, environment, component, .. } = run(1);
    let ids = |releases: Vec<ReleaseRecord>| releases.into_iter().map(|one| one.release).collect::<Vec<_>>();
    let releases = store.releases(&app, &environment).await.unwrap();
    assert_eq!(ids(releases), [1, 2, 3, 4].map(|n| run(n).release));
    let newest = store.newest_releases(&app, &environment, None, 2).await.unwrap();
    assert_eq!(ids(newest), [4, 3].map(|n| run(n).release));
    let newest = store.newest_releases(&app, &environment, Some(&component), 9).await.unwrap();
    assert_eq!(ids(newest), [3, 2, 1].map(|n| run(n).release));
}

/// DynamoDB's JSON, as `aws dynamodb scan` shows it.
fn attribute(value: &serde_json::Value) -> AttributeValue {
    let (kind, content) = value.as_object().and_then(|value| value.iter().next()).unwrap();
    let text = || content.as_str().unwrap().to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "BOOL" => AttributeValue::Bool(content.as_bool().unwrap()),
        "NULL" => AttributeValue::Null(true),
        "L" => AttributeValue::L(content.as_array().unwrap().iter().map(attribute).collect()),
        "M" => AttributeValue::M(item(content)),
        other => panic!("{other}"),
    }
}

fn item(value: &serde_json::Value) -> Item {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

/// Reads an item and writes it again: what was in it is still there, but for what the type does not know.
fn keeps<T: DeserializeOwned + Serialize>(recorded: &Item) {
    let key = Key::of(recorded);
    let read: T = read_item(recorded.clone()).unwrap();
    let written = write_item(&key, &read).unwrap();
    for (name, value) in recorded.iter().filter(|(name, _)| !name.starts_with("progress")) {
        assert_eq!(written.get(name), Some(value), "{} / {}: {name}", key.pk, key.sk);
    }
}

#[test]
fn what_older_versions_wrote_is_read() {
    let mut kinds = std::collections::BTreeSet::new();
    for file in std::fs::read_dir("../../tests/fixtures/items").unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        for recorded in items.iter().map(item) {
            let Key { pk, sk } = Key::of(&recorded);
            let kind = if pk == ENVIRONMENTS { "place" } else { sk.split('#').next().unwrap() };
            match kind {
                "environment" => keeps::<EnvironmentRecord>(&recorded),
                "component" => keeps::<ComponentState>(&recorded),
                "release" => keeps::<ReleaseRecord>(&recorded),
                "place" => keeps::<Place>(&recorded),
                // What a function remembers, in a form of its own.
                "memory" => {}
                _ => keeps::<Route>(&recorded),
            }
            kinds.insert(if sk.contains('#') || pk == ENVIRONMENTS || sk == "environment" {
                kind.to_owned()
            } else {
                "route".to_owned()
            });
        }
    }
    let all = ["component", "environment", "memory", "place", "release", "route"].map(str::to_owned);
    assert!(all.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}
