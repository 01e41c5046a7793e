//! What a thief of a function could not do, tried with the role of each: what other functions do, what nobody may, and what belongs
//! to others. And what whoever uploads for one environment cannot do to another in the same account.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shipway_domain::{
    name::Component,
    release::{Artifact, Outcome},
};
use shipway_tests::{Place, Shipway, ask::Aws, site};

use super::{PROVISIONED, RELEASED, expect, provisioned_with, website, with_shipway};

/// How services say that IAM refused.
const DENIED: [&str; 4] =
    [": AccessDenied: ", ": AccessDeniedException: ", ": UnauthorizedOperation: ", ": AuthorizationError: "];

/// A call with the names of boto3.
type Call = (&'static str, &'static str, Value);

/// The roles of the functions, and what they might be after, none of which is an environment's.
struct Loot {
    aws: Aws,
    /// A secret, by its ARN.
    secret: String,
    /// An upload, and its version.
    upload: (String, String),
    /// A VPC without tags.
    vpc: String,
    /// A role for tasks that stands where those of stacks do, and one beside them.
    role: [String; 2],
}

impl Loot {
    async fn planted(shipway: &Shipway) -> Result<Loot> {
        let aws = Aws::of(&shipway.cloud)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        let secret = aws.ask("secretsmanager", "create_secret", json!({"Name": "denials/key", "SecretString": "x"}))?;
        let Artifact::Object { key, version } = shipway.upload("other/denials.txt", b"an upload".to_vec()).await?
        else {
            anyhow::bail!("an upload is an object")
        };
        let vpc = aws.ask("ec2", "create_vpc", json!({"CidrBlock": "10.250.0.0/16"}))?;
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"Service": ["ecs-tasks.amazonaws.com", "cloudformation.amazonaws.com"]}}]});
        let role = |path: &str, name: &str| -> Result<String> {
            let asked = json!({"Path": path, "RoleName": name, "AssumeRolePolicyDocument": trust.to_string()});
            text(&aws.ask("iam", "create_role", asked)?["Role"]["Arn"])
        };
        let role = [role("/shipway/", "denials-task")?, role("/", "denials-administrator")?];
        for bucket in ["denials-of-others", "shipway-bucket-denials"] {
            aws.ask("s3", "create_bucket", json!({"Bucket": bucket}))?;
            aws.ask("s3", "put_object", json!({"Bucket": bucket, "Key": "a", "Body": "data"}))?;
        }
        aws.ask("ecr", "create_repository", json!({"repositoryName": "denials-of-others"}))?;
        let template = json!({"Resources": {"Log": {"Type": "AWS::Logs::LogGroup"}}}).to_string();
        aws.ask("cloudformation", "create_stack", json!({"StackName": "denials-of-others", "TemplateBody": template}))?;
        Ok(Loot { secret: text(&secret["ARN"])?, upload: (key, version), vpc: text(&vpc["Vpc"]["VpcId"])?, role, aws })
    }

    /// Whoever asks with the role of this function.
    async fn thief_of(&self, shipway: &Shipway, function: &str) -> Result<Aws> {
        let of = json!({"FunctionName": format!("shipway-{function}")});
        let configured = self.aws.ask("lambda", "get_function_configuration", of)?;
        let session = shipway.cloud.session_of(configured["Role"].as_str().context("no role")?).await?;
        let session: Vec<_> = session.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Aws::with(&shipway.cloud, &session)
    }

    /// What no function may.
    fn for_nobody(&self, shipway: &Shipway) -> Result<Vec<Call>> {
        let (bucket, table) = (shipway.output("IntakeBucket")?, shipway.output("Table")?);
        let (key, version) = &self.upload;
        let policy =
            json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]});
        Ok(vec![
            ("secretsmanager", "get_secret_value", json!({"SecretId": self.secret})),
            ("rds", "delete_db_instance", json!({"DBInstanceIdentifier": "denials", "SkipFinalSnapshot": true})),
            ("rds", "delete_db_cluster", json!({"DBClusterIdentifier": "denials", "SkipFinalSnapshot": true})),
            ("rds", "delete_db_snapshot", json!({"DBSnapshotIdentifier": "shipway-denials"})),
            ("rds", "delete_db_cluster_snapshot", json!({"DBClusterSnapshotIdentifier": "shipway-denials"})),
            ("dynamodb", "delete_table", json!({"TableName": table})),
            ("dynamodb", "get_item", json!({"TableName": "denials", "Key": {"pk": {"S": "a"}}})),
            ("s3", "delete_object", json!({"Bucket": bucket, "Key": key, "VersionId": version})),
            ("s3", "delete_object", json!({"Bucket": bucket, "Key": key})),
            (
                "s3",
                "put_object",
                json!({"Bucket": bucket, "Key": "apps/denials/dev/shipway.yaml", "Body": "version: 1"}),
            ),
            ("s3", "put_object", json!({"Bucket": bucket, "Key": "sites/denials/dev/web/a.zip", "Body": "zip"})),
            ("iam", "create_role", json!({"RoleName": "denials", "AssumeRolePolicyDocument": policy.to_string()})),
            (
                "iam",
                "put_role_policy",
                json!({"RoleName": "denials-task", "PolicyName": "all", "PolicyDocument": policy.to_string()}),
            ),
            ("lambda", "invoke", json!({"FunctionName": "shipway-record-release", "Payload": "{}"})),
            ("lambda", "update_function_configuration", json!({"FunctionName": "shipway-start-release", "Timeout": 1})),
            ("stepfunctions", "start_execution", json!({"stateMachineArn": shipway.output("TeardownMachine")?})),
            ("stepfunctions", "send_task_success", json!({"taskToken": "a", "output": "{}"})),
            ("cloudformation", "delete_stack", json!({"StackName": "shipway"})),
            ("cloudformation", "delete_stack", json!({"StackName": "denials-of-others"})),
            ("ec2", "delete_vpc", json!({"VpcId": self.vpc})),
            (
                "ec2",
                "create_tags",
                json!({"Resources": [self.vpc], "Tags": [{"Key": "shipway:app", "Value": "denials"}]}),
            ),
            ("sts", "assume_role", json!({"RoleArn": self.role[1], "RoleSessionName": "denials"})),
        ])
    }

    /// What each may, so that its credentials are proven; and of what others may, what it may not.
    fn of(&self, function: &str, shipway: &Shipway) -> Result<(Vec<Call>, Vec<Call>)> {
        let bucket = shipway.output("IntakeBucket")?;
        let table = shipway.output("Table")?;
        let object = |bucket: &str, key: &str| json!({"Bucket": bucket, "Key": key});
        let put = |bucket: &str, key: &str| json!({"Bucket": bucket, "Key": key, "Body": "forged"});
        let item = json!({"TableName": table, "Key": {"pk": {"S": "denials/dev"}, "sk": {"S": "environment"}}});
        let task = |role: &str| {
            json!({"family": "denials", "taskRoleArn": role, "tags": [{"key": "shipway:app", "value": "denials"}],
                   "containerDefinitions": [{"name": "a", "image": "b", "memory": 64}]})
        };
        let stack = |name: &str, role: &str| {
            let template = json!({"Resources": {"Log": {"Type": "AWS::Logs::LogGroup"}}}).to_string();
            json!({"StackName": name, "TemplateBody": template, "RoleARN": role})
        };
        let update = json!({"cluster": "denials", "service": "api", "desiredCount": 0});
        let [ours, foreign] = &self.role;
        let (mut may, may_not): (Vec<Call>, Vec<Call>) = match function {
            "start-release" => (
                vec![],
                vec![
                    ("s3", "get_object", object(bucket, &self.upload.0)),
                    ("dynamodb", "delete_item", item.clone()),
                    ("ecs", "update_service", update),
                    ("ssm", "get_parameter", json!({"Name": "denials"})),
                ],
            ),
            "record-release" => (
                vec![],
                vec![
                    ("s3", "get_object", object(bucket, &self.upload.0)),
                    ("s3", "get_object", object("shipway-bucket-denials", "a")),
                    (
                        "stepfunctions",
                        "start_execution",
                        json!({"stateMachineArn": shipway.output("ProvisionMachine")?}),
                    ),
                    ("ecs", "register_task_definition", task(ours)),
                ],
            ),
            "provision-network" => (
                vec![("ec2", "describe_vpcs", json!({}))],
                vec![
                    ("ec2", "create_vpc", json!({"CidrBlock": "10.251.0.0/16"})),
                    ("ec2", "modify_vpc_attribute", json!({"VpcId": self.vpc, "EnableDnsSupport": {"Value": false}})),
                    ("cloudformation", "describe_stacks", json!({})),
                    ("dynamodb", "delete_item", item.clone()),
                ],
            ),
            "provision-platform" => {
                let named = self.stack_role("shipway-stack-denials")?;
                (
                    vec![
                        ("cloudformation", "describe_stacks", json!({"StackName": "shipway"})),
                        ("cloudformation", "create_stack", stack("shipway-denials", &named)),
                    ],
                    vec![
                        ("cloudformation", "create_stack", stack("shipway-denials-too", foreign)),
                        ("cloudformation", "create_stack", stack("denials", &named)),
                        // It may look at these where CloudFormation asks in its name, and not itself.
                        ("rds", "describe_db_instances", json!({})),
                        ("iam", "get_role", json!({"RoleName": "denials-task"})),
                    ],
                )
            }
            "check-release" => (
                vec![("ec2", "describe_subnets", json!({}))],
                vec![
                    ("iam", "get_role", json!({"RoleName": "denials-administrator"})),
                    ("ecs", "update_service", update),
                    ("ecs", "register_task_definition", task(ours)),
                    (
                        "ecr",
                        "put_image",
                        json!({"repositoryName": "denials-of-others", "imageManifest": "{}", "imageTag": "a"}),
                    ),
                ],
            ),
            "run-migrations" => (
                vec![("ecs", "register_task_definition", task(ours))],
                vec![
                    ("ecs", "register_task_definition", task(foreign)),
                    ("ecs", "update_service", update),
                    (
                        "rds",
                        "create_db_snapshot",
                        json!({"DBSnapshotIdentifier": "denials", "DBInstanceIdentifier": "denials"}),
                    ),
                    (
                        "logs",
                        "get_log_events",
                        json!({"logGroupName": "/aws/lambda/shipway-record-release", "logStreamName": "a"}),
                    ),
                ],
            ),
            "deploy-service" => (
                vec![("ecs", "register_task_definition", task(ours))],
                vec![
                    ("ecs", "register_task_definition", task(foreign)),
                    ("ecs", "run_task", json!({"cluster": "denials", "taskDefinition": "denials"})),
                    (
                        "ecr",
                        "put_image",
                        json!({"repositoryName": "denials-of-others", "imageManifest": "{}", "imageTag": "a"}),
                    ),
                    (
                        "ecr",
                        "batch_delete_image",
                        json!({"repositoryName": "denials-of-others", "imageIds": [{"imageTag": "a"}]}),
                    ),
                ],
            ),
            "sync-frontend" => (
                vec![("s3", "list_buckets", json!({}))],
                vec![
                    ("s3", "put_object", put("denials-of-others", "a")),
                    ("s3", "get_object", object("shipway-bucket-denials", "a")),
                    ("s3", "delete_bucket", json!({"Bucket": "shipway-bucket-denials"})),
                    ("cloudfront", "list_distributions", json!({})),
                ],
            ),
            "invalidate-cache" => (
                vec![],
                vec![
                    ("s3", "put_object", put(bucket, "published/denials/dev/web/a.json")),
                    ("s3", "get_object", object(bucket, &self.upload.0)),
                    ("s3", "list_buckets", json!({})),
                    ("cloudfront", "list_distributions", json!({})),
                ],
            ),
            other => anyhow::bail!("nothing is tried with the role of {other}"),
        };
        may.push(("dynamodb", "get_item", item));
        Ok((may, may_not))
    }

    /// A role of the name that a user's own stacks are made with.
    fn stack_role(&self, name: &str) -> Result<String> {
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"Service": "cloudformation.amazonaws.com"}}]});
        let asked = json!({"RoleName": name, "AssumeRolePolicyDocument": trust.to_string()});
        Ok(self.aws.ask("iam", "create_role", asked)?["Role"]["Arn"].as_str().context("no role")?.to_owned())
    }
}

