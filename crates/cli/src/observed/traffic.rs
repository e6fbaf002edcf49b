//! The traffic of an app in a period, from the metrics at its start and its end: routes, seams and stores, each with
//! its rate, its durations and its failures.

use std::collections::BTreeMap;

use isomer_api::metrics::{MetricsReport, SeriesReport, quantile, total};
use isomer_display::escaped;

use super::durations::{duration, rate};
use super::screen::{Cell, DIM, GREEN, MAGENTA, PLAIN, RED, YELLOW, table};

/// The number of nanoseconds of a second.
const SECOND_NS: f64 = 1e9;

/// The requests, calls or operations of one route, seam or store in a period.
#[derive(Debug, Default)]
pub(crate) struct TrafficRow {
    /// The bounds of the buckets of durations, in seconds.
    bounds: Vec<f64>,
    /// The number of durations in each bucket.
    counts: Vec<u64>,
    failed: u64,
}

/// The name of a row: its main text, and a text for the next column, such as the component of a route.
type RowName = (String, String);

/// The traffic of an app in a period.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// The length of the period in seconds; `None` if it is not known.
    seconds: Option<f64>,
    /// The rows about requests. The first text of a row's name is the method and the route, and the second text is the
    /// component.
    routes: BTreeMap<RowName, TrafficRow>,
    /// The rows about calls over seams. The first text of a row's name is the caller and the callee, and the second
    /// text is the mode.
    seams: BTreeMap<RowName, TrafficRow>,
    /// The rows about operations on stores. The first text of a row's name is the store and the operation, and the
    /// second text is the store's system (the label `system` of the metric).
    stores: BTreeMap<RowName, TrafficRow>,
}

impl Traffic {
    /// Returns the traffic between two reports; without `before`, the traffic since the process started.
    pub(crate) fn between(before: Option<&MetricsReport>, after: &MetricsReport) -> Self {
        let mut traffic = Self { seconds: period(before, after), ..Self::default() };
        traffic.routes = rows(before, after, "http.server.request.duration", |series| {
            let method = series.label("method");
            let name = match series.label("route") {
                "" => format!("{method} (refused)"),
                route => format!("{method} {route}"),
            };
            let is_failed = matches!(series.label("status"), "5xx" | "failed" | "cut_off");
            ((name, series.label("component").to_owned()), is_failed)
        });
        traffic.seams = rows(before, after, "rpc.client.call.duration", |series| {
            let name = format!("{} → {}", series.label("caller"), series.label("callee"));
            ((name, series.label("mode").to_owned()), series.label("outcome") != "ok")
        });
        traffic.stores = rows(before, after, "db.client.operation.duration", |series| {
            let name = format!("{} {}", series.label("store"), series.label("operation"));
            ((name, series.label("system").to_owned()), series.label("outcome") != "ok")
        });
        traffic
    }

    /// Returns whether there was no traffic.
    pub(crate) fn is_empty(&self) -> bool {
        [&self.routes, &self.seams, &self.stores].iter().all(|rows| rows.is_empty())
    }

    /// Returns the total of all routes.
    pub(crate) fn requests(&self) -> TrafficRow {
        let mut total = TrafficRow::default();
        for row in self.routes.values() {
            total.add(&row.bounds, &row.counts, 0);
            total.failed += row.failed;
        }
        total
    }

    /// Formats the traffic as tables in lines of at most `width` columns, the busiest rows first, and at most `rows_max`
    /// rows in each table.
    pub(crate) fn tables(&self, width: usize, rows_max: usize) -> String {
        let tables = [
            (["ROUTE", "COMPONENT", "REQUESTS"], &self.routes),
            (["SEAM", "MODE", "CALLS"], &self.seams),
            (["STORE", "SYSTEM", "OPERATIONS"], &self.stores),
        ];
        let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
        let tables = tables.map(|(titles, rows)| self.table(titles, rows, width, rows_max));
        tables.collect::<Vec<_>>().join("\n")
    }

    fn table(&self, titles: [&str; 3], rows: &BTreeMap<RowName, TrafficRow>, width: usize, rows_max: usize) -> String {
        let [name, kind, count] = titles;
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort_by_key(|(_, row)| std::cmp::Reverse(row.count()));
        let cells: Vec<_> =
            sorted.iter().take(rows_max).map(|((name, kind), row)| self.cells(name, kind, row)).collect();
        let text = table([name, kind, count, "RATE/S", "P50", "P99", "FAILED"], &cells, 0, width);
        let hidden = sorted.len().saturating_sub(rows_max);
        if hidden == 0 { text } else { format!("{text}and {hidden} more\n") }
    }

    fn cells(&self, name: &str, kind: &str, row: &TrafficRow) -> [Cell; 7] {
        let count = row.count();
        let kind_style = match kind {
            "fused" => GREEN,
            "isolated" => YELLOW,
            "remote" => MAGENTA,
            _ => PLAIN,
        };
        let failed = match row.failed {
            0 => Cell::right("0").styled(DIM),
            failed => Cell::right(format!("{failed} ({})", percent(failed, count))).styled(RED),
        };
        [
            Cell::left(escaped(name)),
            Cell::left(escaped(kind)).styled(kind_style),
            Cell::right(count.to_string()),
            Cell::right(self.rate_of(row)),
            Cell::right(row.shown_quantile(0.5)),
            Cell::right(row.shown_quantile(0.99)),
            failed,
        ]
    }

    /// Formats the rate of a row per second.
    pub(crate) fn rate_of(&self, row: &TrafficRow) -> String {
        #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
        let per_second = self.seconds.filter(|seconds| *seconds > 0.0).map(|seconds| row.count() as f64 / seconds);
        per_second.map_or_else(|| "–".to_owned(), rate)
    }
}

