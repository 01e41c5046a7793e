//! What an environment costs a month, from the table of prices: what it costs by being there, not what depends on its use.
//!
//! Where something scales, the least and the most. Everything stands for the whole month of 730 hours; free tiers, discounts and taxes are
//! left out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    evaluation::Evaluated,
    prices::{HOURS, Prices},
    value::Value,
};
use crate::{
    manifest::{CacheEngine, Capacity, DatabaseEngine, GivenVpc, Nat, Network, Spec},
    platform::StackName,
};

/// What spot capacity costs of the on-demand price, as AWS advertises it for Fargate ("up to 70 % off"); the price moves.
const SPOT: f64 = 0.3;

/// The metrics of Container Insights that are charged: twelve of the cluster, fifteen of each service, ten of each family of task
/// definitions, which each service has one of.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Container-Insights-metrics-ECS.html>
const CLUSTER_METRICS: usize = 12;
const SERVICE_METRICS: usize = 25;

/// What an environment costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// `USD`.
    pub currency: &'static str,
    /// The region whose prices are counted with.
    pub region: String,
    /// Whether that is the environment's own. Else it is what the same would cost there, and not what it will.
    pub of_its_region: bool,
    /// The day they were looked up.
    pub prices_of: String,
    /// At least, a month.
    pub low: f64,
    /// At most, a month.
    pub high: f64,
    /// What it is made of.
    pub lines: Vec<Line>,
    /// What has a price that is not in the table.
    pub unknown: Vec<String>,
    /// What depends on use, and is not in it.
    pub not_counted: Vec<&'static str>,
    /// Why the prices are not quite those of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One part of what an environment costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What it is.
    pub what: String,
    /// At least, a month.
    pub low: f64,
    /// At most, a month.
    pub high: f64,
}

/// Estimates what the manifest's environment costs, in `region`. `stacks` are what its stacks are made of.
pub(super) fn estimate(spec: &Spec, stacks: &BTreeMap<StackName, Evaluated>, region: &str) -> Estimate {
    let prices = Prices::table();
    let mut sum = Sum { prices, estimate: Estimate::default() };
    sum.network(spec);
    sum.load_balancer(spec, stacks);
    sum.compute(spec);
    sum.data(spec);
    sum.watching(spec, stacks);
    sum.keys(stacks);
    let mut estimate = sum.estimate;
    estimate.currency = "USD";
    estimate.region.clone_from(&prices.region);
    estimate.of_its_region = *region == *prices.region;
    estimate.prices_of.clone_from(&prices.read);
    estimate.low = cents(estimate.lines.iter().map(|line| line.low).sum());
    estimate.high = cents(estimate.lines.iter().map(|line| line.high).sum());
    estimate.not_counted = not_counted(spec);
    if !estimate.of_its_region {
        estimate.note = Some(format!(
            "{region} has prices of its own, which the table has not: this is no estimate of it, only of the same in {}; in most regions \
             it is more, in some by half",
            prices.region
        ));
    }
    estimate
}

fn cents(usd: f64) -> f64 {
    (usd * 100.0).round() / 100.0
}

/// `1 node`, `2 nodes`.
fn count(n: f64, one: &str) -> String {
    if n == 1.0 { format!("1 {one}") } else { format!("{n} {one}s") }
}

fn range(low: f64, high: f64, one: &str) -> String {
    if low == high { count(low, one) } else { format!("{low} to {high} {one}s") }
}

struct Sum {
    prices: &'static Prices,
    estimate: Estimate,
}

impl Sum {
    /// So many of what costs so much a month.
    fn add(&mut self, what: String, price: Option<f64>, low: f64, high: f64) {
        match price {
            _ if high == 0.0 => {}
            Some(price) => self.estimate.lines.push(Line { what, low: cents(price * low), high: cents(price * high) }),
            None => self.estimate.unknown.push(what),
        }
    }

    fn unit(&self, unit: &str) -> Option<f64> {
        self.prices.unit(unit)
    }

