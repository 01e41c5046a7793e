//! Task definitions: described, found again, registered.

use aws_sdk_ecs::{
    Client,
    config::{Builder, retry::RetryConfig},
    types::{Tag, TaskDefinition as SdkTaskDefinition, TaskDefinitionField, TaskDefinitionStatus},
};
use shipway_aws::AwsError;
use shipway_domain::task::{DescribedTaskDefinition, TaskDefinition};

/// One revision, or the newest of a family; none where there is none.
///
/// # Errors
/// The call's.
pub async fn describe(client: &Client, name: &str) -> Result<Option<DescribedTaskDefinition>, AwsError> {
    let call = client.describe_task_definition().task_definition(name).include(TaskDefinitionField::Tags).send().await;
    match call.map_err(AwsError::of("ecs:DescribeTaskDefinition")) {
        Ok(answer) => Ok(answer.task_definition().map(|definition| described(definition, answer.tags()))),
        // ECS has no error of its own for a family that is not there.
        Err(error) if error.is("ClientException") && error.message().contains("Unable to describe") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Registers a new revision and says which it is. Sent once: ECS takes no token for it, so where an answer was lost on its way
/// whoever asks must look first, or there would be a revision that nobody knows of.
///
/// # Errors
/// The call's.
pub async fn register(client: &Client, wanted: &TaskDefinition) -> Result<String, AwsError> {
    let request = wanted.request().to_string();
    let answer = client
        .register_task_definition()
        .family(&wanted.family)
        .customize()
        .config_override(Builder::new().retry_config(RetryConfig::disabled()))
        // The request as the domain has it: a manifest may set fields that this SDK does not know yet. It is signed after this.
        .mutate_request(move |sent| {
            *sent.body_mut() = request.as_str().into();
            if sent.headers().contains_key("content-length") {
                sent.headers_mut().insert("content-length", request.len().to_string());
            }
        })
        .send()
        .await
        .map_err(AwsError::of("ecs:RegisterTaskDefinition"))?;
    Ok(answer.task_definition().and_then(SdkTaskDefinition::task_definition_arn).unwrap_or(&wanted.family).to_owned())
}

fn described(from: &SdkTaskDefinition, tags: &[Tag]) -> DescribedTaskDefinition {
    DescribedTaskDefinition {
        arn: from.task_definition_arn().unwrap_or_default().to_owned(),
        active: from.status().is_none_or(|status| *status == TaskDefinitionStatus::Active),
        tags: crate::tags_of(tags),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::config::{BehaviorVersion, Config, Region};
    use shipway_domain::{
        manifest,
        platform::{PlatformOutputs, ServiceOutputs},
        release::Artifact,
        task::{Source, Surroundings, Wanted},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const MANIFEST: &str = "version: 1
app: hello
environments: {prod: {}}
services:
  api:
    image: {repository: hello-api}
    overrides: {enableFaultInjection: true, containerDefinitions: {api: {stopTimeout: 60}}}
";

    fn wanted() -> TaskDefinition {
        let (app, environment, name) = ("hello".parse().unwrap(), "prod".parse().unwrap(), "api".parse().unwrap());
        let spec = manifest::read(MANIFEST, &app, &environment).unwrap();
        let role = "arn:aws:iam::123456789012:role/r".to_owned();
        let outputs = ServiceOutputs {
            repository_uri: Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com/hello-api".to_owned()),
            execution_role: role.clone(),
            task_role: role,
            ..ServiceOutputs::default()
        };
        let artifact =
            Artifact::Image { repository: "hello-api".parse().unwrap(), digest: "sha256:a1".parse().unwrap() };
        let wanted = Wanted {
            app: &app,
            environment: &environment,
            name: &name,
            spec: &spec,
            service: &spec.services[&name],
            platform: &PlatformOutputs::default(),
            outputs: &outputs,
            source: Source::of(&artifact).unwrap(),
        };
        let surroundings = Surroundings { region: "eu-west-1".to_owned(), registry_mirror: None };
        wanted.service_task(&surroundings).unwrap()
    }

    /// A client of whoever listens there.
    fn client(listener: &TcpListener) -> Client {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(aws_credential_types::Credentials::new("id", "secret", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    /// Takes one request and gives its headers and its body, with the connection on which its answer is awaited.
    async fn request(listener: &TcpListener) -> (TcpStream, String, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        let (head, body) = loop {
            received.extend_from_slice(&[stream.read_u8().await.unwrap()]);
            let text = String::from_utf8(received.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                break (head.to_owned(), body.to_owned());
            }
        };
        (stream, head, body)
    }

    /// Answers one request, and gives its headers and its body.
    async fn answer(listener: TcpListener) -> (String, String) {
        let (mut stream, head, body) = request(&listener).await;
        let answer = r#"{"taskDefinition": {"taskDefinitionArn": "arn:the-revision"}}"#;
        let head_of_answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(format!("{head_of_answer}{answer}").as_bytes()).await.unwrap();
        (head, body)
    }

    #[tokio::test]
    async fn what_is_sent_is_the_request_that_the_domain_made_with_fields_that_no_code_of_ours_names() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, wanted) = (client(&listener), wanted());
        let (registered, (head, body)) = tokio::join!(register(&client, &wanted), answer(listener));
        assert_eq!(registered.unwrap(), "arn:the-revision");
        assert!(head.contains("AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition"), "{head}");
        let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(sent, wanted.request());
        assert_eq!(
            (&sent["enableFaultInjection"], &sent["containerDefinitions"][0]["stopTimeout"]),
            (&true.into(), &60.into())
        );
    }

    #[tokio::test]
    async fn a_registration_whose_answer_is_lost_is_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, wanted, mut sent) = (client(&listener), wanted(), 0);
        let lose_every_answer = async {
            loop {
                drop(request(&listener).await);
                sent += 1;
            }
        };
        tokio::select! {
            registered = register(&client, &wanted) => assert!(registered.is_err()),
            () = lose_every_answer => {}
        }
        assert_eq!(sent, 1);
    }
}
