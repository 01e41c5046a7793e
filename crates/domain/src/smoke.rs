//! Smoke tests: what must hold once a new version serves, before it counts as live.
//!
//! A request goes the way of a visitor's, through the load balancer, and is made again until its answer is as it must be or its
//! time is up. A command is a one-off task of the new image, with the mechanism of a migration.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    manifest::Spec,
    name::{ComponentName, EnvironmentName},
    task::clipped,
};

/// How long one request may take.
pub const REQUEST: Duration = Duration::from_secs(10);

/// How much of an answer is read.
pub const MOST_BYTES: usize = 256 * 1024;

/// The header with which the load balancer sends a request to a new version that nobody else reaches yet; its value is the
/// service's name.
pub const TEST_HEADER: &str = "x-shipway-test";

/// The names of a release's smoke tests that are tasks: of their progress, their log streams and, after an underscore, of their
/// task definitions' families.
pub const TASKS: [&str; 5] = ["smoke_1", "smoke_2", "smoke_3", "smoke_4", "smoke_5"];

/// How long until a request is made again.
const PAUSE_SECONDS: u32 = 3;

/// How much of an answer is told, in characters.
const MOST_TOLD: usize = 200;

/// A request, and what must be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked for, by the host that the load balancer knows the service by.
    pub url: String,
    /// The status of the answer.
    pub status: u16,
    /// What the answer contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// How long it may take until it holds.
    pub timeout_seconds: u32,
    /// The value of [`TEST_HEADER`], where the request is for a version that nobody else reaches yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
}

impl Check {
    /// The request, in words.
    #[must_use]
    pub fn told(&self) -> String {
        let test = if self.test.is_some() { " as test traffic" } else { "" };
        format!("GET {}{test}", self.url)
    }
}

/// The requests of a service's smoke tests, in their order.
///
/// The host is the service's own. Where it has none, that of the load balancer will do, or, with a domain, any that its
/// certificate is for: the request is not sent where the DNS says, but to the load balancer. `as_test` is whether they are for a
/// version that nobody else reaches yet.
pub fn checks(
    spec: &Spec,
    environment: &EnvironmentName,
    name: &ComponentName,
    load_balancer: &str,
    as_test: bool,
) -> Vec<Check> {
    let Some(service) = spec.services.get(name) else { return Vec::new() };
    let own = service.http.as_ref().and_then(|http| http.host.as_ref());
    let check = |smoke: &crate::manifest::Smoke| {
        let path = smoke.path.as_ref()?;
        let (scheme, host) = match (own.or(smoke.host.as_ref()), &spec.domain) {
            (Some(host), None) => ("http", host.as_str().to_owned()),
            (Some(host), Some(_)) => ("https", host.as_str().to_owned()),
            (None, None) => ("http", load_balancer.to_owned()),
            (None, Some(domain)) => ("https", format!("services-{}-{environment}.{}", spec.app, domain.name.as_str())),
        };
        Some(Check {
            url: format!("{scheme}://{host}{path}"),
            status: smoke.status.unwrap_or(200),
            contains: smoke.contains.clone(),
            timeout_seconds: smoke.timeout_seconds(),
            test: as_test.then(|| name.to_string()),
        })
    };
    service.smoke.iter().filter_map(check).collect()
}

/// What the requests of a release's smoke tests write down between passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where they are sent.
    pub load_balancer: String,
    /// The requests. Written down before the first, so another manifest meanwhile changes nothing about them.
    pub checks: Vec<Check>,
    /// How many of them have held.
    pub held: usize,
    /// When the one that is looked at was first made.
    pub since: Timestamp,
    /// Why one of them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Progress {
    /// One of which nothing was asked yet.
    pub fn new(load_balancer: String, checks: Vec<Check>, now: Timestamp) -> Progress {
        Progress { load_balancer, checks, held: 0, since: now, failed: None }
    }

    /// The request to make, unless all have held.
    pub fn next(&self) -> Option<&Check> {
        self.checks.get(self.held)
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// The answer, or why there is none.
    pub answer: Result<Answer, String>,
    /// How long it took.
    pub took: Duration,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What it says, to [`MOST_BYTES`], with what is no text replaced.
    pub body: String,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is as it must be: what was asked, what came, and how long it took.
    Holds(String),
    /// It is not, and its time is not up.
    Again {
        /// In so many seconds.
        seconds: u32,
        /// What is waited for.
        note: String,
    },
    /// It was not in its time.
    Fails(String),
}

