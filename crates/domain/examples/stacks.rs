//! Every stack of every environment of the manifests that are named, as JSON, for what judges templates: which template, and what
//! each of its parameters is given. `cargo xtask check` fills them in.

#![allow(clippy::print_stdout, reason = "what it prints is read by a program")]

use std::error::Error;

use serde_json::{Value as Json, json};
use shipway_domain::{
    manifest,
    network::NetworkOutputs,
    platform::{Observed, Place, Value, WantedStack, Wish, stacks},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut environments = Vec::new();
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        for (environment, spec) in manifest::read_all(&text).map_err(|error| format!("{path}: {error}"))? {
            let (place, network) = (place(), network());
            let wish = Wish { spec: &spec, environment: &environment, place: &place, network: Some(&network) };
            let wanted = stacks(&wish, &Observed::new())?;
            environments.push(json!({
                "environment": format!("{}-{environment}", spec.app),
                "stacks": wanted.iter().map(stack).collect::<Vec<_>>(),
            }));
        }
    }
    println!("{}", Json::from(environments));
    Ok(())
}

fn stack(stack: &WantedStack) -> Json {
    let parameters = stack.parameters.iter().map(|(name, value)| (name.to_string(), given(value)));
    json!({
        "name": stack.name.as_str(),
        "template": stack.template,
        "parameters": parameters.collect::<serde_json::Map<_, _>>(),
    })
}

fn given(value: &Value) -> Json {
    let all = |values: &[Value]| values.iter().map(given).collect::<Vec<_>>();
    match value {
        Value::Text(text) => json!({"text": text}),
        Value::Output { stack, key } => json!({"output": key, "of": stack.as_str()}),
        Value::Kept { first, .. } => json!({"text": first.to_string()}),
        Value::OfNetwork => json!({"text": ""}),
        Value::List(values) => json!({"list": all(values)}),
        Value::Joined(values) => json!({"joined": all(values)}),
    }
}

fn place() -> Place {
    Place {
        partition: "aws".to_owned(),
        region: "us-east-1".to_owned(),
        account: "111122223333".to_owned(),
        permissions_boundary: "arn:aws:iam::111122223333:policy/shipway-boundary".to_owned(),
    }
}

/// A network with everything that one may have.
fn network() -> NetworkOutputs {
    let two = |kind: &str| [1, 2].map(|n| format!("subnet-{kind}00000000000000{n}")).to_vec();
    let group = |n: u8| format!("sg-0000000000000000{n}");
    NetworkOutputs {
        vpc: "vpc-00000000000000001".to_owned(),
        cidr: "10.0.0.0/16".to_owned(),
        public_subnets: two("a1"),
        private_subnets: two("b1"),
        isolated_subnets: two("c1"),
        load_balancer_group: group(1),
        service_group: group(2),
        instance_group: Some(group(3)),
        database_group: Some(group(4)),
        cache_group: Some(group(5)),
    }
}