/// Nobody gets through: that IAM refuses and nothing else does.
fn denied(who: &str, by: &Aws, (service, operation, arguments): Call) -> Result<()> {
    let shown = format!("{who}: {service} {operation} {arguments}");
    let refused = by.ask(service, operation, arguments).err().with_context(|| format!("{shown} was let through"))?;
    let refused = refused.to_string();
    ensure!(DENIED.iter().any(|code| refused.contains(code)), "{shown} failed otherwise: {refused}");
    Ok(())
}

#[test]
fn who_took_over_a_function_is_denied_secrets_databases_roles_uploads_and_what_its_neighbours_do() {
    with_shipway(async |shipway| {
        let loot = Loot::planted(shipway).await?;
        let mut functions = 0;
        for entry in std::fs::read_dir(shipway_tests::checkout().join("functions"))? {
            let function = entry?.file_name().into_string().ok().context("a folder has no name")?;
            let thief = loot.thief_of(shipway, &function).await?;
            let (may, may_not) = loot.of(&function, shipway)?;
            for (service, operation, arguments) in may {
                thief.ask(service, operation, arguments).with_context(|| format!("{function} may not what it must"))?;
            }
            for call in may_not.into_iter().chain(loot.for_nobody(shipway)?) {
                denied(&function, &thief, call)?;
            }
            functions += 1;
        }
        ensure!(functions == 9, "{functions} functions");
        // What they were after is there still.
        let (key, version) = &loot.upload;
        let upload = json!({"Bucket": shipway.output("IntakeBucket")?, "Key": key, "VersionId": version});
        loot.aws.ask("s3", "get_object", upload)?;
        loot.aws.ask("ec2", "describe_vpcs", json!({"VpcIds": [loot.vpc]}))?;
        loot.aws.ask("cloudformation", "describe_stacks", json!({"StackName": "denials-of-others"}))?;
        Ok(())
    });
}

