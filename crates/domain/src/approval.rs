//! A person's approval of a release: what was asked, until when, and who gave it.
//!
//! The execution itself waits: Step Functions goes on with it when somebody sends its token back, and gives up by itself when
//! nobody does. What is written down here is for whoever looks, and for whoever answers.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How much of what an answer says of itself is written down.
const MOST_SAID: usize = 300;

/// An approval that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What answers it, sent back by `states:SendTaskSuccess` or `states:SendTaskFailure`.
    pub token: String,
    /// When it was asked for.
    pub since: Timestamp,
    /// Until when it is waited for.
    pub until: Timestamp,
    /// Who gave it, once somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}

impl Asked {
    /// An approval that is asked for now and waited for so many seconds.
    pub fn new(token: String, seconds: u32, now: Timestamp) -> Asked {
        let until = now.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
        Asked { token, since: now, until, approved_by: None }
    }

    /// What is waited for, as a step of the release's story.
    pub fn step(&self) -> String {
        format!("waits for approval until {}", self.until.strftime("%Y-%m-%d %H:%M UTC"))
    }
}

/// What the answer to an approval says: `shipway approve` names who gives it. Anybody with the token may answer, with any JSON.
pub fn approver(answer: &Value) -> String {
    let said = answer.get("by").and_then(Value::as_str).map(str::trim).filter(|by| !by.is_empty());
    said.map_or_else(|| "somebody who did not say who".to_owned(), |by| by.chars().take(MOST_SAID).collect())
}

/// The cause of a refusal: who, and why.
pub fn refusal(by: &str, reason: Option<&str>) -> String {
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    reason.map_or_else(|| format!("refused by {by}"), |reason| format!("refused by {by}: {reason}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_approval_is_waited_for_as_long_as_it_was_asked_for() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let asked = Asked::new("token".to_owned(), 86_400, now);
        assert_eq!(asked.until.duration_since(now), SignedDuration::from_hours(24));
        assert_eq!(asked.step(), "waits for approval until 2027-01-16 08:00 UTC");
    }

    #[test]
    fn whoever_approves_is_named_where_the_answer_names_somebody() {
        assert_eq!(approver(&json!({"by": " Ann "})), "Ann");
        for unnamed in [json!({}), json!({"by": ""}), json!({"by": 7}), json!("Ann"), json!(null)] {
            assert_eq!(approver(&unnamed), "somebody who did not say who", "{unnamed}");
        }
        assert_eq!(approver(&json!({"by": "é".repeat(1000)})).chars().count(), MOST_SAID);
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        assert_eq!(refusal("Ann", Some("not on a Friday")), "refused by Ann: not on a Friday");
        assert_eq!(refusal("Ann", Some(" ")), "refused by Ann");
        assert_eq!(refusal("Ann", None), "refused by Ann");
    }
}
