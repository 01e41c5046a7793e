//! The installed Shipway: where its bucket, table and machines are, and the clients to reach them.
//!
//! Each is asked of the stack's outputs when it is needed and not set, so that a role without a right on CloudFormation can do
//! whatever the rest of its rights allow.

use std::collections::BTreeMap;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
};
use aws_smithy_http_client::{Builder, tls};
use shipway_aws::{AwsError, Store};
use shipway_domain::name::Component;
use tokio::sync::OnceCell;

use crate::{cli::Shared, problem::Problem};

/// An output of Shipway's stack, and the setting that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Where zips and manifests go.
    Bucket,
    /// Environments, components, releases.
    Table,
    /// The machine that publishes.
    PublishMachine,
    /// The machine that rolls out.
    RolloutMachine,
    /// The machine that provisions.
    ProvisionMachine,
    /// The managed policy that bounds the roles of stacks.
    RoleBoundary,
    /// The machine that tears down.
    TeardownMachine,
    /// The machine that compares.
    DriftMachine,
}

impl Output {
    const fn name(self) -> &'static str {
        match self {
            Output::Bucket => "IntakeBucket",
            Output::Table => "Table",
            Output::PublishMachine => "PublishMachine",
            Output::RolloutMachine => "RolloutMachine",
            Output::ProvisionMachine => "ProvisionMachine",
            Output::RoleBoundary => "RoleBoundary",
            Output::TeardownMachine => "TeardownMachine",
            Output::DriftMachine => "DriftMachine",
        }
    }

    const fn setting(self) -> &'static str {
        match self {
            Output::Bucket => "SHIPWAY_BUCKET",
            Output::Table => "SHIPWAY_TABLE",
            Output::PublishMachine => "SHIPWAY_PUBLISH_MACHINE",
            Output::RolloutMachine => "SHIPWAY_ROLLOUT_MACHINE",
            Output::ProvisionMachine => "SHIPWAY_PROVISION_MACHINE",
            Output::RoleBoundary => "SHIPWAY_ROLE_BOUNDARY",
            Output::TeardownMachine => "SHIPWAY_TEARDOWN_MACHINE",
            Output::DriftMachine => "SHIPWAY_DRIFT_MACHINE",
        }
    }

    /// The machine that releases this component.
    pub(crate) const fn machine_of(component: &Component) -> Output {
        match component {
            Component::Platform => Output::ProvisionMachine,
            Component::Service(_) => Output::RolloutMachine,
            Component::Site(_) | Component::Preview(..) => Output::PublishMachine,
        }
    }
}

/// The installed Shipway.
pub(crate) struct Installation {
    config: SdkConfig,
    stack: String,
    outputs: OnceCell<BTreeMap<String, String>>,
}

impl Installation {
    /// By the options, the environment and the AWS configuration. Asks AWS for nothing yet.
    pub(crate) async fn find(shared: &Shared) -> Result<Installation, Problem> {
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = Builder::new().tls_provider(tls).build_https();
        let region = shared.region.clone().map(Region::new);
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
        if let Some(profile) = &shared.profile {
            // A profile that was asked for comes before credentials in the environment, as with the AWS CLI.
            let provider = ProviderConfig::default().with_http_client(http).with_region(region.clone());
            let credentials = ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(profile);
            loader = loader.profile_name(profile).credentials_provider(credentials.build());
        }
        if let Some(region) = region {
            loader = loader.region(region);
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(Problem::new("it is not said in which AWS region Shipway is installed")
                .remedy("say --region, set AWS_REGION, or put a region into the profile"));
        }
        Ok(Installation { config, stack: shared.stack.clone(), outputs: OnceCell::new() })
    }

    /// What the stack has under this output, or the setting that stands for it.
    pub(crate) async fn output(&self, output: Output) -> Result<String, Problem> {
        if let Some(set) = std::env::var(output.setting()).ok().filter(|value| !value.is_empty()) {
            return Ok(set);
        }
        let outputs = self
            .outputs
            .get_or_try_init(|| self.outputs())
            .await
            .map_err(|problem| problem.or(&format!("set {}", output.setting())))?;
        outputs.get(output.name()).cloned().ok_or_else(|| {
            Problem::new(format!(
                "the stack has no output {}: it is not Shipway's, or of another version",
                output.name()
            ))
            .at(self.place())
            .remedy(format!("name Shipway's own stack with --stack, or set {}", output.setting()))
        })
    }

