//! A plan as a person reads it: what must be known first, then what is done where, then what it costs.

use super::{
    Plan,
    difference::{Doing, PropertyChange, ResourceChange},
    evaluation::Policy,
    stack::StackChange,
};

/// How a line is shown, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// It begins a part.
    Heading,
    /// Something is made.
    Made,
    /// Something is changed.
    Changed,
    /// Something is made anew or deleted, or a warning.
    Grave,
    /// It matters less.
    Faint,
}

/// A line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How it is shown.
    pub tone: Tone,
    /// What it says.
    pub text: String,
}

/// No value is shown with more characters.
const MOST: usize = 60;

/// A value on one line, and not a long one.
pub(super) fn shortened(text: &str) -> String {
    if text.contains('\n') {
        return format!("a text of {} lines", text.lines().count());
    }
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

/// The first line in which two texts of as many lines differ; else the texts.
fn differing_line<'t>(from: &'t str, to: &'t str) -> (&'t str, &'t str) {
    let is_many = from.contains('\n') && from.lines().count() == to.lines().count();
    let line = from.lines().zip(to.lines()).find(|(from, to)| from != to);
    line.filter(|_| is_many).map_or((from, to), |(from, to)| (from.trim(), to.trim()))
}

fn mark(doing: Doing) -> &'static str {
    match doing {
        Doing::Unchanged => " ",
        Doing::Create => "+",
        Doing::Change => "~",
        Doing::Replace => "-/+",
        Doing::Delete => "-",
    }
}

fn tone(doing: Doing) -> Tone {
    match doing {
        Doing::Unchanged => Tone::Faint,
        Doing::Create => Tone::Made,
        Doing::Change => Tone::Changed,
        Doing::Replace | Doing::Delete => Tone::Grave,
    }
}

impl Plan {
    /// The lines of the plan.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut page = Page(Vec::new());
        let compared = if self.offline { "as it would be made from nothing" } else { "compared with what stands" };
        page.line(Tone::Heading, format!("{}/{} in {}, {compared}", self.app, self.environment, self.region));
        page.gap();
        for warning in &self.warnings {
            page.line(Tone::Grave, format!("! {}", warning.what));
        }
        page.gap();
        self.network_lines(&mut page);
        self.stack_lines(&mut page);
        self.service_lines(&mut page);
        self.site_lines(&mut page);
        if !self.settings.is_empty() {
            page.line(Tone::Heading, "written down; nothing that stands changes by it".to_owned());
            self.settings.iter().for_each(|setting| page.line(Tone::Changed, format!("  ~ {setting}")));
            page.gap();
        }
        if !self.left.is_empty() {
            page.line(Tone::Heading, "stays until a teardown, because the manifest no longer names it".to_owned());
            self.left.iter().for_each(|left| page.line(Tone::Plain, format!("    {left}")));
            page.gap();
        }
        page.line(
            Tone::Heading,
            if self.is_refused() { "it would be refused".to_owned() } else { self.summary.to_string() },
        );
        page.gap();
        self.estimate_lines(&mut page);
        page.0
    }

    fn network_lines(&self, page: &mut Page) {
        if self.network.is_empty() {
            return;
        }
        page.line(Tone::Heading, "network".to_owned());
        for change in &self.network {
            page.line(tone(change.doing), format!("  {} {}", mark(change.doing), change.what));
        }
        page.gap();
    }

    fn stack_lines(&self, page: &mut Page) {
        page.line(Tone::Heading, "stacks".to_owned());
        let changed: Vec<&StackChange> =
            self.stacks.iter().filter(|stack| stack.doing != Doing::Unchanged || stack.halted.is_some()).collect();
        for stack in &changed {
            let region = stack.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
            let note = stack.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
            page.line(tone(stack.doing), format!("  {} {}{region}{note}", mark(stack.doing), stack.name));
            stack.resources.iter().for_each(|resource| page.resource(resource));
        }
        let rest = self.stacks.len() - changed.len();
        if rest > 0 {
            page.line(Tone::Faint, format!("    {rest} unchanged"));
        }
        page.gap();
    }

    fn service_lines(&self, page: &mut Page) {
        if self.services.is_empty() {
            return;
        }
        page.line(Tone::Heading, "services".to_owned());
        let mut rest = 0;
        for service in &self.services {
            if service.doing == Doing::Unchanged {
                rest += 1;
                continue;
            }
            let revision = if service.doing == Doing::Change && service.new_revision {
                ": new tasks take the place of the old"
            } else {
                ""
            };
            page.line(tone(service.doing), format!("  {} {}{revision}", mark(service.doing), service.name));
            service.what.iter().for_each(|what| page.line(Tone::Plain, format!("        {what}")));
            if let Some(command) = &service.migration {
                page.line(Tone::Plain, format!("        migrates before that: {}", shortened(command)));
            }
        }
        if rest > 0 {
            page.line(Tone::Faint, format!("    {rest} unchanged"));
        }
        page.gap();
    }

    fn site_lines(&self, page: &mut Page) {
        if self.sites.is_empty() {
            return;
        }
        page.line(Tone::Heading, "sites".to_owned());
        let changed: Vec<_> = self.sites.iter().filter(|site| site.doing != Doing::Unchanged).collect();
        for site in &changed {
            let published = if site.publishes { ": what is live is published again" } else { "" };
            page.line(tone(site.doing), format!("  {} {}{published}", mark(site.doing), site.name));
            site.what.iter().for_each(|what| page.line(Tone::Plain, format!("        {what}")));
        }
        let rest = self.sites.len() - changed.len();
        if rest > 0 {
            page.line(Tone::Faint, format!("    {rest} unchanged"));
        }
        page.gap();
    }

    fn estimate_lines(&self, page: &mut Page) {
        let estimate = &self.estimate;
        let (sum, region) = (between(estimate.low, estimate.high), &estimate.region);
        let there = if estimate.of_its_region { String::new() } else { format!(" if it were in {region}") };
        page.line(
            Tone::Heading,
            format!(
                "about {sum} {} a month{there}, at list prices of {region} as of {}",
                estimate.currency, estimate.prices_of
            ),
        );
        if let Some(note) = &estimate.note {
            page.line(Tone::Grave, format!("  ! {note}"));
        }
        let wide = estimate.lines.iter().map(|line| line.what.chars().count()).max().unwrap_or_default();
        for line in &estimate.lines {
            let padding = wide - line.what.chars().count();
            let high = if line.low == line.high { String::new() } else { format!(" to {:>8.2}", line.high) };
            page.line(Tone::Plain, format!("    {}{:padding$}  {:>8.2}{high}", line.what, "", line.low));
        }
        for unknown in &estimate.unknown {
            page.line(Tone::Grave, format!("  ! {unknown}: its price is not in the table, and not in the sum"));
        }
        page.line(Tone::Faint, format!("    not counted: {}", estimate.not_counted.join("; ")));
    }
}

