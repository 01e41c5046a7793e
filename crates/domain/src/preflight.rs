//! What keeps a rollout from beginning: what its tasks need and what of it is there, compared before anything changes, so that
//! everything that is missing is told at once.
//!
//! Only what would surely fail is a finding. What cannot be known from outside is left to ECS's own verdict.

mod given;
mod role;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use given::{Given, Keeper, Kept};
pub use role::Role;

use crate::{
    capacity,
    manifest::{Ec2, Networking},
    name::{ComponentName, Digest},
    rollout::Limits,
    task::{Placement, Source, TaskDefinition, Wanted},
};

/// The media types under which an image is asked for: what ECS can run.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-manifest-formats.html>
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The media types of what tells an image's platform: its configuration.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// How many bytes an image's configuration has at most, so that it is read.
pub const LARGEST_CONFIGURATION: usize = 1 << 20;

/// What a rollout needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs<'a> {
    /// The service.
    pub service: &'a ComponentName,
    /// The image.
    pub source: Source<'a>,
    /// The architecture of its tasks, as images name it: `amd64` or `arm64`.
    pub architecture: &'static str,
    /// The ARN of the role with which ECS starts its tasks.
    pub execution_role: &'a str,
    /// The ARN of its containers' own role.
    pub task_role: &'a str,
    /// The ARN of the role with which ECS moves requests from old tasks to new ones, where it does.
    pub infrastructure_role: Option<&'a str>,
    /// The secrets and parameters that its containers are given, by their ARNs.
    pub given: BTreeMap<String, Given>,
    /// The log groups its containers write to.
    pub log_groups: BTreeSet<String>,
    /// The subnets in which each of its tasks takes an address of its own.
    pub subnets: BTreeSet<String>,
    /// How many tasks it has by the manifest.
    pub tasks: u32,
    /// How many of them, and beside them, run meanwhile.
    pub limits: Limits,
    /// The alarms that end it when they go off.
    pub alarms: BTreeSet<String>,
    /// The room that one more task takes on an instance, where tasks run on instances and a new one starts beside an old one.
    pub room: Option<Room<'a>>,
}

/// The room that one more task takes on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room<'a> {
    /// The instances.
    pub ec2: &'a Ec2,
    /// CPU units.
    pub cpu: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Whether all tasks start beside the old ones before one of those stops.
    pub for_all: bool,
}

impl<'a> Needs<'a> {
    /// What a release needs, by its task definitions: the service's own, and its migration's where it has one.
    #[must_use]
    pub fn of(wanted: &Wanted<'a>, tasks: &[TaskDefinition], placement: &Placement) -> Needs<'a> {
        let requests: Vec<Value> = tasks.iter().map(TaskDefinition::request).collect();
        let is_arm = requests.first().is_some_and(|task| task["runtimePlatform"]["cpuArchitecture"] == "ARM64");
        let containers = requests.iter().flat_map(|task| items(&task["containerDefinitions"]));
        let limits = Limits::of(wanted.service);
        // Where an old task may go first, its room is the new one's.
        let beside = limits.spare(wanted.service.tasks()) == 0;
        let shifts = wanted.service.rollout.shifts();
        Needs {
            service: wanted.name,
            source: wanted.source,
            architecture: if is_arm { "arm64" } else { "amd64" },
            execution_role: &wanted.outputs.execution_role,
            task_role: &wanted.outputs.task_role,
            infrastructure_role: wanted.outputs.alternate.as_ref().filter(|_| shifts).map(|it| it.role.as_str()),
            given: given::of(wanted, &requests),
            log_groups: containers.filter_map(|container| log_group(&container["logConfiguration"])).collect(),
            subnets: placement.interfaces.as_ref().map(|own| own.subnets.clone()).unwrap_or_default(),
            tasks: wanted.service.tasks(),
            limits,
            alarms: wanted.service.rollout.alarms.iter().map(ToString::to_string).collect(),
            room: wanted.spec.cluster.ec2.as_ref().filter(|_| beside).map(|ec2| Room {
                ec2,
                cpu: wanted.service.cpu,
                memory: wanted.service.memory,
                for_all: shifts,
            }),
        }
    }
}

/// The items of a list; a single value is a list of one, nothing is an empty one.
fn items(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    }
}

/// The log group that must be there: one that the container does not make itself.
fn log_group(configuration: &Value) -> Option<String> {
    let options = &configuration["options"];
    let own = configuration["logDriver"] == "awslogs" && options["awslogs-create-group"] != "true";
    own.then(|| options["awslogs-group"].as_str().map(str::to_owned)).flatten()
}

/// What is there of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The image.
    pub image: Image,
    /// The role with which ECS starts tasks.
    pub execution_role: Role,
    /// The containers' own role.
    pub task_role: Role,
    /// The role with which ECS moves requests.
    pub infrastructure_role: Role,
    /// What is known of the secrets and parameters, by the ARNs that the task names.
    pub kept: BTreeMap<String, Kept>,
    /// Those of them that the execution role may not read.
    pub unreadable: BTreeSet<String>,
    /// The log groups that are not there.
    pub missing_log_groups: BTreeSet<String>,
    /// The service as it runs now; none where it was never made.
    pub standing: Option<Standing>,
    /// The subnets that are there.
    pub subnets: Vec<Subnet>,
    /// The instances that take tasks.
    pub instances: Vec<Instance>,
    /// Those of the alarms that are there, and whether each is on.
    pub alarms: BTreeMap<String, bool>,
}

