//! The table: environments, components, releases, and the routes from repositories to services.
//!
//! | `pk` | `sk` | what |
//! |---|---|---|
//! | `<app>/<environment>` | `environment` | [`EnvironmentRecord`] |
//! | `<app>/<environment>` | `component#<component>` | [`ComponentState`] |
//! | `<app>/<environment>` | `release#<id>` | [`ReleaseRecord`], and the `progress` of the run that works on it |
//! | `<app>/<environment>` | `memory#<name>` | what a function remembers from release to release |
//! | `<app>/<environment>` | `drift` | [`DriftReport`] of the last comparison |
//! | `environments` | `<app>/<environment>` | [`Place`]: an environment that stands |
//! | `repository#<name>` | `<app>/<environment>/<service>` | [`Route`] |
//!
//! Every write of a run goes through [`Store::run_write`]: one transaction that renews the run's claim, refused when another
//! release has taken it, and does the write. So a run that lost its claim changes nothing.
//!
//! While an environment has a [`Teardown`], no release of its services and sites begins: the transaction that would give it the
//! claim is refused.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{
    Client,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update,
        builders::UpdateBuilder,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shipway_domain::{
    approval::Asked,
    drift::DriftReport,
    failure::Failure,
    manifest::{Service, Spec, TagPattern},
    message::Run,
    name::{AppName, Component, ComponentName, EnvironmentName, ReleaseId, RepositoryName},
    network::NetworkOutputs,
    platform::PlatformOutputs,
    release::{Artifact, ComponentState, ReleaseRecord, Step, until},
};

use crate::error::{AwsError, PublicError};

/// How often a transaction is sent that meets another one on the same item.
const CONFLICTED_ATTEMPTS: u32 = 4;

/// How many releases one request for the newest of them reads: a few hundred KB at most, as DynamoDB bills what it reads.
const NEWEST_PAGE: i32 = 25;

/// How many components one transaction of a teardown forgets: with the claim's renewal far fewer than the hundred writes that a
/// transaction may have.
const FORGOTTEN: usize = 50;

/// Where all environments are listed.
const ENVIRONMENTS: &str = "environments";

/// Why DynamoDB cancels a transaction that can go through a little later.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
const BUSY: [&str; 2] = ["ThrottlingError", "ProvisionedThroughputExceeded"];

/// What can go wrong with the table.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The run's claim is another release's now.
    #[error("another release took over {component} of {app}/{environment}; this one stops and touches nothing")]
    Superseded {
        /// The app.
        app: AppName,
        /// The environment.
        environment: EnvironmentName,
        /// What was taken over.
        component: Component,
    },
    /// The item changed between reading and writing. Reading again shows what it is now.
    #[error("the item was changed by another writer meanwhile")]
    Changed,
    /// Something must be there, and is not.
    #[error("{0}")]
    Missing(String),
    /// An item that this version of Shipway cannot read.
    #[error("the item {pk} / {sk} cannot be read: {message}")]
    Unreadable {
        /// Its partition key.
        pk: String,
        /// Its sort key.
        sk: String,
        /// Why not.
        message: String,
    },
    /// What cannot be written as an item.
    #[error("{what} cannot be written: {message}")]
    Unwritable {
        /// What.
        what: String,
        /// Why not.
        message: String,
    },
    /// DynamoDB cancelled a transaction because it has no capacity for it now.
    #[error("DynamoDB is busy with the table's items and did nothing: {0}")]
    Busy(String),
    /// DynamoDB refused or could not answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl PublicError for StoreError {
    fn failure(&self) -> Failure {
        match self {
            StoreError::Superseded { .. } => Failure::Superseded,
            StoreError::Changed | StoreError::Busy(_) => Failure::Transient,
            StoreError::Missing(_) => Failure::RejectedInput,
            StoreError::Unreadable { .. } | StoreError::Unwritable { .. } => Failure::Bug,
            StoreError::Aws(error) => error.failure(),
        }
    }
}

/// A manifest as it was read for an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where it was uploaded.
    pub artifact: Artifact,
    /// What it says.
    pub spec: Spec,
}

/// An environment: what was asked of it, and what stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRecord {
    /// The manifest that provisioning works towards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Manifest>,
    /// The manifest whose platform stands: what rollouts and publications go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Manifest>,
    /// What provision-network made or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkOutputs>,
    /// What provision-platform made.
    #[serde(default)]
    pub platform: PlatformOutputs,
    /// That it is being torn down, or was, until a platform stands again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teardown: Option<Teardown>,
}