fn between(low: f64, high: f64) -> String {
    if low == high { format!("{low:.2}") } else { format!("{low:.2} to {high:.2}") }
}

struct Page(Vec<Line>);

impl Page {
    fn line(&mut self, tone: Tone, text: String) {
        self.0.push(Line { tone, text });
    }

    /// An empty line, unless there is one already.
    fn gap(&mut self) {
        if self.0.last().is_some_and(|line| !line.text.is_empty()) {
            self.line(Tone::Plain, String::new());
        }
    }

    fn resource(&mut self, resource: &ResourceChange) {
        let ResourceChange { name, kind, doing, properties, .. } = resource;
        let mut words = Vec::new();
        if resource.interrupts {
            words.push("interrupts".to_owned());
        }
        if let Some(loss) = &resource.loses {
            words.push(match loss.old {
                Policy::Delete => format!("{} is lost", loss.what),
                Policy::Snapshot => format!("{} stays in a last snapshot only", loss.what),
                Policy::Retain => format!("{} stays with the old one, which nothing uses any more", loss.what),
            });
        }
        if resource.unsure {
            words.push("changed in place or made anew, which only CloudFormation knows".to_owned());
        }
        let words = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
        self.line(tone(*doing), format!("      {} {name} ({kind}){words}", mark(*doing)));
        properties.iter().for_each(|property| self.property(property));
    }

    fn property(&mut self, PropertyChange { path, from, to, replaces }: &PropertyChange) {
        let change = match (from, to) {
            (Some(from), Some(to)) => {
                let (from, to) = differing_line(from, to);
                format!("{} → {}", shortened(from), shortened(to))
            }
            (None, Some(to)) => format!("+ {}", shortened(to)),
            (Some(from), None) => format!("- {}", shortened(from)),
            (None, None) => String::new(),
        };
        let anew = if *replaces { "  (cannot change in place)" } else { "" };
        self.line(Tone::Plain, format!("            {path}: {change}{anew}"));
    }
}
