//! Snapshots as text: in Prometheus' format 0.0.4 and as OpenMetrics 1.0, which also has exemplars and units.

use std::fmt::Write as _;

use super::descriptor::{MetricDescriptor, MetricLabel};
use super::exemplar::Exemplar;
use super::histogram::HistogramValue;
use super::snapshot::{MetricFamily, MetricSeries, MetricValue, Snapshot};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// Returns the format that a client prefers. `accept` is the content of its `Accept` field. OpenMetrics is used
    /// only if the field names this format; Prometheus names it in its requests.
    pub fn of_accept(accept: Option<&str>) -> Self {
        let mut types = accept.unwrap_or_default().split(',');
        let is_open = types.any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let is_type = parts.next() == Some("application/openmetrics-text");
            is_type && !parts.any(|part| matches!(part.strip_prefix("q="), Some("0" | "0.0" | "0.00" | "0.000")))
        });
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the content of the response's `Content-Type` field.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns a snapshot as a text.
    pub fn write(self, snapshot: &Snapshot) -> String {
        let mut text = String::new();
        for family in snapshot.families() {
            self.write_family(&mut text, family);
        }
        if self == Self::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    fn write_family(self, text: &mut String, family: &MetricFamily) {
        let metric = family.descriptor;
        let samples = metric.prometheus_name();
        let name = match self {
            Self::Prometheus => samples.clone(),
            Self::OpenMetrics => metric.family_name(),
        };
        push(text, format_args!("# HELP {name} {}\n# TYPE {name} {}\n", metric.help, metric.kind.name()));
        if let (Self::OpenMetrics, Some(unit)) = (self, metric.unit.suffix()) {
            push(text, format_args!("# UNIT {name} {unit}\n"));
        }
        for series in &family.series {
            let labels = label_pairs(metric, series);
            match &series.value {
                MetricValue::Number(number) => {
                    push(text, format_args!("{samples}{} {number}\n", in_braces(&labels)));
                }
                MetricValue::Histogram(histogram) => self.write_histogram(text, &samples, &labels, histogram),
            }
        }
    }

    fn write_histogram(self, text: &mut String, name: &str, labels: &str, histogram: &HistogramValue) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut exemplars = histogram.exemplars.iter().peekable();
        let mut total: u64 = 0;
        for (index, count) in histogram.counts.iter().enumerate() {
            total = total.saturating_add(*count);
            push(text, format_args!("{name}_bucket{{{labels}{separator}le=\""));
            match index == histogram.buckets.bounds() {
                true => text.push_str("+Inf"),
                false => push(text, format_args!("{}", Decimal(histogram.buckets.bound_s(index)))),
            }
            push(text, format_args!("\"}} {total}"));
            if let Some((_, exemplar)) = exemplars.next_if(|(bucket, _)| *bucket == index)
                && self == Self::OpenMetrics
            {
                write_exemplar(text, exemplar);
            }
            text.push('\n');
        }
        let labels = in_braces(labels);
        push(text, format_args!("{name}_sum{labels} {}\n{name}_count{labels} {total}\n", histogram.sum_s));
    }
}

/// A number that always has a decimal point, as OpenMetrics requires for the bounds of buckets.
struct Decimal(f64);

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // All bounds are multiples of a microsecond, so six decimal places are exact.
        let digits = format!("{:.6}", self.0);
        let short = digits.trim_end_matches('0');
        f.write_str(short)?;
        if short.ends_with('.') { f.write_str("0") } else { Ok(()) }
    }
}

fn write_exemplar(text: &mut String, exemplar: &Exemplar) {
    let Exemplar { trace_id, value_s, at_ns } = exemplar;
    let (seconds, ms) = (at_ns / 1_000_000_000, at_ns / 1_000_000 % 1000);
    push(text, format_args!(" # {{trace_id=\"{trace_id}\"}} {value_s} {seconds}.{ms:03}"));
}

/// Returns the labels that have a value, separated by commas.
fn label_pairs(metric: &MetricDescriptor, series: &MetricSeries) -> String {
    let mut text = String::new();
    for (MetricLabel { name, .. }, value) in series.labels_of(metric) {
        let separator = if text.is_empty() { "" } else { "," };
        push(&mut text, format_args!("{separator}{name}=\""));
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

fn in_braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("writing to a `String` never fails");
}
