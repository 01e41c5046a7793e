//! The user's own stacks: their templates and roles, our order.

use std::borrow::Cow;

use super::{Concern, KEEP_TAG, Parameters, WantedStack, Wish, text};
use crate::{
    manifest::spec::{EnvValue, Reference, Stack},
    name::{Component, ComponentName},
};

impl Wish<'_> {
    /// The stacks of `stacks`.
    pub(super) fn own_stacks(&self) -> Vec<WantedStack> {
        self.spec.stacks.iter().map(|(name, stack)| self.own_stack(name, stack)).collect()
    }

    fn own_stack(&self, name: &ComponentName, stack: &Stack) -> WantedStack {
        let value = |value: &EnvValue| match value {
            EnvValue::Text(value) => text(value),
            EnvValue::Ref(reference) => self.value_of(reference).unwrap_or_else(|| text("")),
        };
        let parameters: Parameters =
            stack.parameters.iter().map(|(key, given)| (Cow::Owned(key.clone()), value(given))).collect();
        // What a bucket is called is known without the network; all else stands in it, or may.
        let needs_network = stack
            .parameters
            .values()
            .any(|value| matches!(value, EnvValue::Ref(reference) if !matches!(reference, Reference::Bucket(_))));
        let mut tags = self.tags(Component::Platform);
        if stack.retain {
            tags.insert(KEEP_TAG, "true".to_owned());
        }
        WantedStack {
            name: self.names().own(name),
            concern: Concern::Own,
            template: Cow::Owned(stack.template.clone()),
            region: None,
            role: Some(stack.role.as_str().to_owned()),
            parameters,
            tags,
            needs_network,
        }
    }
}
