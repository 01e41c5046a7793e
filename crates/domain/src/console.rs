//! Where AWS's consoles show things.

/// Where an execution is seen.
pub fn execution_url(arn: &str) -> Option<String> {
    let region = arn.split(':').nth(3)?;
    Some(format!("{}/states/home?region={region}#/v2/executions/details/{arn}", console(region)))
}

/// Where a log group is seen. The console wants the name escaped twice, with `$` in place of the second `%`.
pub fn log_url(region: &str, group: &str) -> String {
    let mut name = String::new();
    for byte in group.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("$25{byte:02X}"));
        }
    }
    format!("{}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{name}", console(region))
}

/// Where an alarm is seen.
pub fn alarm_url(region: &str, name: &str) -> String {
    format!("{}/cloudwatch/home?region={region}#alarmsV2:alarm/{name}", console(region))
}

/// The console of a region. <https://docs.aws.amazon.com/awsconsolehelpdocs/latest/gsg/select-region.html>
fn console(region: &str) -> String {
    if region.starts_with("cn-") {
        format!("https://{region}.console.amazonaws.cn")
    } else if region.starts_with("us-gov-") {
        format!("https://{region}.console.amazonaws-us-gov.com")
    } else {
        format!("https://{region}.console.aws.amazon.com")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_seen_in_the_console_of_its_region() {
        let execution = "arn:aws:states:eu-west-1:123456789012:execution:shipway-rollout:event-1";
        assert_eq!(
            execution_url(execution).unwrap(),
            format!(
                "https://eu-west-1.console.aws.amazon.com/states/home?region=eu-west-1#/v2/executions/details/{execution}"
            )
        );
        assert_eq!(execution_url("rollout"), None);
    }

    #[test]
    fn each_partition_has_its_console_and_a_log_groups_name_is_escaped_twice() {
        assert_eq!(
            log_url("eu-west-1", "/shipway/hello-prod/api"),
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1\
             #logsV2:log-groups/log-group/$252Fshipway$252Fhello-prod$252Fapi"
        );
        assert!(console("cn-north-1").ends_with(".amazonaws.cn"));
        assert!(console("us-gov-west-1").ends_with(".amazonaws-us-gov.com"));
    }
}