    fn hourly(&self, unit: &str) -> Option<f64> {
        self.unit(unit).map(|price| price * HOURS)
    }

    fn network(&mut self, spec: &Spec) {
        let zones = zones(&spec.network);
        let gateways = match spec.network.nat {
            _ if spec.network.vpc.is_some() => 0.0,
            Nat::None => 0.0,
            Nat::Single => 1.0,
            Nat::PerAz => zones,
        };
        self.add(count(gateways, "NAT gateway"), self.hourly("nat_gateway_hour"), gateways, gateways);
        let endpoints = f64::from(
            u32::try_from(spec.network.endpoints.iter().filter(|endpoint| !endpoint.is_gateway()).count())
                .unwrap_or(u32::MAX),
        );
        let what = format!("{} in {}", count(endpoints, "interface endpoint"), count(zones, "zone"));
        self.add(what, self.hourly("interface_endpoint_hour"), endpoints * zones, endpoints * zones);
        let (mut low, mut high) = (gateways, gateways);
        if has_load_balancer(spec) {
            (low, high) = (low + zones, high + zones);
        }
        if in_public(&spec.network) {
            let (least, most) = running(spec);
            (low, high) = (low + least, high + most);
        }
        let what = range(low, high, "public IPv4 address").replace("addresss", "addresses");
        self.add(what, self.hourly("public_ipv4_hour"), low, high);
    }

    fn load_balancer(&mut self, spec: &Spec, stacks: &BTreeMap<StackName, Evaluated>) {
        if has_load_balancer(spec) {
            self.add("load balancer".to_owned(), self.hourly("load_balancer_hour"), 1.0, 1.0);
            self.add(
                "load balancer: up to 1 capacity unit (LCU) of traffic".to_owned(),
                self.hourly("load_balancer_lcu_hour"),
                0.0,
                1.0,
            );
        }
        let lists: Vec<_> = of_kind(stacks, "AWS::WAFv2::WebACL").collect();
        let rules: usize = lists
            .iter()
            .map(|list| match list.get("Rules") {
                Some(Value::List(rules)) => rules.len(),
                _ => 0,
            })
            .sum();
        self.add("firewall".to_owned(), self.unit("web_acl_month"), number(lists.len()), number(lists.len()));
        self.add(
            format!("firewall: {}", count(number(rules), "rule")),
            self.unit("web_acl_rule_month"),
            number(rules),
            number(rules),
        );
    }

    fn compute(&mut self, spec: &Spec) {
        let spot = f64::from(spec.cluster.spot_percent()) / 100.0;
        let discounted = |price: f64| price * (1.0 - spot + spot * SPOT);
        let on_spot = match spec.cluster.spot_percent() {
            0 => String::new(),
            percent => format!(", {percent} % of it on spot at {:.0} % off", (1.0 - SPOT) * 100.0),
        };
        if let Some(ec2) = &spec.cluster.ec2 {
            if spec.services.is_empty() {
                return;
            }
            let (low, high) = (f64::from(ec2.min), f64::from(ec2.max));
            let kind = ec2.instance_type.as_str();
            let price = self.prices.hour("instance", kind).map(|price| discounted(price * HOURS));
            self.add(format!("{} of {kind}{on_spot}", range(low, high, "instance")), price, low, high);
            let disk = f64::from(ec2.disk.gib());
            let price = self.unit("instance_gp3_gb_month");
            self.add(format!("instances: a disk of {disk} GiB each"), price, disk * low, disk * high);
            return;
        }
        for (name, service) in &spec.services {
            let (low, high) = tasks(service);
            let (vcpu, gb) = (f64::from(service.cpu) / 1024.0, f64::from(service.memory) / 1024.0);
            let price = self.hourly("fargate_vcpu_hour").zip(self.hourly("fargate_gb_hour"));
            let price = price.map(|(vcpu_price, gb_price)| discounted(vcpu * vcpu_price + gb * gb_price));
            self.add(
                format!("{name}: {} of {vcpu} vCPU and {gb} GB on Fargate{on_spot}", range(low, high, "task")),
                price,
                low,
                high,
            );
        }
    }

