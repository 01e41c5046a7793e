//! `shipway check`: whether a manifest is one, without asking AWS for anything.

use std::fs;

use serde_json::json;
use shipway_domain::manifest::{self, ManifestError, Spec};

use crate::{
    cli::Check,
    exit::Exit,
    problem::Problem,
    screen::{Screen, count},
};

/// Checks.
pub(crate) fn run(asked: &Check, screen: &Screen) -> Result<Exit, Problem> {
    let path = &asked.manifest;
    let text = fs::read_to_string(path)
        .map_err(|error| Problem::new(format!("the manifest cannot be read: {error}")).at(path.display()))?;
    let environments =
        manifest::read_all(&text).map_err(|mistake| mistaken(&mistake, &text, &path.display().to_string()))?;
    for (name, spec) in &environments {
        screen.line(format!("{}/{name}: {}", spec.app, contents(spec)));
    }
    let names: Vec<_> = environments.iter().map(|(name, _)| name.as_str()).collect();
    screen.document(&json!({"manifest": path, "environments": names, "mistake": null}));
    Ok(Exit::Done)
}

/// A mistake in a manifest with the line it is in.
pub(crate) fn mistaken(mistake: &ManifestError, text: &str, path: &str) -> Problem {
    let place = mistake.place();
    let mut what = format!("the manifest has a mistake: {mistake}");
    if let Some(line) = place.line.checked_sub(1).and_then(|index| text.lines().nth(index)) {
        let number = place.line.to_string();
        let before = " ".repeat(number.len());
        let under = " ".repeat(place.column.saturating_sub(1));
        what.push_str(&format!("\n\n  {number} | {line}\n  {before} | {under}^"));
    }
    Problem::rejected(what).at(format!("{path}:{}:{}", place.line, place.column))
}

/// What an environment has, in one line.
fn contents(spec: &Spec) -> String {
    let counts = [
        (spec.services.len(), "service"),
        (spec.sites.len(), "site"),
        (spec.databases.len(), "database"),
        (spec.caches.len(), "cache"),
        (spec.buckets.len(), "bucket"),
        (spec.secrets.len(), "secret"),
        (spec.email.len(), "email identity"),
        (spec.stacks.len(), "stack of your own"),
    ];
    let plural = |number: usize, word: &str| match (number, word) {
        (1, _) => format!("1 {word}"),
        (_, "email identity") => format!("{number} email identities"),
        (_, "stack of your own") => format!("{number} stacks of your own"),
        _ => count(number, word),
    };
    let parts: Vec<_> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| plural(*number, word)).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_in_its_line() {
        let text = "version: 1\napp: hello\nservices:\n  api:\n    image: {repository: hello-api}\n    memroy: 512\nenvironments: {prod: {}}\n";
        let mistake = manifest::read_all(text).unwrap_err();
        let told = mistaken(&mistake, text, "shipway.yaml").to_string();
        assert!(told.contains("did you mean `memory`?\n\n  6 |     memroy: 512\n    |     ^\n"), "{told}");
        assert!(told.contains("where: shipway.yaml:6:5"), "{told}");
    }

    #[test]
    fn what_is_there_is_counted() {
        let text = "version: 1\napp: hello\nsites: {web: {}, docs: {}}\nemail: {news: {address: a@example.com}}\nenvironments: {prod: {}}\n";
        let (_, spec) = manifest::read_all(text).unwrap().remove(0);
        assert_eq!(contents(&spec), "2 sites, 1 email identity");
    }
}
