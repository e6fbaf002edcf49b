//! Checks that the reference page `docs/reference/spans.md` lists all spans and attributes.

use std::fmt::Write as _;
use std::path::Path;

use isomer_telemetry::semantics::{ATTRIBUTES, SPANS};
use isomer_telemetry::{SPAN_ATTRIBUTES_MAX, SPAN_TEXT_BYTES_MAX, SPANS_PER_REQUEST_MAX};

const INFALLIBLE: &str = "writing to a `String` never fails";

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/spans.md");
    let page = page();
    if std::env::var_os("ISOMER_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the folder `docs/reference` exists");
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "`docs/reference/spans.md` differs from the lists; write it with `ISOMER_BLESS=1 cargo test -p isomer-telemetry`"
    );
}

fn page() -> String {
    let mut page = format!(
        "# Spans\n\nGenerated from the lists in `crates/telemetry/src/semantics.rs`. [Tracing](../concepts/tracing.md) \
         explains which requests are recorded.\n\n\
         A request has at most {SPANS_PER_REQUEST_MAX} spans in each process, a span has at most {SPAN_ATTRIBUTES_MAX} \
         attributes, and a text has at most {SPAN_TEXT_BYTES_MAX} bytes.\n\n\
         ## Names\n\nA name in ‹› stands for a value.\n\n| name | meaning |\n| --- | --- |\n"
    );
    for (name, meaning) in SPANS {
        writeln!(page, "| `{name}` | {} |", meaning.trim()).expect(INFALLIBLE);
    }
    page.push_str("\n## Attributes\n\n| key | meaning |\n| --- | --- |\n");
    for (key, meaning) in ATTRIBUTES {
        writeln!(page, "| `{key}` | {} |", meaning.trim()).expect(INFALLIBLE);
    }
    page
}
