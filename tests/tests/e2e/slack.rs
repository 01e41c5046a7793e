//! What `bootstrap/slack.yaml` sends to a channel. The local cloud's CloudFormation has no API destinations, its EventBridge has:
//! they are made of what the template says.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shipway_domain::release::Outcome;
use shipway_tests::{ask::Aws, checkout, template};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{RELEASED, good, manifest, provisioned_with, roll_out, with_shipway, without_migration};

const PATH: &str = "/services/T0/B0/hook";

/// Takes one message as Slack does: answers with `ok`, and gives its path and its body.
async fn take(stream: TcpStream) -> Result<(String, Value)> {
    let mut stream = BufStream::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.parse()?;
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await?;
    stream.flush().await?;
    let path = head.first().and_then(|line| line.split(' ').nth(1)).context("no request")?.to_owned();
    Ok((path, serde_json::from_slice(&body)?))
}

/// A channel that hears what is sent to its webhook.
async fn channel() -> Result<(String, mpsc::UnboundedReceiver<Result<(String, Value)>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}{PATH}", listener.local_addr()?);
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if tell.send(take(stream).await).is_err() {
                break;
            }
        }
    });
    Ok((url, heard))
}

#[test]
fn a_channel_is_told_each_thing_in_one_line_as_slack_takes_it() {
    with_shipway(async |shipway| {
        let place = provisioned_with(shipway, "chat", &without_migration(&manifest("chat"))).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let (url, mut heard) = channel().await?;
        let text = std::fs::read_to_string(checkout().join("bootstrap/slack.yaml"))?;
        let template = template::yaml(&text)?;
        let of = |resource: &str| template["Resources"][resource]["Properties"].clone();
        let made = |mut asked: Value, more: Value| {
            for (key, value) in more.as_object().into_iter().flatten() {
                asked[key] = value.clone();
            }
            asked
        };
        let connection = aws.ask("events", "create_connection", made(of("Connection"), json!({"Name": "chat"})))?;
        let own = json!({"Name": "chat", "ConnectionArn": connection["ConnectionArn"], "InvocationEndpoint": url});
        let channel = aws.ask("events", "create_api_destination", made(of("Channel"), own))?;
        let mut rule = of("Rule");
        let mut target = rule["Targets"][0].take();
        let statuses = template["Parameters"]["Statuses"]["Default"].as_str().context("no default")?;
        let mut pattern = rule["EventPattern"].take();
        // Beside what the template says, this app alone: other tests' releases are none of this channel's.
        pattern["detail"] = json!({"status": statuses.split(',').collect::<Vec<_>>(), "app": ["chat"]});
        aws.ask("events", "put_rule", json!({"Name": "chat", "EventPattern": pattern.to_string()}))?;
        target["Arn"] = channel["ApiDestinationArn"].clone();
        target["RoleArn"] = json!("arn:aws:iam::000000000000:role/chat");
        aws.ask("events", "put_targets", json!({"Rule": "chat", "Targets": [target]}))?;

        roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        roll_out(shipway, &place, "v2", &good("2").await?.command(["crash"]), Outcome::RolledBack).await?;
        for what in
            ["started chat-api@", "succeeded chat-api@", "started chat-api@", "rolling back from", "rolled_back"]
        {
            let message = tokio::time::timeout(RELEASED, heard.recv()).await?.context("the channel is closed")?;
            let (path, body) = message?;
            let line = body["text"].as_str().context("no text")?;
            ensure!(path == PATH && body.as_object().is_some_and(|fields| fields.len() == 1), "{path}: {body}");
            ensure!(
                line.starts_with(&format!("chat/dev service/api: {what}")) && !line.contains('\n'),
                "{what}: {line}"
            );
        }
        let more = tokio::time::timeout(Duration::from_secs(1), heard.recv()).await;
        ensure!(more.is_err(), "one too many: {more:?}");
        Ok(())
    });
}
