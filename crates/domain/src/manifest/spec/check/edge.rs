//! The way in: hosts, certificates, the load balancer.

use std::collections::BTreeMap;

use super::{Checked, Manifest, refuse, under, whole_days};
use crate::manifest::spec::{Admitted, Certificate, Domain, Email, HostName, Spec};

/// From where CloudFront takes certificates.
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cnames-and-https-requirements.html>
const REGION_OF_SITES: &str = "us-east-1";

/// What a load balancer's idle timeout can be, in seconds.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html>
const LONGEST_IDLE: u32 = 4000;

/// What WAF counts at least.
/// <https://docs.aws.amazon.com/waf/latest/APIReference/API_RateBasedStatement.html>
const LEAST_RATE: u32 = 10;
const MOST_RATE: u32 = 2_000_000_000;

/// A site's files and previews are kept no longer.
const LONGEST_KEEP: u32 = 365;

pub(super) fn check(manifest: &Manifest<'_>) -> Checked {
    load_balancer(manifest).map_err(under("load_balancer"))?;
    sites(manifest)?;
    hosts(manifest.spec)?;
    match &manifest.spec.domain {
        Some(domain) => check_domain(manifest, domain).map_err(under("domain")),
        None => Ok(()),
    }
}

fn load_balancer(manifest: &Manifest<'_>) -> Checked {
    let settings = &manifest.spec.load_balancer;
    if !manifest.has_http() {
        let keys = [
            ("from", settings.from != Admitted::Internet),
            ("access_logs", settings.access_logs.is_some()),
            ("idle_timeout", settings.idle_timeout.is_some()),
            ("waf", settings.waf.is_some()),
        ];
        if let Some((key, _)) = keys.into_iter().find(|(_, given)| *given) {
            return refuse(key, "no service has `http`, so there is no load balancer; leave this out");
        }
    }
    if let Some(period) = settings.access_logs {
        whole_days("access_logs", period, 3653)?;
    }
    if settings.idle_timeout.is_some_and(|timeout| timeout.seconds() > LONGEST_IDLE) {
        return refuse("idle_timeout", format!("{LONGEST_IDLE}s at most"));
    }
    match settings.waf {
        Some(waf) if !(LEAST_RATE..=MOST_RATE).contains(&waf.rate) => {
            refuse("waf.rate", format!("{LEAST_RATE} to {MOST_RATE} requests in five minutes"))
        }
        _ => Ok(()),
    }
}

fn sites(manifest: &Manifest<'_>) -> Checked {
    for (name, site) in &manifest.spec.sites {
        let path = |key: &str| format!("sites.{name}.{key}");
        if !site.backend.is_empty() && !manifest.has_http() {
            let message = "no service has `http`, so there is no load balancer that these paths could go to";
            return refuse(path("backend"), message);
        }
        for (key, period) in [("keep", site.keep), ("previews", site.previews)] {
            if period.days() > LONGEST_KEEP {
                return refuse(path(key), format!("{} is more than {LONGEST_KEEP}d", String::from(period)));
            }
        }
    }
    Ok(())
}

/// Every host is the domain or one label before it, and leads to one place.
fn hosts(spec: &Spec) -> Checked {
    let mut of_services = BTreeMap::new();
    for (name, service) in &spec.services {
        if let Some(host) = service.http.as_ref().and_then(|http| http.host.as_ref()) {
            let path = format!("services.{name}.http.host");
            in_domain(spec, &path, host)?;
            of_services.entry(host).or_insert(path);
        }
    }
    let mut of_sites: BTreeMap<&HostName, String> = BTreeMap::new();
    for (name, site) in &spec.sites {
        for (index, host) in site.hosts.iter().enumerate() {
            let path = format!("sites.{name}.hosts[{index}]");
            in_domain(spec, &path, host)?;
            if let Some(other) = of_services.get(host).or_else(|| of_sites.get(host)) {
                return refuse(path, format!("`{host}` is `{other}` already, and a name leads to one place"));
            }
            of_sites.insert(host, path);
        }
    }
    Ok(())
}

fn in_domain(spec: &Spec, path: &str, host: &HostName) -> Checked {
    let host = host.as_str();
    let Some(domain) = &spec.domain else {
        return refuse(path, "`domain` is missing: it says whose name this is, and its certificate");
    };
    let name = domain.name.as_str();
    let below = host.strip_suffix(name).and_then(|rest| rest.strip_suffix('.'));
    if host == name || below.is_some_and(|label| !label.contains('.')) {
        return Ok(());
    }
    refuse(path, format!("`{host}` is neither `{name}` nor one label before it: the certificate does not cover it"))
}

fn check_domain(manifest: &Manifest<'_>, domain: &Domain) -> Checked {
    let spec = manifest.spec;
    let with_hosts = spec.sites.values().any(|site| !site.hosts.is_empty());
    // The records that confirm a sender are made in the zone.
    let within = |sender: &HostName| {
        let above = sender.as_str().strip_suffix(domain.name.as_str());
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    let with_email =
        domain.zone.is_some() && spec.email.values().any(|email| matches!(email, Email::Domain(name) if within(name)));
    if !manifest.has_http() && !with_hosts && !with_email {
        return refuse("", "nothing uses it: no service has `http`, no site has `hosts`; leave it out");
    }
    let certificates = [
        ("certificate", &domain.certificate, manifest.has_http(), "no service has `http`"),
        ("site_certificate", &domain.site_certificate, with_hosts, "no site has `hosts`"),
    ];
    for (key, certificate, used, why) in certificates {
        match certificate {
            Certificate::Auto if used && domain.zone.is_none() => {
                let message = "`zone` is missing: a certificate is issued by records in it; or give the ARN of one";
                return refuse(if manifest.gives(&format!("domain.{key}")) { key } else { "" }, message);
            }
            Certificate::Arn(_) if !used => return refuse(key, format!("{why}, so nothing uses it; leave it out")),
            Certificate::Auto | Certificate::Arn(_) => {}
        }
    }
    match domain.site_certificate.region() {
        Some(region) if region != REGION_OF_SITES => refuse(
            "site_certificate",
            format!(
                "this one is in {region}, and CloudFront takes certificates from {REGION_OF_SITES} alone; issue one there"
            ),
        ),
        _ => Ok(()),
    }
}

/// A load balancer's certificate that is in another region than the load balancer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "domain.certificate: it is in {given}, and the load balancer in {wanted} takes certificates from there alone; give one of \
     {wanted}, or `auto`"
)]
pub struct WrongRegion {
    given: String,
    wanted: String,
}

impl Spec {
    /// What reading a manifest cannot know: whether the load balancer's certificate is in the region that this is made in.
    ///
    /// # Errors
    /// If it is in another one.
    pub fn check_region(&self, region: &str) -> Result<(), WrongRegion> {
        match self.domain.as_ref().and_then(|domain| domain.certificate.region()) {
            Some(given) if given != region => Err(WrongRegion { given: given.to_owned(), wanted: region.to_owned() }),
            _ => Ok(()),
        }
    }
}
