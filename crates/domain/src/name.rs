//! Names and ids: each kind its own type, checked when it is made, so that nothing further in has to check again.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct InvalidName {
    text: String,
    what: &'static str,
    rule: &'static str,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { text: text.chars().take(80).collect(), what: $what, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Lower-case letters, digits and single hyphens, starting with a letter, at most `most` characters: what every AWS name
/// that we build from it accepts (an S3 bucket's and a load balancer's are the strictest).
fn is_label(text: &str, most: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= most
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && !text.ends_with('-')
        && !text.contains("--")
}

text_type!(
    /// An application: what one manifest describes.
    AppName, "an app's name", "1 to 20 lower-case letters, digits and single hyphens, starting with a letter",
    |text| is_label(text, 20)
);
text_type!(
    /// One deployment of an app: `prod`, `dev`.
    EnvironmentName, "an environment's name", "1 to 12 lower-case letters, digits and single hyphens, starting with a letter",
    |text| is_label(text, 12)
);
text_type!(
    /// A service's or a site's name inside its app.
    ComponentName, "a component's name", "1 to 20 lower-case letters, digits and single hyphens, starting with a letter",
    |text| is_label(text, 20)
);
text_type!(
    /// A preview of a site: `pr-12`.
    PreviewName, "a preview's name", "1 to 40 lower-case letters, digits and single hyphens, starting with a letter",
    |text| is_label(text, 40)
);
text_type!(
    /// An ECR repository's name, without the registry.
    RepositoryName, "a repository's name", "2 to 256 lower-case letters and digits, separated by `.`, `_`, `-` or `/`, starting with a letter",
    |text| (2..=256).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c))
        && !text.contains("//")
);
text_type!(
    /// An image's digest. AWS's own examples are shorter than 64 digits, so only the form is checked.
    Digest, "an image digest", "`sha256:` and hexadecimal digits",
    |text| text.strip_prefix("sha256:").is_some_and(|hex| {
        !hex.is_empty() && hex.len() <= 64 && hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    })
);
text_type!(
    /// One release. It begins with the time its execution started, so ids sort by age.
    ReleaseId, "a release's id", "a time and six hexadecimal digits, like `20261121T031542123-3f9c2a`",
    |text| text.split_once('-').is_some_and(|(time, tail)| {
        time.len() == 18 && time.as_bytes()[8] == b'T'
            && time.bytes().enumerate().all(|(i, b)| i == 8 || b.is_ascii_digit())
            && tail.len() == 6 && tail.bytes().all(|b| b.is_ascii_hexdigit())
    })
);

impl ReleaseId {
    /// The id of the release that an execution is: the same execution, redriven or retried, is the same release.
    pub fn of_execution(arn: &str, started_at: jiff::Timestamp) -> ReleaseId {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(arn.as_bytes());
        let time = started_at.strftime("%Y%m%dT%H%M%S");
        let millis = started_at.as_millisecond().rem_euclid(1000);
        ReleaseId(format!("{time}{millis:03}-{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2]))
    }

    /// When the release began, to the second.
    pub fn begun(&self) -> jiff::Timestamp {
        let time = self.0.get(..15).and_then(|time| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", time).ok());
        let time = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok());
        time.map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.timestamp())
    }
}

impl Digest {
    /// The first twelve hexadecimal digits: enough for a person to recognise it.
    pub fn short(&self) -> &str {
        let hex = &self.0["sha256:".len()..];
        &hex[..hex.len().min(12)]
    }
}

/// What a release is of: the platform of an environment, a service or a site on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Component {
    /// Everything the services and sites stand on.
    Platform,
    /// A service: containers behind a load balancer, or without one.
    Service(ComponentName),
    /// A site: static files in a bucket behind CloudFront.
    Site(ComponentName),
    /// A preview of a site: other files under a URL of their own, which never touch what is live.
    Preview(ComponentName, PreviewName),
}

impl Component {
    /// The site that a publication is for.
    pub fn site(&self) -> Option<&ComponentName> {
        match self {
            Component::Site(site) | Component::Preview(site, _) => Some(site),
            Component::Platform | Component::Service(_) => None,
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Platform => f.write_str("platform"),
            Component::Service(name) => write!(f, "service/{name}"),
            Component::Site(name) => write!(f, "site/{name}"),
            Component::Preview(site, name) => write!(f, "preview/{site}/{name}"),
        }
    }
}

impl FromStr for Component {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            None if text == "platform" => Ok(Component::Platform),
            Some(("service", name)) => Ok(Component::Service(name.parse()?)),
            Some(("site", name)) => Ok(Component::Site(name.parse()?)),
            Some(("preview", rest)) if rest.contains('/') => {
                let (site, name) = rest.split_once('/').unwrap_or_default();
                Ok(Component::Preview(site.parse()?, name.parse()?))
            }
            _ => Err(InvalidName {
                text: text.chars().take(80).collect(),
                what: "a component",
                rule: "`platform`, `service/<name>`, `site/<name>` or `preview/<site>/<name>`",
            }),
        }
    }
}

impl TryFrom<String> for Component {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Component> for String {
    fn from(component: Component) -> String {
        component.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_when_they_are_made() {
        for good in ["a", "hello", "rex-backend", "a1-b2"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a/b", "ü", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_recognised_by_its_form_even_when_it_is_as_short_as_in_awss_own_example() {
        assert!("sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd1234".parse::<Digest>().is_ok());
        for bad in ["sha256:", "sha512:00", "sha256:XYZ", "latest", "sha256:AB"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn components_read_back_as_they_are_written() {
        for text in ["platform", "service/api", "site/web", "preview/web/pr-12"] {
            assert_eq!(text.parse::<Component>().unwrap().to_string(), text);
        }
        for bad in ["", "service", "service/", "site/A", "platform/x", "database/main", "preview/web", "preview/web/"] {
            assert!(bad.parse::<Component>().is_err(), "{bad}");
        }
    }

    #[test]
    fn release_ids_sort_by_time_and_are_the_same_for_the_same_execution() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let early = ReleaseId::of_execution("arn:a", at("2026-11-21T03:15:42.123Z"));
        let late = ReleaseId::of_execution("arn:b", at("2026-11-21T03:15:42.124Z"));
        assert_eq!(late.begun(), at("2026-11-21T03:15:42Z"));
        assert!(early < late);
        assert!(early.as_str().starts_with("20261121T031542123-"));
        assert_eq!(early.as_str().parse::<ReleaseId>().unwrap(), early);
        assert_eq!(early, ReleaseId::of_execution("arn:a", at("2026-11-21T03:15:42.123Z")));
    }
}
