//! The calls: CloudFormation; in `repair`, its change sets; in `rules`, Elastic Load Balancing; and in `capacity`, ECS.

mod capacity;
mod repair;
mod rules;

use aws_sdk_cloudformation::{
    Client,
    config::Region,
    types::{self, Capability, OnFailure, StackDriftDetectionStatus, StackResourceDriftStatus},
};
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    name::AppName,
    platform::{
        Apply, Deletion, Observed, ObservedStack, Operation, ResourceDrift, StackEvent, StackName, last_operation,
    },
};
use shipway_stacks::{observed, says};

pub(crate) use capacity::Capacity;
pub(crate) use repair::{Proposal, Repairs};
pub(crate) use rules::Rules;

/// How long a stack's creation may take before CloudFormation gives it up. Distributions take up to a quarter of an hour.
const CREATION_MINUTES: i32 = 45;

/// What CloudFormation answered to a request to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It does it, or does it already by the same request.
    Accepted,
    /// There is nothing to change.
    Unchanged,
    /// The stack is not in the state it was seen in: the next look shows what it is now.
    Moved,
}

/// How far the comparison of a stack with what it made is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Detection {
    /// It goes on, under this id; under none where somebody else began it.
    Running(Option<String>),
    /// It ended.
    Ended,
    /// The stack cannot be compared now.
    Impossible,
}

