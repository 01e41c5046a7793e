//! Durations and sizes: a number with its unit, so that nobody has to know which one is meant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident in $inner:ty, $what:literal, [$(($unit:literal, $factor:expr)),+], $least:expr, $most:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name($inner);

        impl $name {
            /// So many of the smallest unit.
            #[must_use]
            pub const fn of(smallest: $inner) -> $name {
                $name(smallest)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let wrong = || format!("`{text}` is not {}", $what);
                let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
                let (number, unit) = text.split_at(at);
                let number: $inner = number.parse().map_err(|_| wrong())?;
                let factor: $inner = match unit {
                    $($unit => $factor,)+
                    _ => return Err(wrong()),
                };
                match number.checked_mul(factor) {
                    Some(value) if ($least..=$most).contains(&value) => Ok($name(value)),
                    _ => Err(format!("{text} is outside {} to {}", String::from($name($least)), String::from($name($most)))),
                }
            }
        }

        impl From<$name> for String {
            fn from(quantity: $name) -> String {
                let units: &[(&str, $inner)] = &[$(($unit, $factor)),+];
                let (unit, factor) =
                    units.iter().filter(|(_, factor)| quantity.0.is_multiple_of(*factor)).max_by_key(|(_, factor)| *factor).copied().unwrap_or(("", 1));
                format!("{}{unit}", quantity.0 / factor)
            }
        }
    };
}

quantity!(
    /// A short duration with its unit: `90s`, `10m`, `2h`.
    Timeout in u32, "a duration with its unit, like 90s, 10m or 2h", [("s", 1), ("m", 60), ("h", 3600)], 1, 86_400, "^[0-9]+[smh]$"
);
quantity!(
    /// How long a visitor stays with a task, with its unit: `90s`, `2h`, `7d`.
    Stay in u32, "a duration with its unit, like 90s, 2h or 7d", [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)], 1, 604_800, "^[0-9]+[smhd]$"
);
quantity!(
    /// A long duration with its unit: `12h`, `7d`.
    Period in u32, "a duration with its unit, like 12h or 7d", [("h", 3600), ("d", 86_400)], 3600, 3653 * 86_400, "^[0-9]+[hd]$"
);
quantity!(
    /// A size of storage with its unit: `100GiB`, `2TiB`.
    Storage in u32, "a size with its unit, like 100GiB or 2TiB", [("GiB", 1), ("TiB", 1024)], 1, 65_536, "^[0-9]+(GiB|TiB)$"
);

impl Timeout {
    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl Stay {
    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Timeout(600)
    }
}

impl Period {
    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// In days, a begun one counted whole.
    #[must_use]
    pub const fn days(self) -> u32 {
        self.0.div_ceil(86_400)
    }
}

impl Storage {
    /// In GiB.
    #[must_use]
    pub const fn gib(self) -> u32 {
        self.0
    }
}
