//! `cargo xtask package`: what goes to AWS, what is in it, and the proof that another build of it is the same.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::cargo_tools::CYCLONEDX;
use crate::functions::{Architecture, GLIBC, build_released, build_released_with, cargo_home, staged};
use crate::glibc;
use crate::run::{quietly, step};
use crate::tools::{self, Tools};
use crate::workspace::Workspace;

/// Below the checkout: for each function `<function>.zip` and `<function>.cdx.json`, and the sums of all zips.
const PACKAGES: &str = "target/package";
const SUMS: &str = "SHA256SUMS";

/// What the time of a package's bill is told as, lest each have another: the earliest that a zip can tell, 1980.
const EPOCH: &str = "315532800";

/// Where a checkout is, as bills and panics tell it.
const ROOT: &str = "/shipway";

pub(crate) fn package(architecture: Architecture, functions: Vec<String>, twice: bool) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    let functions = if functions.is_empty() { workspace.functions.clone() } else { functions };
    let unknown = functions.iter().find(|function| !workspace.functions.contains(function));
    ensure!(unknown.is_none(), "there is no such function; there are {}", workspace.functions.join(", "));
    let tools = tools::setup()?;
    build_released(&workspace, &tools, architecture, &functions)?;
    step("functions: run on Amazon Linux 2023", || {
        functions.iter().try_for_each(|function| glibc::check(&staged(&workspace, function), GLIBC))
    })?;
    let directory = workspace.root.join(PACKAGES);
    let sums = step("packages: zipped", || {
        fs::create_dir_all(&directory)?;
        let mut sums = Vec::new();
        for function in &functions {
            let zip = zipped(&workspace, function)?;
            fs::write(directory.join(format!("{function}.zip")), &zip)?;
            sums.push((function.as_str(), sum(&zip)));
        }
        let lines: String = sums.iter().map(|(function, sum)| format!("{sum}  {function}.zip\n")).collect();
        fs::write(directory.join(SUMS), lines)?;
        Ok(sums)
    })?;
    let copy = workspace.target.join("xtask/packaged-elsewhere");
    copy_sources(&workspace, &copy)?;
    let bill = CYCLONEDX.program()?;
    step("packages: what is in them", || {
        for (function, text) in bills(&bill, &copy, architecture, &functions)? {
            fs::write(directory.join(format!("{function}.cdx.json")), text)?;
        }
        Ok(())
    })?;
    if twice {
        build_again(&workspace, &tools, architecture, &functions, &sums, &copy)?;
    }
    // Gigabytes, of which nobody builds again.
    fs::remove_dir_all(&copy)?;
    println!("{}", directory.display());
    Ok(())
}

/// A function's zip, which has one file and nothing that differs from build to build: no time, no owner.
fn zipped(workspace: &Workspace, function: &str) -> anyhow::Result<Vec<u8>> {
    let binary = staged(workspace, function);
    zip(&fs::read(&binary).with_context(|| binary.display().to_string())?)
}

fn zip(bootstrap: &[u8]) -> anyhow::Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(6))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("bootstrap", options)?;
    writer.write_all(bootstrap)?;
    Ok(writer.finish()?.into_inner())
}

/// SHA-256, as `sha256sum` writes it.
fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The functions' bills of materials, in CycloneDX's format. The tool knows the features of a whole workspace only and writes beside
/// the sources, so it works in a copy that has the functions alone.
fn bills(
    program: &Path,
    copy: &Path,
    architecture: Architecture,
    functions: &[String],
) -> anyhow::Result<Vec<(String, String)>> {
    let manifest = copy.join("Cargo.toml");
    let whole = fs::read_to_string(&manifest)?;
    let lock = copy.join("Cargo.lock");
    let locked = fs::read(&lock)?;
    let members = whole.lines().find(|line| line.starts_with("members = ")).context("the workspace has no members")?;
    fs::write(&manifest, whole.replace(members, r#"members = ["functions/*"]"#))?;
    let options = ["cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--describe", "binaries"];
    let mut command = Command::new(program);
    command.current_dir(copy).env("SOURCE_DATE_EPOCH", EPOCH).args(options);
    quietly(command.args(["--target", architecture.triple()]))?;
    // The copy may be built, too, and then as it was.
    fs::write(&manifest, &whole)?;
    fs::write(&lock, locked)?;
    let place = copy.to_str().context("the target directory is not UTF-8")?;
    let read = |function: &String| {
        let path = copy.join("functions").join(function).join(format!("{function}_bin.cdx.json"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok((function.clone(), text.replace(place, ROOT)))
    };
    functions.iter().map(read).collect()
}

/// Builds the copy, with the registry under another path and in a target directory of its own, and compares.
fn build_again(
    workspace: &Workspace,
    tools: &Tools,
    architecture: Architecture,
    functions: &[String],
    sums: &[(&str, String)],
    copy: &Path,
) -> anyhow::Result<()> {
    let elsewhere =
        Workspace { root: copy.to_owned(), target: copy.join("target"), functions: workspace.functions.clone() };
    let registry = copy.join("cargo");
    std::os::unix::fs::symlink(cargo_home()?, &registry)?;
    build_released_with(&elsewhere, &registry, tools, architecture, functions)?;
    step("packages: the same again", || {
        for (function, first) in sums {
            let second = sum(&zipped(&elsewhere, function)?);
            ensure!(*first == second, "{function}.zip is {first}, and {second} when it is built in {}", copy.display());
        }
        Ok(())
    })
}

/// Copies the checkout without what is built in it to where nothing is left of an earlier copy.
fn copy_sources(workspace: &Workspace, copy: &Path) -> anyhow::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(copy.join(&folder))?;
        for entry in fs::read_dir(workspace.root.join(&folder))? {
            let entry = entry?;
            let (path, kind) = (folder.join(entry.file_name()), entry.file_type()?);
            let is_built = [".git", "node_modules", "target"].iter().any(|built| path.ends_with(built))
                || entry.path() == workspace.target;
            if kind.is_file() {
                fs::copy(entry.path(), copy.join(&path))?;
            } else if kind.is_dir() && !is_built {
                folders.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{sum, zip};

    #[test]
    fn a_package_tells_no_time_and_can_be_run() {
        let bytes = zip(b"a function").unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        let file = archive.by_index(0).unwrap();
        assert_eq!(
            (file.name().unwrap().as_ref(), file.unix_mode().map(|mode| mode & 0o777)),
            ("bootstrap", Some(0o755))
        );
        assert_eq!(file.last_modified().map(|time| time.year()), Some(1980));
        drop(file);
        assert_eq!(archive.len(), 1);
        assert_eq!(sum(&bytes), sum(&zip(b"a function").unwrap()));
    }
}