#[test]
fn what_iam_decides_is_noted_with_the_statement_that_allowed_it_or_what_was_denied() {
    with_shipway(async |shipway| {
        let aws = Aws::of(&shipway.cloud)?;
        let account = shipway.cloud.account();
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")}}]});
        let asked = json!({"RoleName": "noted", "AssumeRolePolicyDocument": trust.to_string()});
        let role = aws.ask("iam", "create_role", asked)?["Role"]["Arn"].take();
        let objects = ["arn:aws:s3:::denials-other/*", "arn:aws:s3:::denials-noted/*"];
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "Write", "Effect": "Allow", "Action": "s3:PutObject", "Resource": objects}]});
        let put = json!({"RoleName": "noted", "PolicyName": "write", "PolicyDocument": policy.to_string()});
        aws.ask("iam", "put_role_policy", put)?;
        aws.ask("s3", "create_bucket", json!({"Bucket": "denials-noted"}))?;
        let session = aws.ask("sts", "assume_role", json!({"RoleArn": role, "RoleSessionName": "somebody"}))?;
        let text = |name: &str| session["Credentials"][name].as_str().context("no credentials");
        let credentials = [
            ("AWS_ACCESS_KEY_ID", text("AccessKeyId")?),
            ("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey")?),
            ("AWS_SESSION_TOKEN", text("SessionToken")?),
        ];
        let somebody = Aws::with(&shipway.cloud, &credentials)?;
        for _ in 0..2 {
            somebody.ask("s3", "put_object", json!({"Bucket": "denials-noted", "Key": "a", "Body": "b"}))?;
        }
        denied("somebody", &somebody, ("s3", "get_object", json!({"Bucket": "denials-noted", "Key": "a"})))?;
        let mut noted = shipway.cloud.decisions().await?;
        noted.retain(|decision| decision.role == "noted" && decision.action != "s3:ListBucket");
        let [get, put] = noted.as_slice() else { anyhow::bail!("{noted:?}") };
        ensure!(
            !get.allowed && get.action == "s3:GetObject" && get.resource == "arn:aws:s3:::denials-noted/a",
            "{get:?}"
        );
        ensure!(put.allowed && put.statement == "Write" && put.position == Some(1) && put.times == 2, "{put:?}");
        Ok(())
    });
}

