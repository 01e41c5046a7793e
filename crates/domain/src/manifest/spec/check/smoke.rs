//! Smoke tests: what can be asked for, and reach the service.

use super::{Checked, Manifest, refuse, under};
use crate::{
    manifest::spec::{Admitted, HostName, Http, Service, Smoke, Timeout},
    name::ComponentName,
    smoke::TASKS,
};

/// A pass makes several requests, and a release's record keeps what each of them came to.
const MOST: usize = 10;

/// The machine waits two hours for each kind.
const MOST_TOGETHER: u32 = 3600;

pub(super) fn check(manifest: &Manifest<'_>, name: &ComponentName, service: &Service) -> Checked {
    if service.smoke.len() > MOST {
        return refuse("smoke", format!("a service has at most {MOST} smoke tests"));
    }
    let commands = service.smoke.iter().filter(|smoke| smoke.path.is_none()).count();
    if commands > TASKS.len() {
        return refuse("smoke", format!("at most {} of them are commands; a command may be a script", TASKS.len()));
    }
    for (index, smoke) in service.smoke.iter().enumerate() {
        let at = format!("smoke[{index}]");
        one(manifest, name, service, smoke, &at).map_err(under(at))?;
    }
    for of_paths in [true, false] {
        let these = service.smoke.iter().filter(|smoke| smoke.path.is_some() == of_paths);
        if these.map(Smoke::timeout_seconds).sum::<u32>() > MOST_TOGETHER {
            let most = String::from(Timeout::of(MOST_TOGETHER));
            let which = if of_paths { "those with a `path`" } else { "those with a `command`" };
            return refuse("smoke", format!("{which} have {most} together; give shorter timeouts"));
        }
    }
    Ok(())
}

fn one(manifest: &Manifest<'_>, name: &ComponentName, service: &Service, smoke: &Smoke, at: &str) -> Checked {
    let Some(path) = &smoke.path else {
        if smoke.command.is_empty() {
            let key = if manifest.gives(&format!("services.{name}.{at}.command")) { "command" } else { "" };
            return refuse(key, "a `path` to ask for or a `command` to run is expected here");
        }
        for key in ["host", "status", "contains"] {
            if manifest.gives(&format!("services.{name}.{at}.{key}")) {
                return refuse(key, "this is of a `path`; a command says by its exit code whether all is well");
            }
        }
        return Ok(());
    };
    if !smoke.command.is_empty() {
        return refuse("command", "a smoke test asks for a `path` or runs a `command`; make it two of them");
    }
    let Some(http) = &service.http else {
        return refuse("path", "without `http` no request comes through the load balancer; use `command`");
    };
    // The functions are in no VPC, and have no address that anybody could let in.
    if manifest.spec.load_balancer.from == Admitted::Cloudfront {
        return refuse(
            "path",
            "only CloudFront reaches the load balancer (`load_balancer.from`), so Shipway cannot ask it; use `command`",
        );
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "_-.$/~'@:+&*?=%,;!()".contains(c);
    if !path.starts_with('/') || path.len() > 1024 || !path.chars().all(known) {
        return refuse("path", format!("`{path}` is not a path like /ready or /search?q=a"));
    }
    if !http.takes(path.split('?').next().unwrap_or(path)) {
        return refuse("path", format!("the load balancer sends only `{}` to this service", http.path));
    }
    if let Some(host) = &smoke.host {
        check_host(manifest, http, host)?;
    }
    if smoke.status.is_some_and(|status| !(200..=599).contains(&status)) {
        return refuse("status", "a status from 200 to 599 is expected here");
    }
    if smoke.contains.as_ref().is_some_and(|text| text.is_empty() || text.len() > 200) {
        return refuse("contains", "a text of 1 to 200 bytes is expected here");
    }
    Ok(())
}

fn check_host(manifest: &Manifest<'_>, http: &Http, host: &HostName) -> Checked {
    if let Some(own) = &http.host {
        return refuse(
            "host",
            format!("the service is reached by its own host alone, {}; leave this out", own.as_str()),
        );
    }
    let others = manifest.spec.services.iter();
    let of_other = |other: &Service| other.http.as_ref().is_some_and(|http| http.host.as_ref() == Some(host));
    if let Some((other, _)) = others.into_iter().find(|(_, other)| of_other(other)) {
        return refuse("host", format!("this is the host of `{other}`"));
    }
    let Some(domain) = &manifest.spec.domain else { return Ok(()) };
    let domain = domain.name.as_str();
    let label = host.as_str().strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    if host.as_str() != domain && label.is_none_or(|label| label.contains('.')) {
        return refuse("host", format!("the certificate is for {domain} and one label before it"));
    }
    Ok(())
}
