//! Stacks of the way in: the load balancer and its log, sites, certificates and DNS records.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Concern, MOST_PARAMETER_BYTES, PlanError, Value, WantedStack, Wish, has_http, parameters, text};
use crate::{
    edge,
    manifest::spec::{Admitted, Certificate, Domain, Period, Site},
    name::{Component, ComponentName},
};

const LOAD_BALANCER: &str = include_str!("../../../../bootstrap/blueprints/load-balancer.yaml");
const ACCESS_LOGS: &str = include_str!("../../../../bootstrap/blueprints/access-logs.yaml");
const SITE: &str = include_str!("../../../../bootstrap/blueprints/site.yaml");
const CERTIFICATE: &str = include_str!("../../../../bootstrap/blueprints/certificate.yaml");
const RECORDS: &str = include_str!("../../../../bootstrap/blueprints/records.yaml");

/// The region that CloudFront takes certificates from.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cnames-and-https-requirements.html>
const CERTIFICATES_OF_SITES: &str = "us-east-1";

const IDLE_SECONDS: u32 = 60;

/// What the rate of a firewall that is not there is said to be.
const NO_RATE: u32 = 2000;

impl Wish<'_> {
    /// The stacks of the load balancer, of sites and of what both need.
    pub(super) fn edge_stacks(&self) -> Result<Vec<WantedStack>, PlanError> {
        let mut stacks = Vec::new();
        if has_http(self.spec) {
            stacks.push(self.load_balancer());
            stacks.extend(self.spec.load_balancer.access_logs.map(|period| self.access_logs(period)));
        }
        for (name, site) in &self.spec.sites {
            stacks.push(self.site(name, site)?);
        }
        if let Some(domain) = &self.spec.domain {
            stacks.extend(self.certificates(domain));
            stacks.extend(self.records(domain));
        }
        Ok(stacks)
    }

    fn load_balancer(&self) -> WantedStack {
        let wanted = &self.spec.load_balancer;
        let certificate = match &self.spec.domain {
            None => text(""),
            Some(Domain { certificate: Certificate::Arn(arn), .. }) => text(arn),
            Some(Domain { certificate: Certificate::Auto, .. }) => self.certificate(),
        };
        let log_bucket = match wanted.access_logs {
            Some(_) => Value::Output { stack: self.names().access_logs(), key: Cow::Borrowed("Bucket") },
            None => text(""),
        };
        let firewall = match (wanted.waf, wanted.from) {
            (None, _) => "",
            (Some(_), Admitted::Internet) => "IP",
            (Some(_), Admitted::Cloudfront) => "FORWARDED_IP",
        };
        self.blueprint(
            self.names().load_balancer(),
            Concern::LoadBalancer,
            LOAD_BALANCER,
            parameters([
                ("Name", text(self.names().of_load_balancer())),
                ("Subnets", self.of_network(|network| network.public_subnets.join(","))),
                ("SecurityGroup", self.of_network(|network| network.load_balancer_group.clone())),
                ("Certificate", certificate),
                ("IdleTimeout", text(wanted.idle_timeout.map_or(IDLE_SECONDS, |timeout| timeout.seconds()))),
                ("LogBucket", log_bucket),
                ("Firewall", text(firewall)),
                ("Rate", text(wanted.waf.map_or(NO_RATE, |waf| waf.rate))),
            ]),
            true,
        )
    }

    fn access_logs(&self, period: Period) -> WantedStack {
        self.blueprint(
            self.names().access_logs(),
            Concern::AccessLogs,
            ACCESS_LOGS,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Days", text(period.days())),
            ]),
            false,
        )
    }

    /// The load balancer's own host, where there is a domain: what its certificate is for. The first host of a service; where none
    /// has one, a host that nobody else would choose.
    pub(super) fn load_balancer_host(&self) -> Option<String> {
        let domain = self.spec.domain.as_ref()?;
        let mut hosts = self.spec.services.values().filter_map(|service| service.http.as_ref()?.host.as_ref());
        Some(match hosts.next() {
            Some(host) => host.as_str().to_owned(),
            None => format!("services-{}-{}.{}", self.spec.app, self.environment, domain.name.as_str()),
        })
    }

    /// The certificate that is issued in the region, once it is.
    fn certificate(&self) -> Value {
        Value::Output { stack: self.names().certificate(), key: Cow::Borrowed("Certificate") }
    }

    /// The certificates that are issued.
    fn certificates(&self, domain: &Domain) -> Vec<WantedStack> {
        let of_services = has_http(self.spec) && domain.certificate == Certificate::Auto;
        let of_sites =
            domain.site_certificate == Certificate::Auto && self.spec.sites.values().any(|site| !site.hosts.is_empty());
        let at_home = self.place.region == CERTIFICATES_OF_SITES;
        let certificate = |name| {
            self.blueprint(
                name,
                Concern::Certificate,
                CERTIFICATE,
                parameters([("Domain", text(domain.name.as_str())), ("Zone", text(zone(domain)))]),
                false,
            )
        };
        let mut certificates = Vec::new();
        if of_services || (of_sites && at_home) {
            certificates.push(certificate(self.names().certificate()));
        }
        if of_sites && !at_home {
            let certificate = certificate(self.names().site_certificate());
            certificates.push(WantedStack { region: Some(CERTIFICATES_OF_SITES), ..certificate });
        }
        certificates
    }

    /// A stack for each host, so that a new one touches no other's records. Where the domain's zone is not given, somebody makes
    /// them elsewhere.
    fn records(&self, domain: &Domain) -> Vec<WantedStack> {
        if domain.zone.is_none() {
            return Vec::new();
        }
        let output = |stack, key| Value::Output { stack, key: Cow::Borrowed(key) };
        let mut hosts = BTreeMap::new();
        if has_http(self.spec) {
            let of_services = self.spec.services.values().filter_map(|service| service.http.as_ref()?.host.as_ref());
            let of_services = of_services.map(|host| host.as_str().to_owned());
            for host in of_services.chain(self.load_balancer_host()) {
                let stack = self.names().load_balancer();
                hosts.insert(host, (output(stack.clone(), "DnsName"), output(stack, "Zone")));
            }
        }
        // The zone of all distributions.
        // https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-route53-aliastarget.html
        let of_cloudfront = if self.place.partition == "aws-cn" { "Z3RFFRIM2A3IF5" } else { "Z2FDTNDATAQYW2" };
        for (name, site) in &self.spec.sites {
            for host in &site.hosts {
                let target = output(self.names().site(name), "Domain");
                hosts.insert(host.as_str().to_owned(), (target, text(of_cloudfront)));
            }
        }
        let records = hosts.into_iter().map(|(host, (target, target_zone))| {
            self.blueprint(
                self.names().records(&host, domain.name.as_str()),
                Concern::Records,
                RECORDS,
                parameters([
                    ("Host", text(host)),
                    ("Zone", text(zone(domain))),
                    ("Target", target),
                    ("TargetZone", target_zone),
                ]),
                false,
            )
        });
        records.collect()
    }

    fn site(&self, name: &ComponentName, site: &Site) -> Result<WantedStack, PlanError> {
        let fits = |key, json: String| match json.len() {
            bytes if bytes > MOST_PARAMETER_BYTES => {
                Err(PlanError::TooMuchForTheEdge { site: name.clone(), key, bytes })
            }
            _ => Ok(text(json)),
        };
        let backend = |number: usize| text(site.backend.get(number).map_or("", String::as_str));
        let (load_balancer, backend_host) = match site.backend.is_empty() {
            true => (text(""), text("")),
            false => (
                Value::Output { stack: self.names().load_balancer(), key: Cow::Borrowed("DnsName") },
                text(self.load_balancer_host().unwrap_or_default()),
            ),
        };
        let certificate = match &self.spec.domain {
            Some(domain) if !site.hosts.is_empty() => match &domain.site_certificate {
                Certificate::Arn(arn) => text(arn),
                Certificate::Auto if self.place.region == CERTIFICATES_OF_SITES => self.certificate(),
                Certificate::Auto => {
                    Value::Output { stack: self.names().site_certificate(), key: Cow::Borrowed("Certificate") }
                }
            },
            _ => text(""),
        };
        let hosts: Vec<_> = site.hosts.iter().map(|host| host.as_str()).collect();
        let stack = self.blueprint(
            self.names().site(name),
            Concern::Site,
            SITE,
            parameters([
                ("App", text(&self.spec.app)),
                ("Environment", text(self.environment)),
                ("Site", text(name)),
                ("Redirects", fits("redirects", edge::redirects(site))?),
                ("Headers", fits("headers", edge::headers(site))?),
                ("Previews", text(site.previews.days())),
                ("Hosts", text(hosts.join(","))),
                ("Certificate", certificate),
                ("LoadBalancer", load_balancer),
                ("BackendHost", backend_host),
                ("Backend1", backend(0)),
                ("Backend2", backend(1)),
                ("Backend3", backend(2)),
                ("Backend4", backend(3)),
            ]),
            // Where there is a load balancer, it stands in the network.
            !site.backend.is_empty(),
        );
        Ok(WantedStack { tags: self.tags(Component::Site(name.clone())), ..stack })
    }
}

/// The domain's hosted zone. The manifest has it wherever something is made in it.
fn zone(domain: &Domain) -> &str {
    domain.zone.as_ref().map_or("", |zone| zone.as_str())
}
