//! Services and what is in their tasks.

use std::{collections::BTreeMap, fmt::Display};

use super::{Checked, Manifest, no_doubles, refuse, smoke, under, whole_days};
use crate::{
    keeping,
    manifest::spec::{
        EnvValue, Http, Image, Migrate, Networking, Scale, SecretRef, Service, Sidecar, Spec, Strategy, Timeout,
        is_secret_name,
    },
    name::{ComponentName, RepositoryName},
    order,
    rollout::{Limits, shift::Shift},
    task::{migration::Part, snapshots},
};

/// What Fargate offers: CPU units, and for each the memory in MiB as (least, most, step).
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html>
const FARGATE_SIZES: [(u32, u32, u32, u32); 7] = [
    (256, 512, 2048, 512),
    (512, 1024, 4096, 1024),
    (1024, 2048, 8192, 1024),
    (2048, 4096, 16384, 1024),
    (4096, 8192, 30720, 1024),
    (8192, 16384, 61440, 4096),
    (16384, 32768, 122_880, 8192),
];

/// What a task on instances may have: an eighth of a vCPU to 192 of them.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters_ec2.html>
const EC2_CPU: std::ops::RangeInclusive<u32> = 128..=196_608;

/// Docker gives no container less, in MiB.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>
const LEAST_MEMORY: u32 = 6;

/// A service has no more tasks, a task no more containers.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>
const MOST_TASKS: u32 = 5000;
const MOST_SIDECARS: usize = 9;

/// Ports that ECS and SSH have on an instance.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PortMapping.html>
const TAKEN_PORTS: [u16; 3] = [22, 2375, 2376];

/// From here on ports are given to tasks that have none of their own.
const FREE_PORTS: u16 = 32_768;

/// How long a task that goes may be waited for.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html>
const LONGEST_DRAIN: u32 = 3600;

/// The machine waits a little more than a day for what comes before a rollout, and whoever queues behind it as long.
const MOST_BEFORE_A_ROLLOUT: u32 = 86_400;

/// The machine waits so long for a service to settle, and as long again for it to go back.
const LONGEST_ROLLOUT: u32 = 6 * 3600;

/// The machine waits so long for the pauses and the bake of a rollout that moves requests.
const LONGEST_SHIFT_MINUTES: u32 = 12 * 60;

/// What ECS takes as the share of a canary, and as a step of a linear rollout: all at once is another strategy.
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CanaryConfiguration.html>
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LinearConfiguration.html>
const CANARY_PERCENT: std::ops::RangeInclusive<u8> = 1..=99;
const LINEAR_PERCENT: std::ops::RangeInclusive<u8> = 3..=99;

/// DescribeAlarms takes no more names.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
const MOST_ALARMS: usize = 100;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    for (name, service) in &manifest.spec.services {
        one(manifest, name, service).map_err(under(format_args!("services.{name}")))?;
    }
    same_repositories(manifest.spec)?;
    for (name, service) in &manifest.spec.services {
        after(manifest.spec, name, service).map_err(under(format_args!("services.{name}")))?;
    }
    log_groups(manifest)
}

fn one(manifest: &Manifest<'_>, name: &ComponentName, service: &Service) -> Checked {
    size(manifest.spec, service)?;
    image(manifest, name, &service.image)?;
    ports(manifest.spec, name, service)?;
    if let Some(http) = &service.http {
        check_http(http).map_err(under("http"))?;
    }
    count(service)?;
    variables(&service.env, &service.secrets)?;
    uses(manifest.spec, service)?;
    sidecars(manifest, name, service)?;
    let without = service.secrets.is_empty() && service.sidecars.values().all(|sidecar| sidecar.secrets.is_empty());
    if service.restart_on_rotation && without {
        return refuse("restart_on_rotation", "its tasks are given no secret that could be rotated; leave it out");
    }
    if service.scan.is_some() && service.image.repository.is_none() {
        return refuse("scan", "ECR scans the images of a `repository`, and this one is `public`; leave it out");
    }
    if service.approval_within.is_some() && service.approval.is_none() {
        return refuse("approval_within", "nothing is waited for without `approval: required`");
    }
    rollout(service).map_err(under("rollout"))?;
    strategy(manifest, name, service).map_err(under("rollout"))?;
    smoke::check(manifest, name, service)?;
    match &service.migrate {
        Some(migrate) => check_migrate(manifest, name, service, migrate).map_err(under("migrate")),
        None => Ok(()),
    }
}

