//! The dated table of prices, `prices.json`: on-demand list prices of one region in US dollars, each group with the page it is from.
//!
//! AWS's pages show their tables to browsers only. So each price was held against one that others took from AWS's price list, and
//! `checked` says whose; `unchecked` names the types that they have not, and a unit without `checked` is one, too.
//!
//! A price that is not in the table is said to be missing, and never taken for nothing.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

/// Hours in a month, as AWS's own calculator counts them.
pub(super) const HOURS: f64 = 730.0;

/// The table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prices {
    /// The region whose prices they are.
    pub(super) region: String,
    /// The day they were looked up.
    pub(super) read: String,
    units: BTreeMap<String, Unit>,
    hours: BTreeMap<String, Hours>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unit {
    usd: f64,
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever checks the price"))]
    source: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever checks the price"))]
    checked: Option<String>,
}

/// Prices of an hour, by type or class.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hours {
    usd: BTreeMap<String, f64>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever checks the price"))]
    source: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever checks the price"))]
    checked: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever checks the price"))]
    unchecked: Vec<String>,
}

static PRICES: LazyLock<Prices> =
    LazyLock::new(|| serde_json::from_str(include_str!("prices.json")).unwrap_or_default());

impl Prices {
    /// The table.
    pub(super) fn table() -> &'static Prices {
        &PRICES
    }

    /// What one of this costs.
    pub(super) fn unit(&self, unit: &str) -> Option<f64> {
        self.units.get(unit).map(|unit| unit.usd)
    }

    /// What an hour of this type costs: an `instance`, a `postgres` class, a `redis` node.
    pub(super) fn hour(&self, what: &str, kind: &str) -> Option<f64> {
        self.hours.get(what)?.usd.get(kind).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_price_is_one_and_says_where_it_is_from() {
        let prices = Prices::table();
        assert_eq!(prices.region, "us-east-1");
        assert!(prices.read.parse::<jiff::civil::Date>().is_ok());
        let units = prices.units.iter().map(|(name, unit)| (name, unit.usd, &unit.source));
        let hours = prices
            .hours
            .values()
            .flat_map(|hours| hours.usd.iter().map(move |(name, usd)| (name, *usd, &hours.source)));
        for (name, usd, source) in units.chain(hours) {
            assert!(usd > 0.0 && usd < 20.0, "{name}");
            assert!(source.starts_with("https://aws.amazon.com/") && source.contains("/pricing/"), "{name}");
        }
    }

    #[test]
    fn every_price_says_whether_it_was_checked() {
        let prices = Prices::table();
        let unchecked = prices.units.iter().filter(|(_, unit)| unit.checked.is_none()).map(|(name, _)| name.as_str());
        assert_eq!(unchecked.collect::<Vec<_>>(), ["aurora_acu_hour"]);
        let units = prices.units.values().filter_map(|unit| unit.checked.as_ref());
        let others = |page: &str| page.starts_with("https://") && !page.contains("aws.amazon.com");
        assert!(units.chain(prices.hours.values().map(|hours| &hours.checked)).all(|page| others(page)));
        for (of, hours) in &prices.hours {
            assert!(hours.unchecked.iter().all(|kind| hours.usd.contains_key(kind)), "{of}");
            assert!(hours.unchecked.len() < hours.usd.len() / 2, "{of}: most are checked");
        }
    }

    /// Within a family, a size twice as large costs about twice as much.
    #[test]
    fn sizes_of_a_family_cost_what_their_size_says() {
        for (of, hours) in &Prices::table().hours {
            for (small, large) in [
                ("micro", "small"),
                ("small", "medium"),
                ("medium", "large"),
                ("large", "xlarge"),
                ("xlarge", "2xlarge"),
            ] {
                for (kind, price) in &hours.usd {
                    let Some(family) = kind.strip_suffix(&format!(".{small}")) else { continue };
                    let Some(next) = hours.usd.get(&format!("{family}.{large}")) else { continue };
                    assert!((1.9..2.1).contains(&(next / price)), "{of}: {kind} {price}, {large} {next}");
                }
            }
        }
    }
}
