//! What the stacks of the five systems are given, by their examples' manifests.

use super::*;
use crate::{
    manifest::spec::{Certificate, Reference},
    name::AppName,
};

const NEXT_NEST: &str = include_str!("../../../../../examples/next-nest/shipway.yaml");
const SPA_NEST: &str = include_str!("../../../../../examples/spa-nest/shipway.yaml");
const DOUGUST: &str = include_str!("../../../../../examples/dougust/shipway.yaml");
const FASTAPI_REACT: &str = include_str!("../../../../../examples/fastapi-react/shipway.yaml");
const REX: &str = include_str!("../../../../../examples/rex/shipway.yaml");

/// A system in one of its environments.
struct System {
    spec: Spec,
    environment: EnvironmentName,
    place: Place,
    network: NetworkOutputs,
}

impl System {
    fn new(text: &str, environment: &str) -> System {
        let app: AppName = text.lines().find_map(|line| line.strip_prefix("app: ")).unwrap().trim().parse().unwrap();
        let environment = environment.parse().unwrap();
        let network = NetworkOutputs {
            instance_group: Some("sg-instances".to_owned()),
            database_group: Some("sg-databases".to_owned()),
            cache_group: Some("sg-caches".to_owned()),
            ..network()
        };
        System { spec: manifest::read(text, &app, &environment).unwrap(), environment, place: place(), network }
    }

    fn wish(&self) -> Wish<'_> {
        Wish { spec: &self.spec, environment: &self.environment, place: &self.place, network: Some(&self.network) }
    }

    fn wanted(&self) -> Vec<WantedStack> {
        stacks(&self.wish(), &Observed::new()).unwrap()
    }

    fn find(&self, what: &str) -> Option<WantedStack> {
        let name = format!("shipway-{}-{}-{what}", self.spec.app, self.environment);
        self.wanted().into_iter().find(|stack| stack.name.as_str() == name)
    }

    /// What a stack is given for some parameters. What another stack gives is `<its concern>.<output>`.
    fn given<const N: usize>(&self, what: &str, keys: [&str; N]) -> [String; N] {
        let stack = self.find(what).unwrap_or_else(|| panic!("there is no stack {what}"));
        keys.map(|key| self.text(stack.parameters.get(key).unwrap_or_else(|| panic!("{what} has no {key}"))))
    }

    fn text(&self, value: &Value) -> String {
        match value {
            Value::Text(text) => text.clone(),
            Value::Output { stack, key } => {
                let prefix = format!("shipway-{}-{}-", self.spec.app, self.environment);
                format!("{}.{key}", stack.as_str().trim_start_matches(&prefix))
            }
            Value::Kept { first, .. } => first.to_string(),
            Value::OfNetwork => "of the network".to_owned(),
            Value::List(values) | Value::Joined(values) => {
                value.put_together(values.iter().map(|value| self.text(value)).collect())
            }
        }
    }
}

/// Every stack, as it stands: each output is `<stack>/<output>`.
fn all_standing(system: &System) -> Observed {
    system.wanted().into_iter().map(|stack| (stack.name.clone(), standing(&stack))).collect()
}

#[test]
fn next_nest_runs_on_one_small_instance_with_dynamic_ports() {
    let system = System::new(NEXT_NEST, "dev");
    let keys = ["InstanceType", "Image", "Min", "Max", "MinInService", "PublicAddress", "SecurityGroup", "Subnets"];
    assert_eq!(
        system.given("instances", keys),
        [
            "t3.micro",
            "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
            "1",
            "1",
            "0",
            "true",
            "sg-instances",
            "subnet-1,subnet-2",
        ]
    );
    let keys = ["TargetType", "Path", "HealthPath", "Listener"];
    assert_eq!(system.given("service-api", keys), ["instance", "/api*", "/api/health", "load-balancer.Listener"]);
    let keys = ["Backend1", "LoadBalancer", "BackendHost", "Hosts", "Certificate"];
    assert_eq!(system.given("site-web", keys), ["/api*", "load-balancer.DnsName", "", "", ""]);
    assert_eq!(system.given("load-balancer", ["Certificate", "Firewall", "LogBucket"]), ["", "", ""]);
}

