//! Teardown: which buckets are emptied, so that CloudFormation can delete them.
//!
//! Names do not tell whose a bucket is: `shop` with `prod-eu` and `shop-prod` with `eu` begin alike, and a long name is cut. The
//! tags that CloudFormation gives what a stack makes do.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-resource-tags.html>

use std::collections::BTreeMap;

use crate::{
    manifest::{Spec, spec::OnDelete},
    name::{AppName, EnvironmentName},
};

/// How the names of all buckets begin that a teardown may empty.
pub const BUCKETS: [&str; 3] = ["shipway-bucket-", "shipway-export-", "shipway-site-"];

/// Whether a bucket of this name may be one of this app, so that its tags are worth a look.
pub fn may_be_of(bucket: &str, app: &AppName) -> bool {
    let starts = |start: &&str| bucket.strip_prefix(*start).is_some_and(|rest| rest.starts_with(&format!("{app}-")));
    BUCKETS.iter().any(starts)
}

/// What a bucket of an environment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use<'a> {
    /// A site's content, which the zips in the intake bucket can make again.
    Site,
    /// A service's files: the manifest's bucket of this name.
    Files(&'a str),
    /// The exports of the manifest's database of this name.
    Export(&'a str),
}

impl Use<'_> {
    /// What a bucket with these tags is for, if it is this environment's and one that may be emptied. A load balancer's log
    /// outlives the load balancer, and what the user's own stacks made is theirs.
    pub fn of<'a>(tags: &'a BTreeMap<String, String>, app: &AppName, environment: &EnvironmentName) -> Option<Use<'a>> {
        let is = |key: &str, value: &str| tags.get(key).is_some_and(|tag| tag == value);
        if !is("shipway:app", app.as_str()) || !is("shipway:environment", environment.as_str()) {
            return None;
        }
        let stack =
            tags.get("aws:cloudformation:stack-name")?.strip_prefix(&format!("shipway-{app}-{environment}-"))?;
        match stack.split_once('-')? {
            ("site", _) => Some(Use::Site),
            ("bucket", name) => Some(Use::Files(name)),
            ("export", name) => Some(Use::Export(name)),
            _ => None,
        }
    }

    /// Whether it is emptied. Files are only where every manifest that names the bucket says so: one that none names is kept, as
    /// nobody said that it may go. Exports are unless their database is kept.
    pub fn is_emptied(self, specs: &[&Spec]) -> bool {
        match self {
            Use::Site => true,
            Use::Files(name) => {
                let mut said = specs
                    .iter()
                    .flat_map(|spec| &spec.buckets)
                    .filter(|(each, _)| each.as_str() == name)
                    .map(|(_, bucket)| bucket.on_delete)
                    .peekable();
                said.peek().is_some() && said.all(|on_delete| on_delete == OnDelete::Delete)
            }
            Use::Export(name) => {
                let mut databases = specs.iter().flat_map(|spec| &spec.databases);
                databases.all(|(each, database)| each.as_str() != name || database.on_delete != OnDelete::Retain)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn spec(files: &str, database: &str) -> Spec {
        let text = format!(
            "version: 1\napp: shop\nsites: {{web: {{}}}}\nbuckets: {{files: {{on_delete: {files}}}}}\ndatabases: {{main: {{engine: postgres, version: \
             \"15\", class: db.t3.micro, weekly_export: 30d, on_delete: {database}}}}}\nenvironments: {{prod: {{}}}}\n"
        );
        manifest::read(&text, &"shop".parse().unwrap(), &"prod".parse().unwrap()).unwrap()
    }

    fn tags(app: &str, environment: &str, stack: &str) -> BTreeMap<String, String> {
        let pairs =
            [("shipway:app", app), ("shipway:environment", environment), ("aws:cloudformation:stack-name", stack)];
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_buckets_tags_tell_whose_it_is_and_what_for() {
        let table = [
            ("shop", "prod", "shipway-shop-prod-site-web", Some(Use::Site)),
            ("shop", "prod", "shipway-shop-prod-bucket-user-files", Some(Use::Files("user-files"))),
            ("shop", "prod", "shipway-shop-prod-export-main", Some(Use::Export("main"))),
            ("shop", "prod", "shipway-shop-prod-access-logs", None),
            ("shop", "prod", "shipway-shop-prod-own-bucket-user-files", None),
            ("shop", "prod", "something-else", None),
            ("shop", "prod-site", "shipway-shop-prod-site-web", None),
            ("shop-prod", "eu", "shipway-shop-prod-site-web", None),
            ("", "", "shipway-shop-prod-site-web", None),
        ];
        let (app, environment) = ("shop".parse().unwrap(), "prod".parse().unwrap());
        for (of, place, stack, expected) in table {
            assert_eq!(Use::of(&tags(of, place, stack), &app, &environment), expected, "{of} {place} {stack}");
        }
        assert_eq!(Use::of(&BTreeMap::new(), &app, &environment), None);
    }

    #[test]
    fn only_buckets_that_may_be_the_apps_are_looked_at() {
        let app = "shop".parse().unwrap();
        for bucket in ["shipway-site-shop-prod-0a1b2c3d4e5f", "shipway-bucket-shop-prod-us-0a1b2c3d-123456789012"] {
            assert!(may_be_of(bucket, &app), "{bucket}");
        }
        for bucket in ["shipway-intakebucket-1", "shipway-logs-shop-prod-1", "shipway-site-shopping-prod-1", "shop-1"] {
            assert!(!may_be_of(bucket, &app), "{bucket}");
        }
    }

    #[test]
    fn data_is_emptied_only_where_every_manifest_lets_it_go() {
        let (delete, retain) = (spec("delete", "snapshot"), spec("retain", "retain"));
        assert!(Use::Files("files").is_emptied(&[&delete]));
        assert!(!Use::Files("files").is_emptied(&[&delete, &retain]));
        assert!(!Use::Files("older").is_emptied(&[&delete]), "nobody said what becomes of it");
        assert!(!Use::Files("files").is_emptied(&[]));
        assert!(Use::Export("main").is_emptied(&[&delete]));
        assert!(!Use::Export("main").is_emptied(&[&delete, &retain]));
        assert!(Use::Site.is_emptied(&[]));
    }
}
