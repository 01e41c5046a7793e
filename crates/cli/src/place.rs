//! Which app, environment and site is meant, from what was said and what the manifest leaves no choice about.

use std::{fs, io::ErrorKind, path::Path};

use shipway_domain::{
    manifest::{self, Spec},
    name::{AppName, ComponentName, EnvironmentName},
};

use crate::{cli::Where, problem::Problem};

/// Environments, each with what the manifest says for it.
pub(crate) type Specs = Vec<(EnvironmentName, Spec)>;

/// An environment of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The app.
    pub(crate) app: AppName,
    /// The environment.
    pub(crate) environment: EnvironmentName,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.app, self.environment)
    }
}

impl Where {
    /// The environment that is meant.
    pub(crate) fn place(&self) -> Result<Place, Problem> {
        let all_said = self.app.is_some() && self.environment.is_some();
        let manifest = if all_said { None } else { self.read()? };
        self.place_in(manifest.as_deref())
    }

    /// The environment and the site that are meant.
    pub(crate) fn site(&self, site: Option<&ComponentName>) -> Result<(Place, ComponentName), Problem> {
        if let Some(site) = site {
            return Ok((self.place()?, site.clone()));
        }
        let manifest = self.read()?;
        let place = self.place_in(manifest.as_deref())?;
        let site = self.site_in(manifest.as_deref(), &place)?;
        Ok((place, site))
    }

    /// The environment that is meant, and what the manifest says for it and for the others.
    pub(crate) fn specs(&self) -> Result<(Place, Spec, Specs), Problem> {
        let manifest = self.read()?;
        let place = self.place_in(manifest.as_deref())?;
        let (mut own, others): (Specs, Specs) =
            manifest.into_iter().flatten().partition(|(name, _)| *name == place.environment);
        match own.pop() {
            Some((_, spec)) => Ok((place, spec, others)),
            None => Err(Problem::new("there is no manifest here")
                .at(self.manifest.display())
                .remedy("go to the folder of shipway.yaml, or name it with --manifest")),
        }
    }

    /// The manifest as it is for each environment, if there is one.
    fn read(&self) -> Result<Option<Specs>, Problem> {
        let here = self.manifest.display();
        match fs::read_to_string(&self.manifest) {
            Ok(text) => manifest::read_all(&text)
                .map(Some)
                .map_err(|mistake| Problem::rejected(format!("the manifest has a mistake: {mistake}")).at(here)),
            Err(error) if error.kind() == ErrorKind::NotFound && self.manifest == Path::new("shipway.yaml") => Ok(None),
            Err(error) => Err(Problem::new(format!("the manifest cannot be read: {error}")).at(here)),
        }
    }

    fn place_in(&self, manifest: Option<&[(EnvironmentName, Spec)]>) -> Result<Place, Problem> {
        let here = self.manifest.display();
        let Some(manifest) = manifest else {
            let missing = match (&self.app, &self.environment) {
                (Some(app), Some(environment)) => {
                    return Ok(Place { app: app.clone(), environment: environment.clone() });
                }
                (None, None) => "which app and environment is not said, and there is no manifest here that says it",
                (None, Some(_)) => "which app is not said, and there is no manifest here that says it",
                (Some(_), None) => "which environment is not said, and there is no manifest here that says it",
            };
            return Err(Problem::new(missing)
                .at(&here)
                .remedy("say --app and --env, go to the folder of shipway.yaml, or name it with --manifest"));
        };
        let app = manifest.first().map(|(_, spec)| &spec.app);
        if let (Some(said), Some(written)) = (&self.app, app)
            && said != written
        {
            return Err(Problem::new(format!("this is the manifest of `{written}`, not of `{said}`"))
                .at(here)
                .remedy("say --env and --site too, or name the app's own manifest with --manifest"));
        }
        let names = || listed(manifest.iter().map(|(name, _)| name.as_str()));
        let environment = match (&self.environment, manifest) {
            (Some(said), _) if manifest.iter().any(|(name, _)| name == said) => said,
            (Some(said), _) => {
                return Err(Problem::new(format!("the manifest has no environment `{said}`"))
                    .at(here)
                    .remedy(format!("say --env with one of {}", names())));
            }
            (None, [(only, _)]) => only,
            (None, _) => {
                return Err(Problem::new("which environment is not said, and the manifest has several")
                    .at(here)
                    .remedy(format!("say --env with one of {}", names())));
            }
        };
        match app {
            Some(app) => Ok(Place { app: app.clone(), environment: environment.clone() }),
            None => Err(Problem::new("the manifest has no environments").at(here)),
        }
    }