fn rollout(service: &Service) -> Checked {
    let rollout = &service.rollout;
    if rollout.deadline.seconds() > LONGEST_ROLLOUT {
        return refuse("deadline", format!("a rollout has {} at most", String::from(Timeout::of(LONGEST_ROLLOUT))));
    }
    if rollout.min_percent.is_some_and(|percent| percent > 100) {
        return refuse("min_percent", "a percentage from 0 to 100 is expected here");
    }
    if rollout.max_percent.is_some_and(|percent| !(100..=200).contains(&percent)) {
        return refuse("max_percent", "a percentage from 100 to 200 is expected here");
    }
    let limits = Limits::of(service);
    let tasks = service.scale.as_ref().map_or_else(|| service.tasks(), |scale| scale.min);
    let given = if rollout.max_percent.is_some() { "max_percent" } else { "min_percent" };
    if tasks > 0 && limits.surge(tasks) == 0 && limits.spare(tasks) == 0 {
        return refuse(
            given,
            format!(
                "of {tasks} tasks, at least {} % are whole {tasks} and at most {} % are no more, so none could ever be replaced; \
                 ECS counts whole tasks",
                limits.least, limits.most
            ),
        );
    }
    no_doubles("alarms", &rollout.alarms)?;
    if rollout.alarms.len() > MOST_ALARMS {
        return refuse("alarms", format!("a rollout has at most {MOST_ALARMS} of them"));
    }
    Ok(())
}

/// What ECS asks of a service whose requests it moves, and how it does that.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-blue-green.html>
fn strategy(manifest: &Manifest<'_>, name: &ComponentName, service: &Service) -> Checked {
    let rollout = &service.rollout;
    let gives = |key: &str| manifest.gives(&format!("services.{name}.rollout.{key}"));
    if !rollout.shifts() {
        for key in ["bake", "test_traffic", "percent", "pause"] {
            if gives(key) {
                return refuse(
                    key,
                    "with `strategy: rolling` no requests are moved; give another `strategy`, or leave this out",
                );
            }
        }
        return Ok(());
    }
    if service.http.is_none() {
        return refuse("strategy", "without `http` there are no requests that could be moved; leave it out");
    }
    if manifest.spec.cluster.ec2.as_ref().is_some_and(|ec2| ec2.networking == Networking::Bridge) {
        return refuse(
            "strategy",
            "requests are moved only between tasks with addresses of their own; use `networking: awsvpc` or Fargate, or `rolling`",
        );
    }
    if service.discovery {
        return refuse(
            "strategy",
            "with `discovery` other services would reach both versions at once, whatever the load balancer does; leave one of them out",
        );
    }
    // A visitor who stays with a group is not moved with the others, and is answered 503 once its tasks are gone.
    // https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    if service.http.as_ref().is_some_and(|http| http.stickiness.is_some()) {
        return refuse(
            "strategy",
            "with `stickiness` visitors would stay with tasks that go; leave that out, or use `strategy: rolling`",
        );
    }
    for key in ["min_percent", "max_percent"] {
        if gives(key) {
            return refuse(key, "ECS starts as many new tasks as there are old ones; this is for `strategy: rolling`");
        }
    }
    match rollout.strategy {
        Strategy::Canary if !CANARY_PERCENT.contains(&rollout.percent()) => {
            return refuse(
                "percent",
                "a percentage from 1 to 99 is expected here; all at once is `strategy: blue_green`",
            );
        }
        Strategy::Linear if !LINEAR_PERCENT.contains(&rollout.percent()) => {
            return refuse(
                "percent",
                "a percentage from 3 to 99 is expected here; all at once is `strategy: blue_green`",
            );
        }
        Strategy::Canary | Strategy::Linear => {}
        Strategy::BlueGreen | Strategy::Rolling => {
            for key in ["percent", "pause"] {
                if gives(key) {
                    return refuse(key, "all requests are moved at once; this is for `strategy: canary` and `linear`");
                }
            }
        }
    }
    for (key, time) in [("pause", rollout.pause), ("bake", rollout.bake)] {
        if time.is_some_and(|time| !time.seconds().is_multiple_of(60)) {
            return refuse(key, "whole minutes are expected here: ECS counts no seconds");
        }
    }
    let (pauses, bake) = Shift::of(rollout).map_or((0, 0), |shift| (shift.minutes(), shift.bake));
    let minutes = pauses + bake;
    if minutes > LONGEST_SHIFT_MINUTES {
        let key = if pauses > bake { "pause" } else { "bake" };
        let key = if gives(key) { key } else { "strategy" };
        let (sum, most) =
            (String::from(Timeout::of(minutes * 60)), String::from(Timeout::of(LONGEST_SHIFT_MINUTES * 60)));
        return refuse(key, format!("its pauses and its `bake` are {sum} together, and {most} are possible"));
    }
    if rollout.test_traffic && !service.smoke.iter().any(|smoke| smoke.path.is_some()) {
        return refuse(
            "test_traffic",
            "nothing would be tested: no smoke test asks for a `path`; give one, or leave this out",
        );
    }
    Ok(())
}