/// The teardown of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teardown {
    /// The release that tears it down.
    pub release: ReleaseId,
    /// Since when.
    pub since: Timestamp,
    /// When nothing of it was left but what was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn_down_at: Option<Timestamp>,
    /// What was kept, for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

impl Teardown {
    /// Why no release of a service or site of this environment begins.
    pub fn refusal(&self, app: &AppName, environment: &EnvironmentName) -> String {
        let again = format!("upload apps/{app}/{environment}/shipway.yaml to provision it again");
        match self.torn_down_at {
            None => format!(
                "{app}/{environment} is being torn down since {} by {}; if that ended without success, start a teardown \
                 again, or {again}",
                self.since, self.release
            ),
            Some(at) => format!("{app}/{environment} was torn down at {at}; {again}"),
        }
    }
}

/// An environment that stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
}

/// Where the pushes to a repository go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The service.
    pub service: ComponentName,
    /// The tags that are this service's.
    pub tags: Vec<TagPattern>,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Store {
    items: Items,
    table: String,
}

/// Who keeps the items.
#[derive(Clone, Debug)]
enum Items {
    DynamoDb(Client),
    #[cfg(any(test, feature = "testing"))]
    Memory(crate::testing::Connection),
}

/// Items of one partition.
pub(crate) struct Query {
    pub(crate) pk: String,
    /// How their sort keys begin.
    pub(crate) start: Option<&'static str>,
    /// Only so many, from the end and backwards.
    pub(crate) last: Option<usize>,
}

impl Query {
    fn all(pk: String, start: Option<&'static str>) -> Query {
        Query { pk, start, last: None }
    }
}

/// An item's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

impl Key {
    fn environment(app: &AppName, environment: &EnvironmentName) -> Key {
        Key { pk: format!("{app}/{environment}"), sk: "environment".to_owned() }
    }

    fn component(app: &AppName, environment: &EnvironmentName, component: &Component) -> Key {
        Key { pk: format!("{app}/{environment}"), sk: format!("component#{component}") }
    }

    fn release(app: &AppName, environment: &EnvironmentName, release: &ReleaseId) -> Key {
        Key { pk: format!("{app}/{environment}"), sk: format!("release#{release}") }
    }

    fn memory(app: &AppName, environment: &EnvironmentName, name: &str) -> Key {
        Key { pk: format!("{app}/{environment}"), sk: format!("memory#{name}") }
    }

    fn drift(app: &AppName, environment: &EnvironmentName) -> Key {
        Key { pk: format!("{app}/{environment}"), sk: "drift".to_owned() }
    }

    fn place(app: &AppName, environment: &EnvironmentName) -> Key {
        Key { pk: ENVIRONMENTS.to_owned(), sk: format!("{app}/{environment}") }
    }

    fn route(repository: &RepositoryName, route: &Route) -> Key {
        Key { pk: repository_key(repository), sk: format!("{}/{}/{}", route.app, route.environment, route.service) }
    }

    pub(crate) fn of(item: &Item) -> Key {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default();
        Key { pk: text("pk"), sk: text("sk") }
    }

    fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk.clone())),
            ("sk".to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }
}

