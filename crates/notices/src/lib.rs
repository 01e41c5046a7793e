//! Tells others what happens to a release: programs by events of EventBridge, people by Shipway's topic. A notifier that fails is
//! logged, and nothing more: no function waits long for it, and none does anything otherwise because of it.

use std::{fmt, time::Duration};

use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use shipway_aws::{AwsError, runtime::Later};
use shipway_domain::{
    alarm::Letter,
    notice::{DETAIL_TYPE, Happening, Notice, SOURCE},
    release::ReleaseRecord,
};

/// How long EventBridge or the topic may take, both tries together.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why somebody was not told.
#[derive(Debug)]
enum NotTold {
    /// AWS refused, or could not answer.
    Aws(AwsError),
    /// The call went well, and what it was for did not.
    Refused(String),
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotTold::Aws(error) => error.fmt(f),
            NotTold::Refused(why) => f.write_str(why),
        }
    }
}

/// Who tells.
#[derive(Debug)]
pub struct Notifier {
    events: Later<aws_sdk_eventbridge::Client>,
    topics: Later<aws_sdk_sns::Client>,
    executions: String,
    topic: String,
}

impl Notifier {
    /// `executions` is how the ARNs of the machines' executions begin, up to the last part of a machine's name; `topic` is the ARN
    /// of the topic.
    pub fn new(config: &SdkConfig, executions: String, topic: String) -> Notifier {
        let timeouts = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
        let config = config.to_builder().timeout_config(timeouts);
        let config = config.retry_config(RetryConfig::standard().with_max_attempts(2)).build();
        Notifier {
            events: Later::new(&config, aws_sdk_eventbridge::Client::new),
            topics: Later::new(&config, aws_sdk_sns::Client::new),
            executions,
            topic,
        }
    }

    /// Tells what happens to the release of this record, or logs that it could not. How a release ended its machine tells the
    /// topic, so that people hear of it once, also where no function could be asked any more.
    pub async fn tell(&self, record: &ReleaseRecord, happening: Happening<'_>) {
        let notice = Notice::new(record, &self.executions, happening);
        let people = async {
            match happening {
                Happening::Ended { .. } => Ok(()),
                Happening::Started | Happening::WaitingApproval(_) | Happening::RollingBack { .. } => {
                    self.publish(&notice.subject(), &notice.text).await
                }
            }
        };
        let (put, published) = tokio::join!(self.put(&notice), people);
        for error in [put.err(), published.err().map(NotTold::Aws)].into_iter().flatten() {
            tracing::warn!(release = %notice.release, status = notice.status, %error, "not everybody was told");
        }
    }

    /// EventBridge answers with success although it did not take an entry.
    /// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>
    async fn put(&self, notice: &Notice) -> Result<(), NotTold> {
        let detail = serde_json::to_string(notice).map_err(|error| NotTold::Refused(error.to_string()))?;
        let entry = PutEventsRequestEntry::builder().source(SOURCE).detail_type(DETAIL_TYPE).detail(detail).build();
        let answer = self.events.get().put_events().entries(entry).send().await;
        let answer = answer.map_err(|error| NotTold::Aws(AwsError::of("events:PutEvents")(error)))?;
        if answer.failed_entry_count() == 0 {
            return Ok(());
        }
        let refused = answer.entries().iter().find(|entry| entry.error_code().is_some());
        let code = refused.and_then(|entry| entry.error_code()).unwrap_or("no code");
        let message = refused.and_then(|entry| entry.error_message()).unwrap_or("no message");
        Err(NotTold::Refused(format!("EventBridge did not take the event: {code}: {message}")))
    }

    /// Tells people of Shipway itself. Whoever cannot be told now is to be told later, so the caller hears of it.
    ///
    /// # Errors
    /// The topic took nothing.
    pub async fn write(&self, letter: &Letter) -> Result<(), AwsError> {
        self.publish(&letter.subject, &letter.text).await
    }

    /// How the ARNs of the machines' executions begin, up to the last part of a machine's name.
    pub fn executions(&self) -> &str {
        &self.executions
    }

