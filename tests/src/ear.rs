//! A queue that hears what people or programs are told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{Shipway, ask::Aws};

/// A queue, and what it heard since it was asked last.
pub struct Ear<'a> {
    aws: &'a Aws,
    queue: String,
    arn: String,
}

impl Ear<'_> {
    /// The queue of this name, which is made where it is not there.
    fn new<'a>(aws: &'a Aws, name: &str) -> Result<Ear<'a>> {
        let allowed = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*",
            "Principal": {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]},
        }]});
        let asked = json!({"QueueName": name, "Attributes": {"Policy": allowed.to_string()}});
        let made = aws.ask("sqs", "create_queue", asked)?;
        let queue = made["QueueUrl"].as_str().context("a queue without a URL")?.to_owned();
        let asked = json!({"QueueUrl": queue, "AttributeNames": ["QueueArn"]});
        let shown = aws.ask("sqs", "get_queue_attributes", asked)?;
        let arn = shown["Attributes"]["QueueArn"].as_str().context("a queue without an ARN")?.to_owned();
        Ok(Ear { aws, queue, arn })
    }

    /// Hears what the topic's subscribers are told, from the first call for this name on.
    ///
    /// # Errors
    /// AWS's own.
    pub fn of_people<'a>(shipway: &Shipway, aws: &'a Aws, name: &str) -> Result<Ear<'a>> {
        let ear = Ear::new(aws, name)?;
        let topic = shipway.output("Topic")?;
        aws.ask("sns", "subscribe", json!({"TopicArn": topic, "Protocol": "sqs", "Endpoint": ear.arn}))?;
        Ok(ear)
    }

    /// Hears the events of Shipway's that this narrows down, from the first call for this name on.
    ///
    /// # Errors
    /// AWS's own.
    pub fn of_programs<'a>(aws: &'a Aws, name: &str, detail: Option<Value>) -> Result<Ear<'a>> {
        let ear = Ear::new(aws, name)?;
        let mut pattern = json!({"source": ["shipway"]});
        if let Some(detail) = detail {
            pattern["detail"] = detail;
        }
        aws.ask("events", "put_rule", json!({"Name": name, "EventPattern": pattern.to_string()}))?;
        aws.ask("events", "put_targets", json!({"Rule": name, "Targets": [{"Id": "queue", "Arn": ear.arn}]}))?;
        Ok(ear)
    }

    /// What was heard until now.
    ///
    /// # Errors
    /// AWS's own, or a message that is no JSON.
    pub fn hears(&self) -> Result<Vec<Value>> {
        let mut heard = Vec::new();
        loop {
            let asked = json!({"QueueUrl": self.queue, "MaxNumberOfMessages": 10});
            let messages = self.aws.list("sqs", "receive_message", asked, "Messages")?;
            if messages.is_empty() {
                return Ok(heard);
            }
            for message in messages {
                heard.push(serde_json::from_str(message["Body"].as_str().unwrap_or_default())?);
                let receipt = json!({"QueueUrl": self.queue, "ReceiptHandle": message["ReceiptHandle"]});
                self.aws.ask("sqs", "delete_message", receipt)?;
            }
        }
    }

    /// Waits until so many were heard, and a little longer for one too many.
    ///
    /// # Errors
    /// As [`Self::hears`].
    pub async fn heard(&self, count: usize, within: Duration) -> Result<Vec<Value>> {
        let (mut heard, started) = (Vec::new(), Instant::now());
        let mut last = 0;
        while last < 3 && started.elapsed() < within {
            heard.extend(self.hears()?);
            last += usize::from(heard.len() >= count);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(heard)
    }
}
