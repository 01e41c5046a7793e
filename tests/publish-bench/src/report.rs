//! The figures, as a table and as JSON, and what was to be reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::endpoint::Traffic;
use crate::plan::Plan;

pub(crate) const OURS: &str = "Shipway";
pub(crate) const PUTS: &str = "bare puts";
pub(crate) const CDK: &str = "CDK BucketDeployment";

/// How often the large zip is published.
pub(crate) const LARGE_RUNS: usize = 3;

/// What there is to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    Full,
    Unchanged,
    Few,
    Many,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 4] = [Scenario::Full, Scenario::Unchanged, Scenario::Few, Scenario::Many];

    /// How many files are others than those that are live; none where nothing is.
    pub(crate) fn changed(self) -> Option<usize> {
        match self {
            Scenario::Full => None,
            Scenario::Unchanged => Some(0),
            Scenario::Few => Some(3),
            Scenario::Many => Some(50),
        }
    }

    pub(crate) fn name(self) -> String {
        self.changed().map_or_else(|| "everything".to_owned(), |changed| format!("{changed} changed"))
    }
}

/// One publisher in one scenario.
#[derive(Default)]
pub(crate) struct Cell {
    pub(crate) times: Vec<Duration>,
    /// The last run's; all runs are alike.
    pub(crate) traffic: Traffic,
}