/// What a registry says of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Image {
    /// It is another registry's, and nobody asked.
    #[default]
    Elsewhere,
    /// It is not there, in the registry's words.
    Missing(String),
    /// It is there.
    There(Stored),
}

/// An image in its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its manifest.
    pub manifest: String,
    /// Its configuration, where the manifest names one and it was read.
    pub configuration: Option<String>,
}

/// A service that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many tasks it should have now.
    pub desired: u32,
    /// Whether a deployment is under way; then what is free now is not what will be.
    pub deploying: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// How many addresses of it are free.
    pub free: u32,
}

/// An instance that takes tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// CPU units that are free, where ECS says.
    pub cpu: Option<u32>,
    /// Memory in MiB that is free, where ECS says.
    pub memory: Option<u32>,
    /// How many tasks are on it.
    pub tasks: u32,
    /// Whether it gives tasks more network interfaces than its type has, as a trunk.
    pub trunk: bool,
}

/// Something that keeps the rollout from beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is the image's own fault.
    pub of_image: bool,
    /// What, where, and what to do.
    pub what: String,
}

/// Everything that keeps the rollout from beginning. `again` is whether the image is live already: then nothing may be left to
/// do, and room for more tasks is not asked for.
#[must_use]
pub fn findings(needs: &Needs<'_>, facts: &Facts, again: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Source::Repository { repository, digest } = needs.source {
        let refused = match &facts.image {
            Image::Elsewhere => None,
            Image::Missing(why) => Some(format!(
                "the image {repository}@{digest} cannot be pulled ({why}); push it again, or release one that is there"
            )),
            Image::There(image) => {
                image.runs_as(digest, needs.architecture).err().map(|platforms| wrong_platform(needs, &platforms))
            }
        };
        found.extend(refused.map(|what| Finding { of_image: true, what }));
    }
    let mut around = Vec::new();
    around.extend(role::finding("execution role", needs.execution_role, &facts.execution_role, role::TASKS));
    around.extend(role::finding("task role", needs.task_role, &facts.task_role, role::TASKS));
    let moves = needs.infrastructure_role.unwrap_or_default();
    around.extend(role::finding("infrastructure role", moves, &facts.infrastructure_role, role::ECS));
    around.extend(given::findings(needs, facts));
    around.extend(facts.missing_log_groups.iter().map(|group| {
        format!("the log group {group} is not there, and no container starts without it; `shipway apply --repair` makes it again")
    }));
    let there: BTreeSet<&str> = facts.subnets.iter().map(|subnet| subnet.id.as_str()).collect();
    around.extend(
        needs
            .subnets
            .iter()
            .filter(|id| !there.contains(id.as_str()))
            .map(|id| format!("the subnet {id} of its tasks is not there; `shipway apply --repair` makes it again")),
    );
    around.extend(alarms(needs, facts));
    if !again && !facts.standing.is_some_and(|standing| standing.deploying) {
        around.extend(without_addresses(needs, facts));
        around.extend(without_room(needs, facts));
    }
    found.extend(around.into_iter().map(|what| Finding { of_image: false, what }));
    found
}

/// The configuration of an image that is no index: what tells its platform, where the manifest does not. None where it is not one,
/// or larger than any is.
#[must_use]
pub fn configuration_of(manifest: &str) -> Option<Digest> {
    let manifest: Value = serde_json::from_str(manifest).ok()?;
    let config = &manifest["config"];
    let is_known = CONFIGURATIONS.iter().any(|known| config["mediaType"] == *known);
    let is_read = config["size"].as_u64().is_some_and(|size| size <= LARGEST_CONFIGURATION as u64);
    (is_known && is_read).then(|| config["digest"].as_str()?.parse().ok()).flatten()
}

impl Stored {
    /// The image of this architecture: itself, or one of those that an index lists. Where nothing tells, it is taken for the right one.
    ///
    /// # Errors
    /// The platforms that it is for, where the one is not among them.
    pub fn runs_as(&self, digest: &Digest, architecture: &str) -> Result<Digest, Vec<String>> {
        let manifest: Value = serde_json::from_str(&self.manifest).unwrap_or_default();
        let Some(images) = manifest["manifests"].as_array() else {
            let configuration = self.configuration.as_deref().unwrap_or_default();
            let platform: Value = serde_json::from_str(configuration).unwrap_or_default();
            let unknown = platform["architecture"].is_null();
            return if unknown || is_for(&platform, architecture) {
                Ok(digest.clone())
            } else {
                Err(vec![told(&platform)])
            };
        };
        let of = |image: &Value| image["digest"].as_str().and_then(|digest| digest.parse().ok());
        if let Some(found) = images.iter().find(|image| is_for(&image["platform"], architecture)).and_then(of) {
            return Ok(found);
        }
        // Without a platform nobody knows: whatever pulls it decides.
        if images.iter().any(|image| image["platform"]["architecture"].is_null()) {
            return Ok(digest.clone());
        }
        // What builders attach about an image has a platform too.
        let platforms =
            images.iter().map(|image| told(&image["platform"])).filter(|platform| platform != "unknown/unknown");
        let platforms: BTreeSet<String> = platforms.collect();
        Err(platforms.into_iter().collect())
    }
}

