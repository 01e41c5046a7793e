//! Following an execution through its states.

use anyhow::Result;
use aws_sdk_sfn::{Client, types::HistoryEvent};

/// The names of the states an execution entered so far, in order.
pub async fn states(sfn: &Client, execution: &str) -> Result<Vec<String>> {
    let mut pages = sfn
        .get_execution_history()
        .execution_arn(execution)
        .include_execution_data(false)
        .into_paginator()
        .items()
        .send();
    let mut states = Vec::new();
    while let Some(event) = pages.next().await {
        states.extend(entered(&event?));
    }
    Ok(states)
}

fn entered(event: &HistoryEvent) -> Option<String> {
    event.state_entered_event_details().map(|details| details.name().to_owned())
}