impl TrafficRow {
    /// Returns the number of requests, calls or operations.
    pub(crate) fn count(&self) -> u64 {
        total(&self.counts)
    }

    /// Formats the number of failed requests, calls or operations.
    pub(crate) fn shown_failed(&self) -> String {
        if self.failed == 0 {
            "0".to_owned()
        } else {
            format!("{} ({})", self.failed, percent(self.failed, self.count()))
        }
    }

    /// Formats an estimate of the quantile `q` of the durations.
    pub(crate) fn shown_quantile(&self, q: f64) -> String {
        let seconds = quantile(&self.bounds, &self.counts, q);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "durations are not negative")]
        let shown = seconds.map(|seconds| duration((seconds * SECOND_NS) as u64));
        shown.unwrap_or_else(|| "–".to_owned())
    }

    fn add(&mut self, bounds: &[f64], counts: &[u64], failed: u64) {
        if self.counts.len() < counts.len() {
            self.counts.resize(counts.len(), 0);
            self.bounds = bounds.to_vec();
        }
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum = sum.saturating_add(*count);
        }
        self.failed = self.failed.saturating_add(failed);
    }
}

/// Returns the length of the period in seconds.
fn period(before: Option<&MetricsReport>, after: &MetricsReport) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "times in milliseconds have fewer than 53 bits")]
    let seconds = |milliseconds: u64| milliseconds as f64 / 1e3;
    match before {
        Some(before) => Some(seconds(after.at_ms.saturating_sub(before.at_ms))),
        None => Some(seconds(after.at_ms.saturating_sub(after.started_ms?))),
    }
}

/// Returns the rows of the metric `name`. `row_of` returns the name of the row to which a series is added, and whether
/// the series counts failures.
fn rows(
    before: Option<&MetricsReport>,
    after: &MetricsReport,
    name: &str,
    row_of: impl Fn(&SeriesReport) -> (RowName, bool),
) -> BTreeMap<RowName, TrafficRow> {
    let earlier: BTreeMap<_, _> = before
        .into_iter()
        .flat_map(|report| report.series(name))
        .map(|series| (&series.labels, &series.counts))
        .collect();
    let mut rows: BTreeMap<RowName, TrafficRow> = BTreeMap::new();
    let Some(metric) = after.metric(name) else { return rows };
    for series in &metric.series {
        let counts = match earlier.get(&series.labels) {
            Some(earlier) => difference(earlier, &series.counts),
            None => series.counts.clone(),
        };
        let count = total(&counts);
        if count == 0 {
            continue;
        }
        let (row, is_failed) = row_of(series);
        rows.entry(row).or_default().add(&metric.bounds, &counts, if is_failed { count } else { 0 });
    }
    rows
}

/// Returns by how much each count has increased. A decreased count shows that the process was restarted, so `after` is
/// returned unchanged.
fn difference(before: &[u64], after: &[u64]) -> Vec<u64> {
    let is_restarted = after.iter().zip(before).any(|(after, before)| after < before);
    if is_restarted {
        return after.to_vec();
    }
    after.iter().enumerate().map(|(index, after)| after - before.get(index).copied().unwrap_or(0)).collect()
}

fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match percent {
        percent if percent < 0.1 => "<0.1 %".to_owned(),
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use isomer_api::{MetricKind, MetricReport};

    use super::*;

    fn series(labels: &[(&str, &str)], counts: [u64; 3]) -> SeriesReport {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SeriesReport { labels, counts: counts.to_vec(), ..SeriesReport::default() }
    }

    fn report(at_ms: u64, routes: Vec<SeriesReport>, seams: Vec<SeriesReport>) -> MetricsReport {
        let metric = |name: &str, series| MetricReport {
            name: name.to_owned(),
            kind: MetricKind::Histogram,
            unit: "seconds".to_owned(),
            help: String::new(),
            bounds: vec![0.001, 0.01],
            series,
        };
        let metrics = vec![metric("http.server.request.duration", routes), metric("rpc.client.call.duration", seams)];
        MetricsReport { at_ms, started_ms: None, metrics }
    }

    #[test]
    fn traffic_is_the_difference_of_two_reports() {
        let route = |status: &str, counts| {
            series(&[("method", "GET"), ("route", "/cart"), ("component", "pages"), ("status", status)], counts)
        };
        let seam = |mode: &str, outcome: &str, counts| {
            series(&[("caller", "pages"), ("callee", "cart"), ("mode", mode), ("outcome", outcome)], counts)
        };
        let before = report(1_000, vec![route("2xx", [10, 0, 0])], vec![]);
        let after = report(
            3_000,
            vec![route("2xx", [10, 200, 0]), route("5xx", [1, 0, 0])],
            vec![
                seam("isolated", "ok", [40, 0, 0]),
                seam("isolated", "trap", [0, 0, 10]),
                seam("fused", "ok", [0, 0, 0]),
            ],
        );
        let traffic = Traffic::between(Some(&before), &after);
        let text = anstream::adapter::strip_str(&traffic.tables(80, 10)).to_string();
        insta::assert_snapshot!(text);
        assert_eq!((traffic.requests().count(), traffic.requests().failed), (201, 1));
        // After a restart, the counts begin at zero.
        let restarted = report(5_000, vec![route("2xx", [1, 0, 0])], vec![]);
        assert_eq!(Traffic::between(Some(&after), &restarted).requests().count(), 1);
        assert!(Traffic::between(Some(&after), &after).is_empty());
    }

    #[test]
    fn small_parts_are_not_shown_as_nothing() {
        assert_eq!(
            [(1, 10_000), (1, 100), (1, 2)].map(|(part, whole)| percent(part, whole)),
            ["<0.1 %", "1.0 %", "50 %"]
        );
    }
}
