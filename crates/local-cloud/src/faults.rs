//! Faults of AWS and of the network, made to happen at a chosen call: the proxy asks here what becomes of each request.
//!
//! A rule says which calls it means and what happens to them. Rules are tried in the order they were added; the first
//! that applies to a call decides.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::limits::Buckets;
use crate::operation::{Operation, Protocol};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// AWS refuses it for now: `ThrottlingException`, `RequestLimitExceeded`, `SlowDown`.
    Throttle,
    /// AWS answers 500 and has done nothing.
    ServerError,
    /// The connection breaks before AWS has seen the request.
    DropBefore,
    /// AWS acts, and the connection breaks before the answer.
    DropAfter,
    /// It takes longer.
    Delay(Duration),
    /// The calling function dies before AWS has seen the request.
    KillBefore,
    /// AWS acts, and the calling function dies before it has the answer.
    KillAfter,
}

impl Fault {
    /// What breaks off, in every way that a call can.
    pub const BREAKS: [Fault; 6] =
        [Fault::Throttle, Fault::ServerError, Fault::DropBefore, Fault::DropAfter, Fault::KillBefore, Fault::KillAfter];
}

/// Which calls, and what happens to them.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    service: Option<String>,
    operation: Option<String>,
    caller: Option<String>,
    first: u32,
    count: u32,
    seen: u32,
    lot: Option<(fastrand::Rng, u32)>,
}

impl Rule {
    /// A rule for every call of everyone.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self { fault, service: None, operation: None, caller: None, first: 1, count: u32::MAX, seen: 0, lot: None }
    }

    /// Only calls of this service, named as signatures name it: `ecs`, `s3`, `elasticloadbalancing`, `states`.
    #[must_use]
    pub fn service(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    /// Only calls of this operation: `UpdateService`.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// Only calls that a Lambda function makes whose name contains this: CloudFormation adds to the names it is given.
    #[must_use]
    pub fn caller(mut self, function: &str) -> Self {
        self.caller = Some(function.to_owned());
        self
    }

    /// Only the nth call that matches, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        (self.first, self.count) = (n, 1);
        self
    }

    /// Only the first `count` calls that match.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        (self.first, self.count) = (1, count);
        self
    }

    /// Of the calls that match, one in so many, drawn by lot.
    #[must_use]
    pub fn one_in(mut self, calls: u32, seed: u64) -> Self {
        self.lot = Some((fastrand::Rng::with_seed(seed), calls));
        self
    }

    /// Counts the call if the rule means it; says whether the fault happens to it.
    fn applies(&mut self, call: &Call) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let means = same(&self.service, &call.operation.service)
            && same(&self.operation, &call.operation.name)
            && self.caller.as_deref().is_none_or(|part| call.caller.as_deref().is_some_and(|name| name.contains(part)));
        if !means {
            return false;
        }
        self.seen += 1;
        let is_drawn = self.lot.as_mut().is_none_or(|(lot, calls)| lot.u32(..*calls) == 0);
        is_drawn && self.seen >= self.first && self.seen - self.first < self.count
    }
}

/// A call that came through the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub operation: Operation,
    /// The Lambda function that asked, if one did.
    pub caller: Option<String>,
    /// When it came.
    pub at: Instant,
    /// What became of it, if anything was done to it.
    pub fault: Option<Fault>,
}

/// The rules of one cloud and the calls that came by.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
    buckets: Option<Buckets>,
}

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Forgets all rules: everything works again.
    pub fn clear(&self) {
        self.state().rules.clear();
    }

    /// From now on functions may call as often as AWS lets an account by default ([`crate::limits`]), in real time; a call too
    /// many is [`Fault::Throttle`]. Others may call as they like: they are tests and tools.
    pub fn keep_limits(&self) {
        self.state().buckets = Some(Buckets::default());
    }

    /// The calls since the start or the last [`Faults::forget_calls`], in order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Starts a new list of calls.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    pub(crate) fn decide(&self, operation: Operation, caller: Option<String>) -> Option<Fault> {
        let mut state = self.state();
        let mut call = Call { operation, caller, at: Instant::now(), fault: None };
        // Every rule counts every call it means, also those that an earlier rule decides.
        let applying: Vec<_> =
            state.rules.iter_mut().filter_map(|rule| rule.applies(&call).then_some(rule.fault)).collect();
        call.fault = applying.first().copied();
        if call.fault.is_none()
            && call.caller.is_some()
            && let Some(buckets) = &mut state.buckets
            && !buckets.take(&call.operation, call.at)
        {
            call.fault = Some(Fault::Throttle);
        }
        let fault = call.fault;
        state.calls.push(call);
        fault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error as the service's protocol writes it.