#[cfg_attr(
    not(any(test, feature = "testing")),
    allow(clippy::infallible_destructuring_match, reason = "the twin in memory is the other variant")
)]
impl Store {
    /// The table of this name.
    pub fn new(config: &aws_config::SdkConfig, table: String) -> Store {
        Store { items: Items::DynamoDb(Client::new(config)), table }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn in_memory(connection: crate::testing::Connection) -> Store {
        Store { items: Items::Memory(connection), table: "table".to_owned() }
    }

    /// All that is written down in a table in memory, to be compared.
    #[cfg(any(test, feature = "testing"))]
    pub fn written(&self) -> String {
        match &self.items {
            Items::DynamoDb(_) => String::new(),
            Items::Memory(connection) => connection.written(),
        }
    }

    /// An environment's record, if it has one.
    pub async fn environment(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        self.get(&Key::environment(app, environment)).await
    }

    /// The record of an environment whose platform stands, with the manifest it stands by.
    pub async fn applied(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        self.with_manifest(app, environment, |record| &record.applied).await
    }

    /// The record of an environment that is being provisioned, with the manifest to work towards.
    pub async fn planned(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        self.with_manifest(app, environment, |record| &record.planned).await
    }

    async fn with_manifest(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        manifest: impl Fn(&EnvironmentRecord) -> &Option<Manifest>,
    ) -> Result<(EnvironmentRecord, Manifest), StoreError> {
        let record = self.environment(app, environment).await?.unwrap_or_default();
        match manifest(&record).clone() {
            Some(manifest) => Ok((record, manifest)),
            None => Err(StoreError::Missing(match &record.teardown {
                Some(teardown) => teardown.refusal(app, environment),
                None => format!(
                    "{app}/{environment} is not provisioned; upload its manifest as \
                     apps/{app}/{environment}/shipway.yaml first"
                ),
            })),
        }
    }

    /// A component's state; the empty one where nothing is known of it.
    pub async fn component(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        component: &Component,
    ) -> Result<ComponentState, StoreError> {
        Ok(self.get(&Key::component(app, environment, component)).await?.unwrap_or_default())
    }

    /// A release's record, if it has one.
    pub async fn release(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        release: &ReleaseId,
    ) -> Result<Option<ReleaseRecord>, StoreError> {
        self.get(&Key::release(app, environment, release)).await
    }

    /// The releases of an environment, the oldest first.
    pub async fn releases(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Vec<ReleaseRecord>, StoreError> {
        self.query(Query::all(format!("{app}/{environment}"), Some("release#")), |_| true).await
    }

    /// The newest releases of an environment, the newest first, at most `most`; those of one component where one is named.
    /// The `shipway` command shows and follows them.
    pub async fn newest_releases(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        component: Option<&Component>,
        most: usize,
    ) -> Result<Vec<ReleaseRecord>, StoreError> {
        let query = Query { last: Some(most), ..Query::all(format!("{app}/{environment}"), Some("release#")) };
        self.query(query, |release: &ReleaseRecord| component.is_none_or(|component| release.component == *component))
            .await
    }

    /// The services that pushes to a repository are for.
    pub async fn routes(&self, repository: &RepositoryName) -> Result<Vec<Route>, StoreError> {
        self.query(Query::all(repository_key(repository), None), |_| true).await
    }

    /// All environments that stand.
    pub async fn environments(&self) -> Result<Vec<Place>, StoreError> {
        self.query(Query::all(ENVIRONMENTS.to_owned(), None), |_| true).await
    }

    /// The components of an environment that anything is known of, previews too, but not its platform.
    pub async fn components(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Result<Vec<(Component, ComponentState)>, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            sk: String,
            #[serde(flatten)]
            state: ComponentState,
        }
        let found: Vec<Found> =
            self.query(Query::all(format!("{app}/{environment}"), Some("component#")), |_| true).await?;
        let named = found.into_iter().filter_map(|Found { sk, state }| {
            let component = sk.strip_prefix("component#")?.parse().ok()?;
            (component != Component::Platform).then_some((component, state))
        });
        Ok(named.collect())
    }

    /// What the last comparison of an environment with its records found.
    pub async fn drift(&self, app: &AppName, environment: &EnvironmentName) -> Result<Option<DriftReport>, StoreError> {
        self.get(&Key::drift(app, environment)).await
    }

    /// Writes down what a comparison found, refused as [`StoreError::Changed`] when the report is no longer `before`.
    pub async fn set_drift(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        before: Option<&DriftReport>,
        report: &DriftReport,
    ) -> Result<(), StoreError> {
        let put =
            Put::builder().table_name(&self.table).set_item(Some(write_item(&Key::drift(app, environment), report)?));
        let put = match before {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(before) => put
                .condition_expression("#execution = :before")
                .expression_attribute_names("#execution", "execution")
                .expression_attribute_values(":before", AttributeValue::S(before.execution.clone())),
        };
        let put = TransactWriteItem::builder().put(built(put.build())?).build();
        self.transact(vec![put]).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Writes a component's new state, refused as [`StoreError::Changed`] when it is no longer `old`.
    pub async fn put_component(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        component: &Component,
        old: &ComponentState,
        new: &ComponentState,
    ) -> Result<(), StoreError> {
        let put = self.component_put(app, environment, component, old, new)?;
        self.transact(vec![put]).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Gives a run its claim and opens its record, where it is not open yet, in one step. A manifest to provision by is written
    /// down with it. Refused as [`StoreError::Changed`] too when the environment is to be torn down, unless it is the platform
    /// that is released: a manifest provisions it again.
    pub async fn begin(
        &self,
        run: &Run,
        old: &ComponentState,
        new: &ComponentState,
        opened: Option<&ReleaseRecord>,
        planned: Option<&Manifest>,
    ) -> Result<(), StoreError> {
        let mut writes = vec![self.component_put(&run.app, &run.environment, &run.component, old, new)?];
        if let Some(record) = opened {
            writes.push(self.opening(record)?);
        }
        if let Some(manifest) = planned {
            writes.push(self.set(&Key::environment(&run.app, &run.environment), "planned", manifest)?);
        }
        if run.component != Component::Platform {
            let stays = ConditionCheck::builder()
                .table_name(&self.table)
                .set_key(Some(Key::environment(&run.app, &run.environment).attributes()))
                .condition_expression("attribute_not_exists(teardown)");
            writes.push(TransactWriteItem::builder().condition_check(built(stays.build())?).build());
        }
        self.transact(writes).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Gives a teardown the platform's claim and opens its record, where it is not open yet, and keeps the releases of services
    /// and sites from beginning, in one step.
    pub async fn begin_teardown(
        &self,
        run: &Run,
        old: &ComponentState,
        new: &ComponentState,
        opened: Option<&ReleaseRecord>,
        teardown: &Teardown,
    ) -> Result<(), StoreError> {
        let mut writes = vec![self.component_put(&run.app, &run.environment, &run.component, old, new)?];
        if let Some(record) = opened {
            writes.push(self.opening(record)?);
        }
        writes.push(self.set(&Key::environment(&run.app, &run.environment), "teardown", teardown)?);
        self.transact(writes).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Forgets these components of an environment that is torn down, as they are.
    pub async fn forget(
        &self,
        run: &Run,
        components: &[(Component, ComponentState)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for some in components.chunks(FORGOTTEN) {
            let deletes = some.iter().map(|(component, state)| {
                let delete = Delete::builder()
                    .table_name(&self.table)
                    .set_key(Some(Key::component(&run.app, &run.environment, component).attributes()))
                    .condition_expression("revision = :old")
                    .expression_attribute_values(":old", AttributeValue::N(state.revision.to_string()))
                    .build();
                Ok(TransactWriteItem::builder().delete(built(delete)?).build())
            });
            self.run_write(run, now, deletes.collect::<Result<_, StoreError>>()?).await?;
        }
        Ok(())
    }

    /// Ends a teardown that left nothing but what it kept: the component's new state, the record, and what was known of the
    /// environment, in one step. Pushes find no way to it any more, and nobody compares it with anything.
    pub async fn end_teardown(
        &self,
        run: &Run,
        old: &ComponentState,
        new: &ComponentState,
        record: &ReleaseRecord,
        before: &EnvironmentRecord,
        teardown: Teardown,
    ) -> Result<(), StoreError> {
        let Run { app, environment, component, .. } = run;
        let gone = EnvironmentRecord { teardown: Some(teardown), ..EnvironmentRecord::default() };
        let gone = Put::builder()
            .table_name(&self.table)
            .set_item(Some(write_item(&Key::environment(app, environment), &gone)?));
        let mut writes = vec![
            self.component_put(app, environment, component, old, new)?,
            TransactWriteItem::builder().update(built(self.ending(record)?.build())?).build(),
            TransactWriteItem::builder().put(built(gone.build())?).build(),
            self.deletion(&Key::place(app, environment))?,
            self.deletion(&Key::drift(app, environment))?,
        ];
        for key in before.applied.iter().flat_map(|applied| routes(run, applied).into_keys()) {
            writes.push(self.deletion(&key)?);
        }
        self.transact(writes).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Opens and closes in one step the record of a release that never held a claim: refused, or superseded before it began.
    pub async fn record_ended(&self, record: &ReleaseRecord) -> Result<(), StoreError> {
        let opening = self.opening(record)?;
        self.transact(vec![opening]).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Ends a run: the component's new state and the record, in one step. When a platform went live, its manifest becomes the
    /// one that rollouts and publications go by in place of the one before, and pushes find their way as it says.
    pub async fn end(
        &self,
        run: &Run,
        old: &ComponentState,
        new: &ComponentState,
        record: &ReleaseRecord,
        stands: Option<(&Manifest, Option<&Manifest>)>,
    ) -> Result<(), StoreError> {
        let mut writes = vec![self.component_put(&run.app, &run.environment, &run.component, old, new)?];
        writes.push(TransactWriteItem::builder().update(built(self.ending(record)?.build())?).build());
        if let Some((manifest, before)) = stands {
            let applied = Update::builder()
                .table_name(&self.table)
                .set_key(Some(Key::environment(&run.app, &run.environment).attributes()))
                .update_expression("SET applied = :manifest REMOVE teardown")
                .expression_attribute_values(":manifest", value(manifest)?);
            writes.push(TransactWriteItem::builder().update(built(applied.build())?).build());
            let place = Place { app: run.app.clone(), environment: run.environment.clone() };
            let place = Put::builder()
                .table_name(&self.table)
                .set_item(Some(write_item(&Key::place(&run.app, &run.environment), &place)?));
            writes.push(TransactWriteItem::builder().put(built(place.build())?).build());
            let routes = routes(run, manifest);
            let gone = before.map(|before| self::routes(run, before)).unwrap_or_default();
            for key in gone.keys().filter(|key| !routes.contains_key(*key)) {
                writes.push(self.deletion(key)?);
            }
            for (key, route) in &routes {
                let put = Put::builder().table_name(&self.table).set_item(Some(write_item(key, route)?)).build();
                writes.push(TransactWriteItem::builder().put(built(put)?).build());
            }
        }
        self.transact(writes).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Closes the record of a release that holds no claim: its own record is all it may still write. Refused as
    /// [`StoreError::Changed`] when it is closed already: an outcome stays what it was first.
    pub async fn end_superseded(&self, record: &ReleaseRecord) -> Result<(), StoreError> {
        let ending = self.ending(record)?.condition_expression("attribute_not_exists(outcome)");
        let ending = TransactWriteItem::builder().update(built(ending.build())?).build();
        self.transact(vec![ending]).await.map_err(|refused| refused.or(|_| StoreError::Changed))
    }

    /// Renews a run's claim. Called at the start of each pass: a run that lost its claim ends there.
    pub async fn renew(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        self.run_write(run, now, Vec::new()).await
    }

    /// Renews the claim and keeps newer releases from taking it: what starts now must not be stopped half way.
    pub async fn commit(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        let renewal = self
            .renewal(run, now, ", claim.committed = :true")
            .expression_attribute_values(":true", AttributeValue::Bool(true));
        self.fenced(run, renewal, Vec::new()).await
    }

    /// Writes down that this run began to write where a half-done run leaves traces.
    pub async fn mark_unfinished(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        let state = self.component(&run.app, &run.environment, &run.component).await?;
        if state.unfinished.contains(&run.release) {
            return self.renew(run, now).await;
        }
        let renewal = self
            .renewal(run, now, ", unfinished = list_append(if_not_exists(unfinished, :none), :me)")
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":me", AttributeValue::L(vec![AttributeValue::S(run.release.to_string())]));
        self.fenced(run, renewal, Vec::new()).await
    }

    /// Appends a step to the release's story.
    pub async fn step(&self, run: &Run, step: Step) -> Result<(), StoreError> {
        let write = self.appending(run, &step, "")?.build();
        self.run_write(run, step.at, vec![TransactWriteItem::builder().update(built(write)?).build()]).await
    }

    /// Writes down that this run waits for an approval, or that it was given, and appends that to its story where a step says it.
    pub async fn set_approval(
        &self,
        run: &Run,
        asked: &Asked,
        step: Option<&Step>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let write = match step {
            Some(step) => {
                let write = self.appending(run, step, ", approval = :approval")?;
                let write = write.expression_attribute_values(":approval", value(asked)?);
                TransactWriteItem::builder().update(built(write.build())?).build()
            }
            None => self.set(&Key::release(&run.app, &run.environment, &run.release), "approval", asked)?,
        };
        self.run_write(run, now, vec![write]).await
    }

    /// What this release's function wrote down on an earlier pass under this name.
    pub async fn progress<T: DeserializeOwned>(&self, run: &Run, name: &'static str) -> Result<Option<T>, StoreError> {
        let key = Key::release(&run.app, &run.environment, &run.release);
        let Some(mut item) = self.item(&key).await? else { return Ok(None) };
        item.remove(&progress_attribute(name))
            .map(|value| serde_dynamo::from_attribute_value(value).map_err(|error| unreadable(&key, &error)))
            .transpose()
    }

    /// Writes down for a later pass how far this release is.
    pub async fn save_progress<T: Serialize>(
        &self,
        run: &Run,
        name: &'static str,
        progress: &T,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let write =
            self.set(&Key::release(&run.app, &run.environment, &run.release), &progress_attribute(name), progress)?;
        self.run_write(run, now, vec![write]).await
    }

    /// Writes down for a later pass how far this release is, and appends that to its story, in one step: neither is there without
    /// the other, wherever the pass is cut off.
    pub async fn save_progress_and_step<T: Serialize>(
        &self,
        run: &Run,
        name: &'static str,
        progress: &T,
        step: Step,
    ) -> Result<(), StoreError> {
        let write = self
            .appending(run, &step, ", #progress = :progress")?
            .expression_attribute_names("#progress", progress_attribute(name))
            .expression_attribute_values(":progress", value(progress)?);
        self.run_write(run, step.at, vec![TransactWriteItem::builder().update(built(write.build())?).build()]).await
    }

    /// What a function wrote down of this environment under this name, in whichever release.
    pub async fn memory<T: DeserializeOwned>(&self, run: &Run, name: &'static str) -> Result<Option<T>, StoreError> {
        self.memory_of(&run.app, &run.environment, name).await
    }

    /// The same, for whoever only looks.
    pub async fn memory_of<T: DeserializeOwned>(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        name: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let key = Key::memory(app, environment, name);
        let Some(mut item) = self.item(&key).await? else { return Ok(None) };
        item.remove("content")
            .map(|value| serde_dynamo::from_attribute_value(value).map_err(|error| unreadable(&key, &error)))
            .transpose()
    }

    /// Writes down for this release and those after it what must not be forgotten when this one is cut off or superseded.
    pub async fn save_memory<T: Serialize>(
        &self,
        run: &Run,
        name: &'static str,
        content: &T,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let write = self.set(&Key::memory(&run.app, &run.environment, name), "content", content)?;
        self.run_write(run, now, vec![write]).await
    }

    /// Writes down what provision-network made or found.
    pub async fn set_network(&self, run: &Run, network: &NetworkOutputs, now: Timestamp) -> Result<(), StoreError> {
        let write = self.set(&Key::environment(&run.app, &run.environment), "network", network)?;
        self.run_write(run, now, vec![write]).await
    }

    /// Writes down that the environment stands in no network any more.
    pub async fn forget_network(&self, run: &Run, now: Timestamp) -> Result<(), StoreError> {
        let write = self.set(&Key::environment(&run.app, &run.environment), "network", &None::<NetworkOutputs>)?;
        self.run_write(run, now, vec![write]).await
    }

    /// Writes down what provision-platform made.
    pub async fn set_platform(&self, run: &Run, platform: &PlatformOutputs, now: Timestamp) -> Result<(), StoreError> {
        let write = self.set(&Key::environment(&run.app, &run.environment), "platform", platform)?;
        self.run_write(run, now, vec![write]).await
    }

    /// One transaction that renews the run's claim and does `writes`, or does nothing.
    async fn run_write(&self, run: &Run, now: Timestamp, writes: Vec<TransactWriteItem>) -> Result<(), StoreError> {
        let renewal = self.renewal(run, now, "");
        self.fenced(run, renewal, writes).await
    }

    fn renewal(&self, run: &Run, now: Timestamp, also: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::component(&run.app, &run.environment, &run.component).attributes()))
            .update_expression(format!("SET claim.#until = :until{also} ADD revision :one"))
            .condition_expression("claim.#release = :release AND claim.fence = :fence")
            .expression_attribute_names("#until", "until")
            .expression_attribute_names("#release", "release")
            .expression_attribute_values(":until", AttributeValue::S(until(now).to_string()))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(":release", AttributeValue::S(run.release.to_string()))
            .expression_attribute_values(":fence", AttributeValue::N(run.fence.to_string()))
    }

    async fn fenced(
        &self,
        run: &Run,
        renewal: UpdateBuilder,
        writes: Vec<TransactWriteItem>,
    ) -> Result<(), StoreError> {
        let renewal = TransactWriteItem::builder().update(built(renewal.build())?).build();
        let writes = std::iter::once(renewal).chain(writes).collect();
        self.transact(writes).await.map_err(|refused| {
            refused.or(|index| match index {
                0 => StoreError::Superseded {
                    app: run.app.clone(),
                    environment: run.environment.clone(),
                    component: run.component.clone(),
                },
                _ => StoreError::Changed,
            })
        })
    }

    fn component_put(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        component: &Component,
        old: &ComponentState,
        new: &ComponentState,
    ) -> Result<TransactWriteItem, StoreError> {
        let next = ComponentState { revision: old.revision + 1, ..new.clone() };
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(write_item(&Key::component(app, environment, component), &next)?));
        let put = if old.revision == 0 {
            put.condition_expression("attribute_not_exists(pk)")
        } else {
            put.condition_expression("revision = :old")
                .expression_attribute_values(":old", AttributeValue::N(old.revision.to_string()))
        };
        Ok(TransactWriteItem::builder().put(built(put.build())?).build())
    }

    fn opening(&self, record: &ReleaseRecord) -> Result<TransactWriteItem, StoreError> {
        let key = Key::release(&record.app, &record.environment, &record.release);
        let put = Put::builder().table_name(&self.table).set_item(Some(write_item(&key, record)?));
        Ok(TransactWriteItem::builder()
            .put(built(put.condition_expression("attribute_not_exists(pk)").build())?)
            .build())
    }

    /// The end of a release's record: outcome, reason, time. Its steps and progress stay as the run wrote them.
    fn ending(&self, record: &ReleaseRecord) -> Result<UpdateBuilder, StoreError> {
        Ok(Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::release(&record.app, &record.environment, &record.release).attributes()))
            .update_expression("SET outcome = :outcome, #reason = :reason, ended_at = :at")
            .expression_attribute_names("#reason", "reason")
            .expression_attribute_values(":outcome", value(&record.outcome)?)
            .expression_attribute_values(":reason", value(&record.reason)?)
            .expression_attribute_values(":at", value(&record.ended_at)?))
    }

    fn appending(&self, run: &Run, step: &Step, also: &str) -> Result<UpdateBuilder, StoreError> {
        Ok(Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::release(&run.app, &run.environment, &run.release).attributes()))
            .update_expression(format!("SET steps = list_append(if_not_exists(steps, :none), :step){also}"))
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":step", AttributeValue::L(vec![value(step)?])))
    }

