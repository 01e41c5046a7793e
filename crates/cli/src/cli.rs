//! What can be typed: the commands, their arguments and their help.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, builder::styling};
use clap_complete::Shell;
use jiff::SignedDuration;
use shipway_domain::name::{AppName, Component, ComponentName, EnvironmentName, PreviewName, ReleaseId};

use crate::exit::Exit;

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Yellow.on_default().bold())
    .usage(styling::AnsiColor::Yellow.on_default().bold())
    .literal(styling::AnsiColor::Green.on_default())
    .placeholder(styling::AnsiColor::Cyan.on_default());

/// Plans environments, publishes sites, follows releases and takes them back, with the Shipway of your AWS account.
///
/// It reads, uploads to the intake bucket, starts executions of Shipway's state machines and answers those that ask. What changes anything is done by
/// Shipway inside the account, by its own rights.
#[derive(Debug, Parser)]
#[command(
    name = "shipway",
    version,
    styles = STYLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start with `shipway init`. Credentials and region come from where the AWS CLI takes them."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) shared: Shared,
}

/// The command line's description, as it is parsed and as its help is printed.
pub(crate) fn description() -> clap::Command {
    let codes = Exit::table();
    Cli::command().after_long_help(format!(
        "Settings, in place of options and of what the stack's outputs say:\n  \
           SHIPWAY_APP, SHIPWAY_ENV, SHIPWAY_SITE, SHIPWAY_STACK\n  \
           SHIPWAY_BUCKET, SHIPWAY_TABLE, SHIPWAY_PUBLISH_MACHINE, SHIPWAY_ROLLOUT_MACHINE\n  \
           SHIPWAY_PROVISION_MACHINE, SHIPWAY_TEARDOWN_MACHINE, SHIPWAY_DRIFT_MACHINE\n  \
           SHIPWAY_ROLE_BOUNDARY\n  \
           AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the others of the AWS CLI\n  \
           NO_COLOR\n\n{codes}"
    ))
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shared options")]
pub(crate) struct Shared {
    /// Print one JSON document on standard output, and the report on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colour the output: auto, always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub(crate) color: Color,
    /// The CloudFormation stack that Shipway is installed as
    #[arg(long, global = true, env = "SHIPWAY_STACK", hide_env = true, value_name = "NAME", default_value = "shipway")]
    pub(crate) stack: String,
    /// The profile of the AWS configuration to use
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The AWS region that Shipway is installed in
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) region: Option<String>,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where: what `shipway.yaml` leaves no choice about need not be said.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// The app; the one of the manifest unless given
    #[arg(long, env = "SHIPWAY_APP", hide_env = true, value_name = "NAME")]
    pub(crate) app: Option<AppName>,
    /// The environment; the only one of the manifest unless given
    #[arg(long = "env", env = "SHIPWAY_ENV", hide_env = true, value_name = "NAME")]
    pub(crate) environment: Option<EnvironmentName>,
    /// The manifest to look into
    #[arg(long, value_name = "FILE", default_value = "shipway.yaml")]
    pub(crate) manifest: PathBuf,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(Init),
    Check(Check),
    Plan(Plan),
    Apply(Apply),
    Status(Status),
    Drift(Drift),
    Teardown(Teardown),
    Publish(Publish),
    Releases(Releases),
    Release(Release),
    Watch(Watch),
    Approve(Approve),
    Rollback(Rollback),
    Retry(Retry),
    Logs(Logs),
    #[command(subcommand)]
    Site(Site),
    Schema(Schema),
    Completions(Completions),
}

/// Write a first manifest, from what is in the folder
///
/// A Dockerfile becomes a service, a package.json that builds static files a site, here and one folder below. What the folder does
/// not say is asked on a terminal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway init
  shipway init --app shop --env prod --yes
  shipway init --schema")]
pub(crate) struct Init {
    /// The app's name; asked for unless given
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<AppName>,
    /// The first environment's name; asked for unless given
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environment: Option<EnvironmentName>,
    /// Where to write the manifest
    #[arg(long, value_name = "FILE", default_value = "shipway.yaml")]
    pub(crate) manifest: PathBuf,
    /// Ask nothing, and take what is assumed
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Write over a manifest that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Write shipway.schema.json beside it too, by which an editor completes keys and marks mistakes
    #[arg(long)]
    pub(crate) schema: bool,
}