fn is_for(platform: &Value, architecture: &str) -> bool {
    platform["os"] == "linux" && platform["architecture"] == architecture
}

fn told(platform: &Value) -> String {
    let text = |key: &str| platform[key].as_str().unwrap_or("unknown").to_owned();
    format!("{}/{}", text("os"), text("architecture"))
}

fn wrong_platform(needs: &Needs<'_>, platforms: &[String]) -> String {
    let has = if platforms.is_empty() { "no platform".to_owned() } else { platforms.join(" and ") };
    format!(
        "the image is for {has}, and the tasks of `{}` are linux/{architecture}; build it with `--platform linux/{architecture}`, \
         or change what the service runs on",
        needs.service,
        architecture = needs.architecture,
    )
}

/// ECS does not watch an alarm that is on as a deployment begins, lest it stop the way out; it would be no gate.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-alarm-failure.html>
fn alarms(needs: &Needs<'_>, facts: &Facts) -> Vec<String> {
    let service = needs.service;
    let told = |name: &String| match facts.alarms.get(name) {
        Some(false) => None,
        Some(true) => Some(format!(
            "the alarm {name} is on, so ECS would not watch it; put right what it tells, go back to an earlier release of \
             `{service}`, or take it out of its `rollout.alarms`"
        )),
        None => {
            Some(format!("there is no alarm {name}; make it, or take it out of the `rollout.alarms` of `{service}`"))
        }
    };
    needs.alarms.iter().filter_map(told).collect()
}

/// A rollout starts new tasks beside the old ones, spread over the subnets: all at once, where the service's limits let it.
fn without_addresses(needs: &Needs<'_>, facts: &Facts) -> Vec<String> {
    let tasks = facts.standing.map_or(needs.tasks, |standing| standing.desired);
    let new = facts.standing.map_or(tasks, |_| needs.limits.surge(tasks));
    let share = new.div_ceil(u32::try_from(needs.subnets.len()).unwrap_or(u32::MAX).max(1));
    let short = facts.subnets.iter().filter(|subnet| needs.subnets.contains(&subnet.id) && subnet.free < share);
    short
        .map(|Subnet { id, free }| {
            format!(
                "the subnet {id} has {free} free addresses, and a rollout of {tasks} tasks needs {share} there; end what uses \
                 them, or give the network larger subnets"
            )
        })
        .collect()
}

/// A rollout goes on as long as one new task at a time has room, or, where requests go over only when all new tasks are well, all of
/// them; where more instances may come, they have.
fn without_room(needs: &Needs<'_>, facts: &Facts) -> Option<String> {
    let room = needs.room?;
    let most = room.ec2.max;
    let tasks = facts.standing.map_or(needs.tasks, |standing| standing.desired);
    let wanted = if room.for_all { tasks.max(1) } else { 1 };
    let fit = facts.instances.iter().map(|instance| instance.holds(room)).fold(0, u32::saturating_add);
    if facts.instances.len() < most as usize || fit >= wanted {
        return None;
    }
    let best = |of: fn(&Instance) -> Option<u32>| facts.instances.iter().filter_map(of).max().unwrap_or(0);
    let interfaces = match room.ec2.networking {
        Networking::Awsvpc => ", and a network interface",
        Networking::Bridge => "",
    };
    let is_full = if fit == 0 {
        format!("none of the {} instances has room for one more task", facts.instances.len())
    } else {
        format!("the {} instances have room for {fit} of the {wanted} new tasks", facts.instances.len())
    };
    Some(format!(
        "{is_full} of `{}`, which takes {} CPU units, {} MiB{interfaces}; the most that \
         is free on one is {} CPU units and {} MiB, and `cluster.ec2.max` is {most}; raise it, take a larger `instance_type`, or \
         end what runs there",
        needs.service,
        room.cpu,
        room.memory,
        best(|instance| instance.cpu),
        best(|instance| instance.memory),
    ))
}

impl Instance {
    /// How many more tasks it has room for.
    fn holds(&self, room: Room<'_>) -> u32 {
        let interfaces = match (room.ec2.networking, capacity::size_of(&room.ec2.instance_type)) {
            (Networking::Awsvpc, Some(size)) if !self.trunk => size.interfaces_for_tasks().saturating_sub(self.tasks),
            _ => u32::MAX,
        };
        let of = |free: Option<u32>, each: u32| free.and_then(|free| free.checked_div(each)).unwrap_or(u32::MAX);
        interfaces.min(of(self.cpu, room.cpu)).min(of(self.memory, room.memory))
    }
}

#[cfg(test)]
mod tests;
