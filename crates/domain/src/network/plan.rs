//! What to do next so that a network stands. Everything is named as soon as what it needs is there, so that the whole takes as
//! long as its longest chain: VPC, internet gateway attached, NAT gateway, route. Only that route waits for a NAT gateway.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, Desired, Direction, Group, NetworkOutputs, Observed, PATIENCE_LOOKS, Party, Peer, Place, Refusal,
    Remembered, Role, Rule, SETTLE_LOOKS, Tier, Vpc,
    adopted::{default_subnets, given_subnets},
    desired::Opening,
    layout::Layout,
    standing::{gateway, group, standing_vpc},
};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// All that can be done now; none of it waits for another of it.
    Act(Vec<Action>),
    /// Nothing: EC2 is at work, and at what.
    Wait(String),
    /// Nothing: EC2 may have made something that it does not show yet, and why that is thought.
    LookAgain(String),
    /// Nothing: all is as it should be.
    Done(T),
}

/// Decides what to do next. Once everything it names has been done and looked at, it answers [`Step::Done`].
pub fn next_actions(desired: &Desired, observed: &Observed) -> Result<Step<NetworkOutputs>, Refusal> {
    let vpc = standing_vpc(desired, observed)?;
    if let Some(why) = doubt(desired, observed)? {
        return Ok(Step::LookAgain(why));
    }
    let mut work = Work::default();
    let (vpc, subnets) = match &desired.place {
        Place::Default => {
            let vpc = vpc.ok_or(Refusal::NoDefaultVpc)?;
            (vpc, BTreeMap::from([(Tier::Public, default_subnets(vpc, observed)?)]))
        }
        Place::Given { vpc: id, subnets } => {
            let vpc = vpc.ok_or_else(|| Refusal::NoSuchVpc { vpc: id.clone() })?;
            (vpc, given_subnets(vpc, subnets, observed)?)
        }
        Place::Own(own) => {
            if let Some(vpc) = vpc.filter(|vpc| vpc.cidr != own.cidr.to_string()) {
                return Err(Refusal::RangeChanged { vpc: vpc.id.clone(), is: vpc.cidr.clone(), wanted: own.cidr });
            }
            let layout = Layout::of(own, observed)?;
            if gateway(vpc, observed).is_none() {
                work.act(Action::CreateInternetGateway);
            }
            layout.plan_addresses(observed, &mut work);
            let Some(vpc) = vpc else {
                work.act(Action::CreateVpc { cidr: own.cidr });
                return Ok(Step::Act(work.actions));
            };
            layout.plan(vpc, desired, observed, &mut work)?;
            (vpc, layout.asked_for(own))
        }
    };
    let mut groups = BTreeMap::new();
    for role in desired.groups.keys() {
        if let Some(group) = group(role, desired, observed)? {
            groups.insert(role, group);
        }
    }
    plan_groups(desired, vpc, &groups, observed, &mut work)?;
    if !work.actions.is_empty() {
        return Ok(Step::Act(work.actions));
    }
    if !work.waits.is_empty() {
        return Ok(Step::Wait(work.waits.join("; ")));
    }
    let id = |role: Role| groups.get(&role).filter(|_| !desired.leaving.contains(&role)).map(|group| group.id.clone());
    let mut subnets = subnets;
    let mut tier = |tier: Tier| subnets.remove(&tier).unwrap_or_default();
    Ok(Step::Done(NetworkOutputs {
        vpc: vpc.id.clone(),
        cidr: vpc.cidr.clone(),
        public_subnets: tier(Tier::Public),
        private_subnets: tier(Tier::Private),
        isolated_subnets: tier(Tier::Isolated),
        load_balancer_group: id(Role::LoadBalancerGroup).unwrap_or_default(),
        service_group: id(Role::ServiceGroup).unwrap_or_default(),
        instance_group: id(Role::InstanceGroup),
        database_group: id(Role::DatabaseGroup),
        cache_group: id(Role::CacheGroup),
    }))
}

/// All that would be done from here to the end if nothing goes wrong, in waves: each needs something of the one before. What
/// is not there yet has its role for an id. EC2's own work is taken for done.
pub fn foreseen(desired: &Desired, observed: &Observed) -> Result<Vec<Vec<Action>>, Refusal> {
    let mut world = observed.clone();
    let mut waves = Vec::new();
    // More waves than the longest chain has links, so that it ends whatever happens.
    for _ in 0..32 {
        match next_actions(desired, &world)? {
            Step::Act(actions) => {
                for action in &actions {
                    let id = action.makes().map(|role| role.to_string()).unwrap_or_default();
                    world = world.with(action, &id);
                }
                waves.push(actions);
            }
            Step::Wait(_) => world = world.settled(),
            // What may be there unseen is not known to be there.
            Step::LookAgain(_) => world.remembered.progress = world.remembered.progress.doubted(),
            Step::Done(_) => break,
        }
    }
    Ok(waves)
}

