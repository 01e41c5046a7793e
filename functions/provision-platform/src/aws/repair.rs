//! The calls: CloudFormation's change sets that bring back what a template says.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::{
    self, ChangeAction, ChangeSetType, DeploymentMode, Replacement, StackResourceDriftStatus,
};
use shipway_aws::AwsError;
use shipway_domain::platform::{ChangeSet, ObservedStack, ResourceChange, ResourceState};
use shipway_stacks::says;

use super::{Account, Answer, CAPABILITIES, is_repeated, rules};

/// What CloudFormation answered to the wish for a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proposal {
    /// It makes one, or it cannot just now: the next look shows it.
    Asked,
    /// It makes none for this stack.
    Refused(String),
}

/// What the function does so that a stack's resources are again as its template says.
pub(crate) trait Repairs {
    /// A stack's change set of this name, if there is one.
    async fn change_set(&self, id: &str, name: &str) -> Result<Option<ChangeSet>, AwsError>;
    /// Asks for a change set that changes nothing but what somebody changed. These parameters are others than the stack has: what
    /// ECS made of the weights of its rules.
    async fn propose(
        &self,
        stack: &ObservedStack,
        weights: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Proposal, AwsError>;
    /// Executes it.
    async fn execute(&self, id: &str, name: &str) -> Result<Answer, AwsError>;
    /// Removes it.
    async fn withdraw(&self, id: &str, name: &str) -> Result<(), AwsError>;
}

impl Repairs for Account {
    async fn change_set(&self, id: &str, name: &str) -> Result<Option<ChangeSet>, AwsError> {
        let mut found = ChangeSet::default();
        let mut next = None;
        loop {
            let asked = self
                .client_of(id)
                .describe_change_set()
                .stack_name(id)
                .change_set_name(name)
                .set_next_token(next)
                .send()
                .await;
            let page = match asked.map_err(AwsError::of("cloudformation:DescribeChangeSet")) {
                Ok(page) => page,
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            found.status = page.status().map(|status| status.as_str().to_owned()).unwrap_or_default();
            found.execution = page.execution_status().map(|status| status.as_str().to_owned()).unwrap_or_default();
            found.reason = page.status_reason().unwrap_or_default().to_owned();
            found.changes.extend(page.changes().iter().filter_map(types::Change::resource_change).map(observed));
            next = page.next_token;
            if next.is_none() {
                return Ok(Some(found));
            }
        }
    }

    async fn propose(
        &self,
        stack: &ObservedStack,
        weights: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Proposal, AwsError> {
        let tag = |(key, value): (&String, &String)| types::Tag::builder().key(key).value(value).build();
        let asked = self
            .client_of(&stack.id)
            .create_change_set()
            .stack_name(&stack.id)
            .change_set_name(name)
            .change_set_type(ChangeSetType::Update)
            .deployment_mode(DeploymentMode::RevertDrift)
            .use_previous_template(true)
            .set_parameters(Some(rules::parameters(stack, weights)))
            .set_tags(Some(stack.tags.iter().map(tag).collect()))
            .role_arn(self.role(&stack.role))
            .set_capabilities(Some(CAPABILITIES.to_vec()))
            .client_token(name)
            .send()
            .await;
        match asked.map_err(AwsError::of("cloudformation:CreateChangeSet")) {
            Ok(_) => Ok(Proposal::Asked),
            Err(error)
                if error.is("AlreadyExistsException")
                    || is_repeated(&error)
                    || says(&error, "_IN_PROGRESS state")
                    || says(&error, "does not exist") =>
            {
                Ok(Proposal::Asked)
            }
            Err(error) if error.is("ValidationError") => Ok(Proposal::Refused(error.message().to_owned())),
            Err(error) => Err(error),
        }
    }

    async fn execute(&self, id: &str, name: &str) -> Result<Answer, AwsError> {
        let asked = self
            .client_of(id)
            .execute_change_set()
            .stack_name(id)
            .change_set_name(name)
            .client_request_token(name)
            .send()
            .await;
        match asked.map_err(AwsError::of("cloudformation:ExecuteChangeSet")) {
            Ok(_) => Ok(Answer::Accepted),
            // It is being executed, or the stack moves: the next look shows it.
            Err(error)
                if error.is("InvalidChangeSetStatus")
                    || is_gone(&error)
                    || is_repeated(&error)
                    || says(&error, "_IN_PROGRESS state") =>
            {
                Ok(Answer::Moved)
            }
            Err(error) => Err(error),
        }
    }

    async fn withdraw(&self, id: &str, name: &str) -> Result<(), AwsError> {
        let asked = self.client_of(id).delete_change_set().stack_name(id).change_set_name(name).send().await;
        match asked.map_err(AwsError::of("cloudformation:DeleteChangeSet")) {
            Err(error) if is_gone(&error) || error.is("InvalidChangeSetStatus") => Ok(()),
            asked => asked.map(|_| ()),
        }
    }
}

fn is_gone(error: &AwsError) -> bool {
    error.is("ChangeSetNotFound") || error.is("ChangeSetNotFoundException")
}

/// What a detail is about: a property's name, or else which of a resource's attributes it is.
fn property(detail: &types::ResourceChangeDetail) -> String {
    let target = detail.target();
    let name = target.and_then(|target| target.name());
    let attribute = || target.and_then(|target| target.attribute()).map(types::ResourceAttribute::as_str);
    name.or_else(attribute).unwrap_or_default().to_owned()
}

fn observed(change: &types::ResourceChange) -> ResourceChange {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    ResourceChange {
        resource: text(change.logical_resource_id()),
        resource_type: text(change.resource_type()),
        state: match change.resource_drift_status() {
            Some(StackResourceDriftStatus::Modified) => ResourceState::Modified,
            Some(StackResourceDriftStatus::Deleted) => ResourceState::Deleted,
            Some(StackResourceDriftStatus::InSync) => ResourceState::InSync,
            _ => ResourceState::Unknown,
        },
        replaces: matches!(change.replacement(), Some(Replacement::True | Replacement::Conditional))
            || change.action() == Some(&ChangeAction::Remove),
        properties: change.details().iter().map(property).collect(),
    }
}
