use super::*;
use crate::release::{Artifact, Claim, Contender, Live, Order, Outcome, begin, sweep, take_in};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn image(number: u8) -> Artifact {
    let digest = format!("sha256:{number:02x}").parse().unwrap();
    Artifact::Image { repository: "shop".parse().unwrap(), digest }
}

fn seen(version: &str, changed: i64) -> BTreeMap<String, Seen> {
    let seen = Seen { version: version.to_owned(), changed_at: Some(at(changed)) };
    [("prod/key".to_owned(), seen)].into()
}

/// The first image is live since the release of second 100, and this is what is remembered.
fn state(wanted: u8, known: Option<&str>) -> ComponentState {
    let desired = Wanted {
        artifact: image(wanted),
        order: Order { at: at(i64::from(wanted)), sequencer: None },
        execution: format!("event-{wanted}"),
        since: at(90),
        outranked: Vec::new(),
    };
    let release = crate::name::ReleaseId::of_execution("arn", at(100));
    let live = Live { artifact: image(1), release, since: at(110) };
    let versions = known.map(|version| ("prod/key".to_owned(), version.to_owned())).into_iter().collect();
    ComponentState {
        desired: Some(desired),
        live: Some(live),
        rotation: Rotation { versions, last: None },
        ..ComponentState::default()
    }
}

fn release(execution: &str, outcome: Option<Outcome>) -> ReleaseRecord {
    let contender = Contender {
        release: crate::name::ReleaseId::of_execution(execution, at(100)),
        artifact: image(1),
        execution: execution.to_owned(),
        started_at: at(100),
    };
    ReleaseRecord {
        ended_at: outcome.map(|_| at(110)),
        outcome,
        ..ReleaseRecord::opened(
            &contender,
            &"hello".parse().unwrap(),
            &"prod".parse().unwrap(),
            &"service/api".parse().unwrap(),
        )
    }
}

fn ended() -> [ReleaseRecord; 1] {
    [release("event-1", Some(Outcome::Succeeded))]
}

#[test]
fn what_is_seen_first_is_only_remembered() {
    let Decision::Remember(next) = decide(&state(1, None), &ended(), &seen("a", 500), "event-x", at(600)) else {
        panic!()
    };
    assert_eq!(*next, state(1, Some("a")));
    assert!(!is_news(&next, &seen("a", 500), at(600)));
    assert_eq!(decide(&next, &ended(), &seen("a", 500), "event-x", at(600)), Decision::Nothing);
}

#[test]
fn another_version_wants_what_is_live_again_once() {
    let Decision::Restart(next, wanted) = decide(&state(1, Some("a")), &ended(), &seen("b", 500), "event-x", at(600))
    else {
        panic!()
    };
    assert_eq!((wanted.artifact.clone(), wanted.execution.as_str(), wanted.since), (image(1), "event-x", at(600)));
    assert_eq!(next.rotation.last, Some(Rotated { at: at(600), what: "prod/key".to_owned() }));
    // Not started yet, because the call was cut off: started again for a while, under the same name.
    assert!(is_news(&next, &seen("b", 500), at(610)) && !is_news(&next, &seen("b", 500), at(9000)));
    assert_eq!(decide(&next, &ended(), &seen("b", 500), "event-y", at(610)), Decision::StartAgain(wanted));
    // On its way, a second one waits; and is one more restart when that has ended.
    let under_way = [release("event-x", None)];
    assert_eq!(decide(&next, &under_way, &seen("c", 620), "event-y", at(630)), Decision::Nothing);
    let claim = Claim { release: under_way[0].release.clone(), fence: 1, until: at(900), committed: false };
    let claimed = ComponentState { claim: Some(claim), ..(*next).clone() };
    assert_eq!(decide(&claimed, &under_way, &seen("c", 620), "event-y", at(630)), Decision::Nothing);
    let over = [release("event-x", Some(Outcome::Succeeded))];
    assert!(matches!(decide(&next, &over, &seen("c", 620), "event-y", at(700)), Decision::Restart(..)));
    assert_eq!(decide(&next, &over, &seen("b", 500), "event-y", at(700)), Decision::Nothing);
}

#[test]
fn tasks_that_began_after_the_change_have_it() {
    let decision = decide(&state(1, Some("a")), &ended(), &seen("b", 99), "event-x", at(600));
    assert_eq!(decision, Decision::Remember(Box::new(state(1, Some("b")))));
    assert!(matches!(
        decide(&state(1, Some("a")), &ended(), &seen("b", 100), "event-x", at(600)),
        Decision::Restart(..)
    ));
}

#[test]
fn what_is_on_its_way_is_not_overtaken_and_what_ended_badly_does_not_come_back() {
    let newer = state(2, Some("a"));
    for releases in [vec![], vec![release("event-2", None)]] {
        assert_eq!(decide(&newer, &releases, &seen("b", 500), "event-x", at(9000)), Decision::Nothing);
    }
    let failed = [release("event-2", Some(Outcome::RolledBack))];
    let Decision::Restart(next, wanted) = decide(&newer, &failed, &seen("b", 500), "event-x", at(600)) else {
        panic!()
    };
    assert_eq!(wanted.artifact, image(1));
    // Neither its late event nor the sweep brings the second image back, and the restart may begin.
    let order = Order { at: at(2), sequencer: None };
    assert!(matches!(take_in(&next, &image(2), &order, "event-z", at(700)), crate::release::Intake::Ignore(_)));
    let swept = sweep(&next, &image(2), &order, "event-z", at(700));
    assert_eq!(swept, crate::release::Intake::StartAgain(wanted), "the restart, should its start have been cut off");
    let contender = Contender {
        release: crate::name::ReleaseId::of_execution("arn:x", at(610)),
        artifact: image(1),
        execution: "event-x".to_owned(),
        started_at: at(610),
    };
    assert!(matches!(begin(&next, &contender, at(611)), crate::release::Begin::Claim(_)));
}

#[test]
fn a_services_secrets_are_its_own_and_its_sidecars_each_once_and_without_keys() {
    let text = "version: 1\napp: hello\nenvironments: {prod: {}}\nsecrets: {session: {}}\nservices:\n  api:\n    \
        image: {repository: shop}\n    restart_on_rotation: true\n    secrets: {A: {secretsmanager: prod/key:a}, \
        B: {secretsmanager: prod/key:b}, C: {ssm: /prod/c}}\n    sidecars: {proxy: {image: a/b:1, secrets: {D: {ref: \
        secrets.session}}}}\n";
    let spec = crate::manifest::read(text, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap();
    let arn = "arn:aws:secretsmanager:eu-west-1:1:secret:hello-a1b2c3";
    let provisioned = [("secrets.session".to_owned(), format!("{arn}:value::"))].into();
    let found = secrets(spec.services.values().next().unwrap(), &provisioned);
    let expected = [
        ("/prod/c", SecretStore::Parameter("/prod/c".to_owned())),
        ("prod/key", SecretStore::SecretsManager("prod/key".to_owned())),
        ("secrets.session", SecretStore::SecretsManager(arn.to_owned())),
    ];
    assert_eq!(found, expected.map(|(name, store)| Secret { name: name.to_owned(), store }).into());
}
