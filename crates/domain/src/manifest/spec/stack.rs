//! What a manifest says of the user's own CloudFormation stacks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{network::checked_text, reference::EnvValue};

/// A CloudFormation stack of the user's own, made after what its parameters refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The template itself, as a block of text (`template: |`); 51,200 bytes at most.
    pub template: String,
    /// The template's parameters: texts, or references like `{ref: network.vpc}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, EnvValue>,
    /// The role that CloudFormation makes it with. Its name begins with `shipway-stack-`: no other can be handed over.
    pub role: StackRole,
    /// Whether a teardown leaves it; it is deleted unless `true`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
}

checked_text!(
    /// The ARN of a role for a stack.
    StackRole, "^arn:aws[a-z-]*:iam::[0-9]{12}:role/shipway-stack-.+$", "the ARN of a role whose name begins with shipway-stack-",
    |text| {
        let parts: Vec<_> = text.split(':').collect();
        matches!(parts.as_slice(), ["arn", _, "iam", "", account, role]
            if account.len() == 12 && role.starts_with("role/shipway-stack-") && role.len() > "role/shipway-stack-".len())
    }
);