#[test]
fn next_nests_site_has_its_domain_and_asks_the_load_balancer_under_a_name_of_its_certificate() {
    let system = System::new(NEXT_NEST, "prod");
    let keys = ["Hosts", "Certificate", "BackendHost"];
    assert_eq!(
        system.given("site-web", keys),
        ["next-nest.example", "sites-certificate.Certificate", "services-next-nest-prod.next-nest.example"]
    );
    assert_eq!(system.given("load-balancer", ["Certificate"]), ["certificate.Certificate"]);
    assert_eq!(system.find("sites-certificate").unwrap().region, Some("us-east-1"));
    assert_eq!(system.find("certificate").unwrap().region, None);
    let keys = ["Host", "Zone", "Target", "TargetZone"];
    assert_eq!(
        system.given("records", keys),
        ["next-nest.example", "Z0NEXTNEST0EXAMPLE00", "site-web.Domain", "Z2FDTNDATAQYW2"]
    );
    assert_eq!(
        system.given("records-services-next-nest-prod", keys),
        [
            "services-next-nest-prod.next-nest.example",
            "Z0NEXTNEST0EXAMPLE00",
            "load-balancer.DnsName",
            "load-balancer.Zone",
        ]
    );
}

#[test]
fn in_the_region_of_sites_certificates_one_certificate_is_enough() {
    let mut system = System::new(NEXT_NEST, "prod");
    system.place.region = "us-east-1".to_owned();
    assert_eq!(system.given("site-web", ["Certificate"]), ["certificate.Certificate"]);
    assert_eq!(system.given("certificate", ["Domain", "Zone"]), ["next-nest.example", "Z0NEXTNEST0EXAMPLE00"]);
    assert!(system.find("sites-certificate").is_none());
}

#[test]
fn a_given_certificate_is_used_and_none_is_issued() {
    let mut system = System::new(NEXT_NEST, "prod");
    let arn = |region: &str| format!("arn:aws:acm:{region}:123456789012:certificate/c");
    let domain = system.spec.domain.as_mut().unwrap();
    domain.certificate = Certificate::Arn(arn("eu-west-1"));
    domain.site_certificate = Certificate::Arn(arn("us-east-1"));
    assert_eq!(system.given("load-balancer", ["Certificate"]), [arn("eu-west-1")]);
    assert_eq!(system.given("site-web", ["Certificate"]), [arn("us-east-1")]);
    assert!(system.wanted().iter().all(|stack| stack.concern != Concern::Certificate));
}

#[test]
fn without_the_zone_nobody_is_given_records() {
    let mut system = System::new(NEXT_NEST, "prod");
    system.spec.domain.as_mut().unwrap().zone = None;
    assert!(system.wanted().iter().all(|stack| stack.concern != Concern::Records));
}

#[test]
fn spa_nests_service_reads_the_parameters_it_is_given_and_nothing_else() {
    let system = System::new(SPA_NEST, "dev");
    let [parameters, secrets, buckets] = system.given("service-api", ["ParameterArns", "SecretArns", "BucketArns"]);
    let parameters: Vec<_> = parameters.split(',').collect();
    assert_eq!(parameters.len(), 2, "{parameters:?}");
    assert!(
        parameters.iter().all(|arn| arn.starts_with("arn:aws:ssm:eu-west-1:123456789012:parameter/")),
        "{parameters:?}"
    );
    assert_eq!([secrets, buckets], ["", ""]);
    assert!(system.find("instances").is_some() && system.find("discovery").is_none());
}

#[test]
fn dougusts_way_in_is_as_its_owner_describes_it() {
    let system = System::new(DOUGUST, "prod");
    let keys = ["TargetType", "HealthPath", "Stickiness", "Drain", "LogGroup", "MigrationLogGroup", "Host"];
    assert_eq!(
        system.given("service-api", keys),
        ["ip", "/api/health", "86400", "15", "/ecs/dougust-prod-api", "", "api.dougust.example"]
    );
    let keys = ["Certificate", "LogBucket", "Firewall", "Rate", "IdleTimeout"];
    assert_eq!(
        system.given("load-balancer", keys),
        ["certificate.Certificate", "access-logs.Bucket", "IP", "2000", "60"]
    );
    assert_eq!(system.given("access-logs", ["Days"]), ["90"]);
    assert_eq!(system.given("site-web", ["Hosts"]), ["dougust.example,www.dougust.example"]);
    let hosts = ["records", "records-www", "records-api"].map(|what| system.given(what, ["Host"]).concat());
    assert_eq!(hosts, ["dougust.example", "www.dougust.example", "api.dougust.example"]);
    assert_eq!(system.given("cluster", ["Insights"]), ["enabled"]);
    let made = outputs(&system.wish(), &all_standing(&system)).unwrap();
    assert_eq!(made.values["load_balancer.url"], "https://api.dougust.example");
    assert_eq!(made.values["sites.web.url"], "https://dougust.example");
    assert_eq!(made.services.values().next().unwrap().migration_log_group, None);
}

