use std::collections::BTreeSet;

use super::*;
use crate::{
    manifest,
    name::EnvironmentName,
    network::NetworkOutputs,
    platform::{ObservedStack, Place, outputs as all_outputs, stacks},
};

const DOUGUST: &str = r#"
version: 1
app: dougust
databases:
  main:
    engine: postgres
    version: "15"
    class: db.t3.medium
    multi_az: true
    storage: 100GiB
    max_storage: 500GiB
    backups: 7d
    maintenance_window: sun:02:00-sun:04:00
    weekly_export: 90d
    url_secrets: {dougust: dev/dougust/database-url}
secrets:
  jwt-secret: {name: dev/dougust/jwt-secret, length: 64}
  session: {}
services:
  api:
    image: {repository: dougust-api}
    port: 3000
    secrets: {DATABASE_URL: {ref: databases.main.url}, JWT_SECRET: {ref: secrets.jwt-secret}}
environments:
  dev: {}
  prod:
    databases:
      main:
        class: db.t3.large
        on_delete: retain
        url_secrets: {dougust: prod/dougust/database-url}
    secrets: {jwt-secret: {name: prod/dougust/jwt-secret}}
"#;

const REX: &str = r#"
version: 1
app: rex
databases:
  main:
    engine: aurora_postgres
    version: "15.4"
    capacity: {min: 0.5, max: 2}
    user: rexadmin
    names: [rex_backend, supertokens]
    on_delete: delete
caches:
  main: {engine: redis, version: "7.0", class: cache.t4g.micro}
services:
  api:
    image: {repository: rex-backend-api}
    port: 8080
    env: {REDIS_URL: {ref: caches.main.url}}
    secrets: {DATABASE_URL: {ref: databases.main.url}}
  supertokens:
    image: {repository: supertokens}
    port: 3567
    secrets: {URI: {ref: databases.main.supertokens.url}}
environments: {dev: {}}
"#;

const FASTAPI: &str = r#"
version: 1
app: fastapi-react
domain: {name: example.com, zone: Z0123456789ABC}
buckets:
  uploads: {cors: ["https://example.com", "https://www.example.com"], expire: 2d}
  cache: {versioned: false, on_delete: delete}
email:
  sender: {address: hello@example.org}
  news: {domain: news.example.com}
  other: {domain: notexample.com}
services:
  backend: {image: {repository: backend}, port: 8000, http: {}}
environments: {prod: {}}
"#;

struct Case {
    spec: Spec,
    environment: EnvironmentName,
    place: Place,
    network: NetworkOutputs,
}

impl Case {
    fn new(text: &str, environment: &str) -> Case {
        let app = text.lines().find_map(|line| line.strip_prefix("app: ")).unwrap().parse().unwrap();
        let environment = environment.parse().unwrap();
        Case {
            spec: manifest::read(text, &app, &environment).unwrap(),
            environment,
            place: Place {
                partition: "aws".to_owned(),
                region: "us-east-1".to_owned(),
                account: "123456789012".to_owned(),
                permissions_boundary: "arn:aws:iam::123456789012:policy/shipway/boundary".to_owned(),
            },
            network: NetworkOutputs {
                public_subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
                private_subnets: vec!["subnet-3".to_owned(), "subnet-4".to_owned()],
                isolated_subnets: vec!["subnet-5".to_owned(), "subnet-6".to_owned()],
                database_group: Some("sg-database".to_owned()),
                cache_group: Some("sg-cache".to_owned()),
                ..NetworkOutputs::default()
            },
        }
    }

