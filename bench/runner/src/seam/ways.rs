//! The ways of making a call, each as a server that answers `GET /run?…`, with whatever runs behind it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::files::file_name;
use crate::lab::Lab;
use crate::needs::Need;
use crate::report::{Series, Subject};
use crate::server::{Launch, Says, Server};
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

/// Ours, and what stands beside it.
pub(super) const REMOTE_BESIDE_GRPC: [(&str, &str); 3] = [(UNIX, UNIX_GRPC), (HTTP2, HTTP2_GRPC), (TLS, TLS_GRPC)];

/// Those of Isomer itself.
pub(super) const OURS: [&str; 5] = [FUSED, ISOLATED, UNIX, HTTP2, TLS];

/// The app: the same two files in every shape.
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

/// One way.
pub(super) struct Way {
    pub name: &'static str,
    /// Answers `GET /run?…`.
    front: Server,
    /// What it calls, where it was started by itself.
    back: Option<Server>,
}

impl Way {
    pub(super) fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// Time on processors of all of its processes.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let back = self.back.as_ref().map_or(Ok(Duration::ZERO), Server::cpu)?;
        Ok(self.front.cpu()? + back)
    }

    /// An empty line of a table for it.
    pub(super) fn subject(&self, name: &str, series: Vec<Series>) -> Subject {
        let lines = self.back.iter().chain([&self.front]).map(|server| server.line.as_str());
        Subject { name: name.to_owned(), command: lines.collect::<Vec<_>>().join(" & "), series }
    }
}

/// All of them, next to what each stands beside.
pub(super) fn all(lab: &Lab) -> Result<Vec<Way>> {
    let app = app(lab)?;
    let composed = lab.precompiled(&lab.composed(&app)?)?;
    let mut dynamic = lab.program(Need::Dynamic, "isomer-bench-dynamic");
    dynamic.arg(app.join("caller.wasm")).arg(app.join("callee.wasm"));
    let mut ways = vec![
        alone(FUSED, lab.start(lab.isomer(FUSED, &app))?),
        alone(COMPOSED, lab.start(lab.wasmtime(COMPOSED, &composed, &[]))?),
        alone(ISOLATED, lab.start(lab.isomer_in_shape(ISOLATED, &app, "isolated"))?),
        alone(DYNAMIC, lab.start(Launch { name: DYNAMIC, says: Says::Stdout, command: dynamic })?),
    ];
    ways.extend(remote(lab, &app)?);
    Ok(ways)
}

/// Those that are put under load: where calls in flight are worth something.
pub(super) fn loaded(lab: &Lab) -> Result<Vec<Way>> {
    let app = app(lab)?;
    let mut ways = vec![alone(ISOLATED, lab.start(lab.isomer_in_shape(ISOLATED, &app, "isolated"))?)];
    ways.extend(remote(lab, &app)?);
    Ok(ways)
}

fn remote(lab: &Lab, app: &Path) -> Result<Vec<Way>> {
    let certificates = lab.dir.join("certificates");
    project::run(lab.program(Need::Programs, "certificates").arg(&certificates))?;
    Ok(vec![
        alone(UNIX, lab.start(lab.isomer_in_shape(UNIX, app, "split"))?),
        grpc(lab, UNIX_GRPC, Place::Unix, None)?,
        groups(lab, HTTP2, app, None)?,
        grpc(lab, HTTP2_GRPC, Place::Tcp, None)?,
        groups(lab, TLS, app, Some(&certificates))?,
        grpc(lab, TLS_GRPC, Place::Tcp, Some(&certificates))?,
    ])
}

fn app(lab: &Lab) -> Result<PathBuf> {
    lab.app("seam-bench", MANIFEST, &[("seam-bench-caller", "caller"), ("seam-bench-callee", "callee")])
}

fn alone(name: &'static str, front: Server) -> Way {
    Way { name, front, back: None }
}

/// The two groups of the shape, each started by itself with a node file, linked over TCP.
fn groups(lab: &Lab, name: &'static str, app: &Path, certificates: Option<&Path>) -> Result<Way> {
    let start = |group: &str, text: &str| {
        let file = lab.dir.join(format!("{}.toml", file_name(&format!("{name} {group}"))));
        let tls = certificates.map(tls).unwrap_or_default();
        std::fs::write(&file, format!("{text}{tls}"))
            .with_context(|| format!("`{}` cannot be written", file.display()))?;
        lab.start(lab.isomer_group(name, app, "split", group, &file))
    };
    let back = start("back", "[link]\nlisten = \"127.0.0.1:0\"\n")?;
    let front = start("front", &format!("[peers]\nback = \"{}\"\n", back.address))?;
    Ok(Way { name, front, back: Some(back) })
}

fn tls(dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    let [authority, certificate, key] = ["ca.pem", "node.pem", "node.key"].map(path);
    format!("\n[tls]\nauthority = \"{authority}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
}

/// Where gRPC's called side listens.
enum Place {
    Tcp,
    Unix,
}

fn grpc(lab: &Lab, name: &'static str, place: Place, certificates: Option<&Path>) -> Result<Way> {
    let start = |mut command: std::process::Command| {
        if let Some(dir) = certificates {
            command.arg("--tls").arg(dir);
        }
        lab.start(Launch { name, says: Says::Stdout, command })
    };
    let program = || lab.program(Need::Grpc, "isomer-bench-grpc");
    let mut command = program();
    command.arg("callee");
    let socket = lab.dir.join("grpc.sock");
    match place {
        Place::Tcp => command.arg("--tcp"),
        Place::Unix => {
            // An earlier benchmark's may be there.
            let _none = std::fs::remove_file(&socket);
            command.arg("--unix").arg(&socket)
        }
    };
    let back = start(command)?;
    let at = match place {
        Place::Tcp if certificates.is_some() => format!("https://{}", back.address),
        Place::Tcp => format!("http://{}", back.address),
        Place::Unix => format!("unix://{}", socket.display()),
    };
    let mut command = program();
    command.arg("caller").arg(at);
    let front = start(command)?;
    Ok(Way { name, front, back: Some(back) })
}
