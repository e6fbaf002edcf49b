//! Tests of the export of telemetry: commands send it to a collector in the test. The tests of `isomer-otlp` decode the
//! requests; here, the tests only search the requests for texts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::Workspace;

/// The path and the body of each request to a collector.
type ReceivedRequests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector that accepts everything.
struct Collector {
    address: String,
    requests: ReceivedRequests,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = received.clone();
                std::thread::spawn(move || serve(&stream, &received));
            }
        });
        Self { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the bodies of all requests to `path`. In protobuf, texts are encoded as they are.
    fn bodies(&self, path: &str) -> String {
        let requests = self.requests.lock().unwrap();
        let bodies =
            requests.iter().filter(|(target, _)| target == path).map(|(_, body)| String::from_utf8_lossy(body));
        bodies.collect::<Vec<_>>().join("\n")
    }
}

/// Records the requests of a connection.
fn serve(stream: &TcpStream, received: &Mutex<Vec<(String, Vec<u8>)>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        received.lock().unwrap().push((path, body));
        (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        line.clear();
    }
}

#[test]
fn run_sends_traces_logs_and_metrics_before_it_ends() {
    let collector = Collector::start();
    let workspace = Workspace::ping_pong("grants = { config = { WHO = \"pong\" } }\n");
    let server = workspace.serve_with(&["run"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())]);
    assert_eq!(server.get("/env?name=WHO").0, 200);
    assert_eq!(server.stop(), Some(0));

    let logs = collector.bodies("/v1/logs");
    assert!(logs.contains("pong sees WHO=pong") && logs.contains("isomer.request.id"), "{logs}");
    let traces = collector.bodies("/v1/traces");
    assert!(traces.contains("GET /") && traces.contains("isomer.request.id"), "{traces}");
    let metrics = collector.bodies("/v1/metrics");
    assert!(metrics.contains("http.server.active_requests") || metrics.contains("isomer.apps"), "{metrics}");
    for bodies in [logs, traces, metrics] {
        assert!(bodies.contains("service.name") && bodies.contains("table-tennis"), "{bodies}");
    }
}

#[test]
fn a_shape_with_several_processes_sends_the_metrics_of_all_of_them() {
    let collector = Collector::start();
    let workspace = Workspace::ping_pong(
        "grants = { config = { WHO = \"pong\" } }\n\n[shapes.split.groups]\nfront = [\"ping\"]\nback = [\"pong\"]\n",
    );
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url())];
    let server = workspace.serve_with(&["run", "--shape", "split"], &variables);
    assert_eq!(server.get("/greet?name=ann").0, 200);
    assert_eq!(server.get("/env?name=WHO").0, 200);
    assert_eq!(server.stop(), Some(0));
    let metrics = collector.bodies("/v1/metrics");
    for text in ["http.server.request.duration", "rpc.client.call.duration", "isomer.process", "back", "table-tennis"] {
        assert!(metrics.contains(text), "{text}: {metrics}");
    }
    let logs = collector.bodies("/v1/logs");
    assert!(logs.contains("pong sees WHO=pong") && logs.contains("isomer.request.id"), "{logs}");
}

#[test]
fn mistakes_in_variables_are_reported_before_anything_starts() {
    let workspace = Workspace::ping_pong("");
    let run = |variables: &[(&str, &str)]| {
        let output = workspace.command(&["run"]).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
    let refused = run(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(refused.contains("`OTEL_EXPORTER_OTLP_PROTOCOL`: `grpc` is not supported"), "{refused}");
    assert!(refused.contains("usually 4318"), "{refused}");
    let refused = run(&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")]);
    assert!(refused.contains("OTEL_EXPORTER_OTLP_HEADERS") && !refused.contains("s3cret"), "{refused}");
    let secure = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost");
    let refused = run(&[secure, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "none.pem")]);
    assert!(refused.contains("cannot read `none.pem`"), "{refused}");
}

#[test]
fn mistakes_in_a_node_file_are_reported_at_their_place() {
    let workspace = Workspace::new();
    let node = |text: &str| {
        workspace.write("node.toml", text);
        workspace.run(&["node", "--config", "node.toml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    };
    let refused = node("[telemetry.otlp]\nendpoint = \"localhost:4318\"\n");
    assert!(refused.contains("node.toml:2:12") && refused.contains("must begin with `http://`"), "{refused}");
    let file =
        "[telemetry.otlp]\nendpoint = \"http://c\"\n[telemetry.otlp.headers]\nauthorization = { file = \"none\" }\n";
    let refused = node(file);
    assert!(refused.contains("node.toml:4:1") && refused.contains("header field `authorization`"), "{refused}");
}
