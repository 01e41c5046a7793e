//! Whether an environment's instances can hold its tasks, and those that replace them: found before anything is made, because
//! ECS would wait for room that never comes.

#[cfg(test)]
mod tests;

use crate::{
    manifest::{Ec2, InstanceType, Networking, Service, Spec},
    name::ComponentName,
    rollout::Limits,
};

/// What an instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// CPU units; 1024 are one vCPU.
    pub cpu: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Network interfaces, its own among them.
    pub interfaces: u32,
}

/// Types of instance: vCPUs, memory in MiB, network interfaces, as `DescribeInstanceTypes` tells them.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/AvailableIpPerENI.html>
#[rustfmt::skip]
const TYPES: [(&str, u32, u32, u32); 71] = [
    ("t2.nano", 1, 512, 2),
    ("t2.micro", 1, 1024, 2),
    ("t2.small", 1, 2048, 3),
    ("t2.medium", 2, 4096, 3),
    ("t2.large", 2, 8192, 3),
    ("t2.xlarge", 4, 16384, 3),
    ("t2.2xlarge", 8, 32768, 3),
    ("t3.nano", 2, 512, 2),
    ("t3.micro", 2, 1024, 2),
    ("t3.small", 2, 2048, 3),
    ("t3.medium", 2, 4096, 3),
    ("t3.large", 2, 8192, 3),
    ("t3.xlarge", 4, 16384, 4),
    ("t3.2xlarge", 8, 32768, 4),
    ("t3a.nano", 2, 512, 2),
    ("t3a.micro", 2, 1024, 2),
    ("t3a.small", 2, 2048, 2),
    ("t3a.medium", 2, 4096, 3),
    ("t3a.large", 2, 8192, 3),
    ("t3a.xlarge", 4, 16384, 4),
    ("t3a.2xlarge", 8, 32768, 4),
    ("t4g.nano", 2, 512, 2),
    ("t4g.micro", 2, 1024, 2),
    ("t4g.small", 2, 2048, 3),
    ("t4g.medium", 2, 4096, 3),
    ("t4g.large", 2, 8192, 3),
    ("t4g.xlarge", 4, 16384, 4),
    ("t4g.2xlarge", 8, 32768, 4),
    ("m5.large", 2, 8192, 3),
    ("m5.xlarge", 4, 16384, 4),
    ("m5.2xlarge", 8, 32768, 4),
    ("m5a.large", 2, 8192, 3),
    ("m5a.xlarge", 4, 16384, 4),
    ("m5a.2xlarge", 8, 32768, 4),
    ("m6i.large", 2, 8192, 3),
    ("m6i.xlarge", 4, 16384, 4),
    ("m6i.2xlarge", 8, 32768, 4),
    ("m6a.large", 2, 8192, 3),
    ("m6a.xlarge", 4, 16384, 4),
    ("m6a.2xlarge", 8, 32768, 4),
    ("m6g.medium", 1, 4096, 2),
    ("m6g.large", 2, 8192, 3),
    ("m6g.xlarge", 4, 16384, 4),
    ("m6g.2xlarge", 8, 32768, 4),
    ("m7i.large", 2, 8192, 3),
    ("m7i.xlarge", 4, 16384, 4),
    ("m7i.2xlarge", 8, 32768, 4),
    ("m7g.medium", 1, 4096, 2),
    ("m7g.large", 2, 8192, 3),
    ("m7g.xlarge", 4, 16384, 4),
    ("m7g.2xlarge", 8, 32768, 4),
    ("c5.large", 2, 4096, 3),
    ("c5.xlarge", 4, 8192, 4),
    ("c5.2xlarge", 8, 16384, 4),
    ("c6i.large", 2, 4096, 3),
    ("c6i.xlarge", 4, 8192, 4),
    ("c6i.2xlarge", 8, 16384, 4),
    ("c6g.medium", 1, 2048, 2),
    ("c6g.large", 2, 4096, 3),
    ("c6g.xlarge", 4, 8192, 4),
    ("c6g.2xlarge", 8, 16384, 4),
    ("c7g.medium", 1, 2048, 2),
    ("c7g.large", 2, 4096, 3),
    ("c7g.xlarge", 4, 8192, 4),
    ("c7g.2xlarge", 8, 16384, 4),
    ("r5.large", 2, 16384, 3),
    ("r5.xlarge", 4, 32768, 4),
    ("r5.2xlarge", 8, 65536, 4),
    ("r6i.large", 2, 16384, 3),
    ("r6i.xlarge", 4, 32768, 4),
    ("r6i.2xlarge", 8, 65536, 4),
];

/// What a type of instance has, where it is one that is known here.
#[must_use]
pub fn size_of(instance_type: &InstanceType) -> Option<Size> {
    let (_, vcpus, memory, interfaces) = TYPES.iter().find(|(name, ..)| *name == instance_type.as_str())?;
    Some(Size { cpu: vcpus * 1024, memory: *memory, interfaces: *interfaces })
}

