//! What a manifest says of the way in: the load balancer, domains and certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    network::checked_text,
    service::HostName,
    unit::{Period, Timeout},
};

/// The load balancer, which is there where a service has `http`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancer {
    /// Who may reach it; anybody unless given.
    #[serde(default)]
    pub from: Admitted,
    /// Whether each request is logged to a bucket, and how long the logs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<Period>,
    /// After what time without data a connection is closed; 60 seconds unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Timeout>,
    /// A web application firewall before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waf: Option<Waf>,
}

/// Who may reach the load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Admitted {
    /// Anybody.
    #[default]
    Internet,
    /// CloudFront alone, by AWS's list of its addresses: a site's `backend` still reaches it, nobody reaches it around that.
    Cloudfront,
}

/// A web application firewall with AWS's own rules: common attacks, known bad inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waf {
    /// How many requests one address may send in five minutes; 2000 unless given, 10 at least.
    #[serde(default = "default_rate")]
    pub rate: u32,
}

fn default_rate() -> u32 {
    2000
}

/// The domain that hosts are in, and its certificates. With it, load balancer and sites speak HTTPS, and HTTP leads there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name: `example.com`. Hosts are this or one label before it: certificates are for it and `*.` it.
    pub name: HostName,
    /// The id of its hosted zone in Route 53. With it, the records of all hosts are made; without, somebody makes them
    /// elsewhere: those of services' and sites' hosts, and, where no service has a host, that of
    /// `services-<app>-<environment>.<name>`, by which the load balancer is reached then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The certificate of the load balancer: `auto` (issued; needs `zone`), or the ARN of one in the region.
    #[serde(default)]
    pub certificate: Certificate,
    /// The certificate of sites: `auto` (issued; needs `zone`), or the ARN of one in us-east-1, from where CloudFront takes it.
    #[serde(default)]
    pub site_certificate: Certificate,
}

/// A certificate: issued, or given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(auto|arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+)$"))]
pub enum Certificate {
    /// Issued by ACM and renewed by it.
    #[default]
    Auto,
    /// The one with this ARN.
    Arn(String),
}

impl Certificate {
    /// The region that a given one is in.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        match self {
            Certificate::Auto => None,
            Certificate::Arn(arn) => arn.split(':').nth(3),
        }
    }
}

impl TryFrom<String> for Certificate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Vec<_> = text.split(':').collect();
        match parts.as_slice() {
            ["auto"] => Ok(Certificate::Auto),
            ["arn", _, "acm", region, account, resource]
                if !region.is_empty() && account.len() == 12 && resource.starts_with("certificate/") =>
            {
                Ok(Certificate::Arn(text))
            }
            _ => Err(format!("`{text}` is neither `auto` nor the ARN of a certificate")),
        }
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> String {
        match certificate {
            Certificate::Auto => "auto".to_owned(),
            Certificate::Arn(arn) => arn,
        }
    }
}

checked_text!(
    /// A hosted zone's id.
    ZoneId, "^Z[A-Z0-9]{1,31}$", "a hosted zone's id like Z0123456789ABCDEFGHIJ",
    |text| text.starts_with('Z') && text.len() <= 32 && text.len() > 1 && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
);