fn check_migrate(manifest: &Manifest<'_>, name: &ComponentName, service: &Service, migrate: &Migrate) -> Checked {
    let mut tasks = 0;
    for part in Part::ALL {
        let key = part.key();
        if !part.command(migrate).is_empty() {
            tasks += 1;
        } else if manifest.gives(&format!("services.{name}.migrate.{key}")) {
            return refuse(key, "a command is expected here");
        }
    }
    if migrate.snapshot && snapshots::servers(service).is_empty() {
        return refuse(
            "snapshot",
            "the service uses no database of this manifest; refer to one under `secrets` or `env`, or leave this out",
        );
    }
    let (most, beside) = if migrate.snapshot {
        (MOST_BEFORE_A_ROLLOUT - snapshots::TIMEOUT_SECONDS, " beside the snapshot")
    } else {
        (MOST_BEFORE_A_ROLLOUT, "")
    };
    if migrate.timeout.seconds().saturating_mul(tasks) > most {
        let (most, each) = (String::from(Timeout::of(most)), String::from(Timeout::of(most / tasks)));
        return refuse("timeout", format!("its tasks have {most} together{beside}, so each has {each} at most"));
    }
    Ok(())
}

fn size(spec: &Spec, service: &Service) -> Checked {
    let Service { cpu, memory, .. } = *service;
    if spec.cluster.ec2.is_some() {
        if !EC2_CPU.contains(&cpu) {
            let (least, most) = (EC2_CPU.start(), EC2_CPU.end());
            return refuse("cpu", format!("a task on instances has {least} to {most} CPU units; 1024 are one vCPU"));
        }
        if memory < LEAST_MEMORY {
            return refuse("memory", format!("a container has {LEAST_MEMORY} MiB at least"));
        }
        return Ok(());
    }
    let Some((_, least, most, step)) = FARGATE_SIZES.iter().find(|size| size.0 == cpu) else {
        let known = FARGATE_SIZES.map(|size| size.0.to_string()).join(", ");
        return refuse("cpu", format!("Fargate has no {cpu} CPU units; it has {known}"));
    };
    // With 256 units Fargate takes 512, 1024 and 2048 MiB, and nothing between.
    let fits = (*least..=*most).contains(&memory) && memory.is_multiple_of(*step) && !(cpu == 256 && memory == 1536);
    if !fits {
        let message =
            format!("Fargate has no {memory} MiB with {cpu} CPU units; it has {least} to {most} in steps of {step}");
        return refuse("memory", message);
    }
    Ok(())
}

