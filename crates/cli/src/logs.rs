//! `shipway logs`: what the containers of a service wrote.

#![allow(clippy::disallowed_methods, reason = "a person waits here; no function contains it")]

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_cloudwatchlogs::{Client, types::FilteredLogEvent};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shipway_aws::{AwsError, PublicError as _};
use shipway_domain::{failure::Failure, name::Component, release::ReleaseRecord, rollout::GIVING_UP};

use crate::{
    cli::Logs,
    exit::Exit,
    follow,
    installation::Installation,
    place::Place,
    problem::Problem,
    screen::{Screen, faint},
};

/// How often the log is read while it is followed.
const EVERY: Duration = Duration::from_secs(2);

/// How many times in a row the log may fail to answer while it is followed.
const UNANSWERED: u32 = 10;

/// How much later than a line another one may come into the log that was written before it: several containers write, each sends
/// its lines when it gets to it.
const LATE: SignedDuration = SignedDuration::from_secs(30);

/// How much of a task's id tells it from the others.
const SHORT: usize = 8;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    #[serde(skip)]
    id: String,
    at: Timestamp,
    stream: String,
    message: String,
}

impl Line {
    fn of(event: &FilteredLogEvent) -> Option<Line> {
        Some(Line {
            id: event.event_id()?.to_owned(),
            at: Timestamp::from_millisecond(event.timestamp()?).ok()?,
            stream: event.log_stream_name().unwrap_or_default().to_owned(),
            message: event.message().unwrap_or_default().trim_end_matches(['\n', '\r']).to_owned(),
        })
    }

    /// As a person reads it. A stream is called `<prefix>/<container>/<task>`.
    fn shown(&self) -> String {
        let task = self.stream.rsplit('/').next().unwrap_or_default();
        let task: String = task.chars().take(SHORT).collect();
        format!("{} {}", faint(format!("{} {task}", self.at.strftime("%Y-%m-%d %H:%M:%S%.3f"))), self.message)
    }
}

/// What was shown already: a log that is followed is read again from a little before its end.
#[derive(Debug)]
struct Seen {
    from: Timestamp,
    since: Timestamp,
    ids: BTreeMap<String, Timestamp>,
}

impl Seen {
    fn since(since: Timestamp) -> Seen {
        Seen { from: since, since, ids: BTreeMap::new() }
    }

    /// The lines that are new.
    fn take(&mut self, lines: Vec<Line>) -> Vec<Line> {
        let known = &mut self.ids;
        lines.into_iter().filter(|line| known.insert(line.id.clone(), line.at).is_none()).collect()
    }

    /// All of it was read: from where to read next. What is before is forgotten.
    fn read(&mut self) {
        if let Some(newest) = self.ids.values().max() {
            self.from = newest.checked_sub(LATE).unwrap_or(self.since).max(self.from);
        }
        let from = self.from;
        self.ids.retain(|_, at| *at >= from);
    }
}

