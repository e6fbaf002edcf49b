//! Requests with telemetry off, with one of a hundred requests sampled, and with all requests sampled.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;

use crate::lab::Lab;
use crate::load::{CONNECTIONS, Requests, Run, side_by_side};
use crate::report::Report;
use crate::server::{Launch, Server};

/// The fraction of requests that a node samples by default.
const NODE_DEFAULT: &str = "0.01";
const ALL: &str = "1";

const NODE_NOTE: &str =
    "1 % sampled: the default of a node, without its limit of 50 sampled requests per second and app";

/// Measures the guest `http-hello`, also with a collector that does not respond.
pub(crate) fn hello(lab: &Lab) -> Result<Report> {
    let hello = isomer_test_guests::path("http-hello");
    // The collector accepts connections, because the system completes them, but never reads a request.
    let silent = TcpListener::bind(("127.0.0.1", 0))?;
    let collector = silent.local_addr()?;
    let names = [
        ("off", "off", None),
        ("1 % sampled", NODE_DEFAULT, None),
        ("1 % sampled, silent collector", NODE_DEFAULT, Some(collector)),
        ("all sampled", ALL, None),
        ("all sampled, silent collector", ALL, Some(collector)),
    ];
    let start = |(name, mode, collector)| start(lab, name, &hello, mode, collector);
    let servers: Vec<Server> = names.into_iter().map(start).collect::<Result<_>>()?;
    let run = |server| run(server, Requests::Path("/"));
    let mut report =
        Report { subjects: side_by_side(lab, &servers.iter().map(run).collect::<Vec<_>>())?, ..Report::default() };
    compare(&mut report, "1 % sampled", "off", "≥ 0.97");
    compare(&mut report, "all sampled", "off", "≥ 0.8");
    compare(&mut report, "1 % sampled, silent collector", "1 % sampled", "≥ 0.99");
    compare(&mut report, "all sampled, silent collector", "all sampled", "≥ 0.99");
    report.notes.push(NODE_NOTE.to_owned());
    Ok(report)
}

/// Measures the cost of sampling in the example app, with two loads: requests for the home page, and the requests of
/// visitors who shop.
pub(crate) fn boutique(lab: &Lab) -> Result<Report> {
    lab.build_app(&lab.boutique)?;
    let start = |name, mode| start(lab, name, &lab.boutique, mode, None);
    let (off, some, all) =
        (start("boutique, off", "off")?, start("boutique, 1 %", NODE_DEFAULT)?, start("boutique, all", ALL)?);
    let named = |name, server, requests| Run { name, ..run(server, requests) };
    let home = Requests::Path("/");
    let runs = [
        named("GET /, off", &off, home),
        named("GET /, 1 % sampled", &some, home),
        named("GET /, all sampled", &all, home),
        named("shopping, off", &off, Requests::Shop),
        named("shopping, 1 % sampled", &some, Requests::Shop),
        named("shopping, all sampled", &all, Requests::Shop),
    ];
    let mut report = Report { subjects: side_by_side(lab, &runs)?, ..Report::default() };
    for (sampled, off) in [("GET /, 1 % sampled", "GET /, off"), ("shopping, 1 % sampled", "shopping, off")] {
        compare(&mut report, sampled, off, "≥ 0.97");
    }
    for (sampled, off) in [("GET /, all sampled", "GET /, off"), ("shopping, all sampled", "shopping, off")] {
        compare(&mut report, sampled, off, "≥ 0.8");
    }
    report.notes.push(NODE_NOTE.to_owned());
    report.notes.push("shopping waits for the disk, so its processor time tells more than its requests".to_owned());
    Ok(report)
}

fn start(lab: &Lab, name: &'static str, what: &Path, mode: &str, collector: Option<SocketAddr>) -> Result<Server> {
    let mut launch = with_mode(lab.isomer(name, what), mode);
    if let Some(collector) = collector {
        launch.command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    }
    lab.start(launch)
}

/// Adds the flag that determines which requests are sampled.
pub(crate) fn with_mode(mut launch: Launch, mode: &str) -> Launch {
    launch.command.args(["--telemetry", mode]);
    launch
}

fn run(server: &Server, requests: Requests) -> Run<'_> {
    Run { name: server.name, server, requests, connections: CONNECTIONS }
}

fn compare(report: &mut Report, one: &str, other: &str, target: &'static str) {
    report.compare(one, other, "requests", target);
    report.compare(one, other, "CPU per request", "");
}
