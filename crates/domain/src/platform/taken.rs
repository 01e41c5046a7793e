//! Names that are taken: of what a teardown kept, of another environment, or of somebody else. What to do about it.

use super::{Concern, Names, Observed, StackName, Trouble, Value, WantedStack};
use crate::{manifest::Spec, name::EnvironmentName};

/// The parameter that has the sender's name, of a stack for email.
const SENDER: &str = "Sender";

/// The tag that says which environment a stack is of.
const ENVIRONMENT: &str = "shipway:environment";

/// What to do about what a stack failed for, where that is known.
pub(super) fn way_out(wanted: &WantedStack, why: &str) -> Option<String> {
    if why.contains("Priority") && why.contains("in use") {
        let way_out = "the stack of a service that the manifest no longer names may hold it: delete that stack";
        return Some(way_out.to_owned());
    }
    // S3's, SES's, and what CloudFormation itself says of all others.
    if !why.contains("already exist") {
        return None;
    }
    Some(match wanted.concern {
        Concern::Bucket => format!(
            "it stayed from a teardown, as `on_delete: retain`, or is somebody else's, and no bucket is taken over: move what is in {} \
             elsewhere and delete it, or give the bucket another key under `buckets` in the manifest, and with it another name",
            parameter(wanted, "BucketName")
        ),
        Concern::Email => format!(
            "SES has {} once in an account and region: give this environment a sender of its own under `email` in the manifest, or remove \
             that one where it was made",
            sender(wanted)
        ),
        _ => {
            "Shipway changes nothing that it did not make: remove or rename that, or give ours another name".to_owned()
        }
    })
}

fn parameter<'a>(wanted: &'a WantedStack, name: &str) -> &'a str {
    match wanted.parameters.get(name) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

fn sender(wanted: &WantedStack) -> &str {
    parameter(wanted, SENDER)
}

/// The stack that has this sender, if it is another one, and its environment.
fn holder<'a>(own: &StackName, sender: &str, there: &'a Observed) -> Option<(&'a StackName, &'a str)> {
    // A stack that was never finished has made nothing that stayed.
    let stands = |observed: &super::ObservedStack| matches!(observed.status.phase(), super::plan::Phase::Settled);
    there
        .iter()
        .filter(|(name, observed)| *name != own && stands(observed))
        .find(|(_, observed)| {
            !sender.is_empty() && observed.parameters.get(SENDER).is_some_and(|other| other == sender)
        })
        .map(|(name, observed)| (name, observed.tags.get(ENVIRONMENT).map_or("", String::as_str)))
}

fn held(sender: &str, (stack, environment): (&StackName, &str)) -> String {
    format!(
        "{sender} is the sender of the environment {environment} (the stack {stack}), and SES has it once in an account and region: give one of \
         the two another one under `environments.<name>.email` in the manifest"
    )
}

impl Trouble {
    /// Whether the stacks of the app's other environments may tell more.
    pub fn may_be_anothers(&self, concern: Concern) -> bool {
        matches!(self, Trouble::Failed { way_out: Some(_), .. }) && concern == Concern::Email
    }

    /// The same, with the stack that holds what this one wants, where that is another of the app's.
    #[must_use]
    pub fn among(mut self, own: &StackName, there: &Observed) -> Trouble {
        if let Trouble::Failed { way_out, .. } = &mut self
            && let Some(sender) = there.get(own).and_then(|stack| stack.parameters.get(SENDER))
            && let Some(holder) = holder(own, sender, there)
        {
            *way_out = Some(held(sender, holder));
        }
        self
    }
}

/// Why a stack that is still to be made could not be: what it wants is another environment's.
pub(crate) fn of_another(wanted: &WantedStack, there: &Observed) -> Option<String> {
    let sender = sender(wanted);
    let holder = (wanted.concern == Concern::Email).then(|| holder(&wanted.name, sender, there)).flatten()?;
    Some(held(sender, holder))
}

/// What a teardown kept of what this environment would make again. `makes` says whether a stack is still to be made.
pub(crate) fn of_before(
    spec: &Spec,
    environment: &EnvironmentName,
    account: &str,
    kept: &[String],
    makes: impl Fn(&StackName) -> bool,
) -> Vec<String> {
    let names = Names { app: &spec.app, environment };
    let buckets = spec.buckets.keys().filter(|key| makes(&names.bucket(key))).filter_map(|key| {
        let name = names.bucket_name(key, account);
        kept.iter().any(|kept| kept.contains(&format!("({name})"))).then(|| {
            format!(
                "buckets.{key}: the teardown kept {name}, and no bucket is taken over: unless it was deleted since, move what is in it \
                 elsewhere and delete it, or give the bucket another key"
            )
        })
    });
    let databases =
        spec.databases.keys().filter(|key| makes(&names.database(key))).map(|key| ("databases", "database", key));
    let caches = spec.caches.keys().filter(|key| makes(&names.cache(key))).map(|key| ("caches", "cache", key));
    let data = databases.chain(caches).filter_map(|(keys, noun, key)| {
        let kept = kept.iter().find(|kept| kept.contains(&format!("the {noun} {key} (")))?;
        Some(format!("{keys}.{key}: the teardown kept {kept}; what is made now is another one, and empty"))
    });
    buckets.chain(data).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        manifest,
        network::NetworkOutputs,
        platform::{ObservedStack, Place, StackStatus, Wish, stacks},
    };

    const MANIFEST: &str = "
