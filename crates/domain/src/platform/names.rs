//! What stacks are called.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::Concern;
use crate::{
    manifest::spec::DatabaseName,
    name::{AppName, ComponentName, EnvironmentName, RepositoryName},
};

/// A stack's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackName(String);

impl StackName {
    /// The name of a stack that is there.
    pub fn of_existing(name: &str) -> StackName {
        StackName(name.to_owned())
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The stacks that an app's environment has, by name.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The app.
    pub app: &'a AppName,
    /// The environment.
    pub environment: &'a EnvironmentName,
}

impl Names<'_> {
    fn of(self, concern: fmt::Arguments<'_>) -> StackName {
        StackName(format!("shipway-{}-{}-{concern}", self.app, self.environment))
    }

    /// The stack of a repository. Environments of an app may share one, so it is named for none of them. A name that is more
    /// than a stack's name can hold (letters, digits, hyphens, 128 characters) is told apart by its hash.
    pub fn repository(self, repository: &RepositoryName) -> StackName {
        const MOST: usize = 80;
        let name = repository.as_str();
        let simple = name.len() <= MOST && !name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let slug = if simple {
            name.to_owned()
        } else {
            let slug: String =
                name.chars().take(MOST).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            format!("{}-{}", slug.trim_end_matches('-'), short_hash(name))
        };
        StackName(format!("shipway-{}-repository-{slug}", self.app))
    }

    /// Whether a stack of this name is one of the app's repositories.
    pub(super) fn is_repository(self, stack: &StackName) -> bool {
        stack.as_str().starts_with(&format!("shipway-{}-repository-", self.app))
    }

    /// The stack of the cluster.
    pub fn cluster(self) -> StackName {
        self.of(format_args!("cluster"))
    }

    /// The stack of the load balancer.
    pub fn load_balancer(self) -> StackName {
        self.of(format_args!("load-balancer"))
    }

    /// The stack of a service.
    pub fn service(self, service: &ComponentName) -> StackName {
        self.of(format_args!("service-{service}"))
    }

    /// The stack of a site.
    pub fn site(self, site: &ComponentName) -> StackName {
        self.of(format_args!("site-{site}"))
    }

    /// The stack of the instances that tasks run on.
    pub fn instances(self) -> StackName {
        self.of(format_args!("instances"))
    }

    /// The stack of the load balancer's certificate.
    pub fn certificate(self) -> StackName {
        self.of(format_args!("certificate"))
    }

    /// The stack of the sites' certificate. Its name begins with no site's.
    pub fn site_certificate(self) -> StackName {
        self.of(format_args!("sites-certificate"))
    }

    /// The stack of the DNS records of one host: the domain itself, or one label below it.
    pub fn records(self, host: &str, domain: &str) -> StackName {
        let label = host.strip_suffix(domain).unwrap_or(host).trim_end_matches('.').replace('.', "-");
        match label.as_str() {
            "" => self.of(format_args!("records")),
            label => self.of(format_args!("records-{label}")),
        }
    }

    /// The stack of the bucket that the load balancer logs to.
    pub fn access_logs(self) -> StackName {
        self.of(format_args!("access-logs"))
    }

    /// The stack of a database.
    pub fn database(self, database: &ComponentName) -> StackName {
        self.of(format_args!("database-{database}"))
    }

    /// The stack of the secret with the URL of one database on a server. No key has two hyphens in a row, so no two of them
    /// share a name; one that is more than a stack's name can hold is told apart by its hash.
    pub fn database_url(self, database: &ComponentName, name: &DatabaseName) -> StackName {
        const MOST: usize = 48;
        let mut slug = name.as_str().replace('_', "-");
        if slug.len() > MOST {
            slug.truncate(MOST);
            slug = format!("{slug}-{}", short_hash(name.as_str()));
        }
        self.of(format_args!("url-{database}--{slug}"))
    }

    /// The stack of a database's weekly export.
    pub fn export(self, database: &ComponentName) -> StackName {
        self.of(format_args!("export-{database}"))
    }

    /// The stack of a cache.
    pub fn cache(self, cache: &ComponentName) -> StackName {
        self.of(format_args!("cache-{cache}"))
    }

    /// The stack of a bucket.
    pub fn bucket(self, bucket: &ComponentName) -> StackName {
        self.of(format_args!("bucket-{bucket}"))
    }