    fn data(&mut self, spec: &Spec) {
        for (name, database) in &spec.databases {
            let servers = if database.multi_az { 2.0 } else { 1.0 };
            let twice = if database.multi_az { ", twice for Multi-AZ" } else { "" };
            match (database.engine, &database.class, database.capacity) {
                (DatabaseEngine::Postgres, class, _) => {
                    let class = class.as_ref().map_or("no class", |class| class.as_str());
                    let price = self.prices.hour("postgres", class).map(|price| price * HOURS);
                    self.add(format!("{name}: {class}{twice}"), price, servers, servers);
                    let size = database.storage.map_or(20, |storage| storage.gib());
                    let most = database.max_storage.map_or(size, |storage| storage.gib().max(size));
                    let (low, high) = (f64::from(size), f64::from(most));
                    let price = self.unit("database_gp3_gb_month");
                    let what =
                        format!("{name}: {} of gp3 storage{twice}", range(low, high, "GiB").replace("GiBs", "GiB"));
                    self.add(what, price, low * servers, high * servers);
                }
                (DatabaseEngine::AuroraPostgres, _, capacity) => {
                    let (low, high) = capacity.map_or((0.5, 1.0), |capacity| (capacity.min, capacity.max));
                    let what = format!("{name}: Aurora, {}{twice}", range(low, high, "capacity unit"));
                    self.add(what, self.hourly("aurora_acu_hour"), low * servers, high * servers);
                }
            }
        }
        for (name, cache) in &spec.caches {
            let nodes = 1.0 + f64::from(cache.replicas.unwrap_or(0));
            // Valkey's nodes have four fifths of the price of Redis's.
            let factor = match cache.engine {
                CacheEngine::Redis => 1.0,
                CacheEngine::Valkey => 0.8,
            };
            let price = self.prices.hour("redis", cache.class.as_str()).map(|price| price * factor * HOURS);
            self.add(format!("{name}: {} of {}", count(nodes, "node"), cache.class.as_str()), price, nodes, nodes);
        }
    }

    fn watching(&mut self, spec: &Spec, stacks: &BTreeMap<StackName, Evaluated>) {
        if spec.cluster.insights && !spec.services.is_empty() {
            let metrics = number(CLUSTER_METRICS + SERVICE_METRICS * spec.services.len());
            self.add(
                format!("Container Insights: {}", count(metrics, "metric")),
                self.unit("metric_month"),
                metrics,
                metrics,
            );
        }
        // Each target that tasks or instances are scaled by has an alarm for more and one for fewer.
        let targets = spec.services.values().filter_map(|service| service.scale.as_ref()).map(|scale| {
            usize::from(scale.cpu.is_some())
                + usize::from(scale.memory.is_some())
                + usize::from(scale.requests.is_some())
        });
        let instances = usize::from(spec.cluster.ec2.is_some() && !spec.services.is_empty());
        let of_scaling = 2 * (targets.sum::<usize>() + instances);
        let alarms = number(of_kind(stacks, "AWS::CloudWatch::Alarm").count() + of_scaling);
        // An alarm costs for each metric that it is of. https://aws.amazon.com/cloudwatch/pricing/
        let metrics = of_kind(stacks, "AWS::CloudWatch::Alarm").map(metrics_of).sum::<usize>() + of_scaling;
        let mut what = count(alarms, "alarm");
        if number(metrics) > alarms {
            what = format!("{what}, of {}", count(number(metrics), "metric"));
        }
        self.add(what, self.unit("alarm_month"), number(metrics), number(metrics));
        let dashboards = number(of_kind(stacks, "AWS::CloudWatch::Dashboard").count());
        self.add(count(dashboards, "dashboard"), self.unit("dashboard_month"), dashboards, dashboards);
    }

