//! The end of a container's log.

use aws_sdk_cloudwatchlogs::Client;
use shipway_aws::AwsError;

/// How many lines say why a container ended.
const LINES: i32 = 20;

/// The last lines of a log stream, the oldest first. None where the stream is not there: a container that never ran has none.
///
/// # Errors
/// The call's.
pub async fn tail(client: &Client, group: &str, stream: &str) -> Result<Vec<String>, AwsError> {
    let call =
        client.get_log_events().log_group_name(group).log_stream_name(stream).start_from_head(false).limit(LINES);
    match call.send().await.map_err(AwsError::of("logs:GetLogEvents")) {
        Ok(answer) => Ok(answer.events().iter().filter_map(|event| event.message().map(str::to_owned)).collect()),
        Err(error) if error.is("ResourceNotFoundException") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
