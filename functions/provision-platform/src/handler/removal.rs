//! The pass of an environment's end: whatever stacks it has by our names and tags go, each as soon as nothing stands on it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use shipway_aws::store::EnvironmentRecord;
use shipway_domain::{
    message::{Kept, Pass, Removed},
    name::{EnvironmentName, RepositoryName},
    platform::{Belongings, Concern, Observed, StackStatus, WantedCapacity, environments_of, repositories},
};

use super::{ProvisionError, Records, Tended, Work, troubles};
use crate::aws::{Capacity, Repairs, Rules, Stacks};

impl<C: Stacks + Capacity + Repairs + Rules, R: Records> Work<'_, C, R> {
    pub(super) async fn remove(&self) -> Result<Pass<Removed>, ProvisionError> {
        self.records.renew(self.run, self.now).await?;
        let mut there = self.look_at_all().await?;
        let elsewhere = self.repositories_elsewhere(&there).await?;
        let belongings = Belongings::of(self.names(), &there, &elsewhere.keys().cloned().collect());

        // What stays is known only while its stack is there, so it is written down before that goes.
        let mut kept = self.records.kept(self.run).await?;
        let shared = self.shared_repositories(&there, &elsewhere).await?;
        let new: Vec<_> = belongings.kept().into_iter().chain(shared).filter(|each| !kept.contains(each)).collect();
        if !new.is_empty() {
            self.tell(new.iter().map(|each| format!("keeps {}", each.what))).await?;
            kept.extend(new);
            self.records.set_kept(self.run, &kept, self.now).await?;
        }

        let capacity = WantedCapacity::none(self.names(), &there);
        let tended = self.step(&capacity, |observed| capacity.removal(observed)).await?;
        let mut plan = belongings.removal(&self.run.release);
        if let Tended::Moving(_) = tended {
            // A group is not deleted under the provider that scales it, nor a cluster that has it.
            plan.0.retain(|planned| !matches!(planned.concern, Concern::Instances | Concern::Cluster));
        }
        let seconds = plan.seconds();
        if plan.goes_on() {
            let note = plan.note();
            self.act(&plan, &mut there).await?;
            return Ok(Pass::Again { seconds, note });
        }
        match tended {
            Tended::Moving(note) => Ok(Pass::Again { seconds, note }),
            Tended::Halted(what, trouble) => Err(ProvisionError::Halted(vec![(what, trouble)])),
            Tended::Settled if plan.0.is_empty() => {
                let mut note = "no stack is left".to_owned();
                if !kept.is_empty() {
                    let kept: Vec<_> = kept.iter().map(|each| each.what.as_str()).collect();
                    note = format!("{note}; kept: {}", kept.join(", "));
                }
                if kept.iter().any(|each| each.in_network) {
                    note.push_str("; the network stays with what is kept in it");
                }
                Ok(Pass::Done(Removed { note, kept }))
            }
            Tended::Settled => Err(ProvisionError::Halted(troubles(&plan))),
        }
    }

    /// All stacks of the app, with the last operation on those that could not be deleted.
    async fn look_at_all(&self) -> Result<Observed, ProvisionError> {
        let mut there = self.cloud.list(&self.run.app).await?;
        let failed = there.values_mut().filter(|stack| stack.status == StackStatus::DeleteFailed);
        try_join_all(failed.map(|stack| async {
            stack.operation = Some(self.cloud.last_operation(&stack.id).await?);
            Ok::<_, ProvisionError>(())
        }))
        .await?;
        Ok(there)
    }

    /// The repositories of this environment's images that stay, because others want them too.
    async fn shared_repositories(&self, there: &Observed, elsewhere: &Wanting) -> Result<Vec<Kept>, ProvisionError> {
        let record = self.records.environment(&self.run.app, &self.run.environment).await?;
        let own: BTreeSet<_> = record.iter().flat_map(named_by).collect();
        let stays = elsewhere.iter().filter(|(repository, _)| {
            own.contains(repository) && there.contains_key(&self.names().repository(repository))
        });
        let kept = stays.map(|(repository, environments)| {
            let environments: Vec<_> = environments.iter().map(EnvironmentName::as_str).collect();
            let what =
                format!("the repository {repository} with its images, as {} uses it", environments.join(" and "));
            Kept { what, in_network: false }
        });
        Ok(kept.collect())
    }

    /// The repositories that the app's other environments want, by their manifests, and which do.
    async fn repositories_elsewhere(&self, there: &Observed) -> Result<Wanting, ProvisionError> {
        let names = self.names();
        let others = environments_of(names, there).into_iter().filter_map(|name| name.parse::<EnvironmentName>().ok());
        let others = others.filter(|environment| environment != names.environment);
        let records = try_join_all(others.map(|environment| async move {
            let record = self.records.environment(names.app, &environment).await?;
            Ok::<_, ProvisionError>((environment, record))
        }))
        .await?;
        let mut elsewhere = Wanting::new();
        for (environment, record) in &records {
            for repository in record.iter().flat_map(named_by) {
                elsewhere.entry(repository.clone()).or_default().insert(environment.clone());
            }
        }
        Ok(elsewhere)
    }
}

/// Repositories, and the environments that want them.
type Wanting = BTreeMap<RepositoryName, BTreeSet<EnvironmentName>>;

/// The repositories that an environment's manifests name.
fn named_by(record: &EnvironmentRecord) -> impl Iterator<Item = &RepositoryName> {
    record.planned.iter().chain(&record.applied).flat_map(|manifest| repositories(&manifest.spec))
}
