//! References from one part of a manifest to what another part makes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::name::ComponentName;

/// What another part of the manifest makes: `databases.main.url`, `network.vpc`, `stacks.search.Endpoint`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reference {
    /// `databases.<name>.<attribute>`, or `databases.<name>.<database>.<attribute>` for another database of the same cluster.
    Database {
        /// The database's key in the manifest.
        name: ComponentName,
        /// One of its `names`; the first unless given.
        database: Option<String>,
        /// What of it.
        attribute: DatabaseAttribute,
    },
    /// `caches.<name>.<attribute>`.
    Cache {
        /// The cache.
        name: ComponentName,
        /// What of it.
        attribute: CacheAttribute,
    },
    /// `secrets.<name>`: the value of a secret of this manifest.
    Secret(ComponentName),
    /// `buckets.<name>`: a bucket's name.
    Bucket(ComponentName),
    /// `services.<name>.<attribute>`: where other services reach it, with `discovery`.
    Service {
        /// The service.
        name: ComponentName,
        /// What of it.
        attribute: ServiceAttribute,
    },
    /// `sites.<name>.url`: where visitors reach it.
    SiteUrl(ComponentName),
    /// `load_balancer.url`: where visitors reach the services.
    LoadBalancerUrl,
    /// `network.<attribute>`, for the user's own stacks.
    Network(NetworkAttribute),
    /// `stacks.<name>.<output>`: what one of the user's own stacks gives.
    Stack {
        /// The stack.
        name: ComponentName,
        /// Its output.
        output: String,
    },
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word in a reference.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            fn parse(word: &str) -> Result<$name, String> {
                let known = Self::ALL.iter().find(|known| known.word() == word).copied();
                known.ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|known| format!("`{}`", known.word())).collect();
                    format!("`{word}` is not one of {}", words.join(", "))
                })
            }
        }
    };
}

words!(
    /// What a reference can take of a database.
    DatabaseAttribute {
        /// The whole `postgres://` URL with the password in it: a secret.
        Url = "url",
        /// The host's name.
        Host = "host",
        /// The port.
        Port = "port",
        /// The user's name.
        User = "user",
        /// The user's password: a secret.
        Password = "password",
        /// The database's name on the server.
        Name = "name",
    }
);
words!(
    /// What a reference can take of a cache.
    CacheAttribute {
        /// The whole `rediss://` URL.
        Url = "url",
        /// The host's name.
        Host = "host",
        /// The port.
        Port = "port",
    }
);
words!(
    /// What a reference can take of a service.
    ServiceAttribute {
        /// `http://<host>:<port>`.
        Url = "url",
        /// The host's name in the VPC.
        Host = "host",
    }
);
words!(
    /// What a reference can take of the network. Lists are between commas.
    NetworkAttribute {
        /// The VPC's id.
        Vpc = "vpc",
        /// The ids of the public subnets.
        PublicSubnets = "public_subnets",
        /// The ids of the private subnets.
        PrivateSubnets = "private_subnets",
        /// The ids of the isolated subnets.
        IsolatedSubnets = "isolated_subnets",
        /// The id of the services' security group.
        ServiceGroup = "service_group",
    }
);

impl Reference {
    /// Whether what it stands for is a secret, which only `secrets` may take.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(
            self,
            Reference::Secret(_)
                | Reference::Database { attribute: DatabaseAttribute::Url | DatabaseAttribute::Password, .. }
        )
    }
}