fn image(manifest: &Manifest<'_>, name: &ComponentName, image: &Image) -> Checked {
    match (&image.repository, &image.public) {
        (Some(_), Some(_)) => {
            return refuse(
                "image.public",
                "an image is in a `repository` of the account or `public`; leave one of them out",
            );
        }
        (None, None) => {
            return refuse("image", "`repository` is missing, or `public` for an image that is not the account's");
        }
        (None, Some(_)) => {
            for key in ["tags", "keep", "keep_live", "keep_untagged"] {
                if manifest.gives(&format!("services.{name}.image.{key}")) {
                    return refuse(format!("image.{key}"), "this is of a `repository`, and a `public` image has none");
                }
            }
        }
        (Some(_), None) if image.tags.is_empty() => {
            return refuse("image.tags", "no push could roll out; leave `tags` out for every tag");
        }
        (Some(_), None) => {}
    }
    if image.keep == Some(0) {
        return refuse("image.keep", "1 image at least is kept");
    }
    if image.keep_live.is_some_and(|before| before > keeping::MOST) {
        return refuse("image.keep_live", format!("{} at most are kept", keeping::MOST));
    }
    image.keep_untagged.map_or(Ok(()), |period| whole_days("image.keep_untagged", period, 3653))
}

fn ports(spec: &Spec, name: &ComponentName, service: &Service) -> Checked {
    let networking = spec.cluster.ec2.as_ref().map(|ec2| ec2.networking);
    if service.port == Some(0) {
        return refuse("port", "0 is not a port");
    }
    if service.http.is_some() && service.port.is_none() {
        return refuse("http", "`port` is missing: the load balancer must know where to send requests");
    }
    if service.discovery && service.port.is_none() {
        return refuse("discovery", "`port` is missing: others must know where to send requests");
    }
    // A name in the DNS says an address, and the ports of bridged tasks are found by SRV records alone.
    // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-discovery.html
    if service.discovery && networking == Some(Networking::Bridge) {
        return refuse(
            "discovery",
            "with `bridge` a task has no address of its own that a name could stand for; use `networking: awsvpc` or Fargate",
        );
    }
    let Some(host_port) = service.host_port else { return Ok(()) };
    if networking != Some(Networking::Bridge) {
        return refuse(
            "host_port",
            "this is for `cluster.ec2` with `networking: bridge`; elsewhere a task has all ports",
        );
    }
    if service.port.is_none() {
        return refuse("host_port", "`port` is missing: it is what stands behind the instance's port");
    }
    if host_port == 0 || host_port >= FREE_PORTS || TAKEN_PORTS.contains(&host_port) {
        return refuse(
            "host_port",
            format!("{host_port} is not free on an instance; 1 to 32767 are, except 22, 2375 and 2376"),
        );
    }
    let before = spec.services.iter().take_while(|(other, _)| *other != name);
    match before.into_iter().find(|(_, other)| other.host_port == Some(host_port)) {
        Some((other, _)) => refuse("host_port", format!("`{other}` has {host_port} already")),
        None => Ok(()),
    }
}

fn check_http(http: &Http) -> Checked {
    // ALB path patterns: at most 128 characters of this set, at most five wildcards in a rule.
    // https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
    let known = |path: &str| path.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$/~\"'@:+&*?".contains(c));
    if !http.path.starts_with('/') || http.path.len() > 128 || !known(&http.path) {
        return refuse("path", format!("`{}` is not a path pattern like /api/*", http.path));
    }
    if http.path.matches(['*', '?']).count() > 5 {
        return refuse("path", "a load balancer's rule has at most 5 `*` and `?`");
    }
    if !http.health.starts_with('/') || http.health.len() > 1024 || http.health.contains(['*', ' ']) {
        return refuse("health", format!("`{}` is not a path like /health", http.health));
    }
    if http.drain.is_some_and(|drain| drain.seconds() > LONGEST_DRAIN) {
        return refuse("drain", "a load balancer waits 1h at most");
    }
    Ok(())
}

fn count(service: &Service) -> Checked {
    if service.count.is_some_and(|count| count > MOST_TASKS) {
        return refuse("count", format!("a service has at most {MOST_TASKS} tasks"));
    }
    let Some(scale) = &service.scale else { return Ok(()) };
    check_scale(service, scale).map_err(under("scale"))?;
    match service.count {
        Some(count) if !(scale.min..=scale.max).contains(&count) => {
            refuse("count", format!("{count} is outside the {} to {} of `scale`", scale.min, scale.max))
        }
        _ => Ok(()),
    }
}

