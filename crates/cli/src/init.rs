//! `shipway init`: a first manifest, from what is in the folder and what a person says.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use shipway_domain::{
    manifest,
    name::{AppName, ComponentName, EnvironmentName},
};

use crate::{cli::Init, exit::Exit, problem::Problem, schema, screen::Screen};

/// Something in the folder that can be deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// A folder with a Dockerfile.
    Service {
        /// The port it exposes.
        port: Option<u16>,
    },
    /// A folder with a package.json that builds static files.
    Site {
        /// Its routing, where the tool says it.
        spa: bool,
        /// The folder that its build makes.
        output: &'static str,
    },
}

/// Writes the manifest.
pub(crate) fn run(asked: &Init, screen: &Screen) -> Result<Exit, Problem> {
    let path = &asked.manifest;
    if path.exists() && !asked.force {
        return Err(Problem::new("there is a manifest already")
            .at(path.display())
            .remedy("say --force to write it anew"));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found =
        look(folder).map_err(|error| Problem::new(format!("this cannot be read: {error}")).at(folder.display()))?;
    for (name, what) in &found {
        screen.line(match what {
            Found::Service { port: Some(port) } => {
                format!("found a Dockerfile that exposes {port}: the service `{name}`")
            }
            Found::Service { port: None } => format!("found a Dockerfile: the service `{name}`"),
            Found::Site { output, .. } => format!("found a package.json that builds {output}/: the site `{name}`"),
        });
    }
    let ask = !asked.yes && screen.can_ask();
    let app = match &asked.app {
        Some(app) => app.clone(),
        None => answered("What is the app called?", default_app(folder).as_str(), ask, screen)?,
    };
    let environment: EnvironmentName = match &asked.environment {
        Some(environment) => environment.clone(),
        None => answered("And its first environment?", "prod", ask, screen)?,
    };
    let found = if found.is_empty() { assumed(ask, screen)? } else { found };
    let mut text = written(&app, &environment, &found);
    if asked.schema {
        text.insert_str(0, &format!("# yaml-language-server: $schema={}\n", schema::FILE));
    }
    // What is written here must be what is read there.
    manifest::read_all(&text)
        .map_err(|mistake| Problem::new(format!("the manifest that was made is none: {mistake}")))?;
    write(path, &text, screen)?;
    if asked.schema {
        write(&path.with_file_name(schema::FILE), &schema::text(), screen)?;
    }
    screen.line(format!("next: shipway plan --env {environment}, then shipway apply --env {environment}"));
    screen.document(&json!({"manifest": path, "app": app, "environment": environment}));
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str, screen: &Screen) -> Result<(), Problem> {
    fs::write(path, text)
        .map_err(|error| Problem::new(format!("this cannot be written: {error}")).at(path.display()))?;
    screen.line(format!("wrote {}", path.display()));
    Ok(())
}

/// A person's answer, or what is assumed where nobody is asked.
fn answered<T>(question: &str, assumed: &str, ask: bool, screen: &Screen) -> Result<T, Problem>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    loop {
        let answer = if ask { screen.answer(&format!("{question} [{assumed}]")) } else { String::new() };
        match if answer.is_empty() { assumed } else { answer.as_str() }.parse() {
            Ok(value) => return Ok(value),
            Err(error) if ask && !answer.is_empty() => screen.line(error.to_string()),
            Err(error) => return Err(Problem::new(error.to_string())),
        }
    }
}

/// The folder's name, as an app may be called.
fn default_app(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| PathBuf::from("app"));
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    label(&name, 20).unwrap_or_else(|| "app".to_owned())
}

/// A text as a name: lower-case letters, digits and single hyphens, starting with a letter.
fn label(text: &str, most: usize) -> Option<String> {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let name: String = words.collect::<Vec<_>>().join("-");
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let name: String = name.chars().take(most).collect();
    let name = name.trim_end_matches('-').to_owned();
    (!name.is_empty()).then_some(name)
}

