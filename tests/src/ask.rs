//! Asking any AWS API of the local cloud by its operation's name, for what only tests look at: through boto3, which is among
//! the tools, so that no SDK is compiled for it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use local_cloud::LocalCloud;
use serde_json::{Value, json};

use crate::tools;

/// Answers one line of JSON for each: all pages of an operation, or its error.
const SERVER: &str = r#"
import boto3, json, sys
clients = {}
for line in sys.stdin:
    asked = json.loads(line)
    try:
        key = (asked["service"], asked["region"])
        client = clients.get(key) or clients.setdefault(key, boto3.client(key[0], region_name=key[1]))
        name, arguments = asked["operation"], asked["arguments"]
        if client.can_paginate(name):
            answer = client.get_paginator(name).paginate(**arguments).build_full_result()
        else:
            answer = getattr(client, name)(**arguments)
            answer.pop("ResponseMetadata", None)
            answer = {key: value.read() if hasattr(value, "read") else value for key, value in answer.items()}
        answer = {"answer": answer}
    except Exception as error:
        response = getattr(error, "response", {}).get("Error", {})
        answer = {"error": f"{response.get('Code', type(error).__name__)}: {response.get('Message', error)}"}
    print(json.dumps(answer, default=lambda value: value.decode(errors="replace") if isinstance(value, bytes) else str(value)), flush=True)
"#;

/// Somebody who asks: with every right, unless other credentials are given.
pub struct Aws {
    region: String,
    process: Mutex<Process>,
}

struct Process {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Aws {
    /// Starts asking this cloud.
    ///
    /// # Errors
    /// The tools are not set up.
    pub fn of(cloud: &LocalCloud) -> Result<Aws> {
        Aws::with(cloud, &[])
    }

    /// Starts asking as a user or role: by the variables of its credentials.
    ///
    /// # Errors
    /// The tools are not set up.
    pub fn with(cloud: &LocalCloud, credentials: &[(&str, &str)]) -> Result<Aws> {
        let mut python = Command::new(tools()?.join("bin/python"));
        cloud.use_in(&mut python);
        python.envs(credentials.iter().copied());
        let mut child = python
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting python")?;
        let questions = child.stdin.take().context("python has no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("python has no standard output")?);
        Ok(Aws { region: cloud.region().to_owned(), process: Mutex::new(Process { child, questions, answers }) })
    }

    /// What an operation answers, with the names of boto3: `ask("rds", "describe_db_instances", json!({}))`. All pages of it.
    ///
    /// # Errors
    /// AWS's own: its code and message.
    pub fn ask(&self, service: &str, operation: &str, arguments: Value) -> Result<Value> {
        self.ask_in(&self.region, service, operation, arguments)
    }

    /// The same, of another region.
    ///
    /// # Errors
    /// AWS's own: its code and message.
    pub fn ask_in(&self, region: &str, service: &str, operation: &str, arguments: Value) -> Result<Value> {
        let question = json!({"service": service, "operation": operation, "arguments": arguments, "region": region});
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(process.questions, "{question}")?;
        process.questions.flush()?;
        let mut line = String::new();
        process.answers.read_line(&mut line)?;
        let mut answer: Value =
            serde_json::from_str(&line).with_context(|| format!("{service} {operation}: {line}"))?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{service} {operation} {arguments}: {error}", arguments = question["arguments"]);
        }
        Ok(answer["answer"].take())
    }

    /// The items under `key` of what an operation answers.
    ///
    /// # Errors
    /// As [`Self::ask`]; an answer without that key is empty.
    pub fn list(&self, service: &str, operation: &str, arguments: Value, key: &str) -> Result<Vec<Value>> {
        let mut answer = self.ask(service, operation, arguments)?;
        match answer[key].take() {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            other => bail!("{service} {operation}: {key} is {other}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing to finish; that it is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