#[test]
fn dougusts_alarms_have_its_owners_thresholds() {
    let system = System::new(DOUGUST, "prod");
    let keys = ["UnhealthyAbove", "HealthyBelow", "ErrorsAbove", "ErrorsSeconds", "CpuAbove", "Topic"];
    assert_eq!(system.given("alarms-service-api", keys), ["0", "1", "10", "300", "", "notifications.Topic"]);
    let keys = ["Dimension", "Identifier", "CpuAbove", "CpuMinutes", "FreeStorageBelow", "ConnectionsAbove"];
    // A fifth of 100 GiB.
    assert_eq!(
        system.given("alarms-database-main", keys),
        ["DBInstanceIdentifier", "database-main.Identifier", "80", "5", "21474836480", ""]
    );
    assert_eq!(system.given("notifications", ["Address1", "Address2"]), ["ops@dougust.example", ""]);
    let keys = ["Cluster", "LoadBalancer", "Instances", "Clusters", "Caches"];
    assert_eq!(
        system.given("dashboard", keys),
        ["cluster.Cluster", "load-balancer.FullName", "database-main.Identifier", "", ""]
    );
    let keys = ["Traffic", "Retention"];
    assert_eq!(system.given("flow-logs", keys), ["ALL", "30"]);
}

#[test]
fn where_nobody_is_told_alarms_tell_nobody() {
    let system = System::new(DOUGUST, "dev");
    assert!(system.find("notifications").is_none());
    assert_eq!(system.given("alarms-service-api", ["Topic"]), [""]);
    let made = outputs(&system.wish(), &all_standing(&system)).unwrap();
    assert_eq!(made.values["load_balancer.url"], "http://shipway-dougust-dev-load-balancer/DnsName");
    assert_eq!(made.values["sites.web.url"], "https://shipway-dougust-dev-site-web/Domain");
}

#[test]
fn fastapi_reacts_backend_may_use_its_bucket_and_its_address_and_has_its_host_in_production() {
    let system = System::new(FASTAPI_REACT, "dev");
    let keys = ["BucketArns", "ObjectArns", "IdentityArns", "TargetType", "Path", "Host"];
    assert_eq!(
        system.given("service-backend", keys),
        [
            "arn:aws:s3:::bucket-items.Bucket",
            "arn:aws:s3:::bucket-items.Bucket/*",
            "arn:aws:ses:eu-west-1:123456789012:identity/hello@fastapi-react.example",
            "instance",
            "/api*",
            "",
        ]
    );
    assert_eq!(system.given("service-frontend", ["BucketArns", "IdentityArns", "Path"]), ["", "", "/*"]);
    let keys = ["InstanceType", "Min", "Max", "MinInService", "OnDemandPercent", "KeyPair", "Disk"];
    assert_eq!(system.given("instances", keys), ["t3a.small", "1", "2", "1", "100", "", "30"]);
    let system = System::new(FASTAPI_REACT, "prod");
    assert_eq!(system.given("service-backend", ["Host", "Path"]), ["api.fastapi-react.example", "/*"]);
    let [with_host] = system.given("service-backend", ["Priority"]);
    let [without] = system.given("service-frontend", ["Priority"]);
    assert!(with_host.parse::<u32>().unwrap() < without.parse::<u32>().unwrap());
}

#[test]
fn rexs_services_find_each_other_and_log_where_its_owner_looks() {
    let system = System::new(REX, "dev");
    let keys = ["LogGroup", "MigrationLogGroup", "Retention", "Namespace", "Listener"];
    assert_eq!(
        system.given("service-api", keys),
        [
            "/ecs/rex-backend-dev-api",
            "/ecs/rex-backend-dev-migration",
            "7",
            "discovery.Namespace",
            "load-balancer.Listener",
        ]
    );
    assert_eq!(system.given("service-worker", keys), ["/ecs/rex-backend-dev-worker", "", "7", "", ""]);
    assert_eq!(
        system.given("service-supertokens", ["LogGroup", "RepositoryArns", "Path", "HealthPath"]),
        ["/ecs/rex-backend-dev-supertokens", "", "/auth/*", "/auth/hello"]
    );
    assert_eq!(
        system.given("service-api", ["RepositoryArns"]),
        ["arn:aws:ecr:eu-west-1:123456789012:repository/rex-backend-dev-api"]
    );
    let made = outputs(&system.wish(), &all_standing(&system)).unwrap();
    assert_eq!(made.values["services.supertokens.host"], "supertokens.rex-backend-dev.internal");
    assert_eq!(made.values["services.supertokens.url"], "http://supertokens.rex-backend-dev.internal:3567");
    assert!(!made.values.contains_key("services.worker.host"));
    let api = &made.services[&"api".parse().unwrap()];
    assert_eq!(api.registry.as_deref(), Some("shipway-rex-backend-dev-service-api/Registry"));
    assert_eq!(api.migration_log_group.as_deref(), Some("shipway-rex-backend-dev-service-api/MigrationLogGroup"));
    assert_eq!(made.services[&"worker".parse().unwrap()].registry, None);
}

