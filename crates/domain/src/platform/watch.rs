//! Stacks of watching: flow logs, notifications, alarms, the dashboard.

use std::borrow::Cow;

use super::{Concern, Observed, StackName, Value, WantedStack, Wish, data::LEAST_STORAGE, has_http, parameters, text};
use crate::{
    manifest::{
        Service,
        spec::{Above, Database, DatabaseEngine, EmailAddress, FlowLogs, Storage, Timeout, Traffic},
    },
    name::{Component, ComponentName},
};

const FLOW_LOGS: &str = include_str!("../../../../bootstrap/blueprints/flow-logs.yaml");
const NOTIFICATIONS: &str = include_str!("../../../../bootstrap/blueprints/notifications.yaml");
const ALARMS_OF_SERVICE: &str = include_str!("../../../../bootstrap/blueprints/alarms-service.yaml");
const ALARMS_OF_DATABASE: &str = include_str!("../../../../bootstrap/blueprints/alarms-database.yaml");
const DASHBOARD: &str = include_str!("../../../../bootstrap/blueprints/dashboard.yaml");

const BYTES_PER_GIB: u64 = 1 << 30;

impl Wish<'_> {
    /// The stacks of what is watched.
    pub(super) fn watch_stacks(&self, observed: &Observed) -> Vec<WantedStack> {
        let spec = self.spec;
        let mut stacks = Vec::new();
        stacks.extend(spec.network.flow_logs.as_ref().map(|logs| self.flow_logs(logs)));
        if !spec.monitoring.notify.is_empty() {
            stacks.push(self.notifications());
        }
        let of_service = |(name, service)| self.alarms_of_service(name, service, observed);
        stacks.extend(spec.services.iter().filter_map(of_service));
        stacks.extend(spec.databases.iter().filter_map(|(name, database)| self.alarms_of_database(name, database)));
        if spec.monitoring.dashboard {
            stacks.push(self.dashboard());
        }
        stacks
    }

    fn flow_logs(&self, logs: &FlowLogs) -> WantedStack {
        let traffic = match logs.traffic {
            Traffic::All => "ALL",
            Traffic::Accept => "ACCEPT",
            Traffic::Reject => "REJECT",
        };
        self.blueprint(
            self.names().flow_logs(),
            Concern::FlowLogs,
            FLOW_LOGS,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Vpc", self.of_network(|network| network.vpc.clone())),
                ("Traffic", text(traffic)),
                ("Retention", text(logs.retention.days())),
                ("PermissionsBoundary", text(&self.place.permissions_boundary)),
            ]),
            true,
        )
    }

    fn notifications(&self) -> WantedStack {
        let address = |number: usize| text(self.spec.monitoring.notify.get(number).map_or("", EmailAddress::as_str));
        self.blueprint(
            self.names().notifications(),
            Concern::Notifications,
            NOTIFICATIONS,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Address1", address(0)),
                ("Address2", address(1)),
                ("Address3", address(2)),
                ("Address4", address(3)),
                ("Address5", address(4)),
            ]),
            false,
        )
    }

    /// The topic that alarms tell, where anybody is told.
    fn topic(&self) -> Value {
        match self.spec.monitoring.notify.is_empty() {
            true => text(""),
            false => Value::Output { stack: self.names().notifications(), key: Cow::Borrowed("Topic") },
        }
    }

    fn alarms_of_service(&self, name: &ComponentName, service: &Service, observed: &Observed) -> Option<WantedStack> {
        let alarms = &self.spec.monitoring.alarms;
        let behind = service.http.is_some();
        let of_requests =
            alarms.unhealthy_tasks.is_some() || alarms.healthy_tasks.is_some() || alarms.http_5xx.is_some();
        if alarms.service_cpu.is_none() && alarms.service_memory.is_none() && !(behind && of_requests) {
            return None;
        }
        let metrics_name = |behind: bool, stack: StackName, key: &'static str| match behind {
            true => Value::Output { stack, key: Cow::Borrowed(key) },
            false => text(""),
        };
        let errors_minutes = alarms.http_5xx.map_or(1, |alarm| minutes(alarm.r#for));
        let stack = self.blueprint(
            self.names().alarms_of_service(name),
            Concern::Alarms,
            ALARMS_OF_SERVICE,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Service", text(name)),
                ("Cluster", self.cluster_name()),
                ("Topic", self.topic()),
                ("LoadBalancer", metrics_name(behind, self.names().load_balancer(), "FullName")),
                ("TargetGroup", metrics_name(behind, self.names().service(name), "TargetGroupName")),
                (
                    "AlternateTargetGroup",
                    metrics_name(
                        self.shifts(name, service, observed),
                        self.names().service(name),
                        "AlternateTargetGroupName",
                    ),
                ),
                ("CpuAbove", above(alarms.service_cpu)),
                ("CpuMinutes", minutes_of(alarms.service_cpu.map(|alarm| alarm.r#for))),
                ("MemoryAbove", above(alarms.service_memory)),
                ("MemoryMinutes", minutes_of(alarms.service_memory.map(|alarm| alarm.r#for))),
                ("UnhealthyAbove", above(alarms.unhealthy_tasks)),
                ("UnhealthyMinutes", minutes_of(alarms.unhealthy_tasks.map(|alarm| alarm.r#for))),
                ("HealthyBelow", alarms.healthy_tasks.map_or_else(|| text(""), |alarm| text(alarm.below))),
                ("HealthyMinutes", minutes_of(alarms.healthy_tasks.map(|alarm| alarm.r#for))),
                ("ErrorsAbove", above(alarms.http_5xx)),
                ("ErrorsSeconds", text(errors_minutes * 60)),
            ]),
            false,
        );
        Some(WantedStack { tags: self.tags(Component::Service(name.clone())), ..stack })
    }

    fn alarms_of_database(&self, name: &ComponentName, database: &Database) -> Option<WantedStack> {
        let alarms = &self.spec.monitoring.alarms;
        let aurora = database.engine == DatabaseEngine::AuroraPostgres;
        // Aurora's storage grows by itself.
        let free_storage = alarms.database_free_storage.filter(|_| !aurora);
        if alarms.database_cpu.is_none() && alarms.database_connections.is_none() && free_storage.is_none() {
            return None;
        }
        let storage = database.storage.map_or(LEAST_STORAGE, Storage::gib);
        let bytes = |percent: u32| u64::from(storage) * BYTES_PER_GIB * u64::from(percent) / 100;
        Some(self.blueprint(
            self.names().alarms_of_database(name),
            Concern::Alarms,
            ALARMS_OF_DATABASE,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Database", text(name)),
                ("Dimension", text(if aurora { "DBClusterIdentifier" } else { "DBInstanceIdentifier" })),
                ("Identifier", self.identifier(name)),
                ("Topic", self.topic()),
                ("CpuAbove", above(alarms.database_cpu)),
                ("CpuMinutes", minutes_of(alarms.database_cpu.map(|alarm| alarm.r#for))),
                ("ConnectionsAbove", above(alarms.database_connections)),
                ("ConnectionsMinutes", minutes_of(alarms.database_connections.map(|alarm| alarm.r#for))),
                ("FreeStorageBelow", free_storage.map_or_else(|| text(""), |alarm| text(bytes(alarm.below)))),
                ("FreeStorageMinutes", minutes_of(free_storage.map(|alarm| alarm.r#for))),
            ]),
            false,
        ))
    }

    fn identifier(&self, database: &ComponentName) -> Value {
        Value::Output { stack: self.names().database(database), key: Cow::Borrowed("Identifier") }
    }

    fn dashboard(&self) -> WantedStack {
        let spec = self.spec;
        let identifiers = |engine| {
            let databases = spec.databases.iter().filter(move |(_, database)| database.engine == engine);
            Value::List(databases.map(|(name, _)| self.identifier(name)).collect())
        };
        // A node is its group's id and a number of three digits.
        let nodes = spec.caches.iter().flat_map(|(name, cache)| {
            let stack = self.names().cache(name);
            (1..=1 + cache.replicas.unwrap_or(0)).map(move |number| {
                let group = Value::Output { stack: stack.clone(), key: Cow::Borrowed("Identifier") };
                Value::Joined(vec![group, text(format!("-{number:03}"))])
            })
        });
        let load_balancer = match has_http(spec) {
            true => Value::Output { stack: self.names().load_balancer(), key: Cow::Borrowed("FullName") },
            false => text(""),
        };
        self.blueprint(
            self.names().dashboard(),
            Concern::Dashboard,
            DASHBOARD,
            parameters([
                ("App", text(&spec.app)),
                ("Environment", text(self.environment)),
                ("Cluster", if spec.services.is_empty() { text("") } else { self.cluster_name() }),
                ("LoadBalancer", load_balancer),
                ("Instances", identifiers(DatabaseEngine::Postgres)),
                ("Clusters", identifiers(DatabaseEngine::AuroraPostgres)),
                ("Caches", Value::List(nodes.collect())),
            ]),
            false,
        )
    }
}

fn above(alarm: Option<Above>) -> Value {
    alarm.map_or_else(|| text(""), |alarm| text(alarm.above))
}

/// Metrics come once a minute.
fn minutes(time: Timeout) -> u32 {
    time.seconds().div_ceil(60)
}

fn minutes_of(time: Option<Timeout>) -> Value {
    text(time.map_or(1, minutes))
}
