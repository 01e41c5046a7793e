//! What AWS answers, word for word, and what is made of it.

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use shipway_aws::PublicError as _;
use shipway_domain::failure::Failure;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

const ROLE: &str = "arn:aws:iam::123456789012:role/shipway/execution";

/// The calls, against somebody who answers with these in turn and then tells what was asked.
async fn answered(answers: Vec<(u16, String)>) -> (Aws, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut question = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            asked.push(String::from_utf8(question).unwrap());
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
        asked
    });
    (Aws::new(&config), asked)
}

fn refused_with(code: &str) -> (u16, String) {
    (400, format!(r#"{{"__type": "{code}", "message": "no"}}"#))
}

fn refused_by_iam(status: u16, code: &str) -> (u16, String) {
    (
        status,
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
        ),
    )
}

#[tokio::test]
async fn a_secret_is_there_or_is_not_by_what_describes_it() {
    let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/a";
    let whole = format!("{arn}-abcdef");
    let versions = r#""VersionIdsToStages": {"1": ["AWSPREVIOUS"], "2": ["AWSCURRENT"]}"#;
    let described = |rest: &str| (200, format!(r#"{{"ARN": "{whole}", "Name": "prod/a"{rest}}}"#));
    for (answer, kept) in [
        (described(&format!(", {versions}")), Kept::There(whole.clone())),
        (described(&format!(r#", "DeletedDate": 1800000000, {versions}"#)), Kept::Deleted),
        (described(r#", "VersionIdsToStages": {"1": ["AWSPENDING"]}"#), Kept::Empty),
        (described(""), Kept::Empty),
        (refused_with("ResourceNotFoundException"), Kept::Missing),
    ] {
        let (aws, asked) = answered(vec![answer]).await;
        assert_eq!(aws.secret(arn).await.unwrap(), kept);
        assert_eq!(asked.await.unwrap(), [format!(r#"{{"SecretId":"{arn}"}}"#)]);
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_as_that_and_not_as_something_missing() {
    let (aws, _) = answered(vec![refused_with("AccessDeniedException")]).await;
    let error = aws.secret("arn:aws:secretsmanager:eu-west-1:1:secret:a").await.unwrap_err();
    assert_eq!(error.failure(), Failure::Denied);
    assert!(error.to_string().starts_with("secretsmanager:DescribeSecret answered AccessDenied"), "{error}");
    let (aws, _) = answered(vec![refused_with("AccessDeniedException")]).await;
    let arn = "arn:aws:ssm:eu-west-1:1:parameter/a";
    assert_eq!(aws.parameters(&[arn].into()).await.unwrap_err().failure(), Failure::Denied);
    let (aws, _) = answered(vec![refused_by_iam(403, "AccessDenied")]).await;
    assert_eq!(aws.role(ROLE).await.unwrap_err().failure(), Failure::Denied);
    let (aws, _) = answered(vec![refused_by_iam(403, "AccessDenied")]).await;
    assert_eq!(aws.denied(ROLE, "ssm:GetParameters", &[arn].into()).await.unwrap_err().failure(), Failure::Denied);
}

#[tokio::test]
async fn a_role_is_asked_for_by_its_name_and_its_trust_is_decoded() {
    let role = "<Path>/shipway/</Path><RoleName>execution</RoleName><RoleId>A</RoleId><Arn>a</Arn>\
                <CreateDate>2026-11-21T00:00:00Z</CreateDate>\
                <AssumeRolePolicyDocument>%7B%22Statement%22%3A%20%5B%5D%7D</AssumeRolePolicyDocument>";
    let answer = format!("<GetRoleResponse><GetRoleResult><Role>{role}</Role></GetRoleResult></GetRoleResponse>");
    let (aws, asked) = answered(vec![(200, answer)]).await;
    assert_eq!(aws.role(ROLE).await.unwrap(), Role::There(r#"{"Statement": []}"#.to_owned()));
    assert_eq!(asked.await.unwrap(), ["Action=GetRole&Version=2010-05-08&RoleName=execution"]);
    let (aws, _) = answered(vec![refused_by_iam(404, "NoSuchEntity")]).await;
    assert_eq!(aws.role(ROLE).await.unwrap(), Role::Missing);
}

#[tokio::test]
async fn parameters_are_asked_for_by_their_names_as_often_as_their_number_demands() {
    let arn = |name: &str| format!("arn:aws:ssm:eu-west-1:123456789012:parameter/{name}");
    let (a, b, c) = (arn("a/b"), arn("b"), arn("c"));
    let answer = r#"{"Parameters": [{"Name": "/a/b"}, {"Name": "b"}]}"#.to_owned();
    let (aws, asked) = answered(vec![(200, answer)]).await;
    let found = aws.parameters(&[a.as_str(), &b, &c].into()).await.unwrap();
    assert_eq!(found, [a, b].into());
    // One without a path may have been made with or without a slash: its ARN is the same.
    let filter = r#"{"ParameterFilters":[{"Key":"Name","Option":"Equals","Values":["/a/b","/b","/c","b","c"]}]}"#;
    assert_eq!(asked.await.unwrap(), [filter]);

    let many: Vec<String> = (0..PARAMETERS_AT_ONCE + 1).map(|n| arn(&format!("x/{n}"))).collect();
    let (aws, asked) = answered(vec![(200, "{}".to_owned()); 2]).await;
    assert!(aws.parameters(&many.iter().map(String::as_str).collect()).await.unwrap().is_empty());
    assert_eq!(asked.await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_simulation_refuses_for_sure_is_told_by_resource() {
    let each = |name: &str, decision: &str, missing: &str| {
        format!(
            "<member><EvalResourceName>{name}</EvalResourceName><EvalResourceDecision>{decision}</EvalResourceDecision>\
             <MissingContextValues>{missing}</MissingContextValues></member>"
        )
    };
    let result = |inner: &str| {
        let answer = format!(
            "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>\
             <member><EvalActionName>ssm:GetParameters</EvalActionName>{inner}</member>\
             </EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        );
        (200, answer)
    };
    let unknown = "<member>aws:SourceVpc</member>";
    let several = [
        each("a", "allowed", ""),
        each("b", "implicitDeny", ""),
        each("c", "explicitDeny", unknown),
        each("d", "implicitDeny", unknown),
    ];
    let several = format!(
        "<EvalResourceName>a</EvalResourceName><EvalDecision>implicitDeny</EvalDecision>\
         <ResourceSpecificResults>{}</ResourceSpecificResults>",
        several.concat()
    );
    let (aws, asked) = answered(vec![result(&several)]).await;
    let denied = aws.denied(ROLE, "ssm:GetParameters", &["a", "b", "c", "d"].into()).await.unwrap();
    assert_eq!(denied, ["b", "c"].map(str::to_owned).into());
    let asked = asked.await.unwrap().remove(0);
    assert!(
        asked.contains("PolicySourceArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fshipway%2Fexecution"),
        "{asked}"
    );
    assert!(asked.contains("ActionNames.member.1=ssm%3AGetParameters&ResourceArns.member.1=a"), "{asked}");

    for (decision, refused) in [("allowed", false), ("implicitDeny", true), ("explicitDeny", true)] {
        let one = format!("<EvalResourceName>a</EvalResourceName><EvalDecision>{decision}</EvalDecision>");
        let (aws, _) = answered(vec![result(&one)]).await;
        let denied = aws.denied(ROLE, "ssm:GetParameters", &["a"].into()).await.unwrap();
        assert_eq!(denied.contains("a"), refused, "{decision}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_stops_nothing() {
    let (repository, layer) = ("hello-api".parse().unwrap(), "sha256:cf".parse().unwrap());
    let (aws, _) = answered(vec![refused_with("LayersNotFoundException")]).await;
    assert_eq!(aws.configuration(&repository, &layer).await.unwrap(), None);
    let nobody = r#"{"downloadUrl": "http://127.0.0.1:1/blob"}"#.to_owned();
    let (aws, _) = answered(vec![(200, nobody)]).await;
    assert_eq!(aws.configuration(&repository, &layer).await.unwrap(), None);
    let (aws, _) = answered(vec![refused_with("AccessDeniedException")]).await;
    assert_eq!(aws.configuration(&repository, &layer).await.unwrap_err().failure(), Failure::Denied);
}
