//! The example app under load in several shapes: its home page over many connections, its home page over one
//! connection, and visitors who shop.

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::load::{CONNECTIONS, Requests, Run, side_by_side};
use crate::report::Report;
use crate::server::Server;

/// The shapes of the app, with the names of their lines in the results.
const SHAPES: [ShapeLines; 4] = [
    ShapeLines {
        shape: "monolith",
        home: "monolith, GET /",
        single: "monolith, GET / over one connection",
        shopping: "monolith, shopping",
    },
    ShapeLines {
        shape: "isolated",
        home: "isolated, GET /",
        single: "isolated, GET / over one connection",
        shopping: "isolated, shopping",
    },
    ShapeLines {
        shape: "split",
        home: "split, GET /",
        single: "split, GET / over one connection",
        shopping: "split, shopping",
    },
    ShapeLines {
        shape: "micro",
        home: "micro, GET /",
        single: "micro, GET / over one connection",
        shopping: "micro, shopping",
    },
];

struct ShapeLines {
    shape: &'static str,
    home: &'static str,
    single: &'static str,
    shopping: &'static str,
}

/// Published measurements of another port of the same demo app, for comparison. The first line names the paper.
const PAPER: [&str; 5] = [
    "for comparison, \"Towards Modern Development of Cloud Applications\" (HotOS'23), another port of the same demo, in Go:",
    "    gRPC and Kubernetes         78 cores   5.47 ms",
    "    nothing co-located          28 cores   2.66 ms",
    "    all co-located               9 cores   0.38 ms",
    "    measured with 10,000 requests per second over a cluster's network; here, one machine is used: compare ratios of rows, not rows",
];

pub(crate) fn run(lab: &Lab) -> Result<Report> {
    lab.build_app(&lab.boutique)?;
    let mut servers: Vec<Server> = Vec::new();
    for ShapeLines { shape, .. } in &SHAPES {
        let launch = lab.isomer_in_shape(shape, &lab.boutique, shape);
        servers.push(lab.start(launch).with_context(|| format!("shape `{shape}` does not start"))?);
    }
    let both = || SHAPES.iter().zip(&servers);
    let run = |name, server, requests, connections| Run { name, server, requests, connections };
    let runs: Vec<Run<'_>> = both()
        .map(|(lines, server)| run(lines.home, server, Requests::Path("/"), CONNECTIONS))
        .chain(both().map(|(lines, server)| run(lines.single, server, Requests::Path("/"), 1)))
        .chain(both().map(|(lines, server)| run(lines.shopping, server, Requests::Shop, CONNECTIONS)))
        .collect();
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    let [monolith, others @ ..] = &SHAPES;
    for other in others {
        report.compare(monolith.single, other.single, "p50", "");
        report.compare(monolith.home, other.home, "p50", "");
        report.compare(monolith.home, other.home, "CPU per request", "");
        report.compare(monolith.shopping, other.shopping, "requests", "");
        report.compare(monolith.shopping, other.shopping, "CPU per request", "");
    }
    report.notes.push("over one connection: one request at a time; all others: 32 connections".to_owned());
    report
        .notes
        .push("shopping: of 19 requests, 3 write a cart or an order, and each write is synced to disk".to_owned());
    report
        .notes
        .push("CPU and resident memory are those of all processes; shared memory is counted in each".to_owned());
    let target = "target: monolith's median latency ≤ 0.1 of that of microservices with gRPC, its CPU ≤ 0.2; micro is the \
                  nearest to them here, with Isomer's own links";
    report.notes.push(target.to_owned());
    report.notes.extend(PAPER.map(str::to_owned));
    Ok(report)
}
