//! What the manifest's references stand for.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Observed, StackName, Value, Wish, has_http, text};
use crate::{
    manifest::spec::{CacheAttribute, DatabaseAttribute, NetworkAttribute, Reference, ServiceAttribute},
    network::NetworkOutputs,
};

impl Wish<'_> {
    /// What a reference stands for, as a stack's parameter. Nothing where the manifest has no such thing, and for secrets: no
    /// parameter has one.
    pub(super) fn value_of(&self, reference: &Reference) -> Option<Value> {
        let (spec, names) = (self.spec, self.names());
        let output = |stack: StackName, key: &'static str| Value::Output { stack, key: Cow::Borrowed(key) };
        Some(match reference {
            Reference::Database { name, database, attribute } => {
                let wanted = spec.databases.get(name)?;
                match attribute {
                    DatabaseAttribute::Host => output(names.database(name), "Host"),
                    DatabaseAttribute::Port => output(names.database(name), "Port"),
                    DatabaseAttribute::User => text(String::from(wanted.user.clone())),
                    DatabaseAttribute::Name => match database {
                        Some(database) => text(database),
                        None => text(super::data::database_names(spec, wanted).first()?.as_str()),
                    },
                    DatabaseAttribute::Url | DatabaseAttribute::Password => return None,
                }
            }
            Reference::Cache { name, attribute } => {
                spec.caches.get(name)?;
                output(
                    names.cache(name),
                    match attribute {
                        CacheAttribute::Url => "Url",
                        CacheAttribute::Host => "Host",
                        CacheAttribute::Port => "Port",
                    },
                )
            }
            Reference::Bucket(name) => {
                spec.buckets.get(name)?;
                output(names.bucket(name), "Bucket")
            }
            Reference::Service { name, attribute } => {
                let service = spec.services.get(name).filter(|service| service.discovery)?;
                let host = format!("{name}.{}-{}.internal", spec.app, self.environment);
                match attribute {
                    ServiceAttribute::Host => text(host),
                    ServiceAttribute::Url => text(format!("http://{host}:{}", service.port?)),
                }
            }
            Reference::SiteUrl(name) => match spec.sites.get(name)?.hosts.first() {
                Some(host) => text(format!("https://{}", host.as_str())),
                None => Value::Joined(vec![text("https://"), output(names.site(name), "Domain")]),
            },
            Reference::LoadBalancerUrl => match self.load_balancer_host() {
                _ if !has_http(spec) => return None,
                Some(host) => text(format!("https://{host}")),
                None => Value::Joined(vec![text("http://"), output(names.load_balancer(), "DnsName")]),
            },
            Reference::Network(attribute) => self.of_network(|network| of_network(network, *attribute)),
            Reference::Stack { name, output } => {
                spec.stacks.get(name)?;
                Value::Output { stack: names.own(name), key: Cow::Owned(output.clone()) }
            }
            Reference::Secret(_) => return None,
        })
    }

    /// What references to the network, to services, the load balancer and sites, and to the user's own stacks stand for, by their
    /// text. Of the own stacks all that they give: what their templates give is nowhere else written down.
    pub(super) fn values(&self, observed: &Observed) -> BTreeMap<String, String> {
        let (spec, names) = (self.spec, self.names());
        let network = self.network.into_iter().flat_map(|network| {
            let value = |attribute: &NetworkAttribute| {
                (Reference::Network(*attribute).to_string(), of_network(network, *attribute))
            };
            NetworkAttribute::ALL.iter().map(value)
        });
        let services = spec.services.keys().flat_map(|name| {
            let reference =
                |attribute: &ServiceAttribute| Reference::Service { name: name.clone(), attribute: *attribute };
            ServiceAttribute::ALL.iter().map(reference)
        });
        let sites = spec.sites.keys().map(|name| Reference::SiteUrl(name.clone()));
        let ways_in = services
            .chain([Reference::LoadBalancerUrl])
            .chain(sites)
            .filter_map(|reference| Some((reference.to_string(), self.value_of(&reference)?.known(observed)?)));
        let own = spec.stacks.keys().flat_map(|name| {
            let outputs = observed.get(&names.own(name)).map(|stack| &stack.outputs).into_iter().flatten();
            outputs.map(move |(key, value)| (format!("stacks.{name}.{key}"), value.clone()))
        });
        network.chain(ways_in).chain(own).collect()
    }
}

fn of_network(network: &NetworkOutputs, attribute: NetworkAttribute) -> String {
    match attribute {
        NetworkAttribute::Vpc => network.vpc.clone(),
        NetworkAttribute::PublicSubnets => network.public_subnets.join(","),
        NetworkAttribute::PrivateSubnets => network.private_subnets.join(","),
        NetworkAttribute::IsolatedSubnets => network.isolated_subnets.join(","),
        NetworkAttribute::ServiceGroup => network.service_group.clone(),
    }
}