/// Check a manifest, without asking AWS for anything
///
/// Every environment is checked. A mistake is shown in its line, with what was probably meant, and the command ends with 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway check
  shipway check --manifest deploy/shipway.yaml --json")]
pub(crate) struct Check {
    /// The manifest
    #[arg(long, value_name = "FILE", default_value = "shipway.yaml")]
    pub(crate) manifest: PathBuf,
}

/// Make an environment what the manifest says, and follow the release to its end
///
/// The manifest is checked and uploaded to the intake bucket; Shipway does the rest inside the account, and goes on when this
/// command is stopped. `shipway plan` tells before what it would do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway apply --env prod
  shipway apply --env prod --repair
  shipway apply --env prod --no-wait")]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Upload nothing: mend what differs from the manifest that is applied
    #[arg(long)]
    pub(crate) repair: bool,
    /// End after the upload
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Show what stands in an environment, what is live and what is under way
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway status --env prod
  shipway status --env prod --json | jq -r '.components[].url'")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Say what applying a manifest would do, and what the environment would cost a month
///
/// It looks and changes nothing: at the network, at the stacks and their templates, at what applied before. What would be lost or
/// would stop for a while is said first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway plan --env prod
  shipway plan --env prod --json | jq -r '.warnings[].what'
  shipway plan --env prod --offline

It ends with 0 whether or not there is something to do, and with 3 where applying would be refused. \
With --exit-code it ends with 1 where there is something to do.")]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Compare with nothing, as if the environment were not there: AWS is not asked
    #[arg(long)]
    pub(crate) offline: bool,
    /// End with 1 where there is something to do
    #[arg(long)]
    pub(crate) exit_code: bool,
}

/// Show what differs between an environment and what its manifest made of it
///
/// Shipway compares every day: the network, every stack, every service. Ends with 1 when something differs, and with 7 when a release
/// was under way. Nothing is changed; `shipway apply --repair` puts right what differs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway drift --env prod
  shipway drift --env prod --now")]
pub(crate) struct Drift {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Compare now, in place of showing the last comparison
    #[arg(long)]
    pub(crate) now: bool,
}

/// Tear an environment down to nothing
///
/// What becomes of data is what the manifest says by `on_delete`, and is shown before. The environment's own name has to be typed.
/// Uploading the manifest again makes a new one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway teardown --env dev
  shipway teardown --env dev --confirm shop/dev")]
