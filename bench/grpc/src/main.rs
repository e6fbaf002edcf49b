//! Makes the calls of the seam benchmarks by gRPC between native programs, with tonic and prost in their usual
//! configuration.
//!
//! ```text
//! isomer-bench-grpc callee --tcp | --unix PATH               prints the address on which it serves the functions
//! isomer-bench-grpc caller ADDRESS                           prints the URL under which it serves `GET /run?…`
//! ```
//!
//! With `--tls DIR` at the end, caller and callee authenticate each other: both use the authority `ca.pem`, the
//! certificate `node.pem` and its key `node.key` in the folder `DIR`. The messages and the service are written by hand,
//! as the generators of prost and tonic would write them, so that building this crate needs no `protoc`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program that prints its address")]

mod callee;
mod caller;
mod messages;
mod service;

use std::error::Error;
use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, Identity};

use callee::Place;

/// The host name in the certificates of both programs.
const TLS_NAME: &str = "localhost";

const USAGE: &str =
    "usage: isomer-bench-grpc callee --tcp|--unix PATH [--tls DIR] | isomer-bench-grpc caller ADDRESS [--tls DIR]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tls = match words.iter().position(|word| *word == "--tls") {
        Some(at) => {
            let dir = *words.get(at + 1).ok_or(USAGE)?;
            words.drain(at..at + 2);
            Some(Tls::read(Path::new(dir))?)
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words.as_slice() {
        ["callee", "--tcp"] => runtime.block_on(callee::serve(Place::Tcp, tls)),
        ["callee", "--unix", path] => runtime.block_on(callee::serve(Place::Unix(PathBuf::from(path)), tls)),
        ["caller", address] => runtime.block_on(caller::serve((*address).to_owned(), tls)),
        _ => Err(USAGE.into()),
    }
}

/// The certificate and key of one side, and the certificate authority that this side trusts.
struct Tls {
    ca: Certificate,
    identity: Identity,
}

impl Tls {
    fn read(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let pem = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
        };
        let ca = Certificate::from_pem(pem("ca.pem")?);
        Ok(Self { ca, identity: Identity::from_pem(pem("node.pem")?, pem("node.key")?) })
    }
}
