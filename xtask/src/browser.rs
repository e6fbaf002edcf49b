//! Tests the boutique in a real browser: starts the shop as a process, visits it, restarts the process, and visits the
//! shop again. Then compares the shop in the shape `tab` with the monolith, tests the service worker, and tests the dashboard
//! of the process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::project::{self, Project};
use crate::setup::{browser, playwright_dir};

/// The maximum time from the start of the process to its first line of output, even if the process has to build and
/// compile the components first.
const START_TIME_MAX: Duration = Duration::from_secs(300);

/// Runs the shop with the program `isomer`, and visits it before and after a restart.
pub(crate) fn run(project: &Project, isomer: &Path) -> Result<()> {
    let browser = browser().context("no browser is installed; hint: run `cargo xtask setup`")?;
    let folder = project.target.join("browser-test");
    let _left_over = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;

    // The second visit checks that the visitor's cookies and the shop's data survive a restart.
    for visit in ["the first visit", "after a restart"] {
        let shop = Shop::start(project, isomer, "monolith", &folder.join("data"))?;
        println!("{visit}: {}", shop.url);
        project::run(
            project
                .command("node")
                .arg(project.boutique().join("tests/shop.cjs"))
                .arg(&shop.url)
                .arg(&browser)
                .arg(&folder)
                .arg(folder.join("session.json"))
                .env("NODE_PATH", playwright_dir(project).join("node_modules")),
        )?;
        shop.stop()?;
    }
    test_shape_tab(project, isomer, &browser, &folder)?;
    test_dashboard(project, isomer, &browser, &folder)?;
    println!("screenshots: {}", folder.display());
    Ok(())
}

/// Compares the pages of the shop in the shape `tab` with those of the monolith: those of the server's copy, and those that
/// the service worker makes in the tab. Then tests the service worker, and when it lets the server answer.
fn test_shape_tab(project: &Project, isomer: &Path, browser: &Path, folder: &Path) -> Result<()> {
    let monolith = Shop::start(project, isomer, "monolith", &folder.join("data-of-monolith"))?;
    let tab = Shop::start(project, isomer, "tab", &folder.join("data-of-tab"))?;
    println!("the shape `tab`: {}", tab.url);
    let modules = playwright_dir(project).join("node_modules");
    for answered_by in ["server", "worker"] {
        let mut command = project.command("node");
        command.arg(project.boutique().join("tests/tab.cjs")).args([&monolith.url, &tab.url]);
        command.arg(browser).arg(folder).arg(answered_by);
        project::run(command.env("NODE_PATH", &modules))?;
    }
    let scripts = project.root.join("crates/web/tests/browser");
    let mut command = project.command("node");
    command.arg(scripts.join("tab.cjs")).arg(&tab.url).arg(browser);
    project::run(command.env("NODE_PATH", &modules))?;
    // This script changes the shape, so it is the last one.
    let mut command = project.command("node");
    command.arg(scripts.join("server.cjs")).arg(&tab.url).arg(browser).arg(isomer).arg(folder.join("data-of-tab"));
    project::run(command.env("NODE_PATH", &modules))?;
    tab.stop()?;
    monolith.stop()
}

/// Tests the dashboard of a running shop, then the dashboard's pages with fixed data.
fn test_dashboard(project: &Project, isomer: &Path, browser: &Path, folder: &Path) -> Result<()> {
    let data = folder.join("data");
    let shop = Shop::start(project, isomer, "monolith", &data)?;
    let scripts = project.root.join("crates/dashboard/tests/pages");
    for (script, address) in [("live.cjs", &shop.url), ("pages.cjs", &shop.admin)] {
        println!("the dashboard: {script}");
        let mut command = project.command("node");
        command.arg(scripts.join(script)).arg(address).arg(browser).arg(folder);
        command.arg(isomer).args(["dashboard", "--node"]).arg(&data);
        project::run(command.env("NODE_PATH", playwright_dir(project).join("node_modules")))?;
    }
    shop.stop()
}

/// A running shop. Its process is killed when the shop is dropped.
struct Shop {
    process: Child,
    url: String,
    /// The URL of the admin API, which also serves the dashboard.
    admin: String,
}

impl Shop {
    fn start(project: &Project, isomer: &Path, shape: &str, data: &Path) -> Result<Self> {
        let mut command = project.command(isomer);
        command
            .arg("run")
            .arg(project.boutique())
            .args(["--shape", shape, "--listen", "127.0.0.1:0", "--json", "--data"])
            .arg(data);
        println!("$ {}", project::show(&command));
        let mut process = command.stdout(Stdio::piped()).spawn().context("cannot run `isomer`")?;
        let stdout = process.stdout.take().context("stdout is not a pipe")?;
        let mut shop = Self { process, url: String::new(), admin: String::new() };
        let (sender, ready) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // After the first line, the receiver is dropped and sending fails. The loop continues to read, because
                // a process that writes into a full pipe blocks.
                let _unread = sender.send(line);
            }
        });
        let line = ready.recv_timeout(START_TIME_MAX).context("`isomer run` printed no event")?;
        let event: Value = serde_json::from_str(&line).with_context(|| format!("`{line}` is not JSON"))?;
        ensure!(event["event"] == "ready", "the first event is `{line}`, not `ready`");
        shop.url = event["url"].as_str().context("the event `ready` has no URL")?.to_owned();
        shop.admin = event["admin"].as_str().context("the event `ready` has no URL of the admin API")?.to_owned();
        Ok(shop)
    }

    /// Stops the shop with SIGTERM, as an administrator does, and checks that the process exits successfully.
    fn stop(mut self) -> Result<()> {
        project::run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let status = self.process.wait().context("cannot wait for the shop's process")?;
        if !status.success() {
            bail!("`isomer run` exited with {status} after SIGTERM");
        }
        Ok(())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Both calls fail only if the process has exited already.
        let _killed = self.process.kill();
        let _waited = self.process.wait();
    }
}
