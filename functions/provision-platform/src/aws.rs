//! The calls: CloudFormation.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::{
    Client,
    types::{self, Capability, OnFailure},
};
use shipway_aws::AwsError;
use shipway_domain::platform::{Apply, ObservedStack, Operation, StackEvent, StackName, StackStatus, last_operation};

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

/// What the function does with stacks.
pub(crate) trait Stacks {
    /// A stack, if it is there. Its last operation is not looked up.
    async fn describe(&self, name: &StackName) -> Result<Option<ObservedStack>, AwsError>;
    /// The last operation on a stack.
    async fn last_operation(&self, id: &str) -> Result<Operation, AwsError>;
    /// Makes a stack.
    async fn create(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError>;
    /// Changes a stack.
    async fn update(&self, name: &StackName, apply: &Apply) -> Result<Answer, AwsError>;
    /// Deletes a stack, by its id: a new one of the same name is not meant.
    async fn delete(&self, id: &str, token: &str) -> Result<Answer, AwsError>;
}

/// CloudFormation, acting with a role of its own.
pub(crate) struct CloudFormation {
    client: Client,
    role: String,
}

impl CloudFormation {
    /// On the shared configuration, with the service role that makes the resources.
    pub(crate) fn new(config: &aws_config::SdkConfig, role: String) -> CloudFormation {
        CloudFormation { client: Client::new(config), role }
    }
}

impl Stacks for CloudFormation {
    async fn describe(&self, name: &StackName) -> Result<Option<ObservedStack>, AwsError> {
        let asked = self.client.describe_stacks().stack_name(name.as_str()).send().await;
        match asked.map_err(AwsError::of("cloudformation:DescribeStacks")) {
            Ok(output) => Ok(output.stacks().first().map(observed)),
            Err(error) if says(&error, "does not exist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn last_operation(&self, id: &str) -> Result<Operation, AwsError> {
        let mut events = Vec::new();
        let mut pages = self.client.describe_stack_events().stack_name(id).into_paginator().items().send();
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
            .client
            .create_stack()
            .stack_name(name.as_str())
            .template_body(&*apply.template)
            .set_parameters(Some(parameters(apply)))
            .set_tags(Some(tags(apply)))
            .role_arn(&self.role)
            .capabilities(Capability::CapabilityNamedIam)
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
            .client
            .update_stack()
            .stack_name(name.as_str())
            .template_body(&*apply.template)
            .set_parameters(Some(parameters(apply)))
            .set_tags(Some(tags(apply)))
            .role_arn(&self.role)
            .capabilities(Capability::CapabilityNamedIam)
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

    async fn delete(&self, id: &str, token: &str) -> Result<Answer, AwsError> {
        let asked =
            self.client.delete_stack().stack_name(id).role_arn(&self.role).client_request_token(token).send().await;
        match asked.map_err(AwsError::of("cloudformation:DeleteStack")) {
            Ok(_) => Ok(Answer::Accepted),
            Err(error) if is_repeated(&error) => Ok(Answer::Moved),
            Err(error) => Err(error),
        }
    }
}

/// CloudFormation has one code, `ValidationError`, for most of what it refuses: the message tells them apart.
fn says(error: &AwsError, words: &str) -> bool {
    error.is("ValidationError") && error.message().contains(words)
}

fn is_repeated(error: &AwsError) -> bool {
    error.is("TokenAlreadyExistsException")
}

fn parameters(apply: &Apply) -> Vec<types::Parameter> {
    let parameter =
        |(key, value): (&&str, &String)| types::Parameter::builder().parameter_key(*key).parameter_value(value).build();
    apply.parameters.iter().map(parameter).collect()
}

fn tags(apply: &Apply) -> Vec<types::Tag> {
    apply.tags.iter().map(|(key, value)| types::Tag::builder().key(*key).value(value).build()).collect()
}

fn observed(stack: &types::Stack) -> ObservedStack {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    ObservedStack {
        id: text(stack.stack_id()),
        status: stack.stack_status().map_or_else(|| StackStatus::Other(String::new()), |status| status.as_str().into()),
        parameters: stack.parameters().iter().map(|p| (text(p.parameter_key()), text(p.parameter_value()))).collect(),
        tags: stack.tags().iter().map(|tag| (text(tag.key()), text(tag.value()))).collect(),
        outputs: stack
            .outputs()
            .iter()
            .map(|o| (text(o.output_key()), text(o.output_value())))
            .collect::<BTreeMap<_, _>>(),
        operation: None,
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
