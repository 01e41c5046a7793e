//! An example's manifest, and what is needed around it in a local cloud: the hosted zone it names, its public images, and something
//! to push and to publish.

use std::fs;

use anyhow::{Context as _, Result};
use local_cloud::{hello, image::Image};
use serde_json::json;
use shipway_domain::{
    manifest::{self, SecretRef, Spec},
    name::{ComponentName, RepositoryName},
};

use crate::{Place, Shipway, ask::Aws, checkout};

/// The port of a service that has none: its program must listen somewhere.
const ANY_PORT: u16 = 9000;

/// The programs that run once in a service's image.
const PROGRAMS: [&str; 3] = ["/usr/local/bin/npm", "/app/migrate", "/bin/sh"];

/// An example for one of its environments.
pub struct Example {
    /// Where it goes.
    pub place: Place,
    /// Its manifest, with what is there in this cloud in place of what only its owner has.
    pub manifest: String,
    /// The same, read.
    pub spec: Spec,
}

impl Example {
    /// The example in `examples/<name>`, prepared for this cloud.
    ///
    /// # Errors
    /// An example or an environment that is not there.
    pub async fn prepare(name: &str, environment: &str, shipway: &Shipway, aws: &Aws) -> Result<Example> {
        let path = checkout().join(format!("examples/{name}/shipway.yaml"));
        let text = fs::read_to_string(&path).with_context(|| format!("there is no example at {}", path.display()))?;
        let environment = environment.parse()?;
        let read = manifest::read_all(&text)?;
        let (_, spec) = read.into_iter().find(|(name, _)| *name == environment).context("no such environment")?;
        let mut example = Example { place: Place { app: spec.app.clone(), environment }, manifest: text, spec };
        example.make_zone(aws)?;
        example.provide_images(shipway, aws).await?;
        example.provide_secrets(aws)?;
        Ok(example)
    }

    /// Makes the hosted zone of the domain, and names it in the manifest.
    fn make_zone(&mut self, aws: &Aws) -> Result<()> {
        let Some(domain) = &mut self.spec.domain else { return Ok(()) };
        let Some(zone) = domain.zone.clone() else { return Ok(()) };
        let made = json!({"Name": domain.name.as_str(), "CallerReference": self.place.app.as_str()});
        let made = aws.ask("route53", "create_hosted_zone", made)?;
        let id = made["HostedZone"]["Id"].as_str().context("a zone without an id")?.trim_start_matches("/hostedzone/");
        self.manifest = self.manifest.replace(zone.as_str(), id);
        domain.zone = Some(id.to_owned().try_into().map_err(anyhow::Error::msg)?);
        Ok(())
    }

    /// Lets the local cloud have the public images: nothing here reaches their registries.
    async fn provide_images(&self, shipway: &Shipway, aws: &Aws) -> Result<()> {
        for service in self.spec.services.values() {
            if let Some(public) = &service.image.public {
                provide(public.as_str(), service.port, shipway, aws).await?;
            }
        }
        // What makes the further databases of a server.
        for database in self.spec.databases.values().filter(|database| database.names.len() > 1) {
            let major = database.version.as_str().split('.').next().unwrap_or_default();
            provide(&format!("public.ecr.aws/docker/library/postgres:{major}-alpine"), None, shipway, aws).await?;
        }
        Ok(())
    }

    /// Puts a value where a person puts theirs before the first rollout: into the parameters that services are given.
    fn provide_secrets(&self, aws: &Aws) -> Result<()> {
        for secret in self.spec.services.values().flat_map(|service| service.secrets.values()) {
            if let SecretRef::Ssm(path) = secret {
                let put = json!({"Name": path, "Value": format!("kept to itself: {path}"), "Type": "SecureString", "Overwrite": true});
                aws.ask("ssm", "put_parameter", put)?;
            }
        }
        Ok(())
    }

    /// The services whose images are pushed, with their repository and the port they listen on.
    #[must_use]
    pub fn pushed(&self) -> Vec<(&ComponentName, &RepositoryName, Option<u16>)> {
        let services = self.spec.services.iter();
        services.filter_map(|(name, service)| Some((name, service.image.repository.as_ref()?, service.port))).collect()
    }

    /// The tag to push with: one that the service takes.
    #[must_use]
    pub fn tag(&self, service: &ComponentName, version: &str) -> String {
        let takes = |tag: &str| self.spec.services[service].image.tags.iter().any(|pattern| pattern.matches(tag));
        let plain = format!("v{version}");
        if takes(&plain) { plain } else { format!("sha-{version}") }
    }
}

/// Puts a stand-in where the local cloud finds it under a public image's name.
async fn provide(public: &str, port: Option<u16>, shipway: &Shipway, aws: &Aws) -> Result<()> {
    let (repository, tag) = public.rsplit_once(':').context("a public image without a tag")?;
    let repository = repository.split_once('/').map_or(repository, |(_, path)| path);
    let known = aws.list("ecr", "describe_repositories", json!({}), "repositories")?;
    if !known.iter().any(|one| one["repositoryName"] == repository) {
        aws.ask("ecr", "create_repository", json!({"repositoryName": repository}))?;
        shipway.push(repository, tag, &serving(port, "public").await?).await?;
    }
    Ok(())
}

/// The example server on the port that a service has, with stand-ins for the programs that the examples' migrations are, and for
/// the shell that makes databases.
///
/// # Errors
/// When it cannot be compiled.
pub async fn serving(port: Option<u16>, version: &str) -> Result<Image> {
    let image = hello::image_with(version, PROGRAMS).await?;
    Ok(image.env("PORT", &port.unwrap_or(ANY_PORT).to_string()))
}
