//! The calls: what the load balancer's rules weigh, and what CloudFormation believes of it.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::Parameter;
use shipway_aws::AwsError;
use shipway_domain::platform::{ObservedStack, Weights};
use shipway_stacks::says;

use super::{Account, Answer, CAPABILITIES, is_repeated};

/// What the function does so that no change of a stack takes back what ECS made of its rules.
pub(crate) trait Rules {
    /// What the rules of these ARNs weigh. One that is gone is left out.
    async fn weights(&self, rules: &[String]) -> Result<BTreeMap<String, Weights>, AwsError>;
    /// Changes these parameters of a stack, and nothing else about it.
    async fn tell_weights(
        &self,
        stack: &ObservedStack,
        weights: &BTreeMap<String, String>,
        token: &str,
    ) -> Result<Answer, AwsError>;
}

impl Rules for Account {
    async fn weights(&self, rules: &[String]) -> Result<BTreeMap<String, Weights>, AwsError> {
        let mut found = BTreeMap::new();
        for arn in rules {
            let asked = self.load_balancing.get().describe_rules().rule_arns(arn).send().await;
            match asked.map_err(AwsError::of("elasticloadbalancing:DescribeRules")) {
                Ok(answer) => {
                    let actions = answer.rules().iter().flat_map(|rule| rule.actions());
                    let groups =
                        actions.filter_map(|action| action.forward_config()).flat_map(|all| all.target_groups());
                    let weight = |group: &aws_sdk_elasticloadbalancingv2::types::TargetGroupTuple| {
                        let weight = u32::try_from(group.weight().unwrap_or(1)).unwrap_or_default();
                        Some((group.target_group_arn()?.to_owned(), weight))
                    };
                    found.insert(arn.clone(), groups.filter_map(weight).collect());
                }
                Err(error) if error.is("RuleNotFound") || error.is("RuleNotFoundException") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn tell_weights(
        &self,
        stack: &ObservedStack,
        weights: &BTreeMap<String, String>,
        token: &str,
    ) -> Result<Answer, AwsError> {
        let asked = self
            .client_of(&stack.id)
            .update_stack()
            .stack_name(&stack.id)
            .use_previous_template(true)
            .set_parameters(Some(parameters(stack, weights)))
            .role_arn(self.role(&stack.role))
            .set_capabilities(Some(CAPABILITIES.to_vec()))
            .client_request_token(token)
            .send()
            .await;
        match asked.map_err(AwsError::of("cloudformation:UpdateStack")) {
            Ok(_) => Ok(Answer::Accepted),
            Err(error)
                if is_repeated(&error) || says(&error, "_IN_PROGRESS state") || says(&error, "does not exist") =>
            {
                Ok(Answer::Moved)
            }
            Err(error) => Err(error),
        }
    }
}

/// The parameters that a stack has, but for these.
pub(super) fn parameters(stack: &ObservedStack, other: &BTreeMap<String, String>) -> Vec<Parameter> {
    let parameter = |key: &String| {
        let parameter = Parameter::builder().parameter_key(key);
        match other.get(key) {
            Some(value) => parameter.parameter_value(value).build(),
            None => parameter.use_previous_value(true).build(),
        }
    };
    stack.parameters.keys().map(parameter).collect()
}