    async fn outputs(&self) -> Result<BTreeMap<String, String>, Problem> {
        let described = shipway_stacks::describe(&self.stacks(None), &self.stack).await;
        let described = described.map_err(|error| Problem::from(error).at(self.place()))?;
        described.map(|stack| stack.outputs).ok_or_else(|| {
            Problem::new(format!("Shipway is not installed here: there is no stack `{}`", self.stack))
                .at(self.place())
                .remedy("name the stack, region or profile with --stack, --region, --profile; or install Shipway there")
        })
    }

    fn place(&self) -> String {
        let region = self.config.region().map_or("an unknown region", Region::as_ref);
        format!("the stack {} in {region}", self.stack)
    }

    /// The table.
    pub(crate) async fn store(&self) -> Result<Store, Problem> {
        Ok(Store::new(&self.config, self.output(Output::Table).await?))
    }

    /// S3. Buckets are named in the host, as S3 wants it, and in the path where something else stands in for it.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let elsewhere = self.config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(elsewhere).build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// CloudFormation, in a region of its own where one is given.
    pub(crate) fn stacks(&self, region: Option<&'static str>) -> aws_sdk_cloudformation::Client {
        let config = aws_sdk_cloudformation::config::Builder::from(&self.config);
        let config = match region {
            Some(region) => config.region(Region::from_static(region)),
            None => config,
        };
        aws_sdk_cloudformation::Client::from_conf(config.build())
    }

    /// EC2.
    pub(crate) fn ec2(&self) -> shipway_ec2::Ec2Client {
        shipway_ec2::Ec2Client::new(&self.config)
    }

    /// The region.
    pub(crate) fn region(&self) -> &str {
        self.config.region().map_or("", Region::as_ref)
    }

    /// ECS.
    pub(crate) fn ecs(&self) -> aws_sdk_ecs::Client {
        aws_sdk_ecs::Client::new(&self.config)
    }

    /// Elastic Load Balancing.
    pub(crate) fn load_balancing(&self) -> aws_sdk_elasticloadbalancingv2::Client {
        aws_sdk_elasticloadbalancingv2::Client::new(&self.config)
    }

    /// CloudWatch Logs.
    pub(crate) fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(&self.config)
    }

    /// Who the credentials are, as AWS names them. It needs no right.
    pub(crate) async fn caller(&self) -> Result<String, Problem> {
        let identity = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await;
        let identity = identity.map_err(AwsError::of("sts:GetCallerIdentity"))?;
        identity.arn().map(str::to_owned).ok_or_else(|| Problem::new("AWS does not say who the credentials are"))
    }

    /// Step Functions.
    pub(crate) fn machines(&self) -> aws_sdk_sfn::Client {
        aws_sdk_sfn::Client::new(&self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_its_machine() {
        let table = [
            ("platform", "SHIPWAY_PROVISION_MACHINE"),
            ("service/api", "SHIPWAY_ROLLOUT_MACHINE"),
            ("site/web", "SHIPWAY_PUBLISH_MACHINE"),
            ("preview/web/pr-1", "SHIPWAY_PUBLISH_MACHINE"),
        ];
        for (component, setting) in table {
            assert_eq!(Output::machine_of(&component.parse().unwrap()).setting(), setting);
        }
    }

    /// The template's outputs are what the installed stack has.
    #[test]
    fn every_output_that_is_asked_for_is_in_the_template() {
        let template = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../bootstrap/template.yaml";
        let template = std::fs::read_to_string(template).unwrap();
        let (_, outputs) = template.split_once("\nOutputs:\n").unwrap();
        for output in [
            Output::Bucket,
            Output::Table,
            Output::PublishMachine,
            Output::RolloutMachine,
            Output::ProvisionMachine,
            Output::RoleBoundary,
            Output::TeardownMachine,
            Output::DriftMachine,
        ] {
            assert!(outputs.contains(&format!("  {}:\n", output.name())), "{output:?}");
        }
    }
}