    fn keys(&mut self, stacks: &BTreeMap<StackName, Evaluated>) {
        let secrets = number(of_kind(stacks, "AWS::SecretsManager::Secret").count());
        self.add(count(secrets, "secret"), self.unit("secret_month"), secrets, secrets);
        let keys = number(of_kind(stacks, "AWS::KMS::Key").count());
        self.add(count(keys, "KMS key"), self.unit("kms_key_month"), keys, keys);
        let zones = number(of_kind(stacks, "AWS::ServiceDiscovery::PrivateDnsNamespace").count());
        self.add(
            "private DNS zone, in which services find each other".to_owned(),
            self.unit("hosted_zone_month"),
            zones,
            zones,
        );
    }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// The properties of each resource of a type.
fn of_kind<'a>(stacks: &'a BTreeMap<StackName, Evaluated>, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    stacks
        .values()
        .flat_map(|stack| stack.resources.values())
        .filter(move |resource| resource.kind == kind)
        .map(|resource| &resource.properties)
}

/// How many metrics an alarm is of, beside what is computed from them.
fn metrics_of(alarm: &Value) -> usize {
    match alarm.get("Metrics") {
        Some(Value::List(metrics)) => metrics.iter().filter(|metric| metric.get("MetricStat").is_some()).count(),
        _ => 1,
    }
}

fn has_load_balancer(spec: &Spec) -> bool {
    spec.services.values().any(|service| service.http.is_some())
}

/// In how many zones the network is.
fn zones(network: &Network) -> f64 {
    match (&network.vpc, &network.subnets) {
        (Some(GivenVpc::Id(_)), Some(subnets)) => number(subnets.public.len()),
        _ => f64::from(network.azs.unwrap_or(2)),
    }
}

/// Whether tasks and instances are in public subnets, where each has a public address.
fn in_public(network: &Network) -> bool {
    match (&network.vpc, &network.subnets) {
        (None, _) => network.nat == Nat::None,
        (Some(_), subnets) => subnets.as_ref().is_none_or(|subnets| subnets.private.is_empty()),
    }
}

/// How many tasks a service has.
fn tasks(service: &crate::manifest::Service) -> (f64, f64) {
    match &service.scale {
        Some(scale) => (f64::from(scale.min), f64::from(scale.max)),
        None => (f64::from(service.tasks()), f64::from(service.tasks())),
    }
}

/// How many instances, or else tasks, there are with an address each.
fn running(spec: &Spec) -> (f64, f64) {
    match &spec.cluster.ec2 {
        Some(_) if spec.services.is_empty() => (0.0, 0.0),
        Some(ec2) => (f64::from(ec2.min), f64::from(ec2.max)),
        None => spec.services.values().map(tasks).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
    }
}

fn not_counted(spec: &Spec) -> Vec<&'static str> {
    let own_nat = spec.network.vpc.is_none() && spec.network.nat != Nat::None;
    let spot = spec.cluster.capacity == Some(Capacity::FargateSpot) || spec.cluster.spot_percent() > 0;
    let aurora = spec.databases.values().any(|database| database.engine == DatabaseEngine::AuroraPostgres);
    let instances = spec.databases.values().any(|database| database.engine == DatabaseEngine::Postgres);
    let table = [
        (true, "data transfer"),
        (own_nat, "data through NAT gateways (0.045 a GB)"),
        (!spec.network.endpoints.is_empty(), "data through interface endpoints"),
        (has_load_balancer(spec), "traffic beyond 1 LCU"),
        (!spec.services.is_empty(), "logs, images and one-off tasks"),
        (spec.network.flow_logs.is_some(), "flow logs"),
        (spec.cluster.ec2.is_some(), "CPU credits of burstable instances"),
        (spot, "the movement of spot prices"),
        (instances, "database backups beyond the size of the database"),
        (aurora, "Aurora's storage and requests"),
        (!spec.sites.is_empty(), "CloudFront and what sites store"),
        (!spec.buckets.is_empty(), "what buckets store"),
        (!spec.email.is_empty(), "emails"),
        (!spec.stacks.is_empty(), "stacks of your own"),
        (true, "Shipway's own functions, which cost only while they run"),
    ];
    table.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
}
