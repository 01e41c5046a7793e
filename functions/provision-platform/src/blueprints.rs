//! The templates that stacks are made of, in the binary itself: no bucket, and no version but this one.

use shipway_domain::platform::Blueprints;

/// All of them. CloudFormation takes at most 51,200 bytes in a request.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html>
pub(crate) const BLUEPRINTS: Blueprints = Blueprints {
    repository: include_str!("../../../bootstrap/blueprints/repository.yaml"),
    cluster: include_str!("../../../bootstrap/blueprints/cluster.yaml"),
    load_balancer: include_str!("../../../bootstrap/blueprints/load-balancer.yaml"),
    service: include_str!("../../../bootstrap/blueprints/service.yaml"),
    site: include_str!("../../../bootstrap/blueprints/site.yaml"),
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MOST_BYTES: usize = 51_200;

    /// The names in a section of a template: its lines of two spaces' indentation.
    fn names(template: &str, section: &str) -> BTreeSet<String> {
        let lines = template.lines().skip_while(|line| *line != format!("{section}:")).skip(1);
        let lines = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
        lines
            .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
            .filter(|name| name.chars().all(char::is_alphanumeric))
            .map(str::to_owned)
            .collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_fits_a_request_and_says_what_it_takes_and_gives() {
        let table = [
            (BLUEPRINTS.repository, set(&["Repository"]), set(&["Uri"])),
            (BLUEPRINTS.cluster, set(&["App", "Environment"]), set(&["Cluster"])),
            (BLUEPRINTS.load_balancer, set(&["Name", "SecurityGroup", "Subnets"]), set(&["DnsName", "Listener"])),
            (
                BLUEPRINTS.service,
                set(&[
                    "App",
                    "Environment",
                    "HealthPath",
                    "Listener",
                    "ParameterArns",
                    "Path",
                    "PermissionsBoundary",
                    "Priority",
                    "Repository",
                    "SecretArns",
                    "Service",
                    "Vpc",
                ]),
                set(&["ExecutionRole", "LogGroup", "TargetGroup", "TaskRole"]),
            ),
            (
                BLUEPRINTS.site,
                set(&[
                    "App",
                    "Backend1",
                    "Backend2",
                    "Backend3",
                    "Backend4",
                    "Environment",
                    "Headers",
                    "LoadBalancer",
                    "Previews",
                    "Redirects",
                    "Site",
                ]),
                set(&["Bucket", "Distribution", "Domain", "Store"]),
            ),
        ];
        for (template, parameters, outputs) in table {
            let what = template.lines().nth(1).unwrap();
            assert!(template.len() <= MOST_BYTES, "{what}");
            assert_eq!(names(template, "Parameters"), parameters, "{what}");
            assert!(names(template, "Outputs").is_superset(&outputs), "{what}");
        }
    }
}
