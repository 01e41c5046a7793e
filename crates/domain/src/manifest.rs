//! The manifest, `shipway.yaml`: all a person writes. Read strictly, merged for one environment, checked as a whole.
//!
//! [`read`] is the only way in; what it returns needs no further checking. What a key means stands at its field.

mod de;
mod schema;
pub mod spec;
mod yaml;

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use de::nearest;
pub use schema::schema;
pub use spec::*;

use crate::name::{AppName, EnvironmentName};

/// A manifest larger than this is refused: it is written by a person, and its record must fit a table item (400 KB).
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>
pub const MOST_BYTES: usize = 128 * 1024;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Place {
    const UNKNOWN: Place = Place { line: 0, column: 0 };

    fn of(marker: &saphyr_parser::Marker) -> Place {
        Place { line: marker.line(), column: marker.col() + 1 }
    }
}

/// What is wrong with a manifest, where, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    place: Place,
    path: String,
    message: String,
    suggestion: Option<String>,
    unknown_key: Option<String>,
}

impl ManifestError {
    fn new(place: Place, path: &str, message: impl Into<String>) -> ManifestError {
        ManifestError { place, path: path.to_owned(), message: message.into(), suggestion: None, unknown_key: None }
    }

    /// The same error, at this place if it had none.
    fn at(mut self, place: Place, path: &str) -> ManifestError {
        if self.place == Place::UNKNOWN {
            self.place = place;
            self.path = path.to_owned();
        }
        self
    }

    fn suggesting(mut self, suggestion: impl Into<String>) -> ManifestError {
        self.suggestion = Some(suggestion.into());
        self
    }

    fn only_in(mut self, environment: &EnvironmentName) -> ManifestError {
        self.message = format!("{} (in the environment `{environment}`)", self.message);
        self
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The path of keys to it, like `services.api.cpu`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.place.line, self.place.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ManifestError {}

/// Reads the manifest of `app` as it is for `environment`.
///
/// # Errors
/// The first mistake, with its place: YAML that does not parse, a key that is unknown or given twice, a value of the wrong
/// type, two values that contradict each other, another app's manifest, an environment it does not name.
pub fn read(text: &str, app: &AppName, environment: &EnvironmentName) -> Result<Spec, ManifestError> {
    let (place, mut environments) = parse(text)?;
    let Some(index) = environments.iter().position(|(name, _)| name == environment) else {
        let names: Vec<_> = environments.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("the environment `{environment}` is not named");
        return Err(
            ManifestError::new(place, "environments", message).suggesting(format!("named: {}", names.join(", ")))
        );
    };
    let (_, spec) = environments.swap_remove(index);
    if spec.app != *app {
        let message = format!("this is the manifest of `{}`, but it was uploaded for `{app}`", spec.app);
        return Err(ManifestError::new(place, "app", message)
            .suggesting(format!("upload it as apps/{}/{environment}/shipway.yaml", spec.app)));
    }
    Ok(spec)
}

/// Reads a manifest as it is for each of its environments, of which there is at least one, in the order they are written.
///
/// # Errors
/// The first mistake, as [`read`] tells it.
pub fn read_all(text: &str) -> Result<Vec<(EnvironmentName, Spec)>, ManifestError> {
    parse(text).map(|(_, environments)| environments)
}

/// The environments, and where the manifest begins.
fn parse(text: &str) -> Result<(Place, Vec<(EnvironmentName, Spec)>), ManifestError> {
    if text.len() > MOST_BYTES {
        let message = format!("a manifest is at most {MOST_BYTES} bytes long; this one has {}", text.len());
        return Err(ManifestError::new(Place { line: 1, column: 1 }, "", message));
    }
    let mut base = yaml::read(text)?;
    let environments = base.take("environments");
    let Some((key, node)) = environments else {
        let error = ManifestError::new(base.place, "", "`environments` is missing");
        return Err(error.suggesting("add `environments: {prod: {}}`"));
    };
    let yaml::Value::Map(entries) = node.value else {
        return Err(ManifestError::new(node.place, "environments", "a mapping of environments is expected here"));
    };
    if entries.is_empty() {
        return Err(ManifestError::new(key.place, "environments", "at least one environment is expected here"));
    }
    // Every environment is checked, not only the one asked for: a mistake is found when it is made, not when it is needed.
    let mut environments = Vec::new();
    for (name, over) in entries {
        let path = format!("environments.{}", name.text);
        let parsed: EnvironmentName = name
            .text
            .parse()
            .map_err(|error: crate::name::InvalidName| ManifestError::new(name.place, &path, error.to_string()))?;
        let merged = if over.is_null() { base.clone() } else { base.clone().merged(over) };
        let spec = spec::check(&merged, &parsed).map_err(|error| {
            // Those before it are right, so it is not the base alone.
            if environments.is_empty() { error } else { error.only_in(&parsed) }
        })?;
        environments.push((parsed, spec));
    }
    Ok((base.place, environments))
}

/// A manifest as it is for an environment, without the checks across its keys, for what must hold without them too.
#[cfg(test)]
pub(crate) fn unchecked(text: &str, environment: &str) -> Spec {
    let mut base = yaml::read(text).unwrap();
    let (_, environments) = base.take("environments").unwrap();
    let yaml::Value::Map(entries) = environments.value else { panic!("no environments") };
    let (_, over) = entries.into_iter().find(|(name, _)| name.text == environment).unwrap();
    de::from_node(&if over.is_null() { base } else { base.merged(over) }, "").unwrap()
}