pub(crate) struct Teardown {
    #[command(flatten)]
    pub(crate) place: Where,
    /// <app>/<environment>, in place of typing it on the terminal
    #[arg(long, value_name = "APP/ENV")]
    pub(crate) confirm: Option<String>,
    /// End when the teardown has been started
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Publish a folder or a zip as a site, and follow the release to its end
///
/// A folder is packed so that the same files make the same zip. What Shipway would refuse is refused before anything is
/// uploaded. Uploading is all it takes: the release begins by itself, and goes on when this command is stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway publish dist --env prod
  shipway publish dist --env prod --name \"$GITHUB_SHA\"
  shipway publish dist --env prod --preview pr-12
  shipway publish site.zip --app hello --env prod --site web --no-wait

In CI, s3:PutObject under the site's prefix is enough, with SHIPWAY_BUCKET set. Then the release \
cannot be followed; the command says so and ends with 0.")]
pub(crate) struct Publish {
    /// The folder that holds index.html, or a zip of it
    #[arg(value_name = "DIR|ZIP")]
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) place: Where,
    /// The site; the only one of the manifest unless given
    #[arg(long, env = "SHIPWAY_SITE", hide_env = true, value_name = "NAME")]
    pub(crate) site: Option<ComponentName>,
    /// Publish as a preview of this name, under a URL of its own; what is live is not touched
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub(crate) preview: Option<PreviewName>,
    /// What to call the zip in the intake bucket; made from its content unless given
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub(crate) name: Option<String>,
    /// End after the upload
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// List releases, the newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway releases
  shipway releases service/api --env prod --limit 5
  shipway releases site/web --json | jq -r '.[0].outcome'")]
pub(crate) struct Releases {
    /// Of which component; of all unless given
    #[arg(value_name = "COMPONENT")]
    pub(crate) component: Option<Component>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
}

/// Tell the story of one release
///
/// Its outcome and why, each step with its time and how long after the start it was, and links to its execution and to the log
/// groups of its service. Why a container ended and the end of its log are in the reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway release 20261121T031542123-3f9c2a --env prod
  shipway release 20261121T031542123-3f9c2a --env prod --json | jq -r .links.execution

It ends with 0 however the release ended: it was only looked at.")]
pub(crate) struct Release {
    /// The release's id
    #[arg(value_name = "RELEASE")]
    pub(crate) release: ReleaseId,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Follow one release live, to its end
///
/// Its steps as they come; of a service also how many tasks of the old and the new version run, and how many targets the load
/// balancer finds healthy. The exit code is that of the release. A release that has ended already is told in full.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway watch service/api --env prod
  shipway watch 20261121T031542123-3f9c2a --env prod")]
pub(crate) struct Watch {
    /// The release's id, or a component, whose newest release is then followed
    #[arg(value_name = "RELEASE|COMPONENT")]
    pub(crate) what: Watched,
    #[command(flatten)]
    pub(crate) place: Where,
}

/// Approve a release that waits for it, or refuse it
///
/// Where the manifest says `approval: required`, a release waits for a person before it changes anything. Who answered is written
/// down with it. An approved release is then followed to its end; a refused one ends as rejected.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway approve service/api --env prod
  shipway approve 20261121T031542123-3f9c2a --env prod --no-wait
  shipway approve service/api --env prod --refuse --reason 'not on a Friday'

What `shipway release` shows as token can be sent back by other means too, such as \
`aws stepfunctions send-task-success --task-output '{\"by\": \"Ann\"}' --task-token …`.")]
pub(crate) struct Approve {
    /// The release's id, or a component, whose newest waiting release is then meant
    #[arg(value_name = "RELEASE|COMPONENT")]
    pub(crate) what: Watched,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Refuse it
    #[arg(long)]
    pub(crate) refuse: bool,
    /// Why it is refused
    #[arg(long, value_name = "TEXT", requires = "refuse")]
    pub(crate) reason: Option<String>,
    /// End when it has been answered
    #[arg(long, conflicts_with = "refuse")]
    pub(crate) no_wait: bool,
}

/// How what was live or asked for before is started.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// End when the release has been started
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Make an earlier artifact of a service or a site live again
///
/// It takes what was live before what is live now, or what the given release made live. Nothing is built; no migration runs for
/// what is remembered as live before, which is the last twenty.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway rollback site/web --env prod
  shipway rollback service/api 20261121T031542123-3f9c2a --env prod --yes

Twice in a row goes back twice; it never returns to what a rollback has left. Name a release for that.")]
pub(crate) struct Rollback {
    /// The component: service/<name> or site/<name>
    #[arg(value_name = "COMPONENT")]
    pub(crate) component: Component,
    /// The release to go back to
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<ReleaseId>,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) start: Start,
}

/// Try again what a release did not make live
///
/// A new execution gets the input that the release's own had. Where something else is wanted by now, it is asked whether to take its
/// place.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway retry 20261121T031542123-3f9c2a --env prod
  shipway retry 20261121T031542123-3f9c2a --env prod --yes --no-wait")]
pub(crate) struct Retry {
    /// The release that is tried again
    #[arg(value_name = "RELEASE")]
    pub(crate) release: ReleaseId,
    #[command(flatten)]
    pub(crate) place: Where,
    #[command(flatten)]
    pub(crate) start: Start,
}

/// Show what the containers of a service wrote, the oldest first
///
/// With --release it is what the tasks of one release wrote, its migration's among them, from its start to its end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway logs api --env prod
  shipway logs api --env prod --since 30m --follow
  shipway logs api --env prod --since 24h --json | jq -r '.[].message'
  shipway logs --release 20261121T031542123-3f9c2a --env prod

With --follow and --json each line is a document of its own.")]
pub(crate) struct Logs {
    /// The service
    #[arg(value_name = "SERVICE", required_unless_present = "release")]
    pub(crate) service: Option<ComponentName>,
    /// Only the tasks of this release, in the time of it
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["service", "since"])]
    pub(crate) release: Option<ReleaseId>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Go on and show what comes, until stopped
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How far to go back: `10m`, `1h30m`, `48h`
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time_back)]
    pub(crate) since: SignedDuration,
}

/// Look at a site's bucket
#[derive(Debug, Subcommand)]
pub(crate) enum Site {
    Verify(Verify),
}

/// Compare a site's bucket with what the live release put there
///
/// Lists the bucket, and asks S3 for checksum and headers of every object. Ends with 1 when something is missing, differs or is
/// unknown; kept files of earlier releases are known, and previews are left out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway site verify web --env prod
  shipway site verify web --env prod --repair")]