/// What is gathered while a network is gone through.
#[derive(Default)]
pub(super) struct Work {
    pub(super) actions: Vec<Action>,
    /// What EC2 is at.
    pub(super) waits: Vec<String>,
}

impl Work {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn wait(&mut self, what: &str, id: &str) {
        self.waits.push(format!("{id} is being {what}"));
    }
}

/// Why something may be there that EC2 does not show yet; then nothing is made, for it could be a second one.
fn doubt(desired: &Desired, observed: &Observed) -> Result<Option<String>, Refusal> {
    let Remembered { vpc, progress } = &observed.remembered;
    for (role, id) in &progress.made {
        if !observed.shows(id) {
            if progress.behind >= PATIENCE_LOOKS {
                return Err(Refusal::Gone { role: role.clone(), id: id.clone() });
            }
            return Ok(Some(format!("{id} was made a moment ago; EC2 does not show it yet")));
        }
    }
    if progress.behind >= SETTLE_LOOKS {
        return Ok(None);
    }
    // It was there when an earlier release ended: either EC2 is behind, or somebody deleted it since.
    let lost = progress
        .inherited
        .iter()
        .find(|(role, id)| !role.is_kept_single() && !progress.made.contains_key(role) && !observed.shows(id));
    if let Some((role, id)) = lost {
        return Ok(Some(format!("{id} ({role}) is not shown by EC2")));
    }
    if let Some(role) = progress.asked.iter().find(|role| !observed.shows_one(role)) {
        return Ok(Some(format!("EC2 may have made {role} without its answer coming through")));
    }
    match vpc {
        Some(vpc) if desired.is_own() && !observed.shows(vpc) && !progress.made.contains_key(&Role::Vpc) => {
            Ok(Some(format!("{vpc}, where the environment stands, is not shown by EC2")))
        }
        _ => Ok(None),
    }
}

/// What the security groups still lack, and what they let through that they should not: they are Shipway's, and no rule is
/// left in them that the manifest does not ask for. One that it no longer asks for at all is left alone until the environment
/// is torn down: a stack may still name it.
fn plan_groups(
    desired: &Desired,
    vpc: &Vpc,
    groups: &BTreeMap<&Role, &Group>,
    observed: &Observed,
    work: &mut Work,
) -> Result<(), Refusal> {
    let peers = |party: &Party| -> Result<Option<Vec<Peer>>, Refusal> {
        Ok(match party {
            Party::Anyone => Some(Peer::anyone().into()),
            Party::Range(range) => Some(vec![Peer::Ipv4(range.clone())]),
            Party::CloudFront => {
                Some(vec![Peer::PrefixList(observed.cloudfront.clone().ok_or(Refusal::NoCloudFront)?)])
            }
            Party::Group(role) => groups.get(role).map(|group| vec![Peer::group(&group.id)]),
        })
    };
    // A rule that names another group waits for it, and what is too much waits for all of them.
    let rules = |openings: &BTreeSet<Opening>| -> Result<(BTreeSet<Rule>, bool), Refusal> {
        let (mut rules, mut whole) = (BTreeSet::new(), true);
        for opening in openings {
            match peers(&opening.party)? {
                Some(peers) => rules.extend(peers.into_iter().map(|peer| Rule::tcp(opening.ports, peer))),
                None => whole = false,
            }
        }
        Ok((rules, whole))
    };
    for (role, openings) in &desired.groups {
        let Some(group) = groups.get(role) else {
            let (name, vpc) = (desired.owner.group_name(role), vpc.id.clone());
            work.act(Action::CreateGroup { role: role.clone(), name, vpc });
            continue;
        };
        for (direction, openings) in
            [(Direction::Incoming, &openings.incoming), (Direction::Outgoing, &openings.outgoing)]
        {
            let (wanted, whole) = rules(openings)?;
            if whole {
                plan_rules(group, direction, &wanted, work);
            }
        }
    }
    Ok(())
}

fn plan_rules(group: &Group, direction: Direction, wanted: &BTreeSet<Rule>, work: &mut Work) {
    let there = match direction {
        Direction::Incoming => &group.incoming,
        Direction::Outgoing => &group.outgoing,
    };
    let missing: Vec<Rule> = wanted.difference(there).cloned().collect();
    let surplus: Vec<Rule> = there.difference(wanted).cloned().collect();
    // What takes a rule's place is there before the rule goes, unless nothing can rely on it yet.
    let closes = !surplus.is_empty() && (missing.is_empty() || group.fresh);
    if !missing.is_empty() {
        work.act(Action::Authorize { group: group.id.clone(), direction, rules: missing });
    }
    if closes {
        work.act(Action::Revoke { group: group.id.clone(), direction, rules: surplus });
    }
}