impl Size {
    /// What of the memory ECS can give to tasks. The kernel's share differs by type and ECS's agent takes some; a twentieth and
    /// 64 MiB are a little more than instances were seen to keep.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/memory-management.html>
    #[must_use]
    pub fn memory_for_tasks(self) -> u32 {
        self.memory.saturating_sub(self.memory / 20 + 64)
    }

    /// How many tasks can have an interface of their own: one is the instance's.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-networking-awsvpc.html>
    #[must_use]
    pub fn interfaces_for_tasks(self) -> u32 {
        self.interfaces.saturating_sub(1)
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// There are no instances: Fargate has room.
    Fargate,
    /// The instances hold the tasks and those that replace them.
    Enough,
    /// Not known: the type of instance is not one of those whose size is known here.
    Unknown(InstanceType),
}

/// Instances that cannot hold the tasks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// One task alone is more than an instance.
    #[error(
        "a {instance_type} gives tasks {has} {what}, and one task of `{service}` needs {needs}; take a larger type in \
         `cluster.ec2.instance_type`, or less here"
    )]
    Task {
        /// The service.
        service: ComponentName,
        /// The key: `cpu` or `memory`.
        key: &'static str,
        /// What is short.
        what: &'static str,
        /// What a task needs of it.
        needs: u32,
        /// What an instance has.
        has: u32,
        /// The type of instance.
        instance_type: InstanceType,
    },
    /// All tasks together are more than all instances.
    #[error(
        "{max} × {instance_type} cannot hold {tasks} tasks{occasion}: {bound}; {}",
        way_out(*.enough, .bound)
    )]
    Together {
        /// The most instances.
        max: u32,
        /// Their type.
        instance_type: InstanceType,
        /// How many tasks.
        tasks: usize,
        /// When there are so many.
        occasion: Occasion,
        /// What is short.
        bound: Bound,
        /// How many instances would be enough, where any number is.
        enough: Option<u32>,
    },
}

impl Shortage {
    /// The key in the manifest that it is told at.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Shortage::Task { service, key, .. } => format!("services.{service}.{key}"),
            Shortage::Together { .. } => "cluster.ec2".to_owned(),
        }
    }
}

/// When there are so many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// While all services are rolled out: beside each task, the one that takes its place.
    Rollout,
    /// At the most that `scale` allows.
    Peak,
}

impl std::fmt::Display for Occasion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Occasion::Rollout => " (all, and those that replace them in a rollout)",
            Occasion::Peak => " (as many as `scale` allows)",
        })
    }
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Network interfaces; an instance has so many for tasks.
    Interfaces(u32),
    /// Memory or CPU units; an instance has so many MiB and units for tasks.
    Size {
        /// Memory in MiB.
        memory: u32,
        /// CPU units.
        cpu: u32,
    },
    /// A port of the instance, which one task can have.
    HostPort,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Interfaces(1) => f.write_str(
                "with `awsvpc` each task has a network interface of its own, and each instance has 1 for tasks",
            ),
            Bound::Interfaces(count) => write!(
                f,
                "with `awsvpc` each task has a network interface of its own, and each instance has {count} for tasks"
            ),
            Bound::Size { memory, cpu } => write!(f, "each instance has {memory} MiB and {cpu} CPU units for tasks"),
            Bound::HostPort => f.write_str("one task with a `host_port` has it on each instance"),
        }
    }
}

fn way_out(enough: Option<u32>, bound: &Bound) -> String {
    let mut ways = Vec::new();
    if matches!(bound, Bound::Interfaces(_)) {
        ways.push("use `networking: bridge`".to_owned());
    }
    if matches!(bound, Bound::HostPort) {
        ways.push("leave `host_port` out".to_owned());
    }
    ways.extend(enough.map(|enough| format!("set `max` to {enough}")));
    ways.push("take a larger `instance_type`".to_owned());
    let last = ways.pop().unwrap_or_default();
    if ways.is_empty() { last } else { format!("{}, or {last}", ways.join(", ")) }
}

/// A task as an instance sees it.
#[derive(Clone, Copy, Debug)]
struct Task {
    cpu: u32,
    memory: u32,
    interface: bool,
    host_port: Option<u16>,
}

impl Task {
    fn of(service: &Service, ec2: &Ec2) -> Task {
        Task {
            cpu: service.cpu,
            memory: service.memory,
            interface: ec2.networking == Networking::Awsvpc,
            host_port: service.host_port,
        }
    }
}

/// What is left of an instance.
#[derive(Clone, Debug)]
struct Left {
    cpu: u32,
    memory: u32,
    interfaces: u32,
    host_ports: Vec<u16>,
}

