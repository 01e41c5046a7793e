//! `cargo xtask check`: what a machine can find wrong without running anything of ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::deny;
use crate::run::{Steps, quietly};
use crate::tools::{self, Tools};
use crate::workspace::{Workspace, cargo};

const TEMPLATE: &str = "bootstrap/template.yaml";
/// What gives CI its role, and what tells a chat: templates of their own, as not everybody's CI and chat are there.
const MORE: [&str; 2] = ["bootstrap/github.yaml", "bootstrap/slack.yaml"];
/// Resolves a template's policies to plain text and lets parliament judge them.
const POLICIES: &str = include_str!("../policies.py");
/// Puts what each parameter is given into the stacks' templates.
const RENDERED: &str = include_str!("../rendered.py");
/// What of cfn-lint's findings is none where parameters have their values: it counts a major version among the versions that are no
/// longer made, as it does that version's oldest minor one. Alone it means RDS's default minor version.
const DEPRECATED_VERSIONS: [&str; 2] = ["W3690", "W3691"];
/// Holds the table of `shipway plan` to the schemas of the types.
const TYPES: &str = include_str!("../resource_types.py");
const TYPES_TABLE: &str = "crates/domain/src/plan/types.json";

pub(crate) fn check() -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    let mut steps = Steps::default();
    rust(&workspace, &mut steps);
    deny::check(&workspace, &mut steps);
    templates(&workspace, &tools, &mut steps)?;
    stacks(&workspace, &tools, &mut steps)?;
    machines(&workspace, &tools, &mut steps);
    steps.finish()
}

fn rust(workspace: &Workspace, steps: &mut Steps) {
    let cargo = || {
        let mut cargo = cargo();
        cargo.current_dir(&workspace.root);
        cargo
    };
    steps.run("rust: formatted", cargo().args(["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    steps.run("rust: clippy", cargo().args(clippy));
}

fn templates(workspace: &Workspace, tools: &Tools, steps: &mut Steps) -> anyhow::Result<()> {
    let template = workspace.root.join(TEMPLATE);
    let mut all = workspace.files("bootstrap/blueprints", ".yaml");
    let mut types = tools.command("python")?;
    types.args(["-c", TYPES]).arg(workspace.root.join(TYPES_TABLE));
    steps.run("templates: what cannot change in place", types.args(&all));
    all.extend(MORE.map(|path| workspace.root.join(path)));
    if template.exists() {
        let mut sam = tools.command("sam")?;
        steps.run("template: sam validate", sam.args(["validate", "--lint", "--template-file"]).arg(&template));
        all.insert(0, template);
    }
    if !all.is_empty() {
        steps.run("templates: cfn-lint", tools.command("cfn-lint")?.arg("--").args(&all));
        let mut checkov = tools.command("checkov")?;
        checkov.arg("--config-file").arg(workspace.root.join("bootstrap/.checkov.yaml"));
        steps.run("templates: checkov", checkov.arg("--directory").arg(workspace.root.join("bootstrap")));
        let mut parliament = tools.command("python")?;
        steps.run("templates: parliament", parliament.args(["-c", POLICIES]).args(&all));
    }
    Ok(())
}

/// The stacks that the examples become, with the values that their manifests give.
fn stacks(workspace: &Workspace, tools: &Tools, steps: &mut Steps) -> anyhow::Result<()> {
    let directory = workspace.target.join("xtask/stacks");
    let mut rendered = Vec::new();
    steps.attempt("examples' stacks: rendered", || {
        rendered = render(workspace, tools, &directory)?;
        anyhow::ensure!(!rendered.is_empty(), "there are no examples");
        Ok(())
    });
    if rendered.is_empty() {
        return Ok(());
    }
    let mut lint = tools.command("cfn-lint")?;
    lint.arg("--ignore-checks").args(DEPRECATED_VERSIONS).arg("--").args(&rendered);
    steps.run("examples' stacks: cfn-lint", &mut lint);
    let mut checkov = tools.command("checkov")?;
    checkov.arg("--config-file").arg(workspace.root.join("bootstrap/.checkov.yaml")).arg("--directory").arg(&directory);
    steps.run("examples' stacks: checkov", &mut checkov);
    let mut parliament = tools.command("python")?;
    steps.run("examples' stacks: parliament", parliament.args(["-c", POLICIES]).args(&rendered));
    Ok(())
}

/// Writes the stacks of the examples into a directory; answers their paths.
fn render(workspace: &Workspace, tools: &Tools, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    // Of the workspace and not of its package, for which alone cargo would compile its dependencies with other features.
    quietly(cargo().current_dir(&workspace.root).args([
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--example",
        "stacks",
    ]))?;
    let examples = workspace.root.join("examples");
    let mut manifests: Vec<_> = std::fs::read_dir(&examples)
        .with_context(|| examples.display().to_string())?
        .flatten()
        .map(|entry| entry.path().join("shipway.yaml"))
        .filter(|path| path.exists())
        .collect();
    manifests.sort();
    let stacks = quietly(Command::new(workspace.target.join("debug/examples/stacks")).args(&manifests))?;
    std::fs::create_dir_all(directory)?;
    let list = directory.with_extension("json");
    std::fs::write(&list, stacks)?;
    quietly(tools.command("python")?.args(["-c", RENDERED]).arg(&list).arg(directory))?;
    let mut rendered: Vec<_> = std::fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    rendered.sort();
    Ok(rendered)
}

fn machines(workspace: &Workspace, tools: &Tools, steps: &mut Steps) {
    for machine in workspace.files("state-machines", ".asl.json") {
        let name = machine.file_name().unwrap_or_default().to_string_lossy().into_owned();
        steps.attempt(&format!("state machine: {name}"), || validate_machine(workspace, tools, &machine));
    }
}

/// Checks a state machine as AWS would get it: SAM fills the `${Placeholders}`.
fn validate_machine(workspace: &Workspace, tools: &Tools, machine: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(machine).with_context(|| machine.display().to_string())?;
    let filled = fill_placeholders(&text);
    let directory = workspace.target.join("xtask");
    std::fs::create_dir_all(&directory)?;
    let path: PathBuf = directory.join(machine.file_name().unwrap_or_default());
    std::fs::write(&path, filled)?;
    quietly(tools.command("asl-validator")?.arg("--json-path").arg(&path)).map(drop)
}

/// Every `${Name}` becomes the ARN of something with that name.
fn fill_placeholders(text: &str) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { break };
        filled.push_str(before);
        filled.push_str("arn:aws:lambda:us-east-1:111122223333:function:");
        filled.push_str(name);
        rest = tail;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::fill_placeholders;

    #[test]
    fn placeholders_become_arns() {
        let filled = fill_placeholders(r#"{"Resource": "${DeployServiceArn}", "Cost": "5$"}"#);
        let arn = "arn:aws:lambda:us-east-1:111122223333:function:DeployServiceArn";
        assert_eq!(filled, format!(r#"{{"Resource": "{arn}", "Cost": "5$"}}"#));
    }
}
