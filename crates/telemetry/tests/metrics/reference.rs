//! Generates the reference page of all metrics, `docs/reference/metrics.md`, and tests that the file is up to date.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use isomer_telemetry::metrics::catalog::{CATALOG, PROCESS_LABEL};
use isomer_telemetry::metrics::{Buckets, MetricKind, SERIES_MAX, SERIES_PER_APP_MAX, SERIES_PER_PROCESS_MAX};

const INFALLIBLE: &str = "writing to a `String` never fails";

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let page = page();
    if std::env::var_os("ISOMER_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the folder `docs/reference` exists");
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "`docs/reference/metrics.md` differs from the catalogue; write it with `ISOMER_BLESS=1 cargo test -p isomer-telemetry`"
    );
}

fn page() -> String {
    let mut page = format!(
        "# Metrics\n\nGenerated from the catalogue of metrics, `crates/telemetry/src/metrics/catalog.rs`.\n\n\
         A series is a metric with one combination of values of its labels. A series exists as soon as it has a value: \
         a route to which no `POST` was sent has no series for `POST`. All totals start at 0 when the process starts.\n\n\
         The values of labels come from the app's plan, from names of tenants and apps, and from fixed lists. An app has \
         at most {SERIES_PER_APP_MAX} series, and a process at most {SERIES_MAX}. Near this number, the series of the apps \
         that were not loaded for the longest time are removed. Series that are refused are counted in \
         `isomer_telemetry_dropped_total`.\n\n\
         If an app runs in several processes on one machine (`isomer run --shape`), the process that starts them shows the \
         metrics of all of them. Each series of another process has the label `process`. The processes send changed values \
         once a second. Totals continue when a process is started again: they lack at most the last second of a process that \
         was killed. While the app changes its shape, two processes can have the same value of this label; their values are \
         added. Where a sum has no meaning, as for limits, the value is that of the process that was started last. At most \
         {SERIES_PER_PROCESS_MAX} series have the same value of the label. A further series takes the place of a total to \
         which no running process adds, or is refused; both are counted in `isomer_telemetry_dropped_total`.\n\n"
    );
    for metric in CATALOG {
        let (kind, unit) = (metric.kind.name(), metric.unit.word());
        writeln!(page, "## `{}`\n\n{}\n", metric.name, metric.help).expect(INFALLIBLE);
        writeln!(page, "In Prometheus: `{}`, a {kind}, in {unit}.", metric.prometheus_name()).expect(INFALLIBLE);
        if !metric.labels.is_empty() {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{}`", label.name)).collect();
            writeln!(page, "Labels: {}.", labels.join(", ")).expect(INFALLIBLE);
        }
        page.push('\n');
    }
    page.push_str("## Labels\n\nOpenTelemetry uses the attribute instead of the label.\n\n");
    page.push_str("| label | attribute | meaning |\n| --- | --- | --- |\n");
    let all = CATALOG.iter().flat_map(|metric| metric.labels).chain([&PROCESS_LABEL]);
    let labels = all.map(|label| (label.name, label));
    for (name, label) in BTreeMap::from_iter(labels) {
        writeln!(page, "| `{name}` | `{}` | {} |", label.attribute, label.help).expect(INFALLIBLE);
    }
    page.push_str("\n## Buckets\n\nEach bound of a histogram's buckets is twice the one before.\n\n");
    for (name, buckets) in [("requests", Buckets::REQUEST), ("calls, operations and instances", Buckets::CALL)] {
        let (first, last) = (buckets.bound_s(0), buckets.bound_s(buckets.bounds() - 1));
        let metrics = CATALOG.iter().filter(|metric| metric.kind == MetricKind::Histogram(buckets));
        let metrics: Vec<_> = metrics.map(|metric| format!("`{}`", metric.name)).collect();
        writeln!(page, "- For {name} ({}): {first} s to {last} s.", metrics.join(", ")).expect(INFALLIBLE);
    }
    page
}