/// Judges what came of a request that is made since `since`.
pub fn judge(check: &Check, came: &Came, since: Timestamp, now: Timestamp) -> Decision {
    let (asked, took) = (check.told(), came.took.as_millis());
    let wrong = match &came.answer {
        Err(why) => format!("no answer came ({})", clipped(why, MOST_TOLD)),
        Ok(answer) => {
            let lacks = check.contains.as_ref().filter(|text| !answer.body.contains(*text));
            match lacks {
                None if answer.status == check.status => {
                    let text = check.contains.as_ref().map(|text| format!(" with `{text}` in it")).unwrap_or_default();
                    return Decision::Holds(format!("{asked} was answered {}{text}, after {took} ms", answer.status));
                }
                _ if answer.status != check.status => {
                    format!("the answer was {}, not {}{}", answer.status, check.status, begins(&answer.body))
                }
                text => {
                    let text = text.map(String::as_str).unwrap_or_default();
                    format!("the answer was {} without `{text}`{}", answer.status, begins(&answer.body))
                }
            }
        }
    };
    let elapsed = now.duration_since(since).as_secs();
    let left = i64::from(check.timeout_seconds) - elapsed;
    if left <= 0 {
        let for_long = if elapsed > 0 { format!(", since {elapsed} s") } else { String::new() };
        return Decision::Fails(format!("{asked}: {wrong}; the last one after {took} ms{for_long}"));
    }
    let seconds = PAUSE_SECONDS.min(u32::try_from(left).unwrap_or(PAUSE_SECONDS));
    Decision::Again { seconds, note: format!("{asked}: {wrong}") }
}

/// How an answer begins, in one line.
fn begins(body: &str) -> String {
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { String::new() } else { format!(", and began: {}", clipped(&line, MOST_TOLD)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn of(more: &str, http: &str, smoke: &str) -> Vec<String> {
        let text = format!(
            "version: 1\napp: hello\nenvironments: {{dev: {{}}}}\n{more}services:\n  api:\n    image: {{repository: hello-api}}\n    port: 80\n    http: {http}\n    smoke: [{smoke}]\n"
        );
        let environment = "dev".parse().unwrap();
        let spec = manifest::read(&text, &"hello".parse().unwrap(), &environment).unwrap();
        let checks =
            checks(&spec, &environment, &"api".parse().unwrap(), "hello-dev-1.eu-west-1.elb.amazonaws.com", false);
        checks.into_iter().map(|check| check.url).collect()
    }

    #[test]
    fn a_request_goes_by_the_host_that_the_load_balancer_knows_the_service_by() {
        let domain = "domain: {name: example.com, zone: Z0123456789}\n";
        let (any, own) = ("{}", "{host: api.example.com}");
        let (plain, hosted) = ("{path: /a?b=c}", "{path: /a, host: www.example.com}");
        let table = [
            ("", any, plain, "http://hello-dev-1.eu-west-1.elb.amazonaws.com/a?b=c"),
            ("", any, hosted, "http://www.example.com/a"),
            (domain, any, plain, "https://services-hello-dev.example.com/a?b=c"),
            (domain, any, hosted, "https://www.example.com/a"),
            (domain, own, plain, "https://api.example.com/a?b=c"),
        ];
        for (more, http, smoke, expected) in table {
            assert_eq!(of(more, http, smoke), [expected]);
        }
        assert_eq!(of("", any, "{command: [a]}"), [""; 0]);
    }

    fn judged(status: u16, body: &str, elapsed: i64) -> Decision {
        let check = Check {
            url: "http://a/b".to_owned(),
            status: 200,
            contains: Some("fine".to_owned()),
            timeout_seconds: 30,
            test: None,
        };
        let answer = Ok(Answer { status, body: body.to_owned() });
        judge(&check, &Came { answer, took: Duration::from_millis(34) }, at(0), at(elapsed))
    }

    #[test]
    fn only_the_status_and_the_text_that_are_asked_for_hold() {
        let holds = "GET http://a/b was answered 200 with `fine` in it, after 34 ms";
        assert_eq!(judged(200, "all fine", 99), Decision::Holds(holds.to_owned()));
        let again = |note: &str| Decision::Again { seconds: 3, note: note.to_owned() };
        assert_eq!(
            judged(200, "not  so\nwell", 0),
            again("GET http://a/b: the answer was 200 without `fine`, and began: not so well")
        );
        assert_eq!(judged(500, "fine", 5), again("GET http://a/b: the answer was 500, not 200, and began: fine"));
        assert_eq!(judged(404, "", 5), again("GET http://a/b: the answer was 404, not 200"));
    }

    #[test]
    fn one_that_does_not_hold_in_its_time_fails() {
        assert!(matches!(judged(500, "", 29), Decision::Again { seconds: 1, .. }));
        let fails = "GET http://a/b: the answer was 500, not 200; the last one after 34 ms, since 30 s";
        assert_eq!(judged(500, "", 30), Decision::Fails(fails.to_owned()));
        let check = Check { url: "http://a".to_owned(), status: 200, contains: None, timeout_seconds: 30, test: None };
        let came = Came { answer: Err("connection refused".to_owned()), took: Duration::ZERO };
        let Decision::Fails(why) = judge(&check, &came, at(0), at(31)) else { panic!() };
        assert!(why.starts_with("GET http://a: no answer came (connection refused)"), "{why}");
    }
}
