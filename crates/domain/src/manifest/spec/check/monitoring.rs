//! Alarms, who is told, logs.

use super::{Checked, Manifest, no_doubles, refuse, under};
use crate::manifest::spec::{
    Above, Alarms, Below, DatabaseEngine, Timeout,
    monitoring::{RETENTIONS, is_retention},
};

/// An alarm looks back no further than a day, which `Timeout` ends with.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html>
const MINUTE: u32 = 60;

/// The blueprint of notifications has room for so many.
const MOST_TOLD: usize = 5;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    alarms(manifest).map_err(under("monitoring.alarms"))?;
    let spec = manifest.spec;
    let monitoring = &spec.monitoring;
    no_doubles("monitoring.notify", &monitoring.notify)?;
    if !monitoring.notify.is_empty() && monitoring.alarms == Alarms::default() {
        return refuse("monitoring.notify", "there is no alarm to tell of; name some in `alarms`");
    }
    if monitoring.notify.len() > MOST_TOLD {
        let message = format!("at most {MOST_TOLD} addresses get mails; make one of them a mailing list");
        return refuse("monitoring.notify", message);
    }
    if monitoring.dashboard && spec.services.is_empty() && spec.databases.is_empty() && spec.caches.is_empty() {
        return refuse("monitoring.dashboard", "there is no service, database or cache that it could show");
    }
    if !is_retention(spec.logs.retention) {
        return refuse("logs.retention", format!("CloudWatch Logs keeps {RETENTIONS}"));
    }
    Ok(())
}

fn alarms(manifest: &Manifest<'_>) -> Checked {
    let spec = manifest.spec;
    let alarms = &spec.monitoring.alarms;
    let service = (!spec.services.is_empty(), "there is no service");
    let http = (manifest.has_http(), "no service has `http`");
    let database = (!spec.databases.is_empty(), "there is no database");
    let instance = (
        spec.databases.values().any(|database| database.engine == DatabaseEngine::Postgres),
        "no database is an instance; Aurora's storage grows by itself",
    );
    let any = 0..=u32::MAX;
    // Of a hundred percent there is nothing above, of none nothing below.
    let above = |alarm: Option<Above>| alarm.map(|alarm| (alarm.above, alarm.r#for, "above"));
    let below = |alarm: Option<Below>| alarm.map(|alarm| (alarm.below, alarm.r#for, "below"));
    let all = [
        ("service_cpu", above(alarms.service_cpu), service, 1..=99),
        ("service_memory", above(alarms.service_memory), service, 1..=99),
        ("unhealthy_tasks", above(alarms.unhealthy_tasks), http, any.clone()),
        ("healthy_tasks", below(alarms.healthy_tasks), http, 1..=u32::MAX),
        ("http_5xx", above(alarms.http_5xx), http, any.clone()),
        ("database_cpu", above(alarms.database_cpu), database, 1..=99),
        ("database_connections", above(alarms.database_connections), database, any),
        ("database_free_storage", below(alarms.database_free_storage), instance, 1..=99),
    ];
    for (key, alarm, (there, why), range) in all {
        let Some((value, lasting, bound)) = alarm else { continue };
        if !there {
            return refuse(key, format!("{why}, so this would never go off; leave it out"));
        }
        if !range.contains(&value) {
            let message = match *range.end() {
                u32::MAX => "1 at least".to_owned(),
                most => format!("a percentage from {} to {most} is expected here", range.start()),
            };
            return refuse(format!("{key}.{bound}"), message);
        }
        whole_minutes(lasting).map_err(under(key))?;
    }
    Ok(())
}

fn whole_minutes(lasting: Timeout) -> Checked {
    if lasting.seconds().is_multiple_of(MINUTE) {
        return Ok(());
    }
    refuse("for", "whole minutes are expected here, like 5m")
}
