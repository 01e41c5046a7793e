//! What is granted and no test uses, with the reasons.

/// Rights that no test uses.
#[derive(Debug)]
pub(crate) struct Unused {
    /// Whose; everybody's where none is named.
    pub(crate) roles: &'static [&'static str],
    /// Any where it is empty.
    pub(crate) statement: &'static str,
    /// Actions or resources; all of the statement where none is named.
    pub(crate) what: &'static [&'static str],
    pub(crate) why: &'static str,
}

impl Unused {
    pub(crate) fn is_for(&self, role: &str, statement: &str, what: &str) -> bool {
        (self.roles.is_empty() || self.roles.contains(&role))
            && (self.statement.is_empty() || self.statement == statement)
            && (self.what.is_empty() || self.what.contains(&what))
    }
}

pub(crate) const UNUSED: &[Unused] = &[
    // What AWS itself does with a role, or asks for beside a call, and the local cloud does not.
    Unused {
        roles: &[],
        statement: "WriteLog",
        what: &[],
        why: "Lambda writes what a function logs; nobody is asked here",
    },
    Unused {
        roles: &[],
        statement: "DeliverLog",
        what: &[],
        why: "Step Functions delivers a machine's log; here it delivers none",
    },
    Unused {
        roles: &[],
        statement: "GiveUp",
        what: &[],
        why: "Lambda hands over what failed for good; nobody is asked here",
    },
    Unused {
        roles: &[],
        statement: "TellMissingFromForbidden",
        what: &[],
        why: "no call: by it S3 decides whether what is missing is a 404 or a 403",
    },
    Unused {
        roles: &["ProvisionNetworkRole"],
        statement: "NameEndpoints",
        what: &[],
        why: "EC2 asks for it where an endpoint has a service's own name",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "FindStacks",
        what: &["cloudformation:ListStacks"],
        why: "CloudFormation asks for it where all stacks are described; not here",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "LookAtStacks",
        what: &["cloudformation:DetectStackResourceDrift"],
        why: "CloudFormation asks for it for each resource; not here",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "ChangeStacks",
        what: &["cloudformation:TagResource"],
        why: "CloudFormation asks for it where a stack is made with tags; not here",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "CompareThroughCloudFormation",
        what: &[],
        why: "CloudFormation reads with it to compare a stack; nobody is asked here",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "TagCapacity",
        what: &[],
        why: "ECS asks for it where a provider is made with tags; not here",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "MarkGroups",
        what: &[],
        why: "ECS marks the group of a provider with it; not here",
    },
    Unused {
        roles: &["DeployServiceRole"],
        statement: "AlarmsOfScaling",
        what: &[],
        why: "Application Auto Scaling makes alarms with it; not here",
    },
    Unused {
        roles: &["DeployServiceRole"],
        statement: "RoleOfScaling",
        what: &[],
        why: "it is made for an account's first scalable service; not here",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "LookAtStacks",
        what: &["cloudformation:us-east-1:stack/shipway-*/*"],
        why: "here everything is in us-east-1",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "ChangeStacks",
        what: &["cloudformation:us-east-1:stack/shipway-*/*"],
        why: "here everything is in us-east-1",
    },
    // What only tests in memory make happen.
    Unused {
        roles: &["ProvisionNetworkRole"],
        statement: "MakeWithTags",
        what: &["ec2:CreateVpcEndpoint", "ec2:vpc-endpoint/*"],
        why: "a network with endpoints: tests in memory make it, change it and remove it",
    },
    Unused {
        roles: &["ProvisionNetworkRole"],
        statement: "MakeOfOurs",
        what: &["ec2:CreateVpcEndpoint", "ec2:route-table/*", "ec2:security-group/*", "ec2:vpc/*"],
        why: "a network with endpoints: tests in memory make it, change it and remove it",
    },
    Unused {
        roles: &["ProvisionNetworkRole"],
        statement: "ChangeOurs",
        what: &["ec2:ModifyVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:vpc-endpoint/*"],
        why: "a network with endpoints: tests in memory make it, change it and remove it",
    },
    Unused {
        roles: &["ProvisionNetworkRole"],
        statement: "ChangeOurs",
        what: &["ec2:ReplaceRoute", "ec2:ReplaceRouteTableAssociation", "ec2:DeleteRoute"],
        why: "somebody changed a route: tests in memory put it right",
    },
    Unused {
        roles: &["StartReleaseRole"],
        statement: "StartMachines",
        what: &["states:stateMachine:shipway-drift"],
        why: "the schedule's hour is not waited for",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "LookAtStacks",
        what: &["cloudformation:DescribeStackEvents"],
        why: "a stack that failed: only tests in memory have one",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "KeepCapacity",
        what: &["ecs:UpdateCapacityProvider"],
        why: "a provider that is not as wanted: only tests in memory have one",
    },
    Unused {
        roles: &["ProvisionPlatformRole"],
        statement: "PassRoles",
        what: &["iam:role/shipway-stack-*"],
        why: "a stack of the user's own, beside the one in denials.rs: only tests in memory make one",
    },
    Unused {
        roles: &["RunMigrationsRole"],
        statement: "TakeSnapshotsOfOurs",
        what: &["rds:CreateDBClusterSnapshot", "rds:cluster:*"],
        why: "a cluster's snapshot: only tests in memory take one",
    },
    Unused {
        roles: &["RunMigrationsRole"],
        statement: "TakeSnapshotsWithTags",
        what: &["rds:CreateDBClusterSnapshot", "rds:cluster-snapshot:shipway-*"],
        why: "a cluster's snapshot: only tests in memory take one",
    },
    Unused {
        roles: &["RunMigrationsRole"],
        statement: "LookAtSnapshots",
        what: &["rds:DescribeDBClusterSnapshots", "rds:cluster-snapshot:shipway-*"],
        why: "a cluster's snapshot: only tests in memory take one",
    },
    Unused {
        roles: &["DeployServiceRole"],
        statement: "ChangeOurs",
        what: &["ecs:StopTask", "ecs:task/*"],
        why: "a task without a service, at a teardown: only tests in memory leave one",
    },
    Unused {
        roles: &["DeployServiceRole"],
        statement: "LookAndDeregister",
        what: &["elasticloadbalancing:DescribeTargetGroups"],
        why: "what ECS changed of a service with two target groups: only tests in memory compare it",
    },
    Unused {
        roles: &["DeployServiceRole"],
        statement: "Scale",
        what: &["application-autoscaling:DeleteScalingPolicy"],
        why: "a service that no longer scales by something: only tests in memory have one",
    },
    Unused {
        roles: &["SyncFrontendRole"],
        statement: "WriteSites",
        what: &["s3:GetObject"],
        why: "what is renamed is copied: only tests in memory rename",
    },
    Unused {
        roles: &["SyncFrontendRole"],
        statement: "EmptyBuckets",
        what: &["s3:shipway-bucket-*/*", "s3:shipway-export-*/*"],
        why: "no service here leaves data in its bucket; a site's bucket is emptied",
    },
    Unused {
        roles: &["InvalidateCacheRole"],
        statement: "Invalidate",
        what: &["cloudfront:GetInvalidation"],
        why: "an invalidation ends at once here",
    },
];
