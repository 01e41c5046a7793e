//! The blueprint of a site, as a stack in the local cloud: what its distribution answers, with a backend and without one.

#![allow(clippy::disallowed_methods, reason = "a test waits for a stack")]

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudformation::types::Parameter;
use local_cloud::{
    Config, LocalCloud,
    data_plane::{self, Answer},
};
use serde_json::{Value, json};
use shipway_domain::{
    edge::{self, Edge, Preview},
    manifest::spec::TrailingSlash,
};

const LOAD_BALANCER: &str = include_str!("../../bootstrap/blueprints/load-balancer.yaml");
const SITE: &str = include_str!("../../bootstrap/blueprints/site.yaml");

/// What a service behind the load balancer would answer.
const API: &str = r#"
Parameters: {Listener: {Type: String}}
Resources:
  Missing:
    Type: AWS::ElasticLoadBalancingV2::ListenerRule
    Properties:
      ListenerArn: !Ref Listener
      Priority: 10
      Conditions: [{Field: path-pattern, PathPatternConfig: {Values: [/api/missing]}}]
      Actions: [{Type: fixed-response, FixedResponseConfig: {StatusCode: "404", ContentType: application/json, MessageBody: '{"no":"such"}'}}]
  Broken:
    Type: AWS::ElasticLoadBalancingV2::ListenerRule
    Properties:
      ListenerArn: !Ref Listener
      Priority: 11
      Conditions: [{Field: path-pattern, PathPatternConfig: {Values: [/api/broken]}}]
      Actions: [{Type: fixed-response, FixedResponseConfig: {StatusCode: "500", ContentType: application/json, MessageBody: '{"is":"broken"}'}}]
  Everything:
    Type: AWS::ElasticLoadBalancingV2::ListenerRule
    Properties:
      ListenerArn: !Ref Listener
      Priority: 12
      Conditions: [{Field: path-pattern, PathPatternConfig: {Values: [/*]}}]
      Actions: [{Type: fixed-response, FixedResponseConfig: {StatusCode: "200", ContentType: application/json, MessageBody: '{"is":"well"}'}}]
"#;

/// A stack's outputs.
async fn stack(cloud: &LocalCloud, name: &str, template: &str, parameters: &[(&str, &str)]) -> Result<Value> {
    let cloudformation = aws_sdk_cloudformation::Client::new(&cloud.sdk_config());
    let parameters =
        parameters.iter().map(|(key, value)| Parameter::builder().parameter_key(*key).parameter_value(*value).build());
    cloudformation
        .create_stack()
        .stack_name(name)
        .template_body(template)
        .set_parameters(Some(parameters.collect()))
        .send()
        .await?;
    for _ in 0..200 {
        let described = cloudformation.describe_stacks().stack_name(name).send().await?;
        let stack = described.stacks().first().context("no stack")?;
        let status = stack.stack_status().context("no status")?.as_str();
        if status == "CREATE_COMPLETE" {
            let outputs =
                stack.outputs().iter().filter_map(|output| Some((output.output_key()?, output.output_value()?)));
            return Ok(outputs.map(|(key, value)| (key.to_owned(), Value::from(value))).collect());
        }
        ensure!(
            status == "CREATE_IN_PROGRESS",
            "{name} is {status}: {:?}\n{}",
            stack.stack_status_reason(),
            cloud.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("{name} is not made within ten seconds")
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The text that the CLI finds by this query.
fn aws(cloud: &LocalCloud, arguments: &[&str]) -> Result<String> {
    let mut aws = Command::new(shipway_tests::tools()?.join("bin/aws"));
    cloud.use_in(&mut aws);
    run(aws.args(arguments).args(["--output", "text"]))
}

/// Writes a key-value store. The SDKs name the account in the host, which is no name here; so by hand.
fn tell(cloud: &LocalCloud, store: &str, values: &[(&str, String)]) -> Result<()> {
    let (key, _) = cloud.credentials();
    let authorization = format!(
        "authorization: AWS4-HMAC-SHA256 Credential={key}/20261121/{}/cloudfront-keyvaluestore/aws4_request, SignedHeaders=host, Signature=0",
        cloud.region()
    );
    let url = format!("{}/key-value-stores/{}", cloud.endpoint(), store.replace('/', "%2F"));
    let curl = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail-with-body", "--header", &authorization]);
        curl
    };
    let version = run(curl().args(["--dump-header", "-", "--output", "/dev/null", &url]))?;
    let version = version.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("etag").then(|| value.trim().to_owned())
    });
    let version = format!("if-match: {}", version.context("no version")?);
    let puts: Vec<_> = values.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let body = json!({ "Puts": puts }).to_string();
    run(curl().args(["--header", &version, "--data", &body, &format!("{url}/keys")])).map(drop)
}

struct Site<'a> {
    cloud: &'a LocalCloud,
    outputs: Value,
    s3: aws_sdk_s3::Client,
}

impl<'a> Site<'a> {
    async fn made(cloud: &'a LocalCloud, name: &str, backend: Option<&str>) -> Result<Site<'a>> {
        let mut parameters = vec![
            ("App", "hello"),
            ("Environment", "dev"),
            ("Site", name),
            ("Redirects", r#"{"exact":{"/old":["/chat",301]},"begin":[]}"#),
            ("Headers", r#"[["x-frame-options","DENY"],["x-price","\u0024{5}"]]"#),
        ];
        if let Some(load_balancer) = backend {
            parameters.extend([("LoadBalancer", load_balancer), ("Backend1", "/api/*"), ("Backend2", "/api")]);
        }
        let outputs = stack(cloud, name, SITE, &parameters).await?;
        let config = cloud.sdk_config();
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        let site = Site { cloud, outputs, s3: aws_sdk_s3::Client::from_conf(s3) };
        for (key, kind, text) in [
            ("index.html", "text/html", "home"),
            ("chat.html", "text/html", "chat"),
            ("404.html", "text/html", "not here"),
            ("app.js", "text/javascript", "app"),
            ("app.js.br", "text/javascript", "app, packed"),
            ("app.js.gz", "text/javascript", "app, packed"),
            (".shipway/preview/pr-1/r1/chat/index.html", "text/html", "the new chat"),
        ] {
            let mut put = site.s3.put_object().bucket(site.output("Bucket")?).key(key).content_type(kind);
            if key.ends_with(".br") {
                put = put.content_encoding("br");
            }
            put.body(text.as_bytes().to_vec().into()).send().await?;
        }
        let live = Edge { precompressed: vec!["js".to_owned()], ..Edge::default() };
        let preview = Preview {
            edge: Edge { slash: TrailingSlash::Always, ..Edge::default() },
            prefix: ".shipway/preview/pr-1/r1/".to_owned(),
            until: 4_000_000_000,
        };
        let values = [(edge::LIVE, serde_json::to_string(&live)?), ("preview/pr-1", serde_json::to_string(&preview)?)];
        tell(cloud, site.output("Store")?, &values)?;
        Ok(site)
    }

    fn output(&self, key: &str) -> Result<&str> {
        self.outputs[key].as_str().with_context(|| format!("no {key}"))
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        let mut all = vec![("host", self.output("Domain")?), ("x-forwarded-proto", "https")];
        all.extend(headers);
        Ok(data_plane::get(&format!("{}{path}", self.cloud.endpoint()), &all).await?)
    }

    /// What every site answers.
    async fn check(&self) -> Result<()> {
        for (path, status, text) in [
            ("/", 200, "home"),
            ("/chat", 200, "chat"),
            ("/nowhere", 404, "not here"),
            ("/nowhere.png", 404, "not here"),
            ("/404.html", 200, "not here"),
            ("/app.js", 200, "app"),
        ] {
            let answer = self.get(path, &[]).await?;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, text), "{path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            let frames = if status == 200 { "DENY" } else { "SAMEORIGIN" };
            assert_eq!(answer.header("x-frame-options"), Some(frames), "{path}");
            assert_eq!(answer.header("x-price"), (status == 200).then_some("${5}"), "{path}");
        }
        for (path, status, location) in [("/chat/?a=1&a=%20", 308, "/chat?a=1&a=%20"), ("/old", 301, "/chat")] {
            let answer = self.get(path, &[]).await?;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (status, Some(location)), "{path}");
        }
        let packed = self.get("/app.js", &[("accept-encoding", "gzip, br")]).await?;
        assert_eq!((packed.text().as_str(), packed.header("content-encoding")), ("app, packed", Some("br")));
        assert_eq!(packed.header("vary"), Some("Accept-Encoding"));

        assert_eq!(self.get("/.shipway/preview/pr-1/r1/chat/index.html", &[]).await?.status, 404);
        let chosen = self.get("/_preview/pr-1", &[]).await?;
        assert_eq!((chosen.status.as_u16(), chosen.header("location")), (302, Some("/")));
        let cookie = chosen.header("set-cookie").context("no cookie")?.split(';').next().unwrap_or_default();
        let preview = self.get("/chat/", &[("cookie", cookie)]).await?;
        assert_eq!((preview.status.as_u16(), preview.text().as_str()), (200, "the new chat"));
        assert_eq!(preview.header("x-robots-tag"), Some("noindex"));
        assert_eq!(self.get("/_preview/pr-2", &[]).await?.status, 404);
        Ok(())
    }

    /// A site that has no page for it answers 404 as well.
    async fn check_without_a_page(&self) -> Result<()> {
        self.s3.delete_object().bucket(self.output("Bucket")?).key("404.html").send().await?;
        for path in ["/nowhere", "/404.html"] {
            assert_eq!(self.get(path, &[]).await?.status, 404, "{path}");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_found_and_what_is_not_there_is_told_with_the_sites_own_page() -> Result<()> {
    let cloud = LocalCloud::start(Config::new(shipway_tests::tools()?)).await?;
    let site = Site::made(&cloud, "plain", None).await?;
    site.check().await?;
    assert_eq!(site.get("/api/missing", &[]).await?.text(), "not here");
    site.check_without_a_page().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backends_answers_reach_the_visitor_as_they_are() -> Result<()> {
    let cloud = LocalCloud::start(Config::new(shipway_tests::tools()?)).await?;
    let subnets = aws(&cloud, &["ec2", "describe-subnets", "--query", "Subnets[:2].SubnetId"])?.replace('\t', ",");
    let group = aws(&cloud, &["ec2", "describe-security-groups", "--query", "SecurityGroups[0].GroupId"])?;
    let parameters = [
        ("Name", "hello-dev"),
        ("SecurityGroup", group.as_str()),
        ("Subnets", subnets.as_str()),
        ("Certificate", ""),
        ("IdleTimeout", "60"),
        ("LogBucket", ""),
        ("Firewall", ""),
        ("Rate", "2000"),
    ];
    let balancer = stack(&cloud, "balancer", LOAD_BALANCER, &parameters).await?;
    let output = |key: &str| balancer[key].as_str().with_context(|| format!("no {key}"));
    stack(&cloud, "api", API, &[("Listener", output("Listener")?)]).await?;
    let site = Site::made(&cloud, "backed", Some(output("DnsName")?)).await?;
    site.check().await?;
    for (path, status, text) in [
        ("/api/missing", 404, r#"{"no":"such"}"#),
        ("/api/broken", 500, r#"{"is":"broken"}"#),
        ("/api/x?a=1", 200, r#"{"is":"well"}"#),
        ("/api", 200, r#"{"is":"well"}"#),
    ] {
        let answer = site.get(path, &[]).await?;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (status, text), "{path}");
    }
    site.check_without_a_page().await
}
