//! The table of results.

use crate::measure::Samples;

/// The goal of a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At least this share of the base line.
    AtLeast(f64),
    /// At most so many times the base line.
    AtMost(f64),
    /// Not more than the base line.
    Within,
    /// Not more than this.
    Absolute(f64),
}

/// A case and what came of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// A measured case.
    pub(crate) case: String,
    /// Of what, such as `calls/s`.
    pub(crate) unit: &'static str,
    /// One figure a round.
    pub(crate) case_samples: Samples,
    /// The name of the base line; empty if there is none.
    pub(crate) base: String,
    /// The figures of the base line.
    pub(crate) base_samples: Samples,
    /// The condition on the medians.
    pub(crate) goal: Goal,
}

impl Row {
    /// The goal is reached.
    pub(crate) fn is_met(&self) -> bool {
        let (case, base) = (self.case_samples.median(), self.base_samples.median());
        match self.goal {
            Goal::AtLeast(share) => case >= share * base,
            Goal::AtMost(times) => case <= times * base,
            Goal::Within => case <= base,
            Goal::Absolute(most) => case <= most,
        }
    }

    /// As a line of a Markdown table.
    pub(crate) fn line(&self) -> String {
        let Self { case, unit, base, .. } = self;
        let goal = match self.goal {
            Goal::AtLeast(share) => format!("≥ {share} × base"),
            Goal::AtMost(times) => format!("≤ {times} × base"),
            Goal::Within => "≤ base".to_owned(),
            Goal::Absolute(most) => format!("≤ {most}"),
        };
        let ratio = self.case_samples.median() / self.base_samples.median();
        let ratio = if ratio.is_finite() { format!("{ratio:.2}") } else { "".to_owned() };
        let base_figures = match base.is_empty() {
            true => String::new(),
            false => format!("{base}: {}", figures(&self.base_samples)),
        };
        let case_figures = figures(&self.case_samples);
        let met = if self.is_met() { "yes" } else { "**no**" };
        format!("| {case} | {unit} | {case_figures} | {base_figures} | {ratio} | {goal} | {met} |")
    }
}

/// The head of the table.
pub(crate) const HEAD: &str =
    "| case | unit | callpark: median (min to max) | base line | ratio | goal | met |
| --- | --- | --- | --- | --- | --- | --- |";

fn figures(samples: &Samples) -> String {
    let Samples(values) = samples;
    match values.len() {
        0 => "".to_owned(),
        1 => figure(samples.median()),
        _ => {
            let (median, min, max) = (samples.median(), samples.min(), samples.max());
            format!("{} ({} to {})", figure(median), figure(min), figure(max))
        }
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