    /// The stack of a generated secret.
    pub fn secret(self, secret: &ComponentName) -> StackName {
        self.of(format_args!("secret-{secret}"))
    }

    /// The stack of an email identity.
    pub fn email(self, email: &ComponentName) -> StackName {
        self.of(format_args!("email-{email}"))
    }

    /// The stack of the namespace in which services find each other.
    pub fn discovery(self) -> StackName {
        self.of(format_args!("discovery"))
    }

    /// The stack of the network's log.
    pub fn flow_logs(self) -> StackName {
        self.of(format_args!("flow-logs"))
    }

    /// The stack of who is told of alarms.
    pub fn notifications(self) -> StackName {
        self.of(format_args!("notifications"))
    }

    /// The stack of a service's alarms.
    pub fn alarms_of_service(self, service: &ComponentName) -> StackName {
        self.of(format_args!("alarms-service-{service}"))
    }

    /// The stack of a database's alarms.
    pub fn alarms_of_database(self, database: &ComponentName) -> StackName {
        self.of(format_args!("alarms-database-{database}"))
    }

    /// The stack of the dashboard.
    pub fn dashboard(self) -> StackName {
        self.of(format_args!("dashboard"))
    }

    /// One of the user's own stacks.
    pub fn own(self, stack: &ComponentName) -> StackName {
        self.of(format_args!("own-{stack}"))
    }

    /// What a stack of this name is for, where it is one of the environment's own.
    pub fn concern_of(self, stack: &StackName) -> Option<Concern> {
        let prefix = self.of(format_args!(""));
        let what = stack.as_str().strip_prefix(prefix.as_str())?;
        let of_one: [(&str, Concern); 12] = [
            ("records-", Concern::Records),
            ("service-", Concern::Service),
            ("site-", Concern::Site),
            ("database-", Concern::Database),
            ("url-", Concern::Secret),
            ("export-", Concern::Export),
            ("cache-", Concern::Cache),
            ("bucket-", Concern::Bucket),
            ("secret-", Concern::Secret),
            ("email-", Concern::Email),
            ("alarms-", Concern::Alarms),
            ("own-", Concern::Own),
        ];
        Some(match what {
            "cluster" => Concern::Cluster,
            "instances" => Concern::Instances,
            "load-balancer" => Concern::LoadBalancer,
            "certificate" | "sites-certificate" => Concern::Certificate,
            "records" => Concern::Records,
            "access-logs" => Concern::AccessLogs,
            "discovery" => Concern::Discovery,
            "flow-logs" => Concern::FlowLogs,
            "notifications" => Concern::Notifications,
            "dashboard" => Concern::Dashboard,
            _ => of_one.iter().find(|(prefix, _)| what.starts_with(prefix))?.1,
        })
    }

    /// The name of a bucket for services' files, in an account. Where it would be too long, a hash takes the place of its end.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
    pub fn bucket_name(self, bucket: &ComponentName, account: &str) -> String {
        const MOST: usize = 63;
        let whole = format!("{}-{}-{bucket}", self.app, self.environment);
        let room = MOST.saturating_sub("shipway-bucket--".len() + account.len());
        if whole.len() <= room {
            return format!("shipway-bucket-{whole}-{account}");
        }
        let hash = short_hash(&whole);
        let start: String = whole.chars().take(room.saturating_sub(hash.len() + 1)).collect();
        format!("shipway-bucket-{}-{hash}-{account}", start.trim_end_matches('-'))
    }

    /// The name of the capacity provider of the environment's instances: one that ECS takes.
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateCapacityProvider.html>
    pub fn capacity_provider(self) -> String {
        let name = format!("{}-{}", self.app, self.environment);
        let reserved = ["aws", "ecs", "fargate"].iter().any(|word| name.starts_with(word));
        if reserved { format!("shipway-{name}") } else { name }
    }

    /// The load balancer's own name: at most 32 characters, not beginning with `internal-`.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html>
    pub(super) fn of_load_balancer(self) -> String {
        const MOST: usize = 32;
        let name = format!("{}-{}", self.app, self.environment);
        let fits = name.len() <= MOST && !name.starts_with("internal-");
        if fits {
            return name;
        }
        let hash = short_hash(&name);
        let start = name.trim_start_matches("internal-");
        let start: String = start.chars().take(MOST - hash.len() - 1).collect();
        format!("{}-{hash}", start.trim_end_matches('-'))
    }
}

pub(super) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
