use super::*;
use crate::{
    manifest,
    release::{Claim, Contender, Live, Order, Wanted},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn name(text: &str) -> ComponentName {
    text.parse().unwrap()
}

fn image(number: u8) -> Artifact {
    let digest = format!("sha256:{number:02x}").parse().unwrap();
    Artifact::Image { repository: "shop".parse().unwrap(), digest }
}

fn spec(services: &str) -> Spec {
    let text = format!("version: 1\napp: hello\nenvironments: {{prod: {{}}}}\nservices:\n{services}");
    manifest::read(&text, &"hello".parse().unwrap(), &"prod".parse().unwrap()).unwrap()
}

const CHAIN: &str = "  a: {image: {repository: shop, tags: [\"a-*\", \"v*\"]}, after: [m]}
  m: {image: {repository: shop, tags: [\"m-*\", \"v*\"]}, after: [z]}
  z: {image: {repository: shop, tags: [\"z-*\", \"v*\"]}}
";

fn taking(spec: &Spec, tag: &str, tags: &[&str]) -> Vec<String> {
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let takers = takers(spec, &"shop".parse().unwrap(), tag, &tags);
    takers.into_iter().map(String::from).collect()
}

#[test]
fn those_that_go_first_come_first_whatever_their_names() {
    let spec = spec(CHAIN);
    assert_eq!(in_order(&spec).iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["z", "m", "a"]);
    assert_eq!(taking(&spec, "v1", &["v1"]), ["z", "m", "a"]);
    assert!(!goes_after_itself(&spec, &name("a")));
}

#[test]
fn who_goes_first_takes_the_image_by_another_of_its_tags_and_who_goes_after_only_by_its_own() {
    let spec = spec(CHAIN);
    assert_eq!(taking(&spec, "a-1", &["a-1", "z-1"]), ["z", "a"]);
    assert_eq!(taking(&spec, "a-1", &["a-1"]), ["a"]);
    assert_eq!(taking(&spec, "z-1", &["a-1", "z-1"]), ["z"]);
    assert_eq!(taking(&spec, "other", &["z-1"]), [""; 0]);
}

#[test]
fn the_releases_of_one_push_have_one_group_and_those_of_another_another() {
    let of = |digest: &str, second| group(&"shop".parse().unwrap(), &digest.parse().unwrap(), at(second));
    assert_eq!(of("sha256:01", 1), of("sha256:01", 1));
    assert_eq!(of("sha256:01", 1).len(), 8);
    assert!(of("sha256:01", 1) != of("sha256:01", 2) && of("sha256:01", 1) != of("sha256:02", 1));
}

/// A service that wants an image by this execution since the tenth second, and what is live there.
fn wanting(number: u8, execution: &str, live: Option<u8>) -> ComponentState {
    let order = Order { at: at(10), sequencer: None };
    let desired = Wanted {
        artifact: image(number),
        order,
        execution: execution.to_owned(),
        since: at(10),
        outranked: Vec::new(),
    };
    let live = live.map(|number| Live {
        artifact: image(number),
        release: "20261121T031542123-3f9c2a".parse().unwrap(),
        since: at(0),
    });
    ComponentState { desired: Some(desired), live, ..ComponentState::default() }
}

fn release(number: u8, execution: &str, outcome: Option<Outcome>) -> ReleaseRecord {
    let contender = Contender {
        release: "20261121T031542123-3f9c2a".parse().unwrap(),
        artifact: image(number),
        execution: execution.to_owned(),
        started_at: at(11),
    };
    ReleaseRecord {
        ended_at: outcome.map(|_| at(20)),
        outcome,
        reason: outcome.map(|_| "so it went".to_owned()),
        ..ReleaseRecord::opened(
            &contender,
            &"hello".parse().unwrap(),
            &"prod".parse().unwrap(),
            &"service/api".parse().unwrap(),
        )
    }
}

/// What image 2 is told by one that goes first.
fn told(state: &ComponentState, releases: &[ReleaseRecord], second: i64) -> Turn {
    turn(&name("api"), state, releases, &image(2), at(second))
}

#[test]
fn who_goes_first_is_waited_for_until_it_ended_and_decides_by_how() {
    let state = wanting(2, "event-2", Some(1));
    assert_eq!(
        told(&state, &[], 12),
        Turn::Wait("waits for `api`, which goes first: its release of shop@sha256:02 begins".to_owned())
    );
    let Turn::Wait(note) = told(&state, &[release(2, "event-2", None)], 12) else { panic!() };
    assert_eq!(note, "waits for `api`, which goes first: its release 20261121T031542123-3f9c2a is under way");
    assert_eq!(told(&state, &[release(2, "event-2", Some(Outcome::Succeeded))], 30), Turn::Go);
    for bad in [Outcome::RolledBack, Outcome::Failed, Outcome::Rejected] {
        let Turn::Refused(reason) = told(&state, &[release(2, "event-2", Some(bad))], 30) else { panic!("{bad}") };
        let expected = format!(
            "`api` goes first, and its release 20261121T031542123-3f9c2a of shop@sha256:02 ended {bad}: so it went"
        );
        assert_eq!(reason, expected);
    }
}

#[test]
fn who_has_the_image_live_or_has_other_images_is_not_waited_for() {
    assert_eq!(told(&ComponentState::default(), &[], 12), Turn::Go);
    // Released again by new settings: the image is live all the while.
    assert_eq!(told(&wanting(2, "event-3", Some(2)), &[release(2, "event-3", None)], 12), Turn::Go);
    assert_eq!(told(&wanting(1, "event-1", None), &[release(1, "event-1", Some(Outcome::Failed))], 12), Turn::Go);
    // It was live there, and something else is since.
    let releases = [release(3, "event-3", None), release(2, "event-2", Some(Outcome::Succeeded))];
    assert_eq!(told(&wanting(3, "event-3", Some(2)), &releases, 12), Turn::Go);
    assert_eq!(told(&wanting(3, "event-3", None), &releases, 12), Turn::Go);
}

#[test]
fn where_a_newer_push_took_its_place_that_one_is_waited_for() {
    let newer = wanting(3, "event-3", Some(1));
    for superseded in [Some(Outcome::Superseded), None] {
        let before = release(2, "event-2", superseded);
        let so_far = |outcome| [release(3, "event-3", outcome), before.clone()];
        assert!(matches!(told(&newer, &so_far(None), 12), Turn::Wait(_)));
        assert!(matches!(told(&newer, std::slice::from_ref(&before), 12), Turn::Wait(_)));
        assert_eq!(told(&newer, &so_far(Some(Outcome::Succeeded)), 12), Turn::Go);
        assert!(matches!(told(&newer, &so_far(Some(Outcome::RolledBack)), 12), Turn::Refused(_)));
    }
}

#[test]
fn what_a_person_put_in_its_place_or_did_after_it_failed_lets_nobody_follow() {
    let by_hand = wanting(1, "rollback-api-1", Some(1));
    for outcome in [None, Some(Outcome::Superseded), Some(Outcome::RolledBack)] {
        let turn = told(&by_hand, &[release(2, "event-2", outcome)], 12);
        assert!(matches!(turn, Turn::Refused(_)), "{outcome:?}: {turn:?}");
    }
    // A person tries it again, and it holds.
    let again = [release(2, "by-hand", Some(Outcome::Succeeded)), release(2, "event-2", Some(Outcome::Failed))];
    assert_eq!(told(&wanting(2, "by-hand", None), &again, 12), Turn::Go);
}

#[test]
fn one_that_never_begins_is_not_waited_for_for_ever() {
    let state = wanting(2, "event-2", Some(1));
    let hour = 10 + 3600;
    assert!(matches!(told(&state, &[], hour - 1), Turn::Wait(_)));
    let Turn::Refused(reason) = told(&state, &[], hour) else { panic!() };
    assert!(reason.ends_with("never began; start the execution event-2 of it again"), "{reason}");
    // It queues behind one that migrates.
    let release = "20261121T031542123-000001".parse().unwrap();
    let claim = Some(Claim { release, fence: 1, until: at(hour + 60), committed: true });
    assert!(matches!(told(&ComponentState { claim, ..state }, &[], hour), Turn::Wait(_)));
}