pub(crate) struct Verify {
    /// The site; the only one of the manifest unless given
    #[arg(value_name = "SITE", env = "SHIPWAY_SITE", hide_env = true)]
    pub(crate) site: Option<ComponentName>,
    #[command(flatten)]
    pub(crate) place: Where,
    /// Publish what is live again, writing every file and trusting nothing in the bucket, where something differs
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Print the manifest's JSON Schema, by which an editor completes keys and marks mistakes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway schema > shipway.schema.json

An editor takes it when the manifest's first line is
  # yaml-language-server: $schema=shipway.schema.json")]
pub(crate) struct Schema {}

/// Print a script that completes this command in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shipway completions bash > ~/.local/share/bash-completion/completions/shipway
  shipway completions zsh > ~/.zfunc/_shipway
  shipway completions fish > ~/.config/fish/completions/shipway.fish")]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// A release.
    Release(ReleaseId),
    /// The newest release of a component.
    Newest(Component),
}

impl std::str::FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Watched, String> {
        match (text.parse::<ReleaseId>(), text.parse::<Component>()) {
            (Ok(release), _) => Ok(Watched::Release(release)),
            (_, Ok(component)) => Ok(Watched::Newest(component)),
            (Err(release), _) if text.starts_with(|c: char| c.is_ascii_digit()) => Err(release.to_string()),
            (_, Err(component)) => Err(component.to_string()),
        }
    }
}

/// A time that can be gone back.
fn time_back(text: &str) -> Result<SignedDuration, String> {
    let time = text.parse().ok().filter(SignedDuration::is_positive);
    time.ok_or_else(|| "a time like `10m`, `1h30m` or `48h`".to_owned())
}

/// What a zip may be called: the letters that its key may have.
fn object_name(text: &str) -> Result<String, String> {
    let text = text.strip_suffix(".zip").unwrap_or(text);
    let fits = !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err("1 to 128 letters, digits, `.`, `_` and `-`".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/command.md, from which a person learns what `--help` says.
    fn page_path() -> String {
        std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/../../docs/command.md"
    }

    fn helps() -> String {
        let mut text = String::new();
        let root = description().term_width(100);
        let mut next = vec![(String::new(), root)];
        while let Some((path, command)) = next.pop() {
            let path = format!("{path} {}", command.get_name()).trim().to_owned();
            let shown = command.clone().bin_name(path.clone()).term_width(100);
            text.push_str(&format!(
                "### `{path}`\n\n```text\n{}\n```\n\n",
                shown.clone().render_long_help().to_string().trim_end()
            ));
            let below: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned().collect();
            next.extend(below.into_iter().rev().map(|sub| (path.clone(), sub)));
        }
        text
    }

    /// With `UPDATE=1` in the environment the page is written anew.
    #[test]
    fn the_help_is_what_the_page_says() {
        let page = std::fs::read_to_string(page_path()).unwrap();
        let (before, _) = page.split_once("\n## Help\n").unwrap();
        let wanted = format!("{before}\n## Help\n\n{}", helps().trim_end().to_owned() + "\n");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(page_path(), &wanted).unwrap();
        } else {
            assert!(
                page == wanted,
                "docs/command.md is not what the help says; UPDATE=1 cargo test -p shipway mends it"
            );
        }
    }

    #[test]
    fn the_description_is_sound() {
        description().debug_assert();
    }

    #[test]
    fn a_release_and_a_component_are_told_apart() {
        assert!(matches!("20261121T031542123-3f9c2a".parse(), Ok(Watched::Release(_))));
        assert!(matches!("service/api".parse(), Ok(Watched::Newest(_))));
        assert!("20261121".parse::<Watched>().unwrap_err().contains("a release's id"));
        assert!("api".parse::<Watched>().unwrap_err().contains("a component"));
    }

    #[test]
    fn a_time_to_go_back_is_positive_and_has_its_unit() {
        assert_eq!(time_back("1h30m"), Ok(SignedDuration::from_mins(90)));
        for bad in ["", "1", "-1h", "0s", "yesterday"] {
            assert!(time_back(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_zips_are_those_that_keys_may_have() {
        assert_eq!(object_name("1a2b3c.zip"), Ok("1a2b3c".to_owned()));
        for bad in ["", ".zip", "a b", "a/b", "ü"] {
            assert!(object_name(bad).is_err(), "{bad}");
        }
    }
}
