//! What benchmarks work with: the programs, the components, and a folder for what they write.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::project::{self, Project};

use crate::files::{bench_dir, file_name, make_dir, make_empty_dir};
use crate::needs::{self, Need};
use crate::options::Options;
use crate::server::{Launch, Says, Server};

/// How much is measured.
#[derive(Clone)]
pub(crate) struct Effort {
    /// How often each subject has its turn.
    pub rounds: u32,
    /// How long a load goes on, in seconds.
    pub load_s: u32,
    /// How long one goes on that is not counted, in seconds.
    pub warm_up_s: u32,
    /// How often a process is started.
    pub starts: u32,
    /// How many fused calls one request makes.
    pub calls: u32,
    /// How long one request goes on calling across a seam, in milliseconds, one call at a time and under load.
    pub calling_ms: u32,
    pub call_load_ms: u32,
    /// How many distinct apps a node has, and how many tenants that have one app.
    pub apps: u32,
    /// How often a node is started with all of them, for its start, first requests, and memory.
    pub node_starts: u32,
    pub cold_rounds: u32,
    pub memory_rounds: u32,
}

const FULL: Effort = Effort {
    rounds: 7,
    load_s: 4,
    warm_up_s: 2,
    starts: 40,
    calls: 1_000_000,
    calling_ms: 200,
    call_load_ms: 1_500,
    apps: 200,
    node_starts: 10,
    cold_rounds: 3,
    memory_rounds: 3,
};
/// To see that everything works; the numbers mean little.
const QUICK: Effort = Effort {
    rounds: 3,
    load_s: 1,
    warm_up_s: 1,
    starts: 5,
    calls: 100_000,
    calling_ms: 40,
    call_load_ms: 300,
    apps: 40,
    node_starts: 3,
    cold_rounds: 1,
    memory_rounds: 1,
};
/// As many apps as a node is to hold.
const LONG_APPS: u32 = 10_000;

/// The programs to measure, and where to put files. A benchmark sees those programs that it lists as its needs.
#[derive(Clone)]
pub(crate) struct Lab {
    /// For files that are made on the way; emptied before. Results lie next to it.
    pub dir: PathBuf,
    /// The repository's example app.
    pub boutique: PathBuf,
    pub effort: Effort,
    isomer: PathBuf,
    wasmtime: PathBuf,
    /// The folder of the programs that are built from this workspace.
    programs: PathBuf,
    /// What the current benchmark may use.
    needs: &'static [Need],
}

/// The engine's own server is started as its documentation says it is fastest: instances from a pool, components compiled
/// before. Everything else that matters is on by default: WASI 0.3, and the reuse of its handlers' instances.
const WASMTIME_FLAGS: [&str; 5] =
    ["serve", "--allow-precompiled", "-Scli", "-Opooling-allocator=y", "--addr=127.0.0.1:0"];

impl Lab {
    /// Empties the working folder and chooses the effort. The programs were built before.
    pub(crate) fn prepare(project: &Project, options: &Options) -> Result<Self> {
        let programs = project.target.join("release");
        let isomer = match &options.isomer {
            Some(program) => std::path::absolute(program)?,
            None => programs.join("isomer"),
        };
        let dir = bench_dir(project).join("work");
        make_empty_dir(&dir)?;
        let mut effort = if options.quick { QUICK } else { FULL };
        let long = options.long.then_some(LONG_APPS);
        effort.apps = options.apps.or(long).unwrap_or(effort.apps);
        let wasmtime = needs::wasmtime_program(project);
        Ok(Self { dir, boutique: project.boutique(), effort, isomer, wasmtime, programs, needs: &[] })
    }

    /// Returns the same for a benchmark with these needs.
    pub(crate) fn with(&self, needs: &'static [Need]) -> Self {
        Self { needs, ..self.clone() }
    }

    /// # Panics
    /// If the benchmark does not list the need: it would fail on a machine where nothing was installed before.
    fn require(&self, need: Need) {
        assert!(self.needs.contains(&need), "the benchmark does not list {need:?} among its needs");
    }

    pub(crate) fn start(&self, mut launch: Launch) -> Result<Server> {
        Server::start(&mut launch, &self.dir)
    }

    /// Starts a server that was started before.
    pub(crate) fn start_again(&self, launch: &mut Launch) -> Result<Server> {
        Server::start(launch, &self.dir)
    }

    /// The program to measure.
    pub(crate) fn isomer_program(&self) -> &Path {
        &self.isomer
    }

    /// `wrk`, which generates load.
    pub(crate) fn wrk(&self) -> Command {
        self.require(Need::Wrk);
        Command::new("wrk")
    }