/// What the function does with stacks.
pub(crate) trait Stacks {
    /// A stack, if it is there. Its last operation is not looked up.
    async fn describe(&self, name: &StackName, region: Option<&'static str>)
    -> Result<Option<ObservedStack>, AwsError>;
    /// All stacks whose names begin as those of an app do, in every region that it has any in.
    async fn list(&self, app: &AppName) -> Result<Observed, AwsError>;
    /// The last operation on a stack.
    async fn last_operation(&self, id: &str) -> Result<Operation, AwsError>;
    /// Makes a stack.
    async fn create(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError>;
    /// Changes a stack.
    async fn update(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError>;
    /// Deletes a stack, by its id: a new one of the same name is not meant.
    async fn delete(&self, deletion: &Deletion) -> Result<Answer, AwsError>;
    /// Sets whether a stack is protected against deletion.
    async fn protect(&self, id: &str, protected: bool) -> Result<(), AwsError>;
    /// Begins to compare a stack with what it made.
    async fn detect(&self, id: &str) -> Result<Detection, AwsError>;
    /// How far that is.
    async fn detection(&self, id: &str, detection: &str) -> Result<Detection, AwsError>;
    /// What it found.
    async fn drifts(&self, id: &str) -> Result<Vec<ResourceDrift>, AwsError>;
}

/// The region of what CloudFront uses.
const GLOBAL: &str = "us-east-1";

/// The account: CloudFormation, acting with a role of its own, Elastic Load Balancing, and ECS.
pub(crate) struct Account {
    home: Client,
    region: String,
    global: Later<Client>,
    load_balancing: Later<aws_sdk_elasticloadbalancingv2::Client>,
    ecs: Later<aws_sdk_ecs::Client>,
    role: String,
}

impl Account {
    /// On the shared configuration, with the service role that makes the resources.
    pub(crate) fn new(config: &aws_config::SdkConfig, region: String, role: String) -> Account {
        let in_global = config.to_builder().region(Region::from_static(GLOBAL)).build();
        Account {
            home: Client::new(config),
            region,
            global: Later::new(&in_global, Client::new),
            load_balancing: Later::new(config, aws_sdk_elasticloadbalancingv2::Client::new),
            ecs: Later::new(config, aws_sdk_ecs::Client::new),
            role,
        }
    }

    fn client(&self, region: Option<&str>) -> &Client {
        match region {
            Some(region) if region != self.region => self.global.get(),
            _ => &self.home,
        }
    }

    /// The client for a stack of this id. An ARN's fourth part is its region.
    fn client_of(&self, id: &str) -> &Client {
        self.client(id.split(':').nth(3))
    }

    fn role<'a>(&'a self, own: &'a Option<String>) -> &'a str {
        own.as_deref().unwrap_or(&self.role)
    }
}

/// A template makes roles whose names CloudFormation chooses, and may let the manifest choose a deletion policy, which is a
/// language extension.
const CAPABILITIES: [Capability; 2] = [Capability::CapabilityNamedIam, Capability::CapabilityAutoExpand];

impl Stacks for Account {
    async fn describe(
        &self,
        name: &StackName,
        region: Option<&'static str>,
    ) -> Result<Option<ObservedStack>, AwsError> {
        shipway_stacks::describe(self.client(region), name.as_str()).await
    }

    async fn list(&self, app: &AppName) -> Result<Observed, AwsError> {
        let prefix = format!("shipway-{app}-");
        let mut stacks = Observed::new();
        let global = (self.region != GLOBAL).then(|| self.global.get());
        for client in [Some(&self.home), global].into_iter().flatten() {
            let mut pages = client.describe_stacks().into_paginator().items().send();
            while let Some(stack) = pages.next().await {
                let stack = stack.map_err(AwsError::of("cloudformation:DescribeStacks"))?;
                let name = stack.stack_name().unwrap_or_default();
                // A nested stack has its parent's name and tags, and goes with it.
                if name.starts_with(&prefix) && stack.parent_id().is_none() {
                    stacks.insert(StackName::of_existing(name), observed(&stack));
                }
            }
        }
        Ok(stacks)
    }

    async fn last_operation(&self, id: &str) -> Result<Operation, AwsError> {
        let mut events = Vec::new();
        let mut pages = self.client_of(id).describe_stack_events().stack_name(id).into_paginator().items().send();
        while let Some(event) = pages.next().await {
            let event = observed_event(&event.map_err(AwsError::of("cloudformation:DescribeStackEvents"))?);
            let begins = event.begins();
            events.push(event);
            if begins {
                break;
            }
        }
        Ok(last_operation(&events))
    }

    async fn create(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError> {
        let asked = self
            .client(apply.region)
            .create_stack()
            .stack_name(name.as_str())
            .template_body(&*apply.template)
            .set_parameters(Some(parameters(apply)))
            .set_tags(Some(tags(apply)))
            .role_arn(self.role(&apply.role))
            .set_capabilities(Some(CAPABILITIES.to_vec()))
            .set_enable_termination_protection(apply.protected)
            .client_request_token(&apply.token)
            .timeout_in_minutes(CREATION_MINUTES)
            // A stack that is rolled back stays with its events, until the next release clears it: the evidence is kept.
            .on_failure(OnFailure::Rollback)
            .send()
            .await;
        match asked.map_err(AwsError::of("cloudformation:CreateStack")) {
            Ok(_) => Ok(Answer::Accepted),
            Err(error) if error.is("AlreadyExistsException") || is_repeated(&error) => Ok(Answer::Moved),
            Err(error) => Err(error),
        }
    }

    async fn update(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError> {
        let asked = self
            .client(apply.region)
            .update_stack()
            .stack_name(name.as_str())
            .template_body(&*apply.template)
            .set_parameters(Some(parameters(apply)))
            .set_tags(Some(tags(apply)))
            .role_arn(self.role(&apply.role))
            .set_capabilities(Some(CAPABILITIES.to_vec()))
            .client_request_token(&apply.token)
            .send()
            .await;
        match asked.map_err(AwsError::of("cloudformation:UpdateStack")) {
            Ok(_) => Ok(Answer::Accepted),
            Err(error) if says(&error, "No updates are to be performed") => Ok(Answer::Unchanged),
            Err(error)
                if says(&error, "_IN_PROGRESS state") || says(&error, "does not exist") || is_repeated(&error) =>
            {
                Ok(Answer::Moved)
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, deletion: &Deletion) -> Result<Answer, AwsError> {
        let asked = self
            .client_of(&deletion.id)
            .delete_stack()
            .stack_name(&deletion.id)
            .role_arn(self.role(&deletion.role))
            .client_request_token(&deletion.token)
            .send()
            .await;
        match asked.map_err(AwsError::of("cloudformation:DeleteStack")) {
            Ok(_) => Ok(Answer::Accepted),
            Err(error) if is_repeated(&error) => Ok(Answer::Moved),
            Err(error) => Err(error),
        }
    }

    async fn protect(&self, id: &str, protected: bool) -> Result<(), AwsError> {
        let asked = self
            .client_of(id)
            .update_termination_protection()
            .stack_name(id)
            .enable_termination_protection(protected)
            .send()
            .await;
        asked.map(|_| ()).map_err(AwsError::of("cloudformation:UpdateTerminationProtection"))
    }

    async fn detect(&self, id: &str) -> Result<Detection, AwsError> {
        let asked = self.client_of(id).detect_stack_drift().stack_name(id).send().await;
        match asked.map_err(AwsError::of("cloudformation:DetectStackDrift")) {
            Ok(output) => Ok(Detection::Running(output.stack_drift_detection_id)),
            Err(error) if says(&error, "already in progress") => Ok(Detection::Running(None)),
            // A stack that began to move meanwhile, or of which no type can be compared.
            Err(error) if error.is("ValidationError") => {
                tracing::warn!(id, %error, "cannot be compared");
                Ok(Detection::Impossible)
            }
            Err(error) => Err(error),
        }
    }

    async fn detection(&self, id: &str, detection: &str) -> Result<Detection, AwsError> {
        let client = self.client_of(id);
        let asked = client.describe_stack_drift_detection_status().stack_drift_detection_id(detection).send().await;
        let status = asked.map_err(AwsError::of("cloudformation:DescribeStackDriftDetectionStatus"))?;
        if status.detection_status() == Some(&StackDriftDetectionStatus::DetectionInProgress) {
            return Ok(Detection::Running(Some(detection.to_owned())));
        }
        if let Some(reason) = status.detection_status_reason() {
            // What could be compared has its results all the same.
            tracing::warn!(id, reason, "some of it cannot be compared");
        }
        Ok(Detection::Ended)
    }

    async fn drifts(&self, id: &str) -> Result<Vec<ResourceDrift>, AwsError> {
        let mut drifts = Vec::new();
        let mut next = None;
        loop {
            let asked = self
                .client_of(id)
                .describe_stack_resource_drifts()
                .stack_name(id)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Modified)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Deleted)
                .set_next_token(next)
                .send()
                .await;
            let page = asked.map_err(AwsError::of("cloudformation:DescribeStackResourceDrifts"))?;
            drifts.extend(page.stack_resource_drifts().iter().map(observed_drift));
            next = page.next_token;
            if next.is_none() {
                return Ok(drifts);
            }
        }
    }
}

fn is_repeated(error: &AwsError) -> bool {
    error.is("TokenAlreadyExistsException")
}

fn parameters(apply: &Apply) -> Vec<types::Parameter> {
    let parameter = |(key, value): (_, &String)| {
        let key: &std::borrow::Cow<'static, str> = key;
        types::Parameter::builder().parameter_key(&**key).parameter_value(value).build()
    };
    apply.parameters.iter().map(parameter).collect()
}

fn tags(apply: &Apply) -> Vec<types::Tag> {
    apply.tags.iter().map(|(key, value)| types::Tag::builder().key(*key).value(value).build()).collect()
}

fn observed_drift(drift: &types::StackResourceDrift) -> ResourceDrift {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    ResourceDrift {
        resource: text(drift.logical_resource_id()),
        resource_type: text(drift.resource_type()),
        deleted: drift.stack_resource_drift_status() == Some(&StackResourceDriftStatus::Deleted),
        properties: drift.property_differences().iter().map(|each| text(each.property_path())).collect(),
    }
}

fn observed_event(event: &types::StackEvent) -> StackEvent {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    StackEvent {
        // A nested stack has the stack's type too, but not its id.
        of_stack: event.physical_resource_id().is_some() && event.physical_resource_id() == event.stack_id(),
        resource: text(event.logical_resource_id()),
        resource_type: text(event.resource_type()),
        status: event.resource_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
        reason: text(event.resource_status_reason()),
        token: event.client_request_token().map(str::to_owned),
    }
}