/// Shows it.
pub(crate) async fn run(asked: &Logs, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let release = match &asked.release {
        Some(id) => Some(store.release(app, environment, id).await?.ok_or_else(|| follow::not_there(id, &place))?),
        None => None,
    };
    let service = match (&asked.service, &release) {
        (Some(service), _) => service,
        (None, Some(ReleaseRecord { component: Component::Service(service), .. })) => service,
        (None, Some(ReleaseRecord { component, release, .. })) => {
            return Err(Problem::new(format!("{release} is a release of {component}, which has no tasks"))
                .at(&place)
                .remedy(format!("`shipway release {release} --app {app} --env {environment}` tells its story")));
        }
        (None, None) => return Err(Problem::new("neither a service nor a release is named")),
    };
    let record = store.environment(app, environment).await?;
    let outputs = record.and_then(|mut record| record.platform.services.remove(service)).ok_or_else(|| {
        Problem::new(format!("no service {service} stands there"))
            .at(&place)
            .remedy(format!("`shipway status --app {app} --env {environment}` lists what does"))
    })?;
    let since = match &release {
        Some(release) => release.started_at,
        None => Timestamp::now().checked_sub(asked.since).unwrap_or(Timestamp::UNIX_EPOCH),
    };
    let of = release.as_ref().map(Own::of);
    let before = outputs.migration_log_group.filter(|group| of.is_some() && *group != outputs.log_group);
    let groups = before.into_iter().chain([outputs.log_group]);
    let mut logs: Vec<Log> = groups
        .map(|group| Log { client: installation.logs(), group, of: of.clone(), seen: Seen::since(since) })
        .collect();
    // Nothing comes any more of a release that has ended.
    if asked.follow && of.is_none_or(|of| of.until.is_none()) {
        tokio::select! {
            ended = followed(&mut logs, screen) => return Err(ended),
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
    let mut all = Vec::new();
    for log in &mut logs {
        log.read(|line| {
            screen.line(line.shown());
            all.push(line);
        })
        .await
        .map_err(|error| log.problem(error))?;
    }
    if all.is_empty() {
        let groups: Vec<&str> = logs.iter().map(|log| log.group.as_str()).collect();
        let more = if release.is_some() { "" } else { "; --since says how far to go back" };
        screen.note(format!("{} has no line of the time asked for{more}", groups.join(", ")));
    }
    screen.document(&all);
    Ok(Exit::Done)
}

/// Shows what comes, until it cannot be read.
async fn followed(logs: &mut [Log], screen: &Screen) -> Problem {
    let mut unanswered = 0;
    loop {
        for log in logs.iter_mut() {
            let shown = |line: Line| {
                screen.line(line.shown());
                screen.document(&line);
            };
            match log.read(shown).await {
                Ok(()) => unanswered = 0,
                Err(error) if error.failure() == Failure::Transient && unanswered < UNANSWERED => unanswered += 1,
                Err(error) => return log.problem(error),
            }
        }
        tokio::time::sleep(EVERY * (unanswered + 1)).await;
    }
}

/// The log streams of one release: those that began in its time, as each task writes to streams of its own.
#[derive(Clone, Debug)]
struct Own {
    from: Timestamp,
    /// When its tasks were given up, or it ended.
    until: Option<Timestamp>,
    /// What is known of streams already.
    streams: BTreeMap<String, bool>,
}

impl Own {
    fn of(release: &ReleaseRecord) -> Own {
        let gave_up = release.steps.iter().find(|step| step.what.starts_with(GIVING_UP)).map(|step| step.at);
        Own { from: release.started_at, until: gave_up.or(release.ended_at), streams: BTreeMap::new() }
    }

    fn began(&self, at: Timestamp) -> bool {
        at >= self.from && self.until.is_none_or(|until| at <= until)
    }
}

struct Log {
    client: Client,
    group: String,
    /// Whose lines are shown, where not everybody's are.
    of: Option<Own>,
    seen: Seen,
}

impl Log {
    /// Reads what is new, page by page. A page may be empty and not be the last.
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
    async fn read(&mut self, mut show: impl FnMut(Line)) -> Result<(), AwsError> {
        let mut next = None;
        loop {
            let call = self.client.filter_log_events().log_group_name(&self.group);
            let until = self.of.as_ref().and_then(|of| of.until).and_then(|until| until.checked_add(LATE).ok());
            let call =
                call.start_time(self.seen.from.as_millisecond()).set_end_time(until.map(Timestamp::as_millisecond));
            let page = call.set_next_token(next).send().await.map_err(AwsError::of("logs:FilterLogEvents"))?;
            let lines = page.events().iter().filter_map(Line::of).collect();
            for line in self.seen.take(lines) {
                if self.is_own(&line.stream).await? {
                    show(line);
                }
            }
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                self.seen.read();
                return Ok(());
            }
        }
    }

    /// Whether the lines of a stream are to be shown. CloudWatch tells at once when a stream began.
    /// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_LogStream.html>
    async fn is_own(&mut self, stream: &str) -> Result<bool, AwsError> {
        let Some(of) = &mut self.of else { return Ok(true) };
        if let Some(known) = of.streams.get(stream) {
            return Ok(*known);
        }
        let call = self.client.describe_log_streams().log_group_name(&self.group).log_stream_name_prefix(stream);
        let described = call.send().await.map_err(AwsError::of("logs:DescribeLogStreams"))?;
        let found = described.log_streams().iter().find(|one| one.log_stream_name() == Some(stream));
        let began = found.and_then(|one| one.creation_time()).and_then(|at| Timestamp::from_millisecond(at).ok());
        let own = began.is_some_and(|at| of.began(at));
        of.streams.insert(stream.to_owned(), own);
        Ok(own)
    }

    fn problem(&self, error: AwsError) -> Problem {
        if error.is("ResourceNotFoundException") {
            return Problem::new("the log group is not there")
                .at(&self.group)
                .remedy("`shipway apply --repair` makes what the manifest names and is gone");
        }
        Problem::from(error).at(&self.group)
    }
}

#[cfg(test)]
mod tests {
    use shipway_domain::release::Step;

    use super::*;
    use crate::follow::tests::{at, release, zip};

    fn line(id: &str, second: i64) -> Line {
        let stream = "service/api/0123456789abcdef".to_owned();
        Line { id: id.to_owned(), at: at(second), stream, message: format!("line {id}") }
    }

    fn ids(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.id.as_str()).collect()
    }

    #[test]
    fn a_log_that_is_read_again_shows_each_line_once_late_ones_too() {
        let mut seen = Seen::since(at(0));
        assert_eq!(ids(&seen.take(vec![line("a", 5), line("b", 100)])), ["a", "b"]);
        seen.read();
        assert_eq!(seen.from, at(70));
        // Another container sends a line now that it wrote before the newest.
        assert_eq!(ids(&seen.take(vec![line("late", 80), line("b", 100), line("c", 100)])), ["late", "c"]);
        seen.read();
        assert_eq!(ids(&seen.take(vec![line("late", 80), line("b", 100), line("c", 100)])), [""; 0]);
        seen.read();
        assert_eq!((seen.from, seen.ids.len()), (at(70), 3));
    }

    #[test]
    fn it_is_never_read_from_before_what_was_asked_for() {
        let mut seen = Seen::since(at(0));
        seen.read();
        assert_eq!(seen.from, at(0));
        seen.take(vec![line("a", 5)]);
        seen.read();
        assert_eq!(seen.from, at(0));
    }

    #[test]
    fn pages_of_one_reading_are_compared_with_each_other() {
        let mut seen = Seen::since(at(0));
        assert_eq!(seen.take(vec![line("a", 5)]).len(), 1);
        assert_eq!(ids(&seen.take(vec![line("a", 5), line("b", 6)])), ["b"]);
    }

    #[test]
    fn the_streams_of_a_release_began_after_it_and_before_its_tasks_were_given_up_or_it_ended() {
        let mut record = release(5, zip("a"), None);
        let began = |record: &ReleaseRecord| {
            let of = Own::of(record);
            [4, 5, 9, 10, 100].map(|second| of.began(at(second)))
        };
        assert_eq!(began(&record), [false, true, true, true, true]);
        record.ended_at = Some(at(50));
        assert_eq!(began(&record), [false, true, true, true, false]);
        let what = format!("{GIVING_UP}: 3 tasks failed");
        record.steps = vec![Step { at: at(9), by: "deploy-service".to_owned(), what }];
        assert_eq!(began(&record), [false, true, true, false, false], "what starts then is what was live before");
    }

    #[test]
    fn a_line_says_when_which_task_and_what() {
        let event = FilteredLogEvent::builder()
            .event_id("1")
            .timestamp(1_800_000_000_250)
            .log_stream_name("service/api/0123456789abcdef")
            .message("started\n")
            .build();
        let line = Line::of(&event).unwrap();
        let shown = anstream::adapter::strip_str(&line.shown()).to_string();
        assert_eq!(shown, "2027-01-15 08:00:00.250 01234567 started");
        let document = serde_json::to_value(&line).unwrap();
        assert_eq!(document["stream"], "service/api/0123456789abcdef");
        assert_eq!(document["at"], "2027-01-15T08:00:00.25Z");
        assert!(Line::of(&FilteredLogEvent::builder().message("no id").build()).is_none());
    }
}
