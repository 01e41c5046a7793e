//! Somebody who asks a service through its load balancer without a pause, while it is rolled out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{Place, Shipway};

const PAUSE: Duration = Duration::from_millis(20);
/// Fewer answers than these say nothing about a rollout.
const ENOUGH: u32 = 10;

/// The visitor. Dropped, it leaves.
pub struct Visitor {
    leaves: Arc<AtomicBool>,
    visits: Option<JoinHandle<Visits>>,
}

#[derive(Default)]
struct Visits {
    /// How many answers there were of each version.
    answers: BTreeMap<String, u32>,
    /// What came instead of an answer.
    failures: Vec<String>,
}

impl Visitor {
    /// Begins to ask.
    ///
    /// # Errors
    /// The platform has no load balancer.
    pub async fn arrives(shipway: &'static Shipway, place: &Place) -> Result<Visitor> {
        let balancer = shipway.platform(place).await?.load_balancer.context("no load balancer")?;
        let leaves = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&leaves);
        let visits = tokio::spawn(async move {
            let mut visits = Visits::default();
            while !told.load(Ordering::Relaxed) {
                let at = Timestamp::now();
                match shipway.cloud.http_through_load_balancer(&balancer, "/greet").await {
                    Ok(answer) if answer.status == 200 => {
                        let greeting: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                        let version = greeting["version"].as_str().unwrap_or("none").to_owned();
                        *visits.answers.entry(version).or_default() += 1;
                    }
                    Ok(answer) => visits.failures.push(format!("{at} {}: {}", answer.status, answer.text())),
                    Err(error) => visits.failures.push(format!("{at} {error}")),
                }
                tokio::time::sleep(PAUSE).await;
            }
            visits
        });
        Ok(Visitor { leaves, visits: Some(visits) })
    }

    /// Leaves; every request must have been answered, by these versions and no others.
    ///
    /// # Errors
    /// One was not.
    pub async fn was_answered_by(mut self, shipway: &Shipway, place: &Place, versions: &[&str]) -> Result<()> {
        self.leaves.store(true, Ordering::Relaxed);
        let Visits { answers, failures } = self.visits.take().context("it left before")?.await?;
        if !failures.is_empty() {
            let (count, story) = (failures.len(), shipway.story(place).await?);
            bail!("{count} requests failed beside {answers:?}: {failures:#?}\n{story}");
        }
        // Shown with `--nocapture`.
        eprintln!("{}: every request was answered, by version: {answers:?}", place.app);
        let others: Vec<_> = answers.keys().filter(|version| !versions.contains(&version.as_str())).collect();
        ensure!(others.is_empty(), "{others:?} answered: {answers:?}");
        ensure!(answers.values().sum::<u32>() >= ENOUGH, "only {answers:?} was asked");
        Ok(())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
    }
}