impl Left {
    /// Puts the task on the instance, if it has room.
    fn take(&mut self, task: Task) -> bool {
        let fits = task.cpu <= self.cpu
            && task.memory <= self.memory
            && u32::from(task.interface) <= self.interfaces
            && task.host_port.is_none_or(|port| !self.host_ports.contains(&port));
        if fits {
            self.cpu -= task.cpu;
            self.memory -= task.memory;
            self.interfaces -= u32::from(task.interface);
            self.host_ports.extend(task.host_port);
        }
        fits
    }
}

/// How many instances hold the tasks: the largest first, each on the first instance with room. None where more than `most` are
/// needed.
fn instances_for(mut tasks: Vec<Task>, size: Size, most: u32) -> Option<u32> {
    tasks.sort_by_key(|task| std::cmp::Reverse((task.memory, task.cpu)));
    let empty = Left {
        cpu: size.cpu,
        memory: size.memory_for_tasks(),
        interfaces: size.interfaces_for_tasks(),
        host_ports: Vec::new(),
    };
    let mut instances: Vec<Left> = Vec::new();
    for task in tasks {
        if instances.iter_mut().any(|instance| instance.take(task)) {
            continue;
        }
        let mut new = empty.clone();
        if instances.len() >= most as usize || !new.take(task) {
            return None;
        }
        instances.push(new);
    }
    u32::try_from(instances.len()).ok()
}

/// More instances than anybody is told to take.
const MOST_SUGGESTED: u32 = 1000;

/// Whether the most instances hold all tasks, and beside each the one that takes its place while all services are rolled out.
///
/// # Errors
/// If they do not, with what to change.
pub fn check(spec: &Spec) -> Result<Room, Shortage> {
    let Some(ec2) = &spec.cluster.ec2 else { return Ok(Room::Fargate) };
    let Some(size) = size_of(&ec2.instance_type) else { return Ok(Room::Unknown(ec2.instance_type.clone())) };
    for (name, service) in &spec.services {
        let needs =
            [("memory", "MiB", service.memory, size.memory_for_tasks()), ("cpu", "CPU units", service.cpu, size.cpu)];
        if let Some((key, what, needs, has)) = needs.into_iter().find(|(_, _, needs, has)| needs > has) {
            let (service, instance_type) = (name.clone(), ec2.instance_type.clone());
            return Err(Shortage::Task { service, key, what, needs, has, instance_type });
        }
    }
    for (occasion, tasks) in [(Occasion::Rollout, in_a_rollout(spec, ec2)), (Occasion::Peak, at_the_peak(spec, ec2))] {
        if instances_for(tasks.clone(), size, ec2.max).is_some() {
            continue;
        }
        return Err(Shortage::Together {
            max: ec2.max,
            instance_type: ec2.instance_type.clone(),
            tasks: tasks.len(),
            occasion,
            bound: bound(&tasks, size, ec2.max),
            enough: instances_for(tasks, size, MOST_SUGGESTED),
        });
    }
    Ok(Room::Enough)
}

/// Each task, and the one that takes its place, as far as `rollout` lets them be there together. With a fixed port of the
/// instance the old one goes first and none is beside it, but for a migration, which has no port.
fn in_a_rollout(spec: &Spec, ec2: &Ec2) -> Vec<Task> {
    let of = |service: &Service| {
        let task = Task::of(service, ec2);
        let surge = Limits::of(service).surge(service.tasks()) as usize;
        let beside = surge.max(usize::from(service.migrate.is_some()));
        let standing = std::iter::repeat_n(task, service.tasks() as usize);
        standing.chain(std::iter::repeat_n(Task { host_port: None, ..task }, beside)).collect::<Vec<_>>()
    };
    spec.services.values().flat_map(of).collect()
}

fn at_the_peak(spec: &Spec, ec2: &Ec2) -> Vec<Task> {
    let of = |service: &Service| std::iter::repeat_n(Task::of(service, ec2), service.most_tasks() as usize);
    spec.services.values().flat_map(of).collect()
}

/// Which of an instance's bounds the tasks go over: the first without which they would fit.
fn bound(tasks: &[Task], size: Size, max: u32) -> Bound {
    let without = |change: fn(&mut Task)| {
        let mut tasks = tasks.to_vec();
        tasks.iter_mut().for_each(change);
        instances_for(tasks, size, max).is_some()
    };
    if without(|task| task.interface = false) {
        Bound::Interfaces(size.interfaces_for_tasks())
    } else if without(|task| task.host_port = None) {
        Bound::HostPort
    } else {
        Bound::Size { memory: size.memory_for_tasks(), cpu: size.cpu }
    }
}

/// The services whose rollouts stop a task before the one that takes its place can start: they have a fixed port of the
/// instance, and there may be too few instances for old and new.
#[must_use]
pub fn interrupted_by_rollouts(spec: &Spec) -> Vec<&ComponentName> {
    let Some(ec2) = &spec.cluster.ec2 else { return Vec::new() };
    let interrupted = |service: &Service| service.host_port.is_some() && service.tasks().saturating_mul(2) > ec2.max;
    spec.services.iter().filter(|(_, service)| interrupted(service)).map(|(name, _)| name).collect()
}
