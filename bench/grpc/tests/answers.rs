//! Checks that gRPC returns the same results as components over every measured transport, because the speed of wrong
//! results has no meaning.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use isomer_bench_workload::{Mode, What, Work, expected};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A generous timeout, which only a hanging program reaches.
const HANG: Duration = Duration::from_secs(60);

#[test]
fn results_are_correct_over_tcp() {
    check_results(&["--tcp"], &[]);
}

#[test]
fn results_are_correct_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    check_results(&["--unix", dir.path().join("callee.sock").to_str().unwrap()], &[]);
}

#[test]
fn results_are_correct_with_mutual_tls() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    check_results(&["--tcp"], &["--tls", dir.path().to_str().unwrap()]);
}

fn check_results(place: &[&str], tls: &[&str]) {
    let callee = Program::start(&[&["callee"], place, tls].concat());
    let caller = Program::start(&[&["caller", &callee.output], tls].concat());
    for what in [What::Add, What::Echo, What::Lookup, What::All] {
        for concurrency in [1, 5] {
            let work = Work { what, mode: Mode::Async, calls: 12, size: 40, concurrency };
            let response = get(&caller.output, &work.to_string());
            assert!(response.contains(&format!("\"checksum\":\"{:016x}\"", expected(work))), "{work}: {response}");
        }
    }
    assert!(get(&caller.output, "what=nothing").starts_with("HTTP/1.1 400"));
}

/// A running program. Killed when dropped.
struct Program {
    child: Child,
    output: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isomer-bench-grpc"));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut output).unwrap();
        assert!(output.contains("://"), "{arguments:?} printed no address");
        Self { child, output: output.trim_end().to_owned() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn get(url: &str, query: &str) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    write!(stream, "GET /run?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn certificates(dir: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let node = names.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    std::fs::write(dir.join("node.pem"), node.pem()).unwrap();
    std::fs::write(dir.join("node.key"), key.serialize_pem()).unwrap();
}