    async fn publish(&self, subject: &str, text: &str) -> Result<(), AwsError> {
        let call = self.topics.get().publish().topic_arn(&self.topic).subject(subject).message(text);
        call.send().await.map(drop).map_err(AwsError::of("sns:Publish"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
    use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
    use shipway_domain::{
        approval::Asked,
        name::ReleaseId,
        release::{Artifact, Contender, Outcome},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const EXECUTIONS: &str = "arn:aws:states:eu-west-1:123456789012:execution:shipway-";
    const TAKEN: &str = r#"{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}"#;

    fn record() -> ReleaseRecord {
        let started_at = "2026-11-21T03:15:42.123Z".parse().unwrap();
        let contender = Contender {
            release: ReleaseId::of_execution("arn:1", started_at),
            artifact: Artifact::Object { key: "sites/hello/prod/web/a.zip".to_owned(), version: "1".to_owned() },
            execution: "event-1".to_owned(),
            started_at,
        };
        ReleaseRecord::opened(
            &contender,
            &"hello".parse().unwrap(),
            &"prod".parse().unwrap(),
            &"site/web".parse().unwrap(),
        )
    }

    fn ended() -> Happening<'static> {
        Happening::Ended { outcome: Outcome::Succeeded, reason: "so it went", live: None }
    }

    /// An AWS that answers each request so, or never, and what it was asked.
    async fn aws(answer: Option<(u16, &'static str)>) -> (Notifier, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("eu-west-1"))
            .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut received = String::new();
                let body = loop {
                    received.push(char::from(stream.read_u8().await.unwrap()));
                    let Some((head, body)) = received.split_once("\r\n\r\n") else { continue };
                    let head = head.to_ascii_lowercase();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() == length.unwrap().parse::<usize>().unwrap() {
                        break body.to_owned();
                    }
                };
                seen.lock().unwrap().push(body);
                let Some((status, body)) = answer else {
                    open.push(stream);
                    continue;
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        (Notifier::new(&config, EXECUTIONS.to_owned(), "arn:aws:sns:eu-west-1:123456789012:topic".to_owned()), asked)
    }

    fn notice() -> Notice {
        Notice::new(&record(), EXECUTIONS, ended())
    }

    #[tokio::test]
    async fn an_end_is_one_event_and_what_comes_before_it_goes_to_the_topic_too() {
        let asked = Asked::new("AAAAtoken".to_owned(), 60, record().started_at);
        let table = [
            (ended(), 0),
            (Happening::Started, 1),
            (Happening::WaitingApproval(&asked), 1),
            (Happening::RollingBack { reason: "exit code 1" }, 1),
        ];
        for (happening, published) in table {
            let (notifier, asked) = aws(Some((200, TAKEN))).await;
            notifier.tell(&record(), happening).await;
            let asked = asked.lock().unwrap().clone();
            let events: Vec<&String> = asked.iter().filter(|body| body.starts_with('{')).collect();
            let messages = asked.iter().filter(|body| body.starts_with("Action=Publish")).count();
            assert_eq!((events.len(), messages), (1, published), "{asked:?}");
            let event: serde_json::Value = serde_json::from_str(events[0]).unwrap();
            let entry = &event["Entries"][0];
            assert_eq!((entry["Source"].as_str(), entry["DetailType"].as_str()), (Some(SOURCE), Some(DETAIL_TYPE)));
            let detail: serde_json::Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
            assert_eq!((&detail["status"], &detail["component"]), (&happening.status().into(), &"site/web".into()));
        }
    }

    #[tokio::test]
    async fn an_entry_that_was_not_taken_is_a_failure_although_the_call_was_none() {
        let refused =
            r#"{"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "later"}]}"#;
        let (notifier, _) = aws(Some((200, refused))).await;
        let error = notifier.put(&notice()).await.unwrap_err().to_string();
        assert_eq!(error, "EventBridge did not take the event: ThrottlingException: later");
        notifier.tell(&record(), Happening::Started).await;
    }

    #[tokio::test]
    async fn one_that_denies_fails_or_never_answers_is_left_behind() {
        let denied = r#"{"__type": "AccessDeniedException", "message": "no"}"#;
        for answer in [Some((400, denied)), Some((500, "")), None] {
            let (notifier, asked) = aws(answer).await;
            notifier.tell(&record(), Happening::Started).await;
            assert!(!asked.lock().unwrap().is_empty(), "{answer:?}");
            assert!(notifier.put(&notice()).await.is_err(), "{answer:?}");
            let letter = Letter { subject: "Shipway: alarm".to_owned(), text: "it is on".to_owned() };
            assert!(notifier.write(&letter).await.is_err(), "{answer:?}");
        }
    }
}
