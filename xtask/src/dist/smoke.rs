//! Runs what is in the tarball: ships the example shop with the tarball's runtime, and serves it.
//!
//! The tests of the workspace use `isomer` as the runtime, because a build of the workspace has no runtime without compiler.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::project::{self, Project, find_program};

/// The maximum time of a read.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// Ships the shop with the programs in `folder`, and checks that it serves a page.
///
/// # Errors
/// If a step fails.
pub(super) fn run(project: &Project, folder: &Path, work: &Path) -> Result<()> {
    let _left_over = std::fs::remove_dir_all(work);
    std::fs::create_dir_all(work).with_context(|| format!("cannot create `{}`", work.display()))?;
    let (isomer, shop) = (folder.join("isomer"), work.join("shop"));
    let mut ship = Command::new(&isomer);
    ship.args(["ship", "exe"]).arg(project.boutique()).arg("-o").arg(&shop).arg("--base");
    project::run(ship.arg(folder.join(super::RUNTIME)))?;
    for flag in ["--version", "--verify", "--sbom"] {
        project::run(Command::new(&shop).arg(flag).stdout(Stdio::null()))?;
    }
    serve(&shop, &work.join("data"))?;
    let image = work.join("shop.tar");
    project::run(Command::new(&isomer).args(["ship", "image"]).arg(&shop).arg("-o").arg(&image))?;
    if find_program("skopeo").is_some() {
        for format in ["oci-archive", "docker-archive"] {
            let source = format!("{format}:{}", image.display());
            project::run(Command::new("skopeo").args(["inspect", &source]).stdout(Stdio::null()))?;
        }
    }
    std::fs::remove_dir_all(work).with_context(|| format!("cannot remove `{}`", work.display()))
}

/// A process that is killed when this value is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both calls fail only if the process has exited already.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

fn serve(shop: &Path, data: &Path) -> Result<()> {
    let mut command = Command::new(shop);
    command.args(["--listen", "127.0.0.1:0", "--json", "--data"]).arg(data).stdout(Stdio::piped());
    println!("$ {}", project::show(&command));
    let mut process = Process(command.spawn().context("cannot run the shop")?);
    let stdout = process.0.stdout.take().context("stdout is not a pipe")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("the shop printed no event")?;
    let event: Value = serde_json::from_str(&line).with_context(|| format!("`{line}` is not JSON"))?;
    let url = event["url"].as_str().with_context(|| format!("`{line}` has no URL"))?;
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(READ_TIME_MAX))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).context("cannot read the shop's page")?;
    let status = String::from_utf8_lossy(&response).lines().next().unwrap_or_default().to_owned();
    ensure!(status.starts_with("HTTP/1.1 200"), "the shop's page has the status `{status}`");
    project::run(Command::new("kill").args(["-TERM", &process.0.id().to_string()]))?;
    let status = process.0.wait().context("cannot wait for the shop's process")?;
    ensure!(status.success(), "the shop exited with {status} after SIGTERM");
    Ok(())
}