    /// A native server.
    pub(crate) fn native(&self) -> Launch {
        Launch { name: "native hyper", says: Says::Stdout, command: self.program(Need::Programs, "native_hello") }
    }

    /// A program that was built to be measured beside.
    pub(crate) fn program(&self, need: Need, name: &str) -> Command {
        self.require(need);
        Command::new(self.programs.join(name))
    }

    /// Isomer, with an app's folder or a component's file. Data and compiled code of each `name` are its own.
    pub(crate) fn isomer(&self, name: &'static str, what: &Path) -> Launch {
        self.isomer_run(name, name, what)
    }

    /// Isomer, with an app's folder, in a shape.
    pub(crate) fn isomer_in_shape(&self, name: &'static str, app: &Path, shape: &str) -> Launch {
        let mut launch = self.isomer(name, app);
        launch.command.args(["--shape", shape]);
        launch
    }

    /// Isomer, with one group of an app's shape, as on a machine of its own.
    pub(crate) fn isomer_group(
        &self,
        name: &'static str,
        app: &Path,
        shape: &str,
        group: &str,
        node_file: &Path,
    ) -> Launch {
        let mut launch = self.isomer_run(name, &format!("{name} {group}"), app);
        launch.command.args(["--shape", shape, "--group", group, "--config"]).arg(node_file);
        launch
    }

    fn isomer_run(&self, name: &'static str, data: &str, what: &Path) -> Launch {
        let mut command = Command::new(&self.isomer);
        command.arg("run").arg(what).args(["--json", "--listen", "127.0.0.1:0", "--data"]).arg(self.data(data));
        Launch { name, says: Says::Stdout, command }
    }

    /// The engine's own server, with a component that [`Lab::precompiled`] made.
    pub(crate) fn wasmtime(&self, name: &'static str, precompiled: &Path, flags: &[&str]) -> Launch {
        self.require(Need::Wasmtime);
        let mut command = Command::new(&self.wasmtime);
        command.args(WASMTIME_FLAGS).args(flags).arg(precompiled);
        Launch { name, says: Says::Stderr, command }
    }

    /// Builds an app's components, so that starting it does not.
    pub(crate) fn build_app(&self, dir: &Path) -> Result<()> {
        project::run(Command::new(&self.isomer).arg("build").arg(dir))
    }

    /// Two test guests that call each other, as an app.
    pub(crate) fn ping_pong(&self) -> Result<PathBuf> {
        let manifest = "[app]\nname = \"ping-pong\"\nversion = \"0.1.0\"\n\n\
                        [components.ping]\nwasm = \"ping.wasm\"\nroutes = [\"/...\"]\n\n\
                        [components.pong]\nwasm = \"pong.wasm\"\n";
        self.app("ping-pong", manifest, &[("ping", "ping"), ("pong", "pong")])
    }

    /// An app made of test guests, each as a file: (guest, file without its extension).
    pub(crate) fn app(&self, name: &str, manifest: &str, guests: &[(&str, &str)]) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        make_dir(&dir)?;
        for (guest, file) in guests {
            let to = dir.join(file).with_extension("wasm");
            std::fs::copy(isomer_test_guests::path(guest), &to)
                .with_context(|| format!("`{}` cannot be written", to.display()))?;
        }
        std::fs::write(dir.join("isomer.toml"), manifest)?;
        Ok(dir)
    }

    /// An app's components as one that any host runs.
    pub(crate) fn composed(&self, app: &Path) -> Result<PathBuf> {
        let out = app.join("composed.wasm");
        project::run(self.program(Need::Programs, "compose").arg(app).arg(&out))?;
        Ok(out)
    }

    /// A component, compiled by the engine's own command line.
    pub(crate) fn precompiled(&self, wasm: &Path) -> Result<PathBuf> {
        self.compiled(wasm, "cwasm", &[])
    }

    /// As [`Lab::precompiled`], so that what runs can be stopped: for servers with `-Wtimeout`.
    pub(crate) fn precompiled_to_be_stopped(&self, wasm: &Path) -> Result<PathBuf> {
        self.compiled(wasm, "stoppable.cwasm", &["-Wepoch-interruption=y"])
    }

    fn compiled(&self, wasm: &Path, extension: &str, flags: &[&str]) -> Result<PathBuf> {
        self.require(Need::Wasmtime);
        let stem = wasm.file_stem().context("a component has a file name")?;
        let out = self.dir.join(stem).with_extension(extension);
        project::run(
            Command::new(&self.wasmtime)
                .args(["compile", "-Opooling-allocator=y"])
                .args(flags)
                .arg("-o")
                .arg(&out)
                .arg(wasm),
        )?;
        Ok(out)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(file_name(name))
    }
}
