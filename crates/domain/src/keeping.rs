//! Which tags keep a service's images: the lifecycle policy of a repository leaves alone what has a tag of Shipway's.
//!
//! Each service of an environment has a few such tags, one for each image that can be made live again. A release moves one of them
//! to its image, away from one that nobody goes back to. So nothing is ever deleted to forget an image: the tags move on, and the
//! policy does with it what it does with any other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    name::{AppName, ComponentName, Digest, EnvironmentName, RepositoryName},
    release::{Artifact, ComponentState},
};

/// How Shipway's own tags begin. The lifecycle policy in `bootstrap/blueprints/repository.yaml` goes by it, no pattern of a manifest
/// matches such a tag, and no push of one releases anything.
pub const PREFIX: &str = "shipway-";

/// How many images that were live before are kept beside the one that is live, unless the manifest says otherwise.
pub const BEFORE: u16 = 10;

/// How many at most: with 40 services in one repository, fewer than 1,000 of its images are kept, which is what the rule lets pass.
pub const MOST: u16 = 20;

/// The tags that a service may have, one for each image that may be kept. Names have no dot, so no two services' tags are the same,
/// and at most 20 letters, far from a tag's 128.
pub fn tags(app: &AppName, environment: &EnvironmentName, service: &ComponentName) -> Vec<String> {
    (0..=MOST).map(|slot| format!("{PREFIX}{app}.{environment}.{service}.{slot}")).collect()
}

/// The images of a repository that are to be kept when this one goes live: it, and so many that were live before it, the newest
/// first.
pub fn images(state: &ComponentState, repository: &RepositoryName, digest: &Digest, before: u16) -> Vec<Digest> {
    let lived = state.history.iter().filter_map(|live| match &live.artifact {
        Artifact::Image { repository: own, digest } if own == repository => Some(digest),
        _ => None,
    });
    let mut known = BTreeSet::new();
    let each = std::iter::once(digest).chain(lived).filter(|digest| known.insert(digest.as_str().to_owned()));
    each.take(usize::from(before) + 1).cloned().collect()
}