impl TryFrom<String> for Reference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = |text: &str| text.parse::<ComponentName>().map_err(|error| error.to_string());
        let parts: Vec<_> = text.split('.').collect();
        Ok(match parts.as_slice() {
            ["databases", database, attribute] => Reference::Database {
                name: name(database)?,
                database: None,
                attribute: DatabaseAttribute::parse(attribute)?,
            },
            ["databases", key, database, attribute] => Reference::Database {
                name: name(key)?,
                database: Some((*database).to_owned()),
                attribute: DatabaseAttribute::parse(attribute)?,
            },
            ["caches", cache, attribute] => {
                Reference::Cache { name: name(cache)?, attribute: CacheAttribute::parse(attribute)? }
            }
            ["secrets", secret] => Reference::Secret(name(secret)?),
            ["buckets", bucket] => Reference::Bucket(name(bucket)?),
            ["services", service, attribute] => {
                Reference::Service { name: name(service)?, attribute: ServiceAttribute::parse(attribute)? }
            }
            ["sites", site, "url"] => Reference::SiteUrl(name(site)?),
            ["load_balancer", "url"] => Reference::LoadBalancerUrl,
            ["network", attribute] => Reference::Network(NetworkAttribute::parse(attribute)?),
            ["stacks", stack, output] if output.chars().all(|c| c.is_ascii_alphanumeric()) && !output.is_empty() => {
                Reference::Stack { name: name(stack)?, output: (*output).to_owned() }
            }
            _ => {
                return Err(format!(
                    "`{text}` refers to nothing; known are databases.<name>.<attribute>, caches.<name>.<attribute>, \
                     secrets.<name>, buckets.<name>, services.<name>.<attribute>, sites.<name>.url, load_balancer.url, \
                     network.<attribute>, stacks.<name>.<output>"
                ));
            }
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reference::Database { name, database: None, attribute } => {
                write!(f, "databases.{name}.{}", attribute.word())
            }
            Reference::Database { name, database: Some(database), attribute } => {
                write!(f, "databases.{name}.{database}.{}", attribute.word())
            }
            Reference::Cache { name, attribute } => write!(f, "caches.{name}.{}", attribute.word()),
            Reference::Secret(name) => write!(f, "secrets.{name}"),
            Reference::Bucket(name) => write!(f, "buckets.{name}"),
            Reference::Service { name, attribute } => write!(f, "services.{name}.{}", attribute.word()),
            Reference::SiteUrl(name) => write!(f, "sites.{name}.url"),
            Reference::LoadBalancerUrl => f.write_str("load_balancer.url"),
            Reference::Network(attribute) => write!(f, "network.{}", attribute.word()),
            Reference::Stack { name, output } => write!(f, "stacks.{name}.{output}"),
        }
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What another part of the manifest makes: `databases.main.url`, `network.vpc`, `stacks.search.Endpoint`.",
            "type": "string",
            "pattern": "^(databases|caches|secrets|buckets|services|sites|load_balancer|network|stacks)(\\.[A-Za-z0-9_-]+)+$"
        })
    }
}

/// Where a secret is. Its value is read by ECS when the task starts, never by Shipway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// In Secrets Manager: `name`, or `name:key` for one key of a JSON secret.
    Secretsmanager(String),
    /// A parameter in Systems Manager: `/path`.
    Ssm(String),
    /// A secret that this manifest makes: `secrets.<name>`, `databases.<name>.url`.
    Ref(Reference),
}

/// The value of an environment variable: a text, or a reference to what is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// The text.
    Text(String),
    /// What another part of the manifest makes.
    Ref(Reference),
}

impl EnvValue {
    /// The text, where it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            EnvValue::Text(text) => Some(text),
            EnvValue::Ref(_) => None,
        }
    }
}

impl From<&str> for EnvValue {
    fn from(text: &str) -> EnvValue {
        EnvValue::Text(text.to_owned())
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfRef {
    r#ref: Reference,
}

impl Serialize for EnvValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            EnvValue::Text(text) => serializer.serialize_str(text),
            EnvValue::Ref(reference) => OfRef { r#ref: reference.clone() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = EnvValue;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or {ref: …}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EnvValue, E> {
                Ok(EnvValue::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<EnvValue, A::Error> {
                let OfRef { r#ref } = OfRef::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(EnvValue::Ref(r#ref))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for EnvValue {
    fn schema_name() -> Cow<'static, str> {
        "EnvValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let reference = generator.subschema_for::<OfRef>();
        json_schema!({
            "description": "A text, or a reference to what is no secret.",
            "anyOf": [{"type": ["string", "number", "boolean"]}, reference]
        })
    }
}
