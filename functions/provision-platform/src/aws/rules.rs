//! The calls: what the load balancer's rules weigh, and what CloudFormation believes of it.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::Parameter;
use aws_sdk_elasticloadbalancingv2::types::{Action, Rule, TargetGroupTuple};
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
                Ok(answer) => found.extend(answer.rules().first().map(|rule| (arn.clone(), weights(rule)))),
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

/// What a rule weighs. One that sends everything to one group may be told by that alone.
fn weights(rule: &Rule) -> Weights {
    let of_action = |action: &Action| -> Weights {
        let groups = action.forward_config().map(|forward| forward.target_groups()).unwrap_or_default();
        let weight = |group: &TargetGroupTuple| {
            // https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html
            let weight = group.weight().map_or(1, |weight| u32::try_from(weight).unwrap_or_default());
            Some((group.target_group_arn()?.to_owned(), weight))
        };
        match groups {
            [] => action.target_group_arn().map(|arn| (arn.to_owned(), 1)).into_iter().collect(),
            groups => groups.iter().filter_map(weight).collect(),
        }
    };
    rule.actions().iter().flat_map(of_action).collect()
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

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::ForwardActionConfig;

    use super::*;

    #[test]
    fn a_rule_weighs_what_it_forwards_to() {
        let weights = |action: Action| weights(&Rule::builder().actions(action).build());
        let group = |arn: &str| TargetGroupTuple::builder().target_group_arn(arn);
        let both = ForwardActionConfig::builder()
            .target_groups(group("blue").weight(0).build())
            .target_groups(group("green").weight(100).build());
        let expected = [("blue".to_owned(), 0), ("green".to_owned(), 100)].into();
        assert_eq!(weights(Action::builder().forward_config(both.build()).build()), expected);
        let one = ForwardActionConfig::builder().target_groups(group("blue").build()).build();
        let blue: Weights = [("blue".to_owned(), 1)].into();
        assert_eq!(weights(Action::builder().target_group_arn("blue").forward_config(one).build()), blue);
        assert_eq!(weights(Action::builder().target_group_arn("blue").build()), blue);
        assert_eq!(weights(Action::builder().build()), Weights::new());
    }

    #[test]
    fn a_stack_keeps_all_parameters_but_those_that_are_told() {
        let parameters_of = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
        let stack = ObservedStack {
            id: "arn".to_owned(),
            status: "UPDATE_COMPLETE".into(),
            parameters: parameters_of(&["Path", "PrimaryWeight"]),
            tags: BTreeMap::new(),
            outputs: BTreeMap::new(),
            role: None,
            protected: false,
            operation: None,
        };
        let told = parameters(&stack, &[("PrimaryWeight".to_owned(), "0".to_owned())].into());
        assert_eq!((told[0].use_previous_value(), told[0].parameter_value()), (Some(true), None));
        assert_eq!((told[1].use_previous_value(), told[1].parameter_value()), (None, Some("0")));
    }
}