/// Which tag each image that has none gets: one that is on no image, or on one that is not among those to be kept. `carried` says
/// where the tags are. What is more than one for each image that may be kept goes to the first, so that it keeps no other.
pub fn moves(
    tags: &[String],
    carried: &BTreeMap<String, Digest>,
    images: &[Digest],
    before: u16,
) -> Vec<(String, Digest)> {
    let (tags, more) = tags.split_at(tags.len().min(usize::from(before) + 1));
    let mut holders = BTreeSet::new();
    // Of several tags on one image, one keeps it and the others are free.
    let (mut free, mut taken) = (Vec::new(), Vec::new());
    for tag in tags {
        match carried.get(tag) {
            None => free.push(tag),
            Some(digest) if images.contains(digest) && holders.insert(digest.as_str()) => {}
            Some(_) => taken.push(tag),
        }
    }
    let without = images.iter().filter(|digest| !holders.contains(digest.as_str()));
    let elsewhere = more.iter().filter(|tag| carried.get(*tag).is_some_and(|on| Some(on) != images.first()));
    let first = images.iter().take(1).cycle().zip(elsewhere);
    without.zip(free.into_iter().chain(taken)).chain(first).map(|(digest, tag)| (tag.clone(), digest.clone())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::release::Live;

    fn digest(n: u8) -> Digest {
        format!("sha256:{n:02x}").parse().unwrap()
    }

    fn lived(numbers: &[u8]) -> ComponentState {
        let live = |n: &u8| Live {
            artifact: Artifact::Image { repository: "hello-api".parse().unwrap(), digest: digest(*n) },
            release: "20261121T031542123-3f9c2a".parse().unwrap(),
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        ComponentState { history: numbers.iter().map(live).collect(), ..ComponentState::default() }
    }

    fn of(environment: &str, service: &str) -> Vec<String> {
        tags(&"hello".parse().unwrap(), &environment.parse().unwrap(), &service.parse().unwrap())
    }

    #[test]
    fn every_service_of_every_environment_has_tags_of_its_own() {
        assert_eq!(of("prod", "api")[3], "shipway-hello.prod.api.3");
        let all: Vec<String> = [of("a", "b-c"), of("a-b", "c"), of("a-b-c", "d")].concat();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3 * (usize::from(MOST) + 1));
        let longest = |length| "a".repeat(length);
        let tags = tags(&longest(20).parse().unwrap(), &longest(12).parse().unwrap(), &longest(20).parse().unwrap());
        assert!(tags.iter().all(|tag| tag.len() <= 128), "{tags:?}");
    }

    #[test]
    fn what_goes_live_and_what_was_live_in_its_repository_is_kept_each_once() {
        let repository = "hello-api".parse().unwrap();
        let mut state = lived(&[2, 1, 2, 3]);
        assert_eq!(images(&state, &repository, &digest(1), BEFORE), [1, 2, 3].map(digest));
        assert_eq!(images(&state, &repository, &digest(1), 1), [1, 2].map(digest));
        assert_eq!(images(&state, &repository, &digest(1), 0), [1].map(digest));
        let Artifact::Image { repository: elsewhere, .. } = &mut state.history[3].artifact else { unreachable!() };
        *elsewhere = "other".parse().unwrap();
        assert_eq!(images(&state, &repository, &digest(4), BEFORE), [4, 2, 1].map(digest));
    }

    #[test]
    fn a_tag_moves_to_the_image_that_has_none_and_away_from_one_that_nobody_goes_back_to() {
        let tags = of("prod", "api");
        let on = |pairs: &[(usize, u8)]| pairs.iter().map(|(slot, n)| (tags[*slot].clone(), digest(*n))).collect();
        assert_eq!(moves(&tags, &on(&[]), &[1].map(digest), BEFORE), [(tags[0].clone(), digest(1))]);
        assert_eq!(moves(&tags, &on(&[(0, 1)]), &[1].map(digest), BEFORE), []);
        assert_eq!(moves(&tags, &on(&[(0, 1)]), &[2, 1].map(digest), BEFORE), [(tags[1].clone(), digest(2))]);
        let full: Vec<(usize, u8)> = (0..=10).map(|slot| (slot, u8::try_from(slot).unwrap())).collect();
        // Image 4 failed in its smoke test, say: it has a tag and is nothing that anybody goes back to.
        let wanted: Vec<Digest> = [20, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10].map(digest).into();
        assert_eq!(moves(&tags, &on(&full), &wanted, BEFORE), [(tags[4].clone(), digest(20))]);
    }

    #[test]
    fn where_fewer_are_to_be_kept_than_before_the_tags_that_are_too_many_keep_no_other_image() {
        let tags = of("prod", "api");
        let carried: BTreeMap<String, Digest> =
            [(0, 1), (1, 2), (2, 3), (3, 4)].map(|(slot, n): (usize, u8)| (tags[slot].clone(), digest(n))).into();
        // One before is kept from now on: its tag is one of the two, and the other two lead to what is live.
        let moved = moves(&tags, &carried, &[5, 4].map(digest), 1);
        assert_eq!(
            moved,
            [(0, 5), (1, 4), (2, 5), (3, 5)].map(|(slot, n): (usize, u8)| (tags[slot].clone(), digest(n)))
        );
    }

    proptest! {
        /// However the releases go and whatever tags others moved: afterwards each image that is to be kept has a tag, and the
        /// same again moves nothing.
        #[test]
        fn after_the_moves_every_image_that_is_to_be_kept_has_a_tag(
            history in prop::collection::vec(0u8..30, 0..25),
            new in 0u8..30,
            before in 0..=MOST,
            carried in prop::collection::btree_map(0..=usize::from(MOST), 0u8..40, 0..25),
        ) {
            let tags = of("prod", "api");
            let mut carried: BTreeMap<String, Digest> =
                carried.into_iter().map(|(slot, n)| (tags[slot].clone(), digest(n))).collect();
            let wanted = images(&lived(&history), &"hello-api".parse().unwrap(), &digest(new), before);
            prop_assert!(wanted.len() <= usize::from(before) + 1);
            carried.extend(moves(&tags, &carried, &wanted, before));
            for image in &wanted {
                prop_assert!(carried.values().any(|digest| digest == image), "{image}");
            }
            prop_assert!(carried.values().collect::<BTreeSet<_>>().len() <= usize::from(before) + 1);
            prop_assert_eq!(moves(&tags, &carried, &wanted, before), []);
        }
    }
}
