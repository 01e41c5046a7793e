//! One of the five systems: provisioned, rolled out, published, applied again, torn down to nothing.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome},
};
use shipway_tests::{
    Shipway,
    ask::Aws,
    example::{Example, serving},
    site,
};

use crate::{screen::Screen, story::Story};

/// Shows it.
pub(crate) async fn show(shipway: Shipway, screen: Screen, name: &str, environment: &str) -> Result<()> {
    let aws = Aws::of(&shipway.cloud)?;
    let example = Example::prepare(name, environment, &shipway, &aws).await?;
    let demo = Demo { story: Story { shipway, place: example.place.clone(), screen }, aws, example };
    demo.provision().await?;
    demo.roll_out().await?;
    demo.publish().await?;
    demo.apply_again().await?;
    demo.tear_down().await?;
    demo.story.table().await?;
    demo.story.shipway.cloud.stop().await;
    Ok(())
}

struct Demo {
    story: Story,
    aws: Aws,
    example: Example,
}

impl Demo {
    async fn provision(&self) -> Result<()> {
        let place = &self.story.place;
        let artifact = self.story.shipway.upload_manifest(place, &self.example.manifest).await?;
        let what = format!("apps/{}/{}/shipway.yaml was uploaded", place.app, place.environment);
        self.story.follow(&what, &Component::Platform, &artifact, Outcome::Succeeded).await?;
        self.say_what_stands()?;
        for (name, service) in &self.example.spec.services {
            let Some(image) = service.image.public.clone() else { continue };
            let what = format!("{name} runs a public image");
            let artifact = Artifact::Public { image };
            self.story.follow(&what, &Component::Service(name.clone()), &artifact, Outcome::Succeeded).await?;
        }
        Ok(())
    }

    async fn roll_out(&self) -> Result<()> {
        for (name, repository, port) in self.example.pushed() {
            let tag = self.example.tag(name, "1");
            let artifact = self.story.shipway.push(repository.as_str(), &tag, &serving(port, "1").await?).await?;
            let what = format!("{repository}:{tag} was pushed");
            self.story.follow(&what, &Component::Service(name.clone()), &artifact, Outcome::Succeeded).await?;
        }
        Ok(())
    }

    async fn publish(&self) -> Result<()> {
        for name in self.example.spec.sites.keys() {
            let zip = site::hello("1", 20)?;
            let artifact = self.story.shipway.upload_zip(&self.story.place, name.as_str(), "one", zip).await?;
            let what = format!("a zip was uploaded for the site {name}");
            self.story.follow(&what, &Component::Site(name.clone()), &artifact, Outcome::Succeeded).await?;
            let platform = self.story.shipway.platform(&self.story.place).await?;
            let domain = &platform.sites[name].domain;
            let answer = self.story.shipway.cloud.http_through_cloudfront(domain, "/").await?;
            println!("    GET https://{domain}/ → {}", answer.status.as_u16());
            ensure!(answer.status == 200, "{}", answer.text());
        }
        Ok(())
    }

    async fn apply_again(&self) -> Result<()> {
        let shipway = &self.story.shipway;
        let before = shipway.cloud.faults().calls().len();
        let again = format!("{}\n# the same\n", self.example.manifest);
        let artifact = shipway.upload_manifest(&self.story.place, &again).await?;
        self.story.follow("the same manifest again", &Component::Platform, &artifact, Outcome::Unchanged).await?;
        let calls = shipway.cloud.faults().calls();
        let writes = calls[before..].iter().filter(|call| shipway_tests::is_write(call)).count();
        println!("    {writes} of {} calls wrote something but Shipway's own records", calls.len() - before);
        Ok(())
    }

    async fn tear_down(&self) -> Result<()> {
        let place = &self.story.place;
        let input = json!({
            "app": place.app,
            "environment": place.environment,
            "confirm": format!("{}/{}", place.app, place.environment),
        });
        let machine = self.story.shipway.output("TeardownMachine")?;
        let arn = self.story.shipway.start_with(machine, &input.to_string()).await?;
        self.story.follow_execution("torn down", &arn, Outcome::Succeeded).await?;
        self.say_what_stands()
    }

    /// How many stacks and networks carry the environment's tags.
    fn say_what_stands(&self) -> Result<()> {
        let place = &self.story.place;
        let stacks = self.aws.list("cloudformation", "describe_stacks", json!({}), "Stacks")?;
        let ours = |stack: &&Value| {
            let tagged = |key: &str, value: &str| {
                let tags = stack["Tags"].as_array().map(Vec::as_slice).unwrap_or_default();
                tags.iter().any(|tag| tag["Key"] == key && tag["Value"] == value)
            };
            tagged("shipway:app", place.app.as_str()) && stack["StackStatus"] != "DELETE_COMPLETE"
        };
        let mut names: Vec<_> = stacks.iter().filter(ours).filter_map(|stack| stack["StackName"].as_str()).collect();
        names.sort_unstable();
        let tags = json!({"Filters": [{"Name": "tag:shipway:app", "Values": [place.app.as_str()]}]});
        let networks = self.aws.list("ec2", "describe_vpcs", tags, "Vpcs")?;
        println!("    {} stacks, {} VPCs: {}", names.len(), networks.len(), names.join(", "));
        Ok(())
    }
}
