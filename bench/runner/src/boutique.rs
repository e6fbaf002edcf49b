//! The example app under load, in several shapes side by side: its home page, one visitor at a time, and visitors who shop.

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::load::{Ask, CONNECTIONS, Run, side_by_side};
use crate::report::Report;
use crate::server::Server;

/// Shapes of the app, each with the names of its lines in the table.
const SHAPES: [Lines; 4] = [
    Lines {
        shape: "monolith",
        home: "monolith, GET /",
        alone: "monolith, GET / alone",
        shopping: "monolith, shopping",
    },
    Lines {
        shape: "isolated",
        home: "isolated, GET /",
        alone: "isolated, GET / alone",
        shopping: "isolated, shopping",
    },
    Lines { shape: "split", home: "split, GET /", alone: "split, GET / alone", shopping: "split, shopping" },
    Lines { shape: "micro", home: "micro, GET /", alone: "micro, GET / alone", shopping: "micro, shopping" },
];

struct Lines {
    shape: &'static str,
    home: &'static str,
    alone: &'static str,
    shopping: &'static str,
}

/// What the paper measured of the public demo's components, rewritten in Go.
const PAPER: [&str; 5] = [
    "beside it, \"Towards Modern Development of Cloud Applications\" (HotOS'23), another port of the same demo, in Go:",
    "    gRPC and Kubernetes         78 cores   5.47 ms",
    "    nothing co-located          28 cores   2.66 ms",
    "    all co-located               9 cores   0.38 ms",
    "    10,000 requests a second over a cluster's network there, one machine here: compare the ratios of the rows, not the rows",
];

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    lab.build_app(&lab.boutique)?;
    let mut servers: Vec<Server> = Vec::new();
    for Lines { shape, .. } in &SHAPES {
        let launch = lab.isomer_in_shape(shape, &lab.boutique, shape);
        servers.push(lab.start(launch).with_context(|| format!("shape `{shape}` does not start"))?);
    }
    let both = || SHAPES.iter().zip(&servers);
    let run = |name, server, ask, connections| Run { name, server, ask, connections };
    let runs: Vec<Run<'_>> = both()
        .map(|(lines, server)| run(lines.home, server, Ask::Path("/"), CONNECTIONS))
        .chain(both().map(|(lines, server)| run(lines.alone, server, Ask::Path("/"), 1)))
        .chain(both().map(|(lines, server)| run(lines.shopping, server, Ask::Shop, CONNECTIONS)))
        .collect();
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    let [monolith, others @ ..] = &SHAPES;
    for other in others {
        report.compare(monolith.alone, other.alone, "p50", "");
        report.compare(monolith.home, other.home, "p50", "");
        report.compare(monolith.home, other.home, "CPU a request", "");
        report.compare(monolith.shopping, other.shopping, "requests", "");
        report.compare(monolith.shopping, other.shopping, "CPU a request", "");
    }
    report.notes.push("alone: one connection, so one request at a time; the others have 32".to_owned());
    report
        .notes
        .push("shopping: of 19 requests 3 write a cart or an order, and each write is synced to disk".to_owned());
    report.notes.push("CPU and resident memory are those of all processes; what they share counts in each".to_owned());
    let target = "target: monolith's median latency ≤ 0.1 of that of microservices with gRPC, its CPU ≤ 0.2; micro is the \
                  nearest to them here, with Isomer's own links";
    report.notes.push(target.to_owned());
    report.notes.extend(PAPER.map(str::to_owned));
    Ok(report)
}