    fn deletion(&self, key: &Key) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder().table_name(&self.table).set_key(Some(key.attributes())).build();
        Ok(TransactWriteItem::builder().delete(built(delete)?).build())
    }

    fn set<T: Serialize>(&self, key: &Key, attribute: &str, content: &T) -> Result<TransactWriteItem, StoreError> {
        let write = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .update_expression("SET #attribute = :content")
            .expression_attribute_names("#attribute", attribute)
            .expression_attribute_values(":content", value(content)?)
            .build();
        Ok(TransactWriteItem::builder().update(built(write)?).build())
    }

    async fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, StoreError> {
        self.item(key).await?.map(read_item).transpose()
    }

    async fn item(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let client = match &self.items {
            Items::DynamoDb(client) => client,
            #[cfg(any(test, feature = "testing"))]
            Items::Memory(memory) => return Ok(memory.item(key)?),
        };
        let call = client.get_item().table_name(&self.table).set_key(Some(key.attributes())).consistent_read(true);
        Ok(call.send().await.map_err(AwsError::of("dynamodb:GetItem"))?.item)
    }

    /// What a query finds and `wanted` takes.
    async fn query<T: DeserializeOwned>(
        &self,
        query: Query,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, StoreError> {
        let most = query.last.unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let client = match &self.items {
            Items::DynamoDb(client) => client,
            #[cfg(any(test, feature = "testing"))]
            Items::Memory(memory) => {
                for item in memory.query(&query)? {
                    found.extend(Some(read_item(item)?).filter(&wanted));
                }
                found.truncate(most);
                return Ok(found);
            }
        };
        let call = client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(query.last.is_none())
            .set_limit(query.last.map(|_| NEWEST_PAGE))
            .expression_attribute_values(":pk", AttributeValue::S(query.pk));
        let call = match query.start {
            None => call.key_condition_expression("pk = :pk"),
            Some(start) => call
                .key_condition_expression("pk = :pk AND begins_with(sk, :start)")
                .expression_attribute_values(":start", AttributeValue::S(start.to_owned())),
        };
        let mut items = call.into_paginator().items().send();
        while found.len() < most {
            let Some(item) = items.next().await else { break };
            found.extend(Some(read_item(item.map_err(AwsError::of("dynamodb:Query"))?)?).filter(&wanted));
        }
        Ok(found)
    }

    async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<(), Refused> {
        let mut attempt = 1;
        loop {
            let reasons = match self.send(writes.clone()).await {
                Ok(()) => return Ok(()),
                Err(Cancelled::For(reasons)) => reasons,
                Err(Cancelled::Failed(error)) => return Err(Refused::Other(error.into())),
            };
            let is = |code: &str| reasons.iter().position(|reason| reason.code() == Some(code));
            if let Some(index) = is("ConditionalCheckFailed") {
                return Err(Refused::Condition(index));
            }
            // Another transaction held one of the items, like that of the run's other branch renewing the same claim. This
            // one did nothing, and goes through once that one is over; the SDK does not send it again by itself.
            if is("TransactionConflict").is_some() {
                if attempt < CONFLICTED_ATTEMPTS {
                    attempt += 1;
                    continue;
                }
                return Err(Refused::Other(StoreError::Changed));
            }
            return Err(Refused::Other(cancelled(&reasons)));
        }
    }

    async fn send(&self, writes: Vec<TransactWriteItem>) -> Result<(), Cancelled> {
        let client = match &self.items {
            Items::DynamoDb(client) => client,
            #[cfg(any(test, feature = "testing"))]
            Items::Memory(memory) => return memory.transact(writes).await,
        };
        let Err(error) = client.transact_write_items().set_transact_items(Some(writes)).send().await else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled))
                if !cancelled.cancellation_reasons().is_empty() =>
            {
                Err(Cancelled::For(cancelled.cancellation_reasons().to_vec()))
            }
            _ => Err(Cancelled::Failed(AwsError::of("dynamodb:TransactWriteItems")(error))),
        }
    }
}

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A transaction that did nothing.
pub(crate) enum Cancelled {
    /// DynamoDB gives a reason for each write, `None` where there is none.
    For(Vec<CancellationReason>),
    /// It refused the request, or could not answer.
    Failed(AwsError),
}