pub(crate) fn refusal(fault: Fault, service: &str, protocol: Protocol) -> Response<Full<Bytes>> {
    let throttled = fault == Fault::Throttle;
    let (status, code, message) = match (throttled, protocol) {
        (true, Protocol::Json) => (StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded"),
        (true, Protocol::RestJson) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate exceeded"),
        (true, Protocol::Query) => (StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded"),
        (true, Protocol::Ec2) => (StatusCode::SERVICE_UNAVAILABLE, "RequestLimitExceeded", "Request limit exceeded."),
        (true, Protocol::Xml) if service == "s3" => {
            (StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.")
        }
        (true, Protocol::Xml) => (StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded"),
        (false, Protocol::Json | Protocol::RestJson) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "We encountered an internal error.")
        }
        (false, Protocol::Query | Protocol::Ec2 | Protocol::Xml) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error. Please try again.")
        }
    };
    let id = "00000000-0000-4000-8000-000000000000";
    let (kind, body) = match protocol {
        Protocol::Json | Protocol::RestJson => {
            ("application/x-amz-json-1.1", serde_json::json!({"__type": code, "message": message}).to_string())
        }
        Protocol::Ec2 => (
            "text/xml",
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>{id}</RequestID></Response>"
            ),
        ),
        Protocol::Xml if service == "s3" => (
            "application/xml",
            format!("<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>"),
        ),
        Protocol::Query | Protocol::Xml => (
            "text/xml",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                 <RequestId>{id}</RequestId></ErrorResponse>"
            ),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    headers.insert("x-amzn-errortype", http::HeaderValue::from_static(code));
    headers.insert("x-amzn-requestid", http::HeaderValue::from_static(id));
    response
}

#[cfg(test)]
mod tests {
    use super::{Fault, Faults, Rule};
    use crate::Operation;

    fn call(faults: &Faults, service: &str, name: &str, caller: Option<&str>) -> Option<Fault> {
        faults.decide(Operation { service: service.to_owned(), name: name.to_owned() }, caller.map(str::to_owned))
    }

    #[test]
    fn the_nth_matching_call_fails_and_no_other() {
        let faults = Faults::default();
        faults
            .add(Rule::new(Fault::DropAfter).service("ecs").operation("UpdateService").caller("deploy-service").nth(2));
        assert_eq!(call(&faults, "ecs", "UpdateService", Some("deploy-service")), None);
        assert_eq!(call(&faults, "ecs", "DescribeServices", Some("deploy-service")), None);
        assert_eq!(call(&faults, "ecs", "UpdateService", None), None);
        assert_eq!(call(&faults, "ecs", "UpdateService", Some("app-deploy-service-1")), Some(Fault::DropAfter));
        assert_eq!(call(&faults, "ecs", "UpdateService", Some("deploy-service")), None);
        assert_eq!(faults.calls().len(), 5);
    }

    #[test]
    fn one_in_so_many_fails_and_the_same_ones_again_with_the_same_seed() {
        let drawn = |seed| {
            let faults = Faults::default();
            faults.add(Rule::new(Fault::Throttle).caller("").one_in(10, seed));
            (0..1000).map(|_| call(&faults, "s3", "GetObject", Some("sync-frontend")).is_some()).collect::<Vec<_>>()
        };
        let failed = drawn(1).into_iter().filter(|failed| *failed).count();
        assert!((50..200).contains(&failed), "{failed}");
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn limits_hold_for_functions_once_they_are_kept() {
        let faults = Faults::default();
        let register = |caller| call(&faults, "ecs", "RegisterTaskDefinition", caller);
        assert!((0..30).all(|_| register(Some("deploy-service")).is_none()));
        faults.keep_limits();
        assert!((0..20).all(|_| register(Some("deploy-service")).is_none()));
        assert_eq!(register(Some("deploy-service")), Some(Fault::Throttle));
        assert_eq!(register(None), None);
    }

    #[test]
    fn the_first_rule_decides_and_all_rules_count() {
        let faults = Faults::default();
        faults.add(Rule::new(Fault::Throttle).times(1));
        faults.add(Rule::new(Fault::ServerError).nth(2));
        assert_eq!(call(&faults, "s3", "GetObject", None), Some(Fault::Throttle));
        assert_eq!(call(&faults, "s3", "GetObject", None), Some(Fault::ServerError));
        faults.clear();
        assert_eq!(call(&faults, "s3", "GetObject", None), None);
    }
}
