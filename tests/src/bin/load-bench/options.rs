//! How much.

use anyhow::{Context as _, Result, bail};

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) services: usize,
    pub(crate) sites: usize,
    /// Over how many apps they are spread, each with one environment.
    pub(crate) apps: usize,
    pub(crate) pushes: usize,
    /// Within how many seconds the pushes come.
    pub(crate) seconds: f64,
    /// How many functions may run at once: more only keep two cores from their work. AWS lets 1,000 run, in a new account 10.
    pub(crate) concurrency: u32,
}

impl Options {
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options { services: 150, sites: 50, apps: 10, pushes: 1000, seconds: 60.0, concurrency: 20 };
        while let Some(option) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{option} takes a number"))?;
            let number = || value.parse().with_context(|| format!("{option} takes a number, not `{value}`"));
            match option.as_str() {
                "--services" => options.services = number()?,
                "--sites" => options.sites = number()?,
                "--apps" => options.apps = number()?,
                "--pushes" => options.pushes = number()?,
                "--seconds" => options.seconds = value.parse()?,
                "--concurrency" => options.concurrency = value.parse()?,
                _ => bail!(
                    "`{option}` is not known; this takes --services, --sites, --apps, --pushes, --seconds and --concurrency"
                ),
            }
        }
        anyhow::ensure!(options.services > 0 && options.apps > 0, "there must be a service and an app");
        Ok(options)
    }
}