    fn wish(&self) -> Wish<'_> {
        Wish { spec: &self.spec, environment: &self.environment, place: &self.place, network: Some(&self.network) }
    }

    fn wanted(&self) -> Vec<WantedStack> {
        self.wish().data_stacks(&Observed::new()).unwrap()
    }

    fn wanted_of(&self, name: &str) -> WantedStack {
        let name = format!("shipway-{}-{}-{name}", self.spec.app, self.environment);
        self.wanted().into_iter().find(|stack| stack.name.as_str() == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// What a stack of these stands with: its outputs say whose they are.
    fn standing(&self) -> Observed {
        let observed = |stack: &WantedStack| {
            let parameters = stack.parameters.iter().filter_map(|(key, value)| match value {
                Value::Text(text) => Some((key.to_string(), text.clone())),
                _ => None,
            });
            let outputs = names_in(&stack.template, "Outputs").into_iter().map(|key| {
                let value = if key == "Port" { "5432".to_owned() } else { format!("{}/{key}", stack.name) };
                (key, value)
            });
            let observed = ObservedStack {
                id: stack.name.to_string(),
                status: StackStatus::CreateComplete,
                parameters: parameters.collect(),
                tags: BTreeMap::new(),
                outputs: outputs.collect(),
                role: None,
                protected: false,
                operation: None,
            };
            (stack.name.clone(), observed)
        };
        stacks(&self.wish(), &Observed::new()).unwrap().iter().map(observed).collect()
    }
}

/// The names in a section of a template.
fn names_in(template: &str, section: &str) -> BTreeSet<String> {
    let lines = template.lines().skip_while(|line| *line != format!("{section}:")).skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    names.filter(|name| !name.starts_with([' ', '#'])).map(str::to_owned).collect()
}

fn texts(stack: &WantedStack, keys: &[&'static str]) -> Vec<String> {
    let text = |key: &&str| match &stack.parameters[*key] {
        Value::Text(text) => text.clone(),
        Value::Output { stack, key } => format!("{stack}.{key}"),
        other => format!("{other:?}"),
    };
    keys.iter().map(text).collect()
}

#[test]
fn every_parameter_of_a_template_is_given_and_no_other() {
    for (text, environment) in [(DOUGUST, "prod"), (REX, "dev"), (FASTAPI, "prod")] {
        for stack in Case::new(text, environment).wanted() {
            let given: BTreeSet<_> = stack.parameters.keys().map(ToString::to_string).collect();
            assert_eq!(given, names_in(&stack.template, "Parameters"), "{}", stack.name);
        }
    }
}

#[test]
fn dougusts_database_is_as_its_owner_describes_it() {
    let shared = [
        "Database",
        "Subnets",
        "SecurityGroup",
        "Engine",
        "Version",
        "Family",
        "MinorUpgrades",
        "MultiAz",
        "Storage",
        "MaxStorage",
        "User",
        "Name",
        "BackupDays",
        "BackupWindow",
        "MaintenanceWindow",
        "LogDays",
    ];
    for (environment, class, on_delete) in [("dev", "db.t3.medium", "Snapshot"), ("prod", "db.t3.large", "Retain")] {
        let case = Case::new(DOUGUST, environment);
        let database = case.wanted_of("database-main");
        assert_eq!(
            texts(&database, &shared),
            [
                "main",
                "subnet-5,subnet-6",
                "sg-database",
                "postgres",
                "15",
                "postgres15",
                "true",
                "true",
                "100",
                "500",
                "app",
                "dougust",
                "7",
                "",
                "sun:02:00-sun:04:00",
                "30",
            ]
        );
        assert_eq!(texts(&database, &["Class", "OnDelete"]), [class, on_delete]);
        assert!(database.needs_network);

        let server = format!("shipway-dougust-{environment}-database-main");
        let url = case.wanted_of("url-main--dougust");
        assert_eq!(
            texts(&url, &["SecretName", "User", "Host", "Port", "Name", "Credentials"]),
            [
                format!("{environment}/dougust/database-url"),
                "app".to_owned(),
                format!("{server}.Host"),
                format!("{server}.Port"),
                "dougust".to_owned(),
                format!("{server}.Credentials"),
            ]
        );
        let export = case.wanted_of("export-main");
        assert_eq!(
            texts(&export, &["Identifier", "Engine", "Days"]),
            [&format!("{server}.Identifier"), "postgres", "90"]
        );
        let secret = case.wanted_of("secret-jwt-secret");
        assert_eq!(texts(&secret, &["Name", "Length"]), [&format!("{environment}/dougust/jwt-secret"), "64"]);
        let session = case.wanted_of("secret-session");
        assert_eq!(texts(&session, &["Name", "Length"]), [&format!("shipway/dougust/{environment}/session"), "48"]);
    }
}

#[test]
fn what_is_exported_stays_only_where_the_database_does() {
    assert_eq!(texts(&Case::new(DOUGUST, "dev").wanted_of("export-main"), &["OnDelete"]), ["Delete"]);
    assert_eq!(texts(&Case::new(DOUGUST, "prod").wanted_of("export-main"), &["OnDelete"]), ["Retain"]);
}

#[test]
fn rexs_cluster_has_both_databases_and_the_cache_is_encrypted_redis() {
    let case = Case::new(REX, "dev");
    let names: Vec<_> = case.wanted().iter().map(|stack| stack.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "shipway-rex-dev-database-main",
            "shipway-rex-dev-url-main--rex-backend",
            "shipway-rex-dev-url-main--supertokens",
            "shipway-rex-dev-cache-main",
        ]
    );
    let keys = [
        "Engine",
        "Version",
        "Family",
        "MinorUpgrades",
        "MinCapacity",
        "MaxCapacity",
        "MultiAz",
        "User",
        "Name",
        "BackupDays",
        "OnDelete",
    ];
    assert_eq!(
        texts(&case.wanted_of("database-main"), &keys),
        [
            "aurora-postgresql",
            "15.4",
            "aurora-postgresql15",
            "false",
            "0.5",
            "2",
            "false",
            "rexadmin",
            "rex_backend",
            "7",
            "Delete"
        ]
    );
    assert_eq!(
        texts(&case.wanted_of("url-main--supertokens"), &["SecretName", "User", "Name"]),
        ["shipway/rex/dev/main/supertokens", "rexadmin", "supertokens"]
    );
    let keys = [
        "Engine",
        "Version",
        "Class",
        "Nodes",
        "SnapshotDays",
        "MaintenanceWindow",
        "OnDelete",
        "Subnets",
        "SecurityGroup",
    ];
    assert_eq!(
        texts(&case.wanted_of("cache-main"), &keys),
        ["redis", "7.0", "cache.t4g.micro", "1", "1", "", "Snapshot", "subnet-5,subnet-6", "sg-cache"]
    );
}

#[test]
fn buckets_are_named_for_the_account_and_keep_what_the_manifest_says() {
    let case = Case::new(FASTAPI, "prod");
    let keys = ["BucketName", "Versioned", "ExpireDays", "Origins", "OnDelete"];
    assert_eq!(
        texts(&case.wanted_of("bucket-uploads"), &keys),
        [
            "shipway-bucket-fastapi-react-prod-uploads-123456789012",
            "true",
            "2",
            "https://example.com,https://www.example.com",
            "Retain",
        ]
    );
    assert_eq!(
        texts(&case.wanted_of("bucket-cache"), &keys),
        ["shipway-bucket-fastapi-react-prod-cache-123456789012", "false", "", "", "Delete"]
    );
    assert!(!case.wanted_of("bucket-cache").needs_network);
}

#[test]
fn a_senders_records_are_made_only_in_its_own_zone() {
    let case = Case::new(FASTAPI, "prod");
    let keys = ["Sender", "Zone"];
    assert_eq!(texts(&case.wanted_of("email-sender"), &keys), ["hello@example.org", ""]);
    assert_eq!(texts(&case.wanted_of("email-news"), &keys), ["news.example.com", "Z0123456789ABC"]);
    assert_eq!(texts(&case.wanted_of("email-other"), &keys), ["notexample.com", ""]);
}

#[test]
fn names_fit_what_aws_takes_and_are_nobody_elses() {
    let name = |text: &str| text.parse::<ComponentName>().unwrap();
    let long = "a".repeat(20);
    let (app, environment) = (long.parse().unwrap(), "bbbbbbbbbbbb".parse().unwrap());
    let names = Names { app: &app, environment: &environment };
    let buckets =
        ["c".repeat(20), "d".repeat(20), "c".repeat(19)].map(|key| names.bucket_name(&name(&key), "123456789012"));
    for bucket in &buckets {
        assert!(bucket.len() <= 63 && !bucket.contains("--"), "{bucket}");
    }
    assert_eq!(BTreeSet::from(buckets).len(), 3);

    let database = |text: &str| DatabaseName::try_from(text.to_owned()).unwrap();
    let longest = "x".repeat(62);
    let urls = [
        names.database_url(&name("a"), &database("b_c")),
        names.database_url(&name("a-b"), &database("c")),
        names.database_url(&name("a"), &database("b__c")),
        names.database_url(&name(&long), &database(&format!("{longest}x"))),
        names.database_url(&name(&long), &database(&format!("{longest}y"))),
    ];
    for url in &urls {
        assert!(url.as_str().len() <= 128, "{url}");
        assert_eq!(names.concern_of(url), Some(Concern::Secret));
    }
    assert_eq!(BTreeSet::from(urls).len(), 5);
}

/// Every reference that a manifest can make to what it has.
fn references(spec: &Spec) -> Vec<Reference> {
    let mut all = Vec::new();
    for (key, database) in &spec.databases {
        for &attribute in DatabaseAttribute::ALL {
            let named = database_names(spec, database).into_iter().map(|name| Some(name.as_str().to_owned()));
            all.extend(named.chain([None]).map(|database| Reference::Database {
                name: key.clone(),
                database,
                attribute,
            }));
        }
    }
    for key in spec.caches.keys() {
        all.extend(CacheAttribute::ALL.iter().map(|&attribute| Reference::Cache { name: key.clone(), attribute }));
    }
    all.extend(spec.buckets.keys().cloned().map(Reference::Bucket));
    all.extend(spec.secrets.keys().cloned().map(Reference::Secret));
    all
}

#[test]
fn whatever_a_manifest_can_refer_to_is_in_the_outputs() {
    for (text, environment, count) in [(DOUGUST, "prod", 14), (REX, "dev", 21), (FASTAPI, "prod", 2)] {
        let case = Case::new(text, environment);
        let made = all_outputs(&case.wish(), &case.standing()).unwrap();
        let references = references(&case.spec);
        assert_eq!(references.len(), count);
        for reference in references {
            let (there, elsewhere) = match reference.is_secret() {
                true => (&made.secrets, &made.values),
                false => (&made.values, &made.secrets),
            };
            let text = reference.to_string();
            assert!(there.contains_key(&text) && !elsewhere.contains_key(&text), "{text}");
        }
    }
}

#[test]
fn references_stand_for_what_the_stacks_made() {
    let case = Case::new(REX, "dev");
    let made = all_outputs(&case.wish(), &case.standing()).unwrap();
    let server = "shipway-rex-dev-database-main";
    let password = format!("{server}/Credentials:password::");
    assert_eq!(made.secrets["databases.main.password"], password);
    assert_eq!(made.secrets["databases.main.url"], "shipway-rex-dev-url-main--rex-backend/Secret");
    assert_eq!(made.secrets["databases.main.supertokens.url"], "shipway-rex-dev-url-main--supertokens/Secret");
    assert_eq!(made.values["databases.main.name"], "rex_backend");
    assert_eq!(made.values["databases.main.supertokens.name"], "supertokens");
    assert_eq!(made.values["databases.main.supertokens.host"], format!("{server}/Host"));
    assert_eq!(made.values["caches.main.url"], "shipway-rex-dev-cache-main/Url");
    let database = &made.databases[&"main".parse().unwrap()];
    assert_eq!(
        (database.engine, database.port, database.user.as_str(), &database.password, &database.export_bucket),
        (DatabaseEngine::AuroraPostgres, 5432, "rexadmin", &password, &None)
    );
    assert_eq!(database.names.iter().map(DatabaseName::as_str).collect::<Vec<_>>(), ["rex_backend", "supertokens"]);

    let case = Case::new(DOUGUST, "prod");
    let made = all_outputs(&case.wish(), &case.standing()).unwrap();
    let bucket = made.databases[&"main".parse().unwrap()].export_bucket.as_deref();
    assert_eq!(bucket, Some("shipway-dougust-prod-export-main/Bucket"));
}

#[test]
fn a_role_reads_the_secrets_of_what_its_service_refers_to_and_no_others() {
    let case = Case::new(REX, "dev");
    let wish = case.wish();
    let arns = |text: &str| {
        let output = |value| match value {
            Value::Output { stack, key } => format!("{stack}.{key}").replace("shipway-rex-dev-", ""),
            other => panic!("{other:?}"),
        };
        wish.secret_arns(&Reference::try_from(text.to_owned()).unwrap()).into_iter().map(output).collect::<Vec<_>>()
    };
    assert_eq!(arns("databases.main.url"), ["url-main--rex-backend.Secret"]);
    assert_eq!(arns("databases.main.rex_backend.url"), ["url-main--rex-backend.Secret"]);
    assert_eq!(arns("databases.main.password"), ["database-main.Credentials"]);
    assert_eq!(arns("databases.main.supertokens.url"), ["url-main--supertokens.Secret", "database-main.Credentials"]);
    assert_eq!(arns("databases.main.supertokens.host"), ["database-main.Credentials"]);
    for none in
        ["databases.main.host", "databases.main.other.url", "databases.none.url", "secrets.none", "caches.main.url"]
    {
        assert_eq!(arns(none), [""; 0], "{none}");
    }
    let services = stacks(&wish, &Observed::new()).unwrap();
    let read = |service: &str| {
        let stack = services.iter().find(|stack| stack.name.as_str().ends_with(service)).unwrap();
        stack.stands_on().into_iter().map(|name| name.to_string().replace("shipway-rex-dev-", "")).collect::<Vec<_>>()
    };
    assert_eq!(read("service-api"), ["url-main--rex-backend"]);
    assert_eq!(read("service-supertokens"), ["database-main", "url-main--supertokens"]);
}

#[test]
fn what_would_lose_data_is_refused_with_the_place_in_the_manifest() {
    let changed_to = |text: &str| {
        let observed = Case::new(DOUGUST, "dev").standing();
        assert_ne!(text, DOUGUST);
        Case::new(text, "dev").wish().data_stacks(&observed).map_err(|error| error.to_string())
    };
    let changed = |from: &str, to: &str| changed_to(&DOUGUST.replace(from, to));
    let refused = |path: &str, old: &str, new: &str| {
        Err(format!(
            "{path}: it was made with `{old}` and cannot become `{new}` without losing what it holds; set it back, or give what \
             should be new a key of its own"
        ))
    };
    assert_eq!(
        changed("version: \"15\"", "version: \"15\"\n    user: other"),
        refused("databases.main.user", "app", "other")
    );
    let altered = |alter: fn(&mut Database)| {
        let mut case = Case::new(DOUGUST, "dev");
        let observed = case.standing();
        case.spec.databases.values_mut().for_each(alter);
        case.wish().data_stacks(&observed).map_err(|error| error.to_string())
    };
    assert_eq!(
        altered(|database| database.names = vec!["other".to_owned().try_into().unwrap()]),
        refused("databases.main.names", "dougust", "other")
    );
    assert_eq!(
        altered(|database| database.engine = DatabaseEngine::AuroraPostgres),
        refused("databases.main.engine", "postgres", "aurora-postgresql")
    );
    assert_eq!(changed("length: 64", "length: 32"), refused("secrets.jwt-secret.length", "64", "32"));
    assert!(changed("storage: 100GiB", "storage: 200GiB").is_ok());
    assert!(changed("version: \"15\"", "version: \"16\"").is_ok());
    assert!(changed("backups: 7d", "names: [dougust, other]").is_ok());
    assert!(changed("dev/dougust/database-url", "dev/dougust/url").is_ok());
}

#[test]
fn what_was_never_finished_holds_nothing_and_may_change() {
    let other = Case::new(&DOUGUST.replace("version: \"15\"", "version: \"15\"\n    user: other"), "dev");
    for status in [StackStatus::CreateFailed, StackStatus::RollbackComplete, StackStatus::ReviewInProgress] {
        let mut observed = Case::new(DOUGUST, "dev").standing();
        for stack in observed.values_mut() {
            stack.status = status.clone();
        }
        assert!(other.wish().data_stacks(&observed).is_ok(), "{status}");
    }
    let mut observed = Case::new(DOUGUST, "dev").standing();
    for stack in observed.values_mut() {
        stack.status = StackStatus::UpdateRollbackFailed;
    }
    assert!(other.wish().data_stacks(&observed).is_err());
}