/// What is in the folder and in the folders in it, by the name that it gets.
fn look(folder: &Path) -> io::Result<BTreeMap<ComponentName, Found>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') && name != "node_modules" {
            folders.push(entry.path());
        }
    }
    folders[1..].sort();
    for (index, inner) in folders.iter().enumerate() {
        let own = inner.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let named = |fallback: &str| {
            let name =
                if index == 0 { fallback.to_owned() } else { label(&own, 20).unwrap_or_else(|| fallback.to_owned()) };
            name.parse::<ComponentName>().ok()
        };
        let site = read(&inner.join("package.json"))?.and_then(|text| site(&text));
        if let Some(dockerfile) = read(&inner.join("Dockerfile"))? {
            // A frontend that has a Dockerfile too is a site: files cost less than tasks.
            let what = site.unwrap_or(Found::Service { port: exposed(&dockerfile) });
            let fallback = if matches!(what, Found::Site { .. }) { "web" } else { "api" };
            found.extend(named(fallback).map(|name| (name, what)));
        } else if let Some(site) = site {
            found.extend(named("web").map(|name| (name, site)));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first port that a Dockerfile exposes.
fn exposed(dockerfile: &str) -> Option<u16> {
    let lines = dockerfile.lines().filter_map(|line| {
        let (word, rest) = line.trim().split_once(char::is_whitespace)?;
        word.eq_ignore_ascii_case("EXPOSE").then_some(rest)
    });
    lines.flat_map(str::split_whitespace).find_map(|port| port.split('/').next()?.parse().ok())
}

/// What a package.json builds, if that is static files.
fn site(text: &str) -> Option<Found> {
    let package: Value = serde_json::from_str(text).ok()?;
    let uses = |name: &str| {
        ["dependencies", "devDependencies"]
            .iter()
            .any(|list| package.get(list).is_some_and(|list| list.get(name).is_some()))
    };
    let server = ["@nestjs/core", "express", "fastify", "koa", "hono"].iter().any(|name| uses(name));
    match () {
        () if server => None,
        () if uses("next") => Some(Found::Site { spa: false, output: "out" }),
        () if uses("astro") || uses("gatsby") || uses("@docusaurus/core") => Some(Found::Site {
            spa: false,
            output: if uses("astro") {
                "dist"
            } else if uses("gatsby") {
                "public"
            } else {
                "build"
            },
        }),
        () if uses("react-scripts") => Some(Found::Site { spa: true, output: "build" }),
        () if uses("vite") || uses("@angular/core") || uses("@vue/cli-service") => {
            Some(Found::Site { spa: true, output: "dist" })
        }
        () => None,
    }
}

/// What the manifest begins with where nothing was found.
fn assumed(ask: bool, screen: &Screen) -> Result<BTreeMap<ComponentName, Found>, Problem> {
    screen.note("there is no Dockerfile and no package.json that builds a site here or one folder below");
    let kind: String =
        answered("A `service` in containers, a `site` of static files, or `both`?", "both", ask, screen)?;
    let mut found = BTreeMap::new();
    let mut add = |name: &str, what| found.extend(name.parse::<ComponentName>().ok().map(|name| (name, what)));
    if kind != "site" {
        add("api", Found::Service { port: Some(3000) });
    }
    if kind != "service" {
        add("web", Found::Site { spa: false, output: "dist" });
    }
    Ok(found)
}

/// The manifest's text.
fn written(app: &AppName, environment: &EnvironmentName, found: &BTreeMap<ComponentName, Found>) -> String {
    let mut text = format!("version: 1\napp: {app}\n");
    let services: Vec<_> = found
        .iter()
        .filter_map(|(name, what)| match what {
            Found::Service { port } => Some((name, port.unwrap_or(3000))),
            Found::Site { .. } => None,
        })
        .collect();
    if !services.is_empty() {
        text.push_str("\nservices:\n");
    }
    let with_site = found.values().any(|what| matches!(what, Found::Site { .. }));
    for (index, (name, port)) in services.iter().enumerate() {
        // Two services cannot have the same paths; the first has what the others leave.
        let path = match (index, with_site) {
            (0, true) => "/api/*".to_owned(),
            (0, false) => "/*".to_owned(),
            _ => format!("/{name}/*"),
        };
        text.push_str(&format!(
            "  {name}:\n    image: {{repository: {app}-{name}}} # a push here rolls out\n    port: {port}\n    cpu: 256 # 1024 are one vCPU\n    \
             memory: 512 # MiB\n    http: {{path: {path}, health: /}} # `health` answers 2xx or 3xx when the service is well\n"
        ));
    }
    if with_site {
        text.push_str("\nsites:\n");
        let mut first = true;
        for (name, what) in found {
            let Found::Site { spa, output } = what else { continue };
            let mut keys = Vec::new();
            if *spa {
                keys.push("routing: spa".to_owned());
            }
            if first && !services.is_empty() {
                keys.push("backend: [/api/*]".to_owned());
            }
            first = false;
            text.push_str(&format!("  {name}: {{{}}} # shipway publish {output}\n", keys.join(", ")));
        }
    }
    text.push_str(&format!("\nenvironments:\n  {environment}: {{}}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn made(files: &[(&str, &str)]) -> String {
        let folder = folder(files);
        let asked = Init {
            app: "shop".parse().ok(),
            environment: "dev".parse().ok(),
            manifest: folder.path().join("shipway.yaml"),
            yes: true,
            force: false,
            schema: false,
        };
        run(&asked, &Screen::new(false, crate::cli::Color::Never)).unwrap();
        fs::read_to_string(folder.path().join("shipway.yaml")).unwrap()
    }

    const DOCKERFILE: &str = "FROM node\nEXPOSE 8000/tcp 9000\nCMD node .\n";

    #[test]
    fn what_is_in_the_folder_is_found() {
        let vite = r#"{"devDependencies": {"vite": "7"}}"#;
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let table: [Case<'_>; 6] = [
            (&[("Dockerfile", DOCKERFILE)], &["  api:\n", "port: 8000", "path: /*,"]),
            (
                &[("backend/Dockerfile", DOCKERFILE), ("frontend/package.json", vite)],
                &[
                    "  backend:\n",
                    "repository: shop-backend",
                    "path: /api/*",
                    "  frontend: {routing: spa, backend: [/api/*]}",
                ],
            ),
            (&[("package.json", r#"{"dependencies": {"next": "16"}}"#)], &["  web: {} # shipway publish out"]),
            (
                &[("package.json", r#"{"dependencies": {"@nestjs/core": "11"}}"#), ("Dockerfile", DOCKERFILE)],
                &["  api:\n"],
            ),
            (&[("web/package.json", vite), ("web/Dockerfile", DOCKERFILE)], &["  web: {routing: spa}"]),
            (&[], &["  api:\n", "  web: {backend: [/api/*]}"]),
        ];
        for (files, expected) in table {
            let text = made(files);
            for part in expected {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(text.ends_with("environments:\n  dev: {}\n"), "{text}");
        }
    }

    #[test]
    fn a_manifest_that_is_there_stays_unless_forced() {
        let folder = folder(&[("shipway.yaml", "mine")]);
        let path = folder.path().join("shipway.yaml");
        let asked = Init {
            app: "shop".parse().ok(),
            environment: None,
            manifest: path.clone(),
            yes: true,
            force: false,
            schema: false,
        };
        let screen = Screen::new(false, crate::cli::Color::Never);
        assert!(run(&asked, &screen).unwrap_err().to_string().contains("say --force"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        run(&Init { force: true, ..asked }, &screen).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("version: 1\napp: shop\n"));
    }

    #[test]
    fn the_schema_is_written_where_the_first_line_says_it_is() {
        let folder = folder(&[]);
        let path = folder.path().join("shipway.yaml");
        let app = "shop".parse().ok();
        let asked = Init { app, environment: None, manifest: path.clone(), yes: true, force: false, schema: true };
        run(&asked, &Screen::new(false, crate::cli::Color::Never)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let (first, _) = text.split_once('\n').unwrap();
        let file = first.strip_prefix("# yaml-language-server: $schema=").unwrap();
        let written: Value = serde_json::from_str(&fs::read_to_string(folder.path().join(file)).unwrap()).unwrap();
        assert_eq!(written, manifest::schema());
    }

    #[test]
    fn any_text_makes_a_name_or_none() {
        let table =
            [("My Shop", Some("my-shop")), ("my_shop--2", Some("my-shop-2")), ("2cool", Some("cool")), ("---", None)];
        for (text, name) in table {
            assert_eq!(label(text, 20).as_deref(), name, "{text}");
        }
        assert_eq!(label(&"a-".repeat(30), 20).unwrap().len(), 19);
    }
}