    fn site_in(&self, manifest: Option<&[(EnvironmentName, Spec)]>, place: &Place) -> Result<ComponentName, Problem> {
        let spec = manifest.into_iter().flatten().find(|(name, _)| *name == place.environment).map(|(_, spec)| spec);
        let here = self.manifest.display();
        let Some(spec) = spec else {
            return Err(Problem::new("which site is not said, and there is no manifest here that says it")
                .at(here)
                .remedy("name the site, or go to the folder of shipway.yaml"));
        };
        let mut sites = spec.sites.keys();
        match (sites.next(), sites.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(Problem::new(format!("the manifest has no site for {place}"))
                .at(here)
                .remedy("add it under `sites`, and upload the manifest")),
            (Some(_), Some(_)) => Err(Problem::new("which site is not said, and the manifest has several")
                .at(here)
                .remedy(format!("name one of {}", listed(spec.sites.keys().map(ComponentName::as_str))))),
        }
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "version: 1\napp: hello\nsites: {web: {}}\nenvironments: {prod: {}}\n";
    const TWO: &str = "version: 1\napp: hello\nsites: {web: {}}\nenvironments: {dev: {}, prod: {sites: {docs: {}}}}\n";
    const NO_SITE: &str =
        "version: 1\napp: hello\nservices: {api: {image: {repository: hello-api}}}\nenvironments: {prod: {}}\n";

    fn asked(text: Option<&str>, app: &str, environment: &str, site: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shipway.yaml");
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let asked = Where {
            app: app.parse().ok(),
            environment: environment.parse().ok(),
            manifest: if text.is_some() { path } else { "shipway.yaml".into() },
        };
        let (place, site) = asked.site(site.parse().ok().as_ref()).map_err(|problem| problem.to_string())?;
        Ok(format!("{place}/{site}"))
    }

    #[test]
    fn what_the_manifest_leaves_no_choice_about_need_not_be_said() {
        let table = [
            (Some(ONE), ("", "", ""), "hello/prod/web"),
            (Some(ONE), ("hello", "prod", "web"), "hello/prod/web"),
            (Some(TWO), ("", "dev", ""), "hello/dev/web"),
            (Some(TWO), ("", "prod", "docs"), "hello/prod/docs"),
            // All is said: the manifest is not even read.
            (None, ("other", "test", "blog"), "other/test/blog"),
            (Some("{"), ("other", "test", "blog"), "other/test/blog"),
        ];
        for (text, (app, environment, site), meant) in table {
            assert_eq!(asked(text, app, environment, site), Ok(meant.to_owned()));
        }
    }

    #[test]
    fn what_is_left_open_is_asked_for() {
        let table = [
            (None, ("", "", ""), "which app and environment is not said"),
            (None, ("", "prod", "web"), "which app is not said"),
            (None, ("hello", "", "web"), "which environment is not said"),
            (None, ("hello", "prod", ""), "which site is not said"),
            (Some(TWO), ("", "", ""), "say --env with one of `dev`, `prod`"),
            (Some(TWO), ("", "prod", ""), "name one of `docs`, `web`"),
            (Some(ONE), ("", "pord", ""), "the manifest has no environment `pord`"),
            (Some(ONE), ("other", "", ""), "this is the manifest of `hello`, not of `other`"),
            (Some(NO_SITE), ("", "", ""), "the manifest has no site for hello/prod"),
            (Some("version: 1\n"), ("", "", ""), "the manifest has a mistake: line 1"),
        ];
        for (text, (app, environment, site), told) in table {
            let problem = asked(text, app, environment, site).unwrap_err();
            assert!(problem.contains(told), "{told}: {problem}");
        }
    }

    #[test]
    fn what_the_manifest_says_needs_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shipway.yaml");
        fs::write(&path, TWO).unwrap();
        let asked = Where { environment: "prod".parse().ok(), manifest: path, ..Where::default() };
        let (place, spec, others) = asked.specs().unwrap();
        assert_eq!((place.to_string(), spec.sites.len()), ("hello/prod".to_owned(), 2));
        assert_eq!(others.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["dev"]);
        let nowhere =
            Where { app: "hello".parse().ok(), environment: "prod".parse().ok(), manifest: "shipway.yaml".into() };
        assert!(nowhere.specs().unwrap_err().to_string().contains("there is no manifest here"));
    }

    #[test]
    fn a_manifest_that_was_named_must_be_there() {
        let asked = Where { manifest: "/nowhere/shipway.yaml".into(), ..Where::default() };
        assert!(asked.place().unwrap_err().to_string().contains("cannot be read"));
    }
}
