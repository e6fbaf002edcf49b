//! Tests the boutique in a real browser: starts it as a process, visits it, restarts it, and visits it again.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::project::{self, Project};
use crate::setup::{browser, playwright_dir};

/// The time from the start of the process to its first line of output, if the components are built and compiled.
const START_TIME_MAX: Duration = Duration::from_secs(300);

/// Visits the shop that `isomer` runs, before and after a restart.
pub(crate) fn run(project: &Project, isomer: &Path) -> Result<()> {
    let browser = browser().context("no browser here; hint: cargo xtask setup")?;
    let folder = project.target.join("browser-test");
    let _left_over = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;

    // The second visit checks that the visitor's cookies and the shop's data outlive the process.
    for visit in ["the first visit", "after a restart"] {
        let shop = Shop::start(project, isomer, &folder.join("data"))?;
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
    println!("screenshots: {}", folder.display());
    Ok(())
}

/// A running shop. Killed when dropped.
struct Shop {
    process: Child,
    url: String,
}

impl Shop {
    fn start(project: &Project, isomer: &Path, data: &PathBuf) -> Result<Self> {
        let mut command = project.command(isomer);
        command.arg("run").arg(project.boutique()).args(["--listen", "127.0.0.1:0", "--json", "--data"]).arg(data);
        println!("$ {}", project::show(&command));
        let mut process = command.stdout(Stdio::piped()).spawn().context("cannot run `isomer`")?;
        let stdout = process.stdout.take().context("stdout is not a pipe")?;
        let mut shop = Self { process, url: String::new() };
        let (sender, ready) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Read to the end of the output: a process that writes into a full pipe blocks.
                let _nobody_waits = sender.send(line);
            }
        });
        let line = ready.recv_timeout(START_TIME_MAX).context("`isomer run` did not get ready")?;
        let event: Value = serde_json::from_str(&line).with_context(|| format!("`{line}` is not JSON"))?;
        ensure!(event["event"] == "ready", "the first event is `{line}`, not `ready`");
        shop.url = event["url"].as_str().context("the event `ready` has a URL")?.to_owned();
        Ok(shop)
    }

    /// Stops the shop as an administrator does; it must exit by itself, with success.
    fn stop(mut self) -> Result<()> {
        project::run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let status = self.process.wait().context("the shop can be waited for")?;
        if !status.success() {
            bail!("`isomer run` ended with {status} after SIGTERM");
        }
        Ok(())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _killed = self.process.kill();
        let _waited = self.process.wait();
    }
}
