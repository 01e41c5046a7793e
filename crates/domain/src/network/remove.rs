//! What to do next so that nothing of a network is left. What carries the environment's tags is removed, wherever it is, and
//! nothing else: of a default or given VPC that is the security groups. Each part goes as soon as nothing of ours needs it, so
//! that the whole takes as long as EC2 takes for NAT gateways and endpoints.

use super::{Action, Direction, Group, Observed, Rule, SETTLE_LOOKS, Stage, Step};

/// Decides what to remove next. Once everything it names has been done and looked at, it answers [`Step::Done`].
#[must_use]
pub fn next_removals(observed: &Observed) -> Step<()> {
    if let Some(why) = doubt(observed) {
        return Step::LookAgain(why);
    }
    let mut actions = Vec::new();
    let mut waits = Vec::new();
    let inside = &observed.inside;
    for endpoint in &inside.endpoints {
        match endpoint.stage {
            Stage::Deleting => waits.push(&endpoint.id),
            _ => actions.push(Action::DeleteEndpoint { endpoint: endpoint.id.clone() }),
        }
    }
    for gateway in &inside.nat_gateways {
        match gateway.stage {
            Stage::Deleting => waits.push(&gateway.id),
            _ => actions.push(Action::DeleteNatGateway { gateway: gateway.id.clone() }),
        }
    }
    for table in &inside.tables {
        // A subnet that goes takes its use of the table along, but some wait longer than the table has to.
        for association in &table.associations {
            let (association, table) = (association.id.clone(), table.id.clone());
            actions.push(Action::DisassociateRouteTable { association, table });
        }
        if table.associations.is_empty() {
            actions.push(Action::DeleteRouteTable { table: table.id.clone() });
        }
    }
    for group in &inside.groups {
        remove_group(group, observed, &mut actions);
    }
    for subnet in &inside.subnets {
        let used = inside.nat_gateways.iter().any(|gateway| gateway.subnet == subnet.id)
            || inside.endpoints.iter().any(|endpoint| endpoint.subnets.contains(&subnet.id));
        if !used {
            actions.push(Action::DeleteSubnet { subnet: subnet.id.clone() });
        }
    }
    for address in &observed.addresses {
        if !inside.nat_gateways.iter().any(|gateway| gateway.address.as_ref() == Some(&address.id)) {
            actions.push(Action::ReleaseAddress { address: address.id.clone() });
        }
    }
    for gateway in &observed.gateways {
        match &gateway.vpc {
            None => actions.push(Action::DeleteInternetGateway { gateway: gateway.id.clone() }),
            // EC2 keeps it attached as long as a public address in the VPC is in use.
            Some(vpc) if inside.nat_gateways.is_empty() => {
                let (gateway, vpc) = (gateway.id.clone(), vpc.clone());
                actions.push(Action::DetachInternetGateway { gateway, vpc });
            }
            Some(_) => {}
        }
    }
    let empty = inside.endpoints.is_empty()
        && inside.nat_gateways.is_empty()
        && inside.tables.is_empty()
        && inside.groups.is_empty()
        && inside.subnets.is_empty();
    for vpc in observed.vpcs.iter().filter(|_| empty) {
        if !observed.gateways.iter().any(|gateway| gateway.vpc.as_ref() == Some(&vpc.id)) {
            actions.push(Action::DeleteVpc { vpc: vpc.id.clone() });
        }
    }
    if !actions.is_empty() {
        return Step::Act(actions);
    }
    match waits.as_slice() {
        [] => Step::Done(()),
        waits => Step::Wait(waits.iter().map(|id| format!("{id} is being deleted")).collect::<Vec<_>>().join("; ")),
    }
}

/// A group that another's rule names cannot be deleted: such rules go first.
fn remove_group(group: &Group, observed: &Observed, actions: &mut Vec<Action>) {
    let others = || observed.inside.groups.iter().filter(|other| other.id != group.id);
    for (direction, rules) in [(Direction::Incoming, &group.incoming), (Direction::Outgoing, &group.outgoing)] {
        let rules: Vec<Rule> =
            rules.iter().filter(|rule| others().any(|other| rule.names(&other.id))).cloned().collect();
        if !rules.is_empty() {
            actions.push(Action::Revoke { group: group.id.clone(), direction, rules });
        }
    }
    let named = others().any(|other| other.incoming.iter().chain(&other.outgoing).any(|rule| rule.names(&group.id)));
    let used = observed.inside.endpoints.iter().any(|endpoint| endpoint.groups.contains(&group.id));
    if !named && !used {
        actions.push(Action::DeleteGroup { group: group.id.clone() });
    }
}

/// Why something may be there that EC2 does not show yet, which an earlier release may have made a moment ago. What an earlier
/// pass or a person deleted is not shown either, so this is given up soon.
fn doubt(observed: &Observed) -> Option<String> {
    let progress = &observed.remembered.progress;
    if progress.behind >= SETTLE_LOOKS {
        return None;
    }
    let mut known = progress.made.iter().chain(&progress.inherited);
    if let Some((role, id)) = known.find(|(_, id)| !observed.shows(id)) {
        return Some(format!("{id} ({role}) is not shown by EC2"));
    }
    let asked = progress.asked.iter().find(|role| !observed.shows_one(role));
    asked.map(|role| format!("EC2 may have made {role} without its answer coming through"))
}