version: 1
app: shop
services: {api: {image: {repository: shop-api}}}
email: {post: {address: post@shop.example}}
buckets: {files: {}}
databases: {main: {engine: postgres, version: '16', class: db.t4g.micro}}
environments: {dev: {}, prod: {}}
";

    fn wanted(environment: &str) -> (Spec, Vec<WantedStack>) {
        let environment = environment.parse().unwrap();
        let spec = manifest::read(MANIFEST, &"shop".parse().unwrap(), &environment).unwrap();
        let place = Place {
            partition: "aws".to_owned(),
            region: "eu-west-1".to_owned(),
            account: "111122223333".to_owned(),
            permissions_boundary: "arn:aws:iam::111122223333:policy/b".to_owned(),
        };
        let network = NetworkOutputs::default();
        let wish = Wish { spec: &spec, environment: &environment, place: &place, network: Some(&network) };
        let wanted = stacks(&wish, &Observed::new()).unwrap();
        (spec, wanted)
    }

    fn of(wanted: &[WantedStack], concern: Concern) -> &WantedStack {
        wanted.iter().find(|stack| stack.concern == concern).unwrap()
    }

    fn observed(wanted: &WantedStack, status: StackStatus) -> ObservedStack {
        let text = |name: &str| (name.to_owned(), parameter(wanted, name).to_owned());
        ObservedStack {
            id: wanted.name.to_string(),
            status,
            parameters: [text(SENDER)].into(),
            tags: wanted.tags.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            outputs: BTreeMap::new(),
            role: None,
            protected: false,
            operation: None,
        }
    }

    #[test]
    fn a_name_that_is_taken_is_told_with_what_to_set() {
        let (_, wanted) = wanted("prod");
        let told = |concern, why| way_out(of(&wanted, concern), why).unwrap_or_default();
        let bucket = told(Concern::Bucket, "shipway-bucket-shop-prod-files-111122223333 already exists");
        assert!(bucket.contains("move what is in shipway-bucket-shop-prod-files-111122223333 elsewhere"), "{bucket}");
        assert!(bucket.contains("another key under `buckets`"), "{bucket}");
        let email =
            told(Concern::Email, "Resource of type 'AWS::SES::EmailIdentity' with identifier 'x' already exists.");
        assert!(email.starts_with("SES has post@shop.example once in an account and region"), "{email}");
        assert!(
            told(Concern::Database, "x already exists").starts_with("Shipway changes nothing that it did not make")
        );
        assert!(told(Concern::Service, "Priority '5' is currently in use").contains("delete that stack"));
        assert_eq!(told(Concern::Bucket, "not authorized"), "");
    }

    #[test]
    fn a_sender_of_another_environment_is_told_with_its_stack() {
        let ((_, dev), (_, prod)) = (wanted("dev"), wanted("prod"));
        let (dev, prod) = (of(&dev, Concern::Email), of(&prod, Concern::Email));
        let mut there = Observed::from([
            (dev.name.clone(), observed(dev, StackStatus::CreateComplete)),
            (prod.name.clone(), observed(prod, StackStatus::RollbackComplete)),
        ]);
        let expected = "post@shop.example is the sender of the environment dev (the stack shipway-shop-dev-email-post)";
        assert!(of_another(prod, &there).unwrap().starts_with(expected), "{:?}", of_another(prod, &there));
        assert_eq!(of_another(dev, &there), None, "what never stood holds nothing");
        let failed = Trouble::Failed {
            status: StackStatus::RollbackComplete,
            why: "it already exists".to_owned(),
            way_out: way_out(prod, "it already exists"),
        };
        assert!(failed.may_be_anothers(Concern::Email) && !failed.may_be_anothers(Concern::Bucket));
        assert!(failed.clone().among(&prod.name, &there).to_string().contains(expected));
        there.remove(&dev.name);
        assert_eq!(failed.clone().among(&prod.name, &there), failed);
    }

    #[test]
    fn what_a_teardown_kept_is_told_where_it_would_be_made_again() {
        let (spec, _) = wanted("prod");
        let bucket = "the bucket files (shipway-bucket-shop-prod-files-111122223333), as `on_delete: retain`";
        let database = "the database main (shop-prod-main-1), as `on_delete: retain`";
        let kept = [bucket.to_owned(), database.to_owned(), "the bucket other (elsewhere)".to_owned()];
        let told = |makes: bool| of_before(&spec, &"prod".parse().unwrap(), "111122223333", &kept, |_| makes);
        let [files, main] = told(true).try_into().unwrap();
        assert!(
            files.starts_with("buckets.files: the teardown kept shipway-bucket-shop-prod-files-111122223333"),
            "{files}"
        );
        assert_eq!(
            main,
            format!("databases.main: the teardown kept {database}; what is made now is another one, and empty")
        );
        assert_eq!(told(false), Vec::<String>::new());
    }
}
