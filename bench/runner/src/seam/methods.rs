//! The methods of making a call, each with a server for `GET /run?…` and the processes that this server needs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::files::file_name;
use crate::lab::Lab;
use crate::needs::Need;
use crate::report::{Series, Subject};
use crate::server::{AddressOutput, Launch, Server};
use xtask::project;

pub(super) const FUSED: &str = "fused";
pub(super) const COMPOSED: &str = "wasmtime composition";
pub(super) const ISOLATED: &str = "isolated";
pub(super) const DYNAMIC: &str = "wasmtime, dynamic values";
const UNIX: &str = "Unix socket";
const UNIX_GRPC: &str = "gRPC, Unix socket";
const HTTP2: &str = "HTTP/2";
const HTTP2_GRPC: &str = "gRPC, TCP";
const TLS: &str = "HTTP/2, mutual TLS";
const TLS_GRPC: &str = "gRPC, mutual TLS";

/// Each of Isomer's remote methods, with the gRPC method that it is compared with.
pub(super) const REMOTE_AND_GRPC: [(&str, &str); 3] = [(UNIX, UNIX_GRPC), (HTTP2, HTTP2_GRPC), (TLS, TLS_GRPC)];

/// The methods by which Isomer makes a call.
pub(super) const OURS: [&str; 5] = [FUSED, ISOLATED, UNIX, HTTP2, TLS];

/// The manifest of the app. All its shapes use the same two component files.
const MANIFEST: &str = r#"[app]
name = "seam-bench"
version = "0.1.0"

[components.caller]
wasm = "caller.wasm"
routes = ["/..."]

[components.callee]
wasm = "callee.wasm"

[shapes.isolated]
isolate = ["callee"]

[shapes.isolated.groups]
all = ["caller", "callee"]

[shapes.split.groups]
front = ["caller"]
back = ["callee"]
"#;

/// A method of making a call.
pub(super) struct CallMethod {
    pub name: &'static str,
    /// The server of `GET /run?…`.
    front: Server,
    /// The server that `front` calls, if it was started separately.
    back: Option<Server>,
}

impl CallMethod {
    pub(super) fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// Returns the processor time of all processes of both servers.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let back = self.back.as_ref().map_or(Ok(Duration::ZERO), Server::cpu)?;
        Ok(self.front.cpu()? + back)
    }

    /// Returns the report's entry for this method: `name`, the commands that started the method's servers, and the
    /// measured `series`.
    pub(super) fn subject(&self, name: &str, series: Vec<Series>) -> Subject {
        let lines = self.back.iter().chain([&self.front]).map(|server| server.line.as_str());
        Subject { name: name.to_owned(), command: lines.collect::<Vec<_>>().join(" & "), series }
    }
}

/// Starts the servers of all methods. In the returned list, methods that are compared with each other are adjacent.
pub(super) fn all(lab: &Lab) -> Result<Vec<CallMethod>> {
    let app = app(lab)?;
    let composed = lab.precompiled(&lab.composed(&app)?)?;
    let mut dynamic = lab.program(Need::Dynamic, "isomer-bench-dynamic");
    dynamic.arg(app.join("caller.wasm")).arg(app.join("callee.wasm"));
    let mut methods = vec![
        single(FUSED, lab.start(lab.isomer(FUSED, &app))?),
        single(COMPOSED, lab.start(lab.wasmtime(COMPOSED, &composed, &[]))?),
        single(ISOLATED, lab.start(lab.isomer_in_shape(ISOLATED, &app, "isolated"))?),
        single(DYNAMIC, lab.start(Launch { name: DYNAMIC, address_output: AddressOutput::Stdout, command: dynamic })?),
    ];
    methods.extend(remote(lab, &app)?);
    Ok(methods)
}

/// Starts the servers of the methods that are measured under load: isolated calls, remote calls, and gRPC.
pub(super) fn loaded(lab: &Lab) -> Result<Vec<CallMethod>> {
    let app = app(lab)?;
    let mut methods = vec![single(ISOLATED, lab.start(lab.isomer_in_shape(ISOLATED, &app, "isolated"))?)];
    methods.extend(remote(lab, &app)?);
    Ok(methods)
}

fn remote(lab: &Lab, app: &Path) -> Result<Vec<CallMethod>> {
    let certificates = lab.dir.join("certificates");
    project::run(lab.program(Need::Programs, "certificates").arg(&certificates))?;
    Ok(vec![
        single(UNIX, lab.start(lab.isomer_in_shape(UNIX, app, "split"))?),
        grpc(lab, UNIX_GRPC, GrpcTransport::Unix, None)?,
        groups(lab, HTTP2, app, None)?,
        grpc(lab, HTTP2_GRPC, GrpcTransport::Tcp, None)?,
        groups(lab, TLS, app, Some(&certificates))?,
        grpc(lab, TLS_GRPC, GrpcTransport::Tcp, Some(&certificates))?,
    ])
}

pub(super) fn app(lab: &Lab) -> Result<PathBuf> {
    lab.app("seam-bench", MANIFEST, &[("seam-bench-caller", "caller"), ("seam-bench-callee", "callee")])
}

pub(super) fn single(name: &'static str, front: Server) -> CallMethod {
    CallMethod { name, front, back: None }
}

/// Starts the two groups of the shape as separate processes, each with a node file. Their link uses TCP.
fn groups(lab: &Lab, name: &'static str, app: &Path, certificates: Option<&Path>) -> Result<CallMethod> {
    let start = |group: &str, text: &str| {
        let file = lab.dir.join(format!("{}.toml", file_name(&format!("{name} {group}"))));
        let tls = certificates.map(tls).unwrap_or_default();
        std::fs::write(&file, format!("{text}{tls}")).with_context(|| format!("cannot write `{}`", file.display()))?;
        lab.start(lab.isomer_group(name, app, "split", group, &file))
    };
    let back = start("back", "[link]\nlisten = \"127.0.0.1:0\"\n")?;
    let front = start("front", &format!("[peers]\nback = \"{}\"\n", back.address))?;
    Ok(CallMethod { name, front, back: Some(back) })
}

fn tls(dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    let [authority, certificate, key] = ["ca.pem", "node.pem", "node.key"].map(path);
    format!("\n[tls]\nauthority = \"{authority}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
}

/// The transport that the gRPC programs use.
enum GrpcTransport {
    Tcp,
    Unix,
}

fn grpc(lab: &Lab, name: &'static str, transport: GrpcTransport, certificates: Option<&Path>) -> Result<CallMethod> {
    let start = |mut command: std::process::Command| {
        if let Some(dir) = certificates {
            command.arg("--tls").arg(dir);
        }
        lab.start(Launch { name, address_output: AddressOutput::Stdout, command })
    };
    let program = || lab.program(Need::Grpc, "isomer-bench-grpc");
    let mut command = program();
    command.arg("callee");
    let socket = lab.dir.join("grpc.sock");
    match transport {
        GrpcTransport::Tcp => command.arg("--tcp"),
        GrpcTransport::Unix => {
            // An earlier benchmark may have left the socket's file.
            let _none = std::fs::remove_file(&socket);
            command.arg("--unix").arg(&socket)
        }
    };
    let back = start(command)?;
    let at = match transport {
        GrpcTransport::Tcp if certificates.is_some() => format!("https://{}", back.address),
        GrpcTransport::Tcp => format!("http://{}", back.address),
        GrpcTransport::Unix => format!("unix://{}", socket.display()),
    };
    let mut command = program();
    command.arg("caller").arg(at);
    let front = start(command)?;
    Ok(CallMethod { name, front, back: Some(back) })
}