fn check_scale(service: &Service, scale: &Scale) -> Checked {
    if scale.min == 0 {
        return refuse("min", "no task has no load to follow; 1 at least");
    }
    if scale.min > scale.max {
        return refuse("min", format!("at least {} cannot be more than at most {}", scale.min, scale.max));
    }
    if scale.max > MOST_TASKS {
        return refuse("max", format!("a service has at most {MOST_TASKS} tasks"));
    }
    for (key, percent) in [("cpu", scale.cpu), ("memory", scale.memory)] {
        if percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return refuse(key, "a percentage from 1 to 100 is expected here");
        }
    }
    match scale.requests {
        Some(0) => return refuse("requests", "1 request at least"),
        Some(_) if service.http.is_none() => {
            return refuse(
                "requests",
                "without `http` no request comes through the load balancer; scale by `cpu` or `memory`",
            );
        }
        _ => {}
    }
    if scale.cpu.is_none() && scale.memory.is_none() && scale.requests.is_none() {
        return refuse("", "there is nothing to follow: give `cpu`, `memory` or `requests`");
    }
    Ok(())
}

fn variables(env: &BTreeMap<String, EnvValue>, secrets: &BTreeMap<String, SecretRef>) -> Checked {
    for (key, name) in env.keys().map(|name| ("env", name)).chain(secrets.keys().map(|name| ("secrets", name))) {
        let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !valid {
            return refuse(key, format!("`{name}` is not the name of an environment variable"));
        }
    }
    if let Some(name) = env.keys().find(|name| secrets.contains_key(*name)) {
        return refuse(format!("secrets.{name}"), format!("`{name}` is in `env` too; a variable has one value"));
    }
    for (name, value) in env {
        if let EnvValue::Ref(reference) = value
            && reference.is_secret()
        {
            return refuse(
                format!("env.{name}"),
                format!("`{reference}` is a secret, and `env` can be read by many; put it under `secrets`"),
            );
        }
    }
    for (name, secret) in secrets {
        let path = || format!("secrets.{name}");
        match secret {
            SecretRef::Secretsmanager(reference) => {
                let (of, key) = reference.split_once(':').unwrap_or((reference, "-"));
                if !is_secret_name(of) || key.is_empty() || key.contains(':') {
                    return refuse(path(), "`name` or `name:key` is expected here");
                }
            }
            SecretRef::Ssm(of) if !of.starts_with('/') || !is_secret_name(of) => {
                return refuse(path(), "`/path` is expected here");
            }
            SecretRef::Ref(reference) if !reference.is_secret() => {
                return refuse(path(), format!("`{reference}` is no secret; put it under `env`"));
            }
            SecretRef::Ssm(_) | SecretRef::Ref(_) => {}
        }
    }
    Ok(())
}

fn uses(spec: &Spec, service: &Service) -> Checked {
    no_doubles("uses", &service.uses)?;
    for (index, used) in service.uses.iter().enumerate() {
        let (kind, name) = used.as_str().split_once('.').unwrap_or_default();
        let exists = match kind {
            "buckets" => spec.buckets.keys().any(|known| known.as_str() == name),
            _ => spec.email.keys().any(|known| known.as_str() == name),
        };
        if !exists {
            return refuse(format!("uses[{index}]"), format!("there is no `{used}`; add it, or leave this out"));
        }
    }
    Ok(())
}

/// Only of one image do services go one after the other.
fn after(spec: &Spec, name: &ComponentName, service: &Service) -> Checked {
    no_doubles("after", &service.after)?;
    for (index, first) in service.after.iter().enumerate() {
        let path = format!("after[{index}]");
        let Some(other) = spec.services.get(first) else {
            return refuse(path, format!("there is no service `{first}`; add it, or leave this out"));
        };
        if first == name {
            return refuse(path, "a service does not go after itself; leave it out");
        }
        if other.image.repository.is_none() || other.image.repository != service.image.repository {
            return refuse(
                path,
                format!("`{first}` has images of its own; only services of one `repository` go one after the other"),
            );
        }
        if order::goes_after_itself(spec, name) {
            return refuse(
                path,
                format!("`{first}` goes after `{name}`, itself or by others; one of them must go first"),
            );
        }
    }
    Ok(())
}

