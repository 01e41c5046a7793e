//! `shipway drift`: what differs between an environment and its records.

#![allow(clippy::disallowed_methods, reason = "a person waits here; no function contains it")]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use shipway_aws::Store;
use shipway_domain::{
    drift::{DriftReport, DriftStatus},
    message::DriftInput,
    name::Component,
};

use crate::{
    cli::Drift,
    exit::Exit,
    installation::{Installation, Output},
    place::Place,
    problem::Problem,
    screen::Screen,
    start::start_machine,
};

/// How long a comparison may take: CloudFormation looks at every resource of every stack.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How often the table is read meanwhile.
const EVERY: Duration = Duration::from_secs(2);

/// Shows the last comparison, or makes one.
pub(crate) async fn run(asked: &Drift, installation: &Installation, screen: &Screen) -> Result<Exit, Problem> {
    let place = asked.place.place()?;
    let Place { app, environment } = &place;
    let store = installation.store().await?;
    let record = store.environment(app, environment).await?;
    // Nobody would compare it, so there is no report to wait for.
    let Some(record) = record else {
        return Err(Problem::new("nothing is known of this environment")
            .at(&place)
            .remedy(format!("`shipway apply --env {environment}` makes it")));
    };
    if let Some(at) = record.teardown.and_then(|teardown| teardown.torn_down_at) {
        let what =
            format!("it was torn down at {}, so there is nothing to compare", at.strftime("%Y-%m-%d %H:%M:%S UTC"));
        return Err(Problem::new(what).at(&place));
    }
    let known = store.drift(app, environment).await?;
    let report = if asked.now { Some(compared(installation, &store, &place, screen).await?) } else { known };
    let Some(report) = report else {
        return Err(Problem::new("it was never compared")
            .at(&place)
            .remedy(format!("`shipway drift --now --app {app} --env {environment}` compares it")));
    };
    show(&report, &place, screen);
    screen.document(&json!({"app": app, "environment": environment, "report": report}));
    Ok(match report.status {
        DriftStatus::InSync => Exit::Done,
        DriftStatus::Drifted => Exit::Drift,
        DriftStatus::Deploying => Exit::Unknown,
    })
}

/// Compares, and waits for the report.
async fn compared(
    installation: &Installation,
    store: &Store,
    place: &Place,
    screen: &Screen,
) -> Result<DriftReport, Problem> {
    let Place { app, environment } = place;
    let began = Timestamp::now();
    let input = DriftInput { app: app.clone(), environment: environment.clone() };
    start_machine(installation, Output::DriftMachine, &input, "compare", &Component::Platform).await?;
    let bar = screen.draw_waiting(&format!("comparing {place}"));
    let since = Instant::now();
    let report = loop {
        if let Some(report) = store.drift(app, environment).await?.filter(|report| report.at >= began) {
            break report;
        }
        if since.elapsed() > PATIENCE {
            return Err(Problem::new("the comparison did not end")
                .at(place)
                .remedy("look at the newest execution of the machine drift in the Step Functions console")
                .exiting(Exit::Unknown));
        }
        tokio::time::sleep(EVERY).await;
    };
    bar.finish_and_clear();
    screen.cleared();
    Ok(report)
}

fn show(report: &DriftReport, place: &Place, screen: &Screen) {
    let at = report.at.strftime("%Y-%m-%d %H:%M:%S UTC");
    screen.line(format!("{place}: {}, compared {at}", report.status));
    for difference in &report.differences {
        screen.line(format!("  {}: {}", difference.of, difference.what));
    }
    if report.more > 0 {
        screen.line(format!("  and {} more", report.more));
    }
    if report.status == DriftStatus::Drifted {
        let Place { app, environment } = place;
        screen.line(format!("to put it right: shipway apply --repair --app {app} --env {environment}"));
    }
}
