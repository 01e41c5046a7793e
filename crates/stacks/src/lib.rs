//! What provision-platform and the command share of CloudFormation: a stack as it is.
//!
//! Only the look, and the way from the SDK's type to the domain's. What to change is provision-platform's own.

use aws_sdk_cloudformation::{Client, types::Stack};
use shipway_aws::AwsError;
use shipway_domain::platform::{ObservedStack, StackStatus};

/// The stack of this name, if it is there. Its last operation is not looked up.
///
/// # Errors
/// CloudFormation refused or could not answer.
pub async fn describe(client: &Client, name: &str) -> Result<Option<ObservedStack>, AwsError> {
    let asked = client.describe_stacks().stack_name(name).send().await;
    match asked.map_err(AwsError::of("cloudformation:DescribeStacks")) {
        Ok(output) => Ok(output.stacks().first().map(observed)),
        Err(error) if says(&error, "does not exist") => Ok(None),
        Err(error) => Err(error),
    }
}

/// CloudFormation has one code, `ValidationError`, for most of what it refuses: the message tells them apart.
pub fn says(error: &AwsError, words: &str) -> bool {
    error.is("ValidationError") && error.message().contains(words)
}

/// A stack as CloudFormation describes it. Its last operation is not part of that.
pub fn observed(stack: &Stack) -> ObservedStack {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    ObservedStack {
        id: text(stack.stack_id()),
        status: stack.stack_status().map_or_else(|| StackStatus::Other(String::new()), |status| status.as_str().into()),
        parameters: stack.parameters().iter().map(|p| (text(p.parameter_key()), text(p.parameter_value()))).collect(),
        tags: stack.tags().iter().map(|tag| (text(tag.key()), text(tag.value()))).collect(),
        outputs: stack.outputs().iter().map(|o| (text(o.output_key()), text(o.output_value()))).collect(),
        role: stack.role_arn().map(str::to_owned),
        protected: stack.enable_termination_protection().unwrap_or_default(),
        operation: None,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{Output, Parameter, StackStatus as Sdk, Tag};

    use super::*;

    #[test]
    fn a_refusal_is_told_apart_by_its_code_and_its_message() {
        let refused =
            |code: &str| AwsError::in_answer("cloudformation:DescribeStacks", code, "Stack with id x does not exist");
        assert!(says(&refused("ValidationError"), "does not exist"));
        assert!(!says(&refused("ValidationError"), "No updates"));
        assert!(!says(&refused("AccessDenied"), "does not exist"));
    }

    #[test]
    fn a_stack_is_observed_as_it_is_described() {
        let stack = Stack::builder()
            .stack_id("arn:of:the-stack")
            .stack_status(Sdk::UpdateComplete)
            .parameters(Parameter::builder().parameter_key("App").parameter_value("hello").build())
            .tags(Tag::builder().key("shipway:app").value("hello").build())
            .outputs(Output::builder().output_key("Cluster").output_value("hello-prod").build())
            .role_arn("arn:of:the-role")
            .enable_termination_protection(true)
            .build();
        let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let expected = ObservedStack {
            id: "arn:of:the-stack".to_owned(),
            status: "UPDATE_COMPLETE".into(),
            parameters: one("App", "hello"),
            tags: one("shipway:app", "hello"),
            outputs: one("Cluster", "hello-prod"),
            role: Some("arn:of:the-role".to_owned()),
            protected: true,
            operation: None,
        };
        assert_eq!(observed(&stack), expected);
    }
}