#[test]
fn rexs_alarms_are_those_of_a_cluster_of_aurora() {
    let system = System::new(REX, "dev");
    let keys = ["Dimension", "ConnectionsAbove", "CpuAbove", "FreeStorageBelow"];
    assert_eq!(system.given("alarms-database-main", keys), ["DBClusterIdentifier", "80", "", ""]);
    let keys = ["CpuAbove", "MemoryAbove", "ErrorsAbove", "TargetGroup"];
    assert_eq!(system.given("alarms-service-worker", keys), ["80", "80", "10", ""]);
}

#[test]
fn a_dashboard_knows_each_node_of_a_cache() {
    let mut system = System::new(REX, "prod");
    system.spec.monitoring.dashboard = true;
    let keys = ["Instances", "Clusters", "Caches"];
    assert_eq!(
        system.given("dashboard", keys),
        ["", "database-main.Identifier", "cache-main.Identifier-001,cache-main.Identifier-002"]
    );
}

#[test]
fn arm_instances_run_arm_images() {
    let image = |instance_type: &str| {
        let text = FASTAPI_REACT.replace("t3a.small", instance_type);
        System::new(&text, "dev").given("instances", ["Image"]).concat()
    };
    for arm in ["t4g.small", "m7gd.large", "c7gn.medium", "x2gd.medium", "im4gn.large", "a1.medium"] {
        assert!(image(arm).contains("/arm64/"), "{arm}");
    }
    for intel_or_amd in ["t3a.small", "t3.micro", "g4dn.xlarge", "m5.large", "u7i-12tb.224xlarge"] {
        assert!(!image(intel_or_amd).contains("/arm64/"), "{intel_or_amd}");
    }
}

#[test]
fn spot_instances_are_what_is_left_of_those_on_demand() {
    let text = FASTAPI_REACT.replace("cluster:\n", "cluster:\n  spot: 70\n");
    assert_eq!(System::new(&text, "dev").given("instances", ["OnDemandPercent"]), ["30"]);
}

#[test]
fn behind_cloudfront_alone_the_firewall_counts_visitors_and_not_cloudfront() {
    let text = NEXT_NEST.replace("{from: cloudfront}", "{from: cloudfront, waf: {rate: 500}}");
    assert_eq!(System::new(&text, "dev").given("load-balancer", ["Firewall", "Rate"]), ["FORWARDED_IP", "500"]);
}

#[test]
fn a_task_may_pull_every_image_of_the_account_that_it_is_made_of() {
    let sidecar = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/tools/proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let text = MANIFEST.replace(
        "  worker:\n    image: {repository: hello-api}\n",
        &format!(
            "  worker:\n    image: {{repository: hello-api}}\n    sidecars:\n      proxy:\n        image: {sidecar}\n        \
             secrets: {{TOKEN: {{secretsmanager: prod/proxy}}}}\n      cache: {{image: 'docker.io/library/redis:7'}}\n"
        ),
    );
    let system = System::new(&text, "prod");
    assert_eq!(
        system.given("service-worker", ["RepositoryArns", "SecretArns"]),
        [
            "arn:aws:ecr:eu-central-1:123456789012:repository/tools/proxy,arn:aws:ecr:eu-west-1:123456789012:repository/hello-api",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/proxy-??????",
        ]
    );
}

#[test]
fn a_secret_of_the_manifest_is_read_by_the_services_that_have_it() {
    let system = System::new(DOUGUST, "prod");
    let [arns] = system.given("service-api", ["SecretArns"]);
    let made: BTreeSet<_> = arns.split(',').collect();
    let wanted: Vec<_> = ["secrets.jwt-secret", "secrets.jwt-refresh-secret", "databases.main.url"]
        .iter()
        .flat_map(|text| system.wish().secret_arns(&Reference::try_from((*text).to_owned()).unwrap()))
        .collect();
    assert_eq!(wanted.len(), 3);
    assert_eq!(
        made,
        wanted.iter().map(|arn| system.text(arn)).collect::<BTreeSet<_>>().iter().map(String::as_str).collect()
    );
}