/// All that is known of an environment and stands of it.
fn standing(aws: &Aws, shipway: &Shipway, place: &Place, bucket: &str) -> Result<Value> {
    let name = format!("{}/{}", place.app, place.environment);
    let query = json!({"TableName": shipway.output("Table")?, "KeyConditionExpression": "pk = :pk",
                       "ExpressionAttributeValues": {":pk": {"S": name}}});
    let items = aws.list("dynamodb", "query", query, "Items")?;
    let begins = format!("shipway-{}-{}-", place.app, place.environment);
    let mut stacks = aws.list("cloudformation", "describe_stacks", json!({}), "Stacks")?;
    stacks.retain(|stack| stack["StackName"].as_str().is_some_and(|name| name.starts_with(&begins)));
    let objects = aws.list("s3", "list_object_versions", json!({"Bucket": bucket}), "Versions")?;
    ensure!(!items.is_empty() && !stacks.is_empty() && !objects.is_empty(), "{name} does not stand");
    Ok(json!({"items": items, "stacks": stacks, "objects": objects}))
}

const WALLS: &str =
    "version: 1\napp: walls\nnetwork: {vpc: default}\nsites: {web: {}}\nenvironments: {dev: {}, prod: {}}\n";

#[test]
fn who_uploads_for_one_environment_changes_nothing_of_another_in_the_same_account() {
    with_shipway(async |shipway| {
        let dev = provisioned_with(shipway, "walls", WALLS).await?;
        let prod = Place { environment: "prod".parse()?, ..dev.clone() };
        let manifest = shipway.upload_manifest(&prod, WALLS).await?;
        let release = shipway.ended(&prod, &Component::Platform, &manifest, PROVISIONED).await?;
        expect(&release, Outcome::Succeeded, shipway, &prod).await?;
        let zip = shipway.upload_zip(&prod, "web", "one", site::hello("1", 8)?).await?;
        let release = shipway.ended(&prod, &website(), &zip, RELEASED).await?;
        expect(&release, Outcome::Succeeded, shipway, &prod).await?;
        shipway.idle(&prod, &Component::Platform, PROVISIONED).await?;
        let bucket = shipway.platform(&prod).await?.sites.into_values().next().context("no site")?.bucket;
        let aws = Aws::of(&shipway.cloud)?;
        let before = standing(&aws, shipway, &prod, &bucket)?;

        // Somebody who may put what is of dev.
        let intake = shipway.output("IntakeBucket")?;
        let under = |prefix: &str| format!("arn:aws:s3:::{intake}/{prefix}/walls/dev/*");
        let uploader = uploader(shipway, &aws, &[under("apps"), under("sites")])?;
        let put = |key: &str, body: &str| ("s3", "put_object", json!({"Bucket": intake, "Key": key, "Body": body}));
        for key in ["apps/walls/prod/shipway.yaml", "sites/walls/prod/web/two.zip", "sites/walls/dev-eu/web/two.zip"] {
            denied("who uploads for dev", &uploader, put(key, WALLS))?;
        }
        denied("who uploads for dev", &uploader, ("s3", "list_objects_v2", json!({"Bucket": bucket})))?;

        // Where it may put something, whatever that names: another app, another environment's key behind its own.
        let upload = |key: &str, body: &str| -> Result<Artifact> {
            let (service, operation, arguments) = put(key, body);
            let version = uploader.ask(service, operation, arguments)?["VersionId"].take();
            Ok(Artifact::Object { key: key.to_owned(), version: version.as_str().context("no version")?.to_owned() })
        };
        let foreign = upload("apps/walls/dev/shipway.yaml", &WALLS.replace("app: walls", "app: bricks"))?;
        let release = shipway.ended(&dev, &Component::Platform, &foreign, RELEASED).await?;
        expect(&release, Outcome::Rejected, shipway, &dev).await?;
        let reason = release.reason.unwrap_or_default();
        ensure!(reason.contains("bricks"), "{reason}");
        for key in ["apps/walls/dev/prod/shipway.yaml", "sites/walls/dev/walls/prod/web/two.zip"] {
            upload(key, WALLS)?;
        }
        // And what it says about prod is nothing as long as it is uploaded for dev.
        let more = WALLS.replace("prod: {}", "prod: {sites: {more: {}}}");
        let wider = upload("apps/walls/dev/shipway.yaml", &more)?;
        let release = shipway.ended(&dev, &Component::Platform, &wider, PROVISIONED).await?;
        ensure!(release.outcome.is_some_and(Outcome::is_live), "{}", shipway.story(&dev).await?);
        shipway.idle(&dev, &Component::Platform, PROVISIONED).await?;

        // A zip that came by another's way is for dev alone.
        let zip = shipway.upload_zip(&dev, "web", "two", site::hello("2", 8)?).await?;
        let release = shipway.ended(&dev, &website(), &zip, RELEASED).await?;
        expect(&release, Outcome::Succeeded, shipway, &dev).await?;

        let after = standing(&aws, shipway, &prod, &bucket)?;
        ensure!(before == after, "{before}\nbecame\n{after}");

        // An execution that somebody starts for prod takes no upload of dev.
        for (component, artifact) in [(Component::Platform, &wider), (website(), &zip)] {
            let arn = shipway.start(&prod, &component, artifact).await?;
            let release = shipway.ended_execution(&prod, &arn, RELEASED).await?;
            expect(&release, Outcome::Rejected, shipway, &prod).await?;
        }
        // Of these its story tells, and nothing else.
        let same = |after: Value| {
            let same = before["stacks"] == after["stacks"] && before["objects"] == after["objects"];
            ensure!(same, "{before}\nbecame\n{after}");
            Ok(())
        };
        same(standing(&aws, shipway, &prod, &bucket)?)?;

        // Nor does it notice that dev goes, with all that was published there and what never came to its end.
        let own = shipway.platform(&dev).await?.sites.into_values().next().context("no site")?.bucket;
        aws.ask("s3", "create_multipart_upload", json!({"Bucket": own, "Key": "never-ended"}))?;
        let input = json!({"app": "walls", "environment": "dev", "confirm": "walls/dev"}).to_string();
        let arn = shipway.start_with(shipway.output("TeardownMachine")?, &input).await?;
        let release = shipway.ended_execution(&dev, &arn, PROVISIONED).await?;
        expect(&release, Outcome::Succeeded, shipway, &dev).await?;
        ensure!(release.steps.iter().any(|step| step.what == format!("empties {own}")), "{:#?}", release.steps);
        ensure!(aws.ask("s3", "head_bucket", json!({"Bucket": own})).is_err(), "{own} is there still");
        same(standing(&aws, shipway, &prod, &bucket)?)
    });
}

/// A user who may put objects there, and nothing else.
fn uploader(shipway: &Shipway, aws: &Aws, resources: &[String]) -> Result<Aws> {
    let policy = json!({"Version": "2012-10-17",
                        "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": resources}]});
    aws.ask("iam", "create_user", json!({"UserName": "uploader"}))?;
    let put = json!({"UserName": "uploader", "PolicyName": "upload", "PolicyDocument": policy.to_string()});
    aws.ask("iam", "put_user_policy", put)?;
    let key = aws.ask("iam", "create_access_key", json!({"UserName": "uploader"}))?["AccessKey"].take();
    let text = |name: &str| key[name].as_str().context("no key");
    Aws::with(
        &shipway.cloud,
        &[("AWS_ACCESS_KEY_ID", text("AccessKeyId")?), ("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey")?)],
    )
}
