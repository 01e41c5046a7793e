//! What stands, and what is delivered to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_sfn::types::ExecutionStatus;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use local_cloud::hello;
use serde_json::{Value, json};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome},
};
use shipway_tests::{Place, Shipway, site};

use crate::options::Options;

const PROVISIONED: Duration = Duration::from_secs(900);
/// As a pipeline would: the emulator may keep one waiting too long under load.
const ATTEMPTS: usize = 5;
const FILES: usize = 12;

/// A service or a site.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) place: Place,
    pub(crate) component: Component,
    /// A service's repository, a site's name.
    pub(crate) source: String,
}

/// What was delivered for a component, and when.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) to: Owned,
    pub(crate) artifact: Artifact,
    pub(crate) at: Timestamp,
}

/// Everything that stands.
pub(crate) struct Stage {
    pub(crate) shipway: Shipway,
    pub(crate) places: Vec<Place>,
    pub(crate) services: Vec<Owned>,
    pub(crate) sites: Vec<Owned>,
    /// Of the one image that all others are made of.
    manifest: Value,
}

impl Stage {
    /// Provisions the environments, all at once, and puts into each repository what the images have in common.
    pub(crate) async fn set(shipway: Shipway, options: &Options) -> Result<Stage> {
        let image = hello::image("load").await?;
        let manifest = serde_json::from_slice(&image.manifest()?)?;
        let mut stage = Stage { shipway, places: Vec::new(), services: Vec::new(), sites: Vec::new(), manifest };
        let mut wanted = Vec::new();
        for app in 0..options.apps {
            let place = Place::dev(&format!("load-{app}"))?;
            let mut text = format!("version: 1\napp: load-{app}\nnetwork: {{vpc: default}}\nservices:\n");
            for service in (app..options.services).step_by(options.apps) {
                let source = format!("load-{app}-s{service}");
                text.push_str(&format!(
                    "  s{service}: {{image: {{repository: {source}, tags: ['v*']}}, port: 8080, http: {{path: /s{service}/*, health: /health}}}}\n"
                ));
                let component = format!("service/s{service}").parse()?;
                stage.services.push(Owned { place: place.clone(), component, source });
            }
            text.push_str("sites:\n");
            for site in (app..options.sites).step_by(options.apps) {
                text.push_str(&format!("  w{site}: {{}}\n"));
                let component = format!("site/w{site}").parse()?;
                stage.sites.push(Owned { place: place.clone(), component, source: format!("w{site}") });
            }
            text.push_str("environments: {dev: {}}\n");
            let text = text.replace("sites:\nenv", "env");
            wanted.push((stage.shipway.upload_manifest(&place, &text).await?, place));
        }
        for (artifact, place) in wanted {
            let release = stage.shipway.ended(&place, &Component::Platform, &artifact, PROVISIONED).await?;
            ensure!(release.outcome == Some(Outcome::Succeeded), "{}", stage.shipway.story(&place).await?);
            stage.places.push(place);
        }
        for service in &stage.services {
            stage.shipway.cloud.push_untagged(&service.source, &image).await?;
        }
        Ok(stage)
    }

    /// Pushes images, one after the other, service after service, evenly over the time; half way every site's zip is put.
    pub(crate) async fn load(&self, options: &Options) -> Result<Vec<Delivered>> {
        let began = tokio::time::Instant::now();
        let at = |share: f64| began + Duration::from_secs_f64(options.seconds * share);
        // What takes long keeps no other waiting.
        let pushes = (0..options.pushes).map(async |number| {
            tokio::time::sleep_until(at(number as f64 / options.pushes as f64)).await;
            self.push(number % self.services.len(), &number.to_string()).await
        });
        let zips = (0..self.sites.len()).map(async |number| {
            tokio::time::sleep_until(at(0.5)).await;
            self.publish(number, "load").await
        });
        let (mut delivered, zips) = tokio::try_join!(try_join_all(pushes), try_join_all(zips))?;
        delivered.extend(zips);
        Ok(delivered)
    }

    /// Pushes an image of its own to a service.
    pub(crate) async fn push(&self, service: usize, mark: &str) -> Result<Delivered> {
        let to = self.services[service].clone();
        let mut manifest = self.manifest.clone();
        manifest["annotations"] = json!({"load": mark});
        let manifest = serde_json::to_vec(&manifest)?;
        let at = Timestamp::now();
        let mut failed = 0;
        let digest = loop {
            let pushed = self.shipway.cloud.push_manifest(&to.source, &format!("v{mark}"), manifest.clone()).await;
            match pushed {
                Ok(digest) => break digest,
                Err(error) if failed == ATTEMPTS => return Err(error.into()),
                Err(_) => failed += 1,
            }
        };
        let artifact = Artifact::Image { repository: to.source.parse()?, digest: digest.parse()? };
        Ok(Delivered { to, artifact, at })
    }

    /// Puts a zip for a site.
    pub(crate) async fn publish(&self, site: usize, mark: &str) -> Result<Delivered> {
        let to = self.sites[site].clone();
        let zip = site::hello(&format!("{mark}-{}", to.source), FILES)?;
        let at = Timestamp::now();
        let artifact = self.shipway.upload_zip(&to.place, &to.source, mark, zip).await?;
        Ok(Delivered { to, artifact, at })
    }

    /// How many executions of releases run.
    pub(crate) async fn running(&self) -> Result<usize> {
        let mut running = 0;
        for machine in ["RolloutMachine", "PublishMachine"] {
            running += self.executions(machine, Some(ExecutionStatus::Running)).await?.len();
        }
        Ok(running)
    }

    /// The names of a machine's executions.
    pub(crate) async fn executions(&self, machine: &str, status: Option<ExecutionStatus>) -> Result<Vec<String>> {
        let machine = self.shipway.output(machine)?;
        let listed = self.shipway.sfn().list_executions().state_machine_arn(machine).set_status_filter(status);
        let mut pages = listed.into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(execution) = pages.next().await {
            names.push(execution?.name);
        }
        Ok(names)
    }
}