/// The error of a transaction that was cancelled for another reason than a condition or another transaction.
fn cancelled(reasons: &[CancellationReason]) -> StoreError {
    let reason = reasons.iter().find(|reason| reason.code() != Some("None"));
    let code = reason.and_then(CancellationReason::code).unwrap_or_default();
    let message = reason.and_then(CancellationReason::message).unwrap_or_default();
    let text = format!("{code}: {message}");
    if BUSY.contains(&code) { StoreError::Busy(text) } else { unwritable("a transaction", &text) }
}

/// A transaction that did nothing: because the condition of its n-th write did not hold, or for another reason.
enum Refused {
    Condition(usize),
    Other(StoreError),
}

impl Refused {
    fn or(self, condition: impl FnOnce(usize) -> StoreError) -> StoreError {
        match self {
            Refused::Condition(index) => condition(index),
            Refused::Other(error) => error,
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Other(error)
    }
}

fn repository_key(repository: &RepositoryName) -> String {
    format!("repository#{repository}")
}

/// The routes to the services of a manifest.
fn routes(run: &Run, manifest: &Manifest) -> BTreeMap<Key, Route> {
    let route = |(name, service): (&ComponentName, &Service)| {
        let route = Route {
            app: run.app.clone(),
            environment: run.environment.clone(),
            service: name.clone(),
            tags: service.image.tags.clone(),
        };
        Some((Key::route(service.image.repository.as_ref()?, &route), route))
    };
    manifest.spec.services.iter().filter_map(route).collect()
}

fn progress_attribute(name: &str) -> String {
    format!("progress_{name}")
}

fn unreadable(key: &Key, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable { pk: key.pk.clone(), sk: key.sk.clone(), message: error.to_string() }
}

fn read_item<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    let key = Key::of(&item);
    serde_dynamo::from_item(item).map_err(|error| unreadable(&key, &error))
}

fn write_item<T: Serialize>(key: &Key, content: &T) -> Result<Item, StoreError> {
    let mut item: Item = serde_dynamo::to_item(content)
        .map_err(|error| unwritable(&format!("the item {} / {}", key.pk, key.sk), &error))?;
    item.extend(key.attributes());
    Ok(item)
}

fn value<T: Serialize>(content: &T) -> Result<AttributeValue, StoreError> {
    serde_dynamo::to_attribute_value(content).map_err(|error| unwritable("a value", &error))
}

fn built<T>(result: Result<T, aws_sdk_dynamodb::error::BuildError>) -> Result<T, StoreError> {
    result.map_err(|error| unwritable("a transaction", &error))
}

fn unwritable(what: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unwritable { what: what.to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests;
