//! The result of a benchmark: medians and comparisons, as a table for people and as JSON for programs.

use serde_json::{Value, json};

/// The samples of one measured quantity.
pub(crate) struct Series {
    pub what: String,
    pub unit: &'static str,
    pub samples: Vec<f64>,
}

/// A measured subject, for example a server, a method of making a call, or a kind of deployment.
pub(crate) struct Subject {
    pub name: String,
    /// The command that was run.
    pub command: String,
    pub series: Vec<Series>,
}

/// A comparison of one quantity of two subjects.
pub(crate) struct Comparison {
    pub what: String,
    /// The median of the ratios of the rounds. Each ratio is of two samples of the same round, so that a slow phase of
    /// the machine affects both.
    pub ratio: f64,
    /// The target of the ratio, in words; may be empty. A missed target is not a failure.
    pub target: &'static str,
}

/// The result of one benchmark.
#[derive(Default)]
pub(crate) struct Report {
    pub subjects: Vec<Subject>,
    pub comparisons: Vec<Comparison>,
    /// Remarks, and the targets that are not a ratio between two subjects.
    pub notes: Vec<String>,
}

impl Series {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str) -> Self {
        Self { what: what.into(), unit, samples: Vec::new() }
    }

    pub(crate) fn percentile(&self, p: f64) -> f64 {
        percentile(&self.samples, p)
    }

    fn to_json(&self) -> Value {
        let at = |p| self.percentile(p);
        let Self { what, unit, samples } = self;
        json!({
            "what": what, "unit": unit, "median": at(50.0), "p99": at(99.0), "min": at(0.0), "max": at(100.0), "samples": samples,
        })
    }

    /// Returns `median (min–max)`.
    fn cell(&self) -> String {
        let [min, max] = [0.0, 100.0].map(|p| show(self.percentile(p)));
        format!("{} ({min}–{max})", show(self.percentile(50.0)))
    }
}

impl Subject {
    /// Returns the series of the quantity `what`.
    ///
    /// # Panics
    /// If the subject has no such series, which is a mistake in the benchmark.
    fn series(&self, what: &str) -> &Series {
        self.series.iter().find(|series| series.what == what).expect("benchmarks name series that they measure")
    }
}

impl Report {
    /// Adds a comparison of the quantity `what` of two subjects. Each round must have measured both subjects.
    ///
    /// # Panics
    /// If one of the subjects does not exist or has no such quantity, which is a mistake in the benchmark.
    pub(crate) fn compare(&mut self, one: &str, other: &str, what: &str, target: &'static str) {
        let samples = |name: &str| {
            let subject = self.subjects.iter().find(|subject| subject.name == name);
            &subject.expect("benchmarks name subjects that they measure").series(what).samples
        };
        let ratios: Vec<f64> = samples(one).iter().zip(samples(other)).map(|(one, other)| one / other).collect();
        let what = format!("{one} ÷ {other}: {what}");
        self.comparisons.push(Comparison { what, ratio: percentile(&ratios, 50.0), target });
    }

    /// Renders the subjects, comparisons and notes as a table for a terminal.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        if let Some(first) = self.subjects.first() {
            let heads = first.series.iter().map(|series| format!("{} [{}]", series.what, series.unit));
            rows.push(std::iter::once(String::new()).chain(heads).collect());
        }
        for subject in &self.subjects {
            let cells = subject.series.iter().map(Series::cell);
            rows.push(std::iter::once(subject.name.clone()).chain(cells).collect());
        }
        let mut text = align(&rows);
        for Comparison { what, ratio, target } in &self.comparisons {
            let target = if target.is_empty() { String::new() } else { format!("  (target {target})") };
            text.push_str(&format!("{ratio:>8.3}  {what}{target}\n"));
        }
        for note in &self.notes {
            text.push_str(&format!("          {note}\n"));
        }
        text
    }

    pub(crate) fn to_json(&self, name: &str) -> Value {
        let subjects = self.subjects.iter().map(|subject| {
            let series: Vec<Value> = subject.series.iter().map(Series::to_json).collect();
            json!({ "name": subject.name, "command": subject.command, "series": series })
        });
        let comparisons = self
            .comparisons
            .iter()
            .map(|Comparison { what, ratio, target }| json!({ "what": what, "ratio": ratio, "target": target }));
        let (subjects, comparisons): (Vec<Value>, Vec<Value>) = (subjects.collect(), comparisons.collect());
        json!({ "name": name, "subjects": subjects, "comparisons": comparisons, "notes": self.notes })
    }
}

/// Returns the `p`th percentile of the samples, interpolated between the two closest samples. Returns 0 for no samples.
fn percentile(samples: &[f64], p: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = p / 100.0 * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Renders a number with three significant digits. A number of 1000 or more keeps all digits before the decimal point.
pub(crate) fn show(value: f64) -> String {
    match value.abs() {
        0.0 => "0.00".to_owned(),
        0.0..0.01 => format!("{value:.5}"),
        0.01..0.1 => format!("{value:.4}"),
        0.1..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Aligns the cells of each column: to the left in the first column, to the right in the others.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            text.push_str(&if column == 0 { format!("{cell}{padding}") } else { format!("   {padding}{cell}") });
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str, samples: &[f64]) -> Subject {
        let series = Series { what: "time".to_owned(), unit: "ms", samples: samples.to_vec() };
        Subject { name: name.to_owned(), command: String::new(), series: vec![series] }
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!(
            [0.0, 0.0049, 0.0513, 0.25, 9.876, 98.76, 987.6].map(show),
            ["0.00", "0.00490", "0.0513", "0.250", "9.88", "98.8", "988"]
        );
    }

    #[test]
    fn percentiles_lie_between_samples() {
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50.0), 2.0);
        assert_eq!(percentile(&[1.0, 2.0], 50.0), 1.5);
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 100.0), 4.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // In the second round the machine was ten times slower. The ratio is still 2.
        let mut report =
            Report { subjects: vec![subject("a", &[2.0, 20.0]), subject("b", &[1.0, 10.0])], ..Report::default() };
        report.compare("a", "b", "time", "≤ 2");
        assert_eq!(report.comparisons[0].ratio, 2.0);
        let table = report.table();
        assert!(table.contains("a   11.0 (2.00–20.0)"), "{table}");
        assert!(table.contains("2.000  a ÷ b: time  (target ≤ 2)"), "{table}");
        assert_eq!(report.to_json("x")["subjects"][1]["series"][0]["median"], 5.5);
    }
}
