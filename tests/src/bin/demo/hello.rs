//! The smallest example: from nothing to a rollback, with the times that are promised.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use local_cloud::hello;
use shipway_domain::{name::Component, release::Outcome};
use shipway_tests::{Place, Shipway, site, tools};

use crate::{
    screen::Screen,
    story::{PATIENCE, Story},
};

/// The size of the site whose publication is timed.
const SITE_FILES: usize = 100;

/// Shows it. With `keep`, the cloud stays until Ctrl-C.
pub(crate) async fn show(shipway: Shipway, screen: Screen, keep: bool) -> Result<()> {
    let demo = Demo { story: Story { shipway, place: Place::dev("hello")?, screen } };
    demo.show().await?;
    demo.story.table().await?;
    demo.how_to_look_further(keep).await?;
    if keep {
        // Until Ctrl-C, which `main` waits for.
        std::future::pending::<()>().await;
    }
    demo.story.shipway.cloud.stop().await;
    Ok(())
}

struct Demo {
    story: Story,
}

impl Demo {
    async fn show(&self) -> Result<()> {
        let service: Component = "service/api".parse()?;
        let website: Component = "site/web".parse()?;

        let manifest = include_str!("../../../../examples/hello/shipway.yaml");
        let artifact = self.story.shipway.upload_manifest(&self.story.place, manifest).await?;
        self.story
            .follow("the platform, by apps/hello/dev/shipway.yaml", &Component::Platform, &artifact, Outcome::Succeeded)
            .await?;

        let pushed = Instant::now();
        let first = self.story.shipway.push("hello-api", "v1", &hello::image("1").await?).await?;
        self.story.follow("hello-api:v1 was pushed", &service, &first, Outcome::Succeeded).await?;
        let push_to_serving = pushed.elapsed();
        self.service_says("1").await?;

        let uploaded = Instant::now();
        let zip = self.story.shipway.upload_zip(&self.story.place, "web", "one", site::hello("1", SITE_FILES)?).await?;
        self.story.follow("sites/hello/dev/web/one.zip was uploaded", &website, &zip, Outcome::Succeeded).await?;
        let upload_to_live = uploaded.elapsed();
        self.page_says("/", "Version 1.").await?;
        self.page_says("/about", "Version 1.").await?;

        let zip = self.story.shipway.upload_zip(&self.story.place, "web", "two", site::hello("2", SITE_FILES)?).await?;
        self.story.follow("sites/hello/dev/web/two.zip was uploaded", &website, &zip, Outcome::Succeeded).await?;
        self.page_says("/about", "Version 2.").await?;

        let second = self.story.shipway.push("hello-api", "v2", &hello::image("2").await?).await?;
        self.story.follow("hello-api:v2 was pushed", &service, &second, Outcome::Succeeded).await?;
        self.service_says("2").await?;

        let arn = self.story.shipway.start(&self.story.place, &service, &first).await?;
        self.story
            .follow_execution(
                "back to v1: a new execution of `rollout` with the first one's input",
                &arn,
                Outcome::Succeeded,
            )
            .await?;
        self.service_says("1").await?;

        println!();
        println!(
            "push → serving                     {:>6.1} s   (measure: at most 20 s)",
            push_to_serving.as_secs_f64()
        );
        println!(
            "upload of {SITE_FILES} files → live          {:>6.1} s   (measure: at most 5 s)",
            upload_to_live.as_secs_f64()
        );
        println!(
            "the demo, from the cloud's start   {:>6.1} s   (measure: at most 120 s, warm)",
            self.story.screen.started.elapsed().as_secs_f64()
        );
        Ok(())
    }

    async fn service_says(&self, version: &str) -> Result<()> {
        let balancer =
            self.story.shipway.platform(&self.story.place).await?.load_balancer.context("no load balancer")?;
        let answer = self.story.shipway.version_served(&self.story.place, version, PATIENCE).await?;
        println!("    GET http://{balancer}/greet → {} {}", answer.status.as_u16(), answer.text().trim());
        Ok(())
    }

    async fn page_says(&self, path: &str, text: &str) -> Result<()> {
        let site =
            self.story.shipway.platform(&self.story.place).await?.sites.into_values().next().context("no site")?;
        let answer = self.story.shipway.cloud.http_through_cloudfront(&site.domain, path).await?;
        let title = answer
            .text()
            .split("<h1>")
            .nth(1)
            .and_then(|rest| rest.split("</p>").next())
            .unwrap_or_default()
            .replace("</h1><p>", ": ");
        println!("    GET https://{}{path} → {} {title}", site.domain, answer.status.as_u16());
        ensure!(answer.status == 200 && answer.text().contains(text), "{text} was expected, not {}", answer.text());
        Ok(())
    }

    async fn how_to_look_further(&self, keep: bool) -> Result<()> {
        if !keep {
            println!("\nTo look around in it yourself: cargo xtask demo --keep");
            return Ok(());
        }
        let platform = self.story.shipway.platform(&self.story.place).await?;
        let cloud = &self.story.shipway.cloud;
        let endpoint = cloud.endpoint();
        let aws = tools()?.join("bin/aws");
        let aws = aws.display();
        let (key, secret) = cloud.credentials();
        println!("\nThe cloud runs at {endpoint} until Ctrl-C. To try, in another terminal:\n");
        println!(
            "  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={} AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}",
            cloud.region()
        );
        if let Some(balancer) = &platform.load_balancer {
            println!("  curl -H 'Host: {balancer}' {endpoint}/greet");
        }
        for site in platform.sites.values() {
            println!("  curl -H 'Host: {}' -H 'X-Forwarded-Proto: https' {endpoint}/about", site.domain);
        }
        let rollout = self.story.shipway.machine(&"service/api".parse()?)?;
        println!("  {aws} stepfunctions list-executions --state-machine-arn {rollout}");
        println!("  {aws} stepfunctions get-execution-history --execution-arn <one of them>");
        println!(
            "  {aws} s3 cp examples/hello/shipway.yaml s3://{}/apps/hello/prod/shipway.yaml",
            self.story.shipway.output("IntakeBucket")?
        );
        println!("  {aws} dynamodb scan --table-name {}", self.story.shipway.output("Table")?);
        println!("  {aws} ecs describe-services --cluster hello-dev --services hello-dev-api");
        println!("  less {}", cloud.log().display());
        Ok(())
    }
}
