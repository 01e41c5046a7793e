//! Releases as they happen: shared by the demos.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome, ReleaseRecord},
};
use shipway_tests::{Place, Shipway, follow};

use crate::screen::Screen;

/// Longer than any release of a demo takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Shows releases of one environment.
pub(crate) struct Story {
    pub(crate) shipway: Shipway,
    pub(crate) place: Place,
    pub(crate) screen: Screen,
}

impl Story {
    /// Follows the release that an event started.
    pub(crate) async fn follow(
        &self,
        what: &str,
        component: &Component,
        artifact: &Artifact,
        outcome: Outcome,
    ) -> Result<()> {
        let waiting = Instant::now();
        let execution = loop {
            let state = self.shipway.store.component(&self.place.app, &self.place.environment, component).await?;
            if let Some(desired) = state.desired.filter(|desired| desired.artifact == *artifact) {
                break desired.execution;
            }
            if waiting.elapsed() > PATIENCE {
                bail!(
                    "{what}, but no release of it began\n--- the cloud's log ends with\n{}",
                    self.shipway.cloud.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let machine = self.shipway.machine(component)?;
        self.follow_execution(
            what,
            &format!("{}:{execution}", machine.replace(":stateMachine:", ":execution:")),
            outcome,
        )
        .await
    }

    /// Follows an execution.
    pub(crate) async fn follow_execution(&self, what: &str, arn: &str, outcome: Outcome) -> Result<()> {
        let step = self.screen.step(what);
        let name = arn.rsplit(':').next().unwrap_or(arn);
        let mut shown = 0;
        let release: ReleaseRecord = loop {
            // An execution that was only just asked for may not be there yet.
            let states = follow::states(self.shipway.sfn(), arn).await.unwrap_or_default();
            for state in states.iter().skip(shown) {
                step.passes(state);
            }
            shown = states.len();
            let releases = self.shipway.store.releases(&self.place.app, &self.place.environment).await?;
            let ended = releases.into_iter().find(|release| release.execution == name && release.outcome.is_some());
            match ended {
                Some(release) => break release,
                // An execution that failed before it had a release says why itself.
                None if step.started.elapsed() > PATIENCE || states.last().is_some_and(|state| state == "Failed") => {
                    bail!("{what}: {}", self.shipway.execution_story(arn).await?)
                }
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let reason = release.reason.clone().unwrap_or_default();
        let word = release.outcome.map_or("", Outcome::word);
        step.done(&format!("{what}: {word}, {reason}"));
        ensure!(release.outcome == Some(outcome), "{outcome} was expected\n{}", self.shipway.story(&self.place).await?);
        Ok(())
    }

    /// All releases so far.
    pub(crate) async fn table(&self) -> Result<()> {
        let head = ["release", "component", "artifact", "outcome", "seconds"].map(str::to_owned);
        let mut rows = vec![head];
        for release in self.shipway.store.releases(&self.place.app, &self.place.environment).await? {
            let seconds = release.ended_at.map_or(0.0, |end| end.duration_since(release.started_at).as_secs_f64());
            rows.push([
                release.release.to_string(),
                release.component.to_string(),
                release.artifact.to_string(),
                release.outcome.map_or_else(String::new, |outcome| outcome.to_string()),
                format!("{seconds:.1}"),
            ]);
        }
        let widths: [usize; 5] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default());
        println!();
        for [release, component, artifact, outcome, seconds] in rows {
            let [r, c, a, o, s] = widths;
            println!("{release:<r$}  {component:<c$}  {artifact:<a$}  {outcome:<o$}  {seconds:>s$}");
        }
        Ok(())
    }
}
