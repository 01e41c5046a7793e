//! The stacks of repositories for images. They are the app's and not an environment's: environments may share one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Concern, WantedStack, Wish, parameters, text};
use crate::{
    manifest::{Spec, spec::Image},
    name::{Component, RepositoryName},
};

const REPOSITORY: &str = include_str!("../../../../bootstrap/blueprints/repository.yaml");

/// How many tagged images a repository keeps unless the manifest says.
const TAGGED_KEPT: u16 = 500;

/// The repositories that services take their images from.
pub fn repositories(spec: &Spec) -> BTreeSet<&RepositoryName> {
    spec.services.values().filter_map(|service| service.image.repository.as_ref()).collect()
}

impl Wish<'_> {
    /// A stack for each repository.
    pub(super) fn repository_stacks(&self) -> Vec<WantedStack> {
        let mut repositories: BTreeMap<&RepositoryName, Vec<&Image>> = BTreeMap::new();
        for service in self.spec.services.values() {
            if let Some(repository) = &service.image.repository {
                repositories.entry(repository).or_default().push(&service.image);
            }
        }
        repositories.into_iter().map(|(repository, images)| self.repository(repository, &images)).collect()
    }

    fn repository(&self, repository: &RepositoryName, images: &[&Image]) -> WantedStack {
        let mut tags = self.tags(Component::Platform);
        tags.remove("shipway:environment");
        // Of services that share it, the one that keeps most decides.
        let keep = images.iter().filter_map(|image| image.keep).max().unwrap_or(TAGGED_KEPT);
        let untagged = images.iter().filter_map(|image| image.keep_untagged).max();
        let stack = self.blueprint(
            self.names().repository(repository),
            Concern::Repository,
            REPOSITORY,
            parameters([
                ("Repository", text(repository)),
                ("Keep", text(keep)),
                ("UntaggedDays", text(untagged.map_or(0, |period| period.days()))),
            ]),
            false,
        );
        WantedStack { tags, ..stack }
    }
}