/// The zip of half a gigabyte.
#[derive(Default)]
pub(crate) struct Large {
    pub(crate) zip: usize,
    pub(crate) times: Vec<Duration>,
    pub(crate) passes: usize,
    pub(crate) peak_kib: u64,
    pub(crate) disk_bytes: u64,
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) runs: usize,
    /// Files, bytes, bytes of the zip.
    pub(crate) site: (usize, usize, usize),
    pub(crate) missing: Vec<String>,
    cells: BTreeMap<(u64, Scenario), Vec<(&'static str, Cell)>>,
    pub(crate) large: Option<Large>,
    pub(crate) plan: Option<Plan>,
    pub(crate) transitions: Vec<(&'static str, usize)>,
}

/// One thing to be reached.
struct Verdict {
    row: u8,
    what: String,
    got: String,
    reach: String,
    is_reached: bool,
}

impl Report {
    /// A publisher's figures, to be added to.
    pub(crate) fn cell(&mut self, delay: u64, scenario: Scenario, publisher: &'static str) -> &mut Cell {
        let cells = self.cells.entry((delay, scenario)).or_default();
        let index = cells.iter().position(|(name, _)| *name == publisher).unwrap_or_else(|| {
            cells.push((publisher, Cell::default()));
            cells.len() - 1
        });
        &mut cells[index].1
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).unwrap_or_else(|_| text.push_str("(unfinished)\n"));
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        let (files, bytes, zip) = self.site;
        writeln!(
            text,
            "a site of {files} files, {:.1} MB, {:.1} MB as a zip; medians of {} runs in turn",
            mb(bytes),
            mb(zip),
            self.runs
        )?;
        for ((delay, scenario), cells) in &self.cells {
            writeln!(text, "\n{}, {}", scenario.name(), delayed(*delay))?;
            writeln!(
                text,
                "  {:<24}{:>10}{:>10}{:>10}{:>9}{:>9}  requests",
                "publisher", "s", "× ours", "requests", "read", "written"
            )?;
            let ours = median_of(cells, OURS);
            for (name, cell) in cells {
                let kinds: Vec<_> =
                    cell.traffic.requests.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
                let table =
                    if cell.traffic.table > 0 { format!("; table {}", cell.traffic.table) } else { String::new() };
                writeln!(
                    text,
                    "  {name:<24}{:>10.3}{:>10.1}{:>10}{:>6.1} MB{:>6.1} MB  {}{table}",
                    median(&cell.times),
                    median(&cell.times) / ours,
                    cell.traffic.s3(),
                    cell.traffic.read as f64 / 1e6,
                    cell.traffic.written as f64 / 1e6,
                    kinds.join(", "),
                )?;
            }
        }
        for missing in &self.missing {
            writeln!(text, "\nnot measured: {missing}")?;
        }
        writeln!(text, "\n{:<5}{:<76}{:>22}   {:<30}", "row", "measure", "got", "reach")?;
        for verdict in self.verdicts() {
            let Verdict { row, what, got, reach, is_reached } = verdict;
            writeln!(text, "{row:<5}{what:<76}{got:>22}   {reach:<30}{}", if is_reached { "✓" } else { "✗" })?;
        }
        Ok(())
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for ((delay, scenario), cells) in &self.cells {
            let ours = median_of(cells, OURS);
            let delay = delayed(*delay);
            for (name, cell) in cells {
                // (what, the ratio, what it should be, in words, whether it is)
                let (ratio, reach, is_reached) = match (scenario, *name) {
                    (Scenario::Full, PUTS) => {
                        let ratio = ours / median(&cell.times);
                        (ratio, "≤ 1.5 × their time", ratio <= 1.5)
                    }
                    (Scenario::Full, CDK) => {
                        (median(&cell.times) / ours, "≥ 10 × faster", median(&cell.times) >= 10.0 * ours)
                    }
                    (Scenario::Few, CDK) => {
                        (median(&cell.times) / ours, "≥ 100 × faster", median(&cell.times) >= 100.0 * ours)
                    }
                    (Scenario::Full, OURS) | (_, OURS | PUTS | CDK) => continue,
                    _ => (median(&cell.times) / ours, "> 1 × faster", median(&cell.times) > ours),
                };
                verdicts.push(Verdict {
                    row: if *scenario == Scenario::Full { 3 } else { 4 },
                    what: format!("{}, {delay}, against {name}", scenario.name()),
                    got: format!("{ratio:.2} ×"),
                    reach: reach.to_owned(),
                    is_reached,
                });
            }
        }
        for ((delay, scenario), cells) in &self.cells {
            let ours = cells.iter().find(|(name, _)| *name == OURS);
            if let (0, Some(changed), Some((_, cell))) = (*delay, scenario.changed(), ours) {
                let most = 3 + 2 * changed as u64;
                verdicts.push(Verdict {
                    row: 4,
                    what: format!("requests to S3, {}", scenario.name()),
                    got: cell.traffic.s3().to_string(),
                    reach: format!("≤ {most}"),
                    is_reached: cell.traffic.s3() <= most,
                });
            }
        }
        verdicts.sort_by_key(|verdict| verdict.row);
        if let Some(large) = &self.large {
            let peak = large.peak_kib as f64 / 1024.0;
            let what = format!(
                "a zip of {:.0} MB in {:.1} s and {}: peak resident memory",
                mb(large.zip),
                median(&large.times),
                passes(large.passes)
            );
            verdicts.push(Verdict {
                row: 5,
                what,
                got: format!("{peak:.1} MiB"),
                reach: "≤ 64 MiB".to_owned(),
                is_reached: peak <= 64.0,
            });
            verdicts.push(Verdict {
                row: 5,
                what: "the same: bytes written to disk".to_owned(),
                got: large.disk_bytes.to_string(),
                reach: "0".to_owned(),
                is_reached: large.disk_bytes == 0,
            });
        }
        if let Some(plan) = &self.plan {
            let ms = plan.time.as_secs_f64() * 1e3;
            verdicts.push(Verdict {
                row: 8,
                what: format!("{} files changed: time to plan the invalidation", plan.stale),
                got: format!("{ms:.2} ms"),
                reach: "≤ 5 ms".to_owned(),
                is_reached: ms <= 5.0,
            });
            verdicts.push(Verdict {
                row: 8,
                what: "the same: paths".to_owned(),
                got: plan.paths.to_string(),
                reach: format!("< {}, one for each", plan.stale),
                is_reached: plan.paths < plan.stale,
            });
            verdicts.push(Verdict {
                row: 8,
                what: "the same: files evicted that are still right".to_owned(),
                got: plan.evicted.to_string(),
                reach: format!("< {}, by `/*`", plan.fresh),
                is_reached: plan.evicted < plan.fresh,
            });
        }
        for (machine, count) in &self.transitions {
            let most = if *machine == "publish" { 12 } else { 20 };
            verdicts.push(Verdict {
                row: 9,
                what: format!("{machine}: states on the longest way that ends well without waiting"),
                got: count.to_string(),
                reach: format!("≤ {most}"),
                is_reached: *count <= most,
            });
        }
        verdicts
    }

    pub(crate) fn json(&self) -> Value {
        let publications = self.cells.iter().flat_map(|((delay, scenario), cells)| {
            cells.iter().map(move |(publisher, cell)| {
                json!({
                    "delay_ms": delay,
                    "changed": scenario.changed(),
                    "publisher": publisher,
                    "seconds": median(&cell.times),
                    "runs": cell.times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
                    "s3_requests": cell.traffic.requests,
                    "table_requests": cell.traffic.table,
                    "bytes_read": cell.traffic.read,
                    "bytes_written": cell.traffic.written,
                })
            })
        });
        let verdicts = self.verdicts().into_iter().map(|verdict| {
            let Verdict { row, what, got, reach, is_reached } = verdict;
            json!({"row": row, "measure": what, "got": got, "reach": reach, "reached": is_reached})
        });
        json!({
            "site": {"files": self.site.0, "bytes": self.site.1, "zip_bytes": self.site.2},
            "publications": publications.collect::<Vec<_>>(),
            "missing": self.missing,
            "verdicts": verdicts.collect::<Vec<_>>(),
        })
    }
}

fn median_of(cells: &[(&'static str, Cell)], publisher: &str) -> f64 {
    cells.iter().find(|(name, _)| *name == publisher).map_or(f64::NAN, |(_, cell)| median(&cell.times))
}

/// In seconds.
fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn delayed(delay: u64) -> String {
    if delay == 0 { "no delay".to_owned() } else { format!("{delay} ms per request") }
}

fn passes(count: usize) -> String {
    if count == 1 { "one pass".to_owned() } else { format!("{count} passes") }
}
