//! A snapshot before a migration, with the rights that the template gives and no more.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use shipway_domain::release::Outcome;
use shipway_tests::ask::Aws;

use super::{good, manifest, provisioned_with, roll_out, service, with_shipway};

#[test]
fn a_snapshot_is_there_before_the_migration_begins_and_what_was_live_before_takes_none() {
    with_shipway(async |shipway| {
        let text = manifest("saved")
            .replace(
                "timeout: 2m}",
                "timeout: 2m, snapshot: true}\n    secrets: {DATABASE_URL: {ref: databases.main.url}}",
            )
            .replace(
                "\nservices:\n",
                "\ndatabases:\n  main: {engine: postgres, version: \"15\", class: db.t3.micro}\n\nservices:\n",
            );
        let place = provisioned_with(shipway, "saved", &text).await?;
        let (first, release) = roll_out(shipway, &place, "v1", &good("1").await?, Outcome::Succeeded).await?;
        let aws = Aws::of(&shipway.cloud)?;
        let taken = || -> Result<Vec<String>> {
            let all = aws.list("rds", "describe_db_snapshots", json!({}), "DBSnapshots")?;
            let ours = all
                .iter()
                .filter(|one| one["DBInstanceIdentifier"].as_str().is_some_and(|of| of.starts_with("saved-")));
            Ok(ours.filter_map(|one| one["DBSnapshotIdentifier"].as_str()).map(str::to_owned).collect())
        };
        let name = format!("shipway-{}-main", release.release).to_ascii_lowercase();
        assert_eq!(taken()?, [name.as_str()]);
        let steps: Vec<&str> = release.steps.iter().map(|step| step.what.as_str()).collect();
        let saved = steps.iter().position(|step| *step == format!("the snapshot {name} of the database main is there"));
        let migrated = steps.iter().position(|step| step.starts_with("started the migration"));
        ensure!(saved.context("no snapshot")? < migrated.context("no migration")?, "{steps:#?}");

        roll_out(shipway, &place, "v2", &good("2").await?, Outcome::Succeeded).await?;
        assert_eq!(taken()?.len(), 2);
        let arn = shipway.start(&place, &service(), &first).await?;
        shipway.ended_execution(&place, &arn, super::RELEASED).await?;
        assert_eq!(taken()?.len(), 2, "a rollback migrates nothing, so there is nothing to save");
        Ok(())
    });
}

#[test]
fn who_may_take_snapshots_of_shipways_name_may_take_no_other() {
    with_shipway(async |shipway| {
        let aws = Aws::of(&shipway.cloud)?;
        aws.ask("iam", "create_user", json!({"UserName": "saver"}))?;
        let arn =
            |resource: &str| format!("arn:aws:rds:{}:{}:{resource}", shipway.cloud.region(), shipway.cloud.account());
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "rds:CreateDBSnapshot", "Resource": [arn("db:*"), arn("snapshot:shipway-*")]}]});
        let put = json!({"UserName": "saver", "PolicyName": "save", "PolicyDocument": policy.to_string()});
        aws.ask("iam", "put_user_policy", put)?;
        let key = aws.ask("iam", "create_access_key", json!({"UserName": "saver"}))?;
        let text = |name: &str| key["AccessKey"][name].as_str().context("no key");
        let credentials =
            [("AWS_ACCESS_KEY_ID", text("AccessKeyId")?), ("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey")?)];
        let saver = Aws::with(&shipway.cloud, &credentials)?;
        let take = |name: &str, tags: serde_json::Value| {
            let asked = json!({"DBSnapshotIdentifier": name, "DBInstanceIdentifier": "nobodys", "Tags": tags});
            saver.ask("rds", "create_db_snapshot", asked).unwrap_err().to_string()
        };
        // Allowed, it is missed; refused, nobody looks whether it is there.
        let (missed, refused) = ("DBInstanceNotFound", "AccessDenied");
        let told = take("shipway-a", json!([]));
        ensure!(told.contains(missed), "{told}");
        let told = take("last", json!([]));
        ensure!(told.contains(refused), "{told}");
        let told = take("shipway-a", json!([{"Key": "a", "Value": "b"}]));
        ensure!(told.contains(refused), "tags want a right of their own: {told}");
        Ok(())
    });
}