fn sidecars(manifest: &Manifest<'_>, name: &ComponentName, service: &Service) -> Checked {
    if service.sidecars.len() > MOST_SIDECARS {
        return refuse(
            "sidecars",
            format!("a task has at most {MOST_SIDECARS} of them beside the service's own container"),
        );
    }
    for (sidecar_name, sidecar) in &service.sidecars {
        let path = format!("sidecars.{sidecar_name}");
        if sidecar_name == name {
            return refuse(path, "the service's own container has this name; choose another one");
        }
        if sidecar.before && manifest.gives(&format!("services.{name}.{path}.essential")) && sidecar.essential {
            return refuse(
                format!("{path}.essential"),
                "with `before` it ends before the service starts, and would end the task; leave `essential` out",
            );
        }
        one_sidecar(sidecar).map_err(under(&path))?;
    }
    // With an interface of its own, a task's containers share its ports.
    let shared = manifest.spec.cluster.ec2.as_ref().is_none_or(|ec2| ec2.networking == Networking::Awsvpc);
    let mut ports: Vec<_> = service.port.map(|port| (port, name)).into_iter().collect();
    for (sidecar_name, sidecar) in &service.sidecars {
        let Some(port) = sidecar.port.filter(|_| shared) else { continue };
        if let Some((_, other)) = ports.iter().find(|(taken, _)| *taken == port) {
            return refuse(
                format!("sidecars.{sidecar_name}.port"),
                format!("`{other}` listens on {port} in the same task"),
            );
        }
        ports.push((port, sidecar_name));
    }
    let sum = |of: fn(&Sidecar) -> Option<u32>| service.sidecars.values().filter_map(of).fold(0, u32::saturating_add);
    let (cpu, memory) = (sum(|sidecar| sidecar.cpu), sum(|sidecar| sidecar.memory));
    if cpu > service.cpu {
        return refuse(
            "sidecars",
            format!("they have {cpu} CPU units together, and the whole task has {}", service.cpu),
        );
    }
    if memory.saturating_add(LEAST_MEMORY) > service.memory {
        let message = format!(
            "they have {memory} MiB together, and the whole task has {}: nothing is left for the service",
            service.memory
        );
        return refuse("sidecars", message);
    }
    Ok(())
}

fn one_sidecar(sidecar: &Sidecar) -> Checked {
    if sidecar.port == Some(0) {
        return refuse("port", "0 is not a port");
    }
    if sidecar.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return refuse("memory", format!("a container has {LEAST_MEMORY} MiB at least"));
    }
    variables(&sidecar.env, &sidecar.secrets)
}

/// Services that share a repository share its rules.
fn same_repositories(spec: &Spec) -> Checked {
    let mut seen: BTreeMap<&RepositoryName, (&ComponentName, &Image)> = BTreeMap::new();
    for (name, service) in &spec.services {
        let image = &service.image;
        let Some(repository) = &image.repository else { continue };
        let (first, other) = *seen.entry(repository).or_insert((name, image));
        for (key, differs) in
            [("keep", image.keep != other.keep), ("keep_untagged", image.keep_untagged != other.keep_untagged)]
        {
            if differs {
                return refuse(
                    format!("services.{name}.image.{key}"),
                    format!("`{first}` says another `{key}` of the same repository; say the same in both"),
                );
            }
        }
    }
    Ok(())
}

/// Each log group is made by one stack.
fn log_groups(manifest: &Manifest<'_>) -> Checked {
    let spec = manifest.spec;
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut take = |path: String, group: &dyn Display| match seen.insert(group.to_string(), path.clone()) {
        Some(other) => refuse(path, format!("`{other}` has the log group `{group}` already")),
        None => Ok(()),
    };
    for (name, service) in &spec.services {
        let path = format!("services.{name}.log_group");
        match &service.log_group {
            Some(group) => take(path, group)?,
            None => take(path, &format_args!("/ecs/{}-{}-{name}", spec.app, manifest.environment))?,
        }
        if let Some(group) = service.migrate.as_ref().and_then(|migrate| migrate.log_group.as_ref()) {
            take(format!("services.{name}.migrate.log_group"), group)?;
        }
    }
    Ok(())
}
