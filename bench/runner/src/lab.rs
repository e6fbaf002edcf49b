//! The environment of benchmarks: the programs, the components, and a folder for their files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::project::{self, Project};

use crate::files::{bench_dir, file_name, make_dir, make_empty_dir};
use crate::needs::{self, Need};
use crate::options::Options;
use crate::server::{AddressOutput, Launch, Server};

/// How much a benchmark measures: durations, rounds and sizes.
#[derive(Clone)]
pub(crate) struct Effort {
    /// The number of rounds in which each subject is measured.
    pub rounds: u32,
    /// The duration of each measurement under load, in seconds.
    pub load_s: u32,
    /// The duration of the load that warms up each subject before the first round, in seconds.
    pub warm_up_s: u32,
    /// The number of times that each process is started to measure its start.
    pub starts: u32,
    /// The number of fused calls in one request.
    pub calls: u32,
    /// The intended total duration, in milliseconds, of the calls over a seam that one request starts, if they run one
    /// after another.
    pub calling_ms: u32,
    /// The intended total duration, in milliseconds, of the calls over a seam that one request starts, if they run
    /// concurrently.
    pub call_load_ms: u32,
    /// The number of distinct apps on a node, and the number of tenants that each have a copy of one app.
    pub apps: u32,
    /// The number of times that a node with all apps is started to measure its start.
    pub node_starts: u32,
    /// The duration of the load that is simulated on the store of traces, in seconds.
    pub day_s: u32,
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
    day_s: 24 * 3600,
    cold_rounds: 3,
    memory_rounds: 3,
};
/// An effort that is only enough to see that everything works: the results mean little.
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
    day_s: 3600,
    cold_rounds: 1,
    memory_rounds: 1,
};
/// The number of apps that a node must be able to hold.
const LONG_APPS: u32 = 10_000;

/// The programs to measure, and a folder for files. A benchmark may use only the programs that it lists as its needs.
#[derive(Clone)]
pub(crate) struct Lab {
    /// The folder for temporary files. It is emptied before a run; results are kept next to it.
    pub dir: PathBuf,
    /// The folder of the repository's example app.
    pub boutique: PathBuf,
    pub effort: Effort,
    isomer: PathBuf,
    wasmtime: PathBuf,
    /// The folder of the programs that are built from this workspace.
    programs: PathBuf,
    /// The programs that the current benchmark may use.
    needs: &'static [Need],
}

/// The flags that make `wasmtime serve` fastest, according to its documentation: pooled instances and precompiled
/// components. All other relevant features are on by default: WASI 0.3, and the reuse of the instances of WASI 0.3
/// handlers.
const WASMTIME_FLAGS: [&str; 5] =
    ["serve", "--allow-precompiled", "-Scli", "-Opooling-allocator=y", "--addr=127.0.0.1:0"];

impl Lab {
    /// Empties the folder for temporary files and chooses the effort. The programs must have been built before.
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

    /// Returns a copy for one benchmark, which may use only the programs in `needs`.
    pub(crate) fn with(&self, needs: &'static [Need]) -> Self {
        Self { needs, ..self.clone() }
    }

    /// Checks that the current benchmark lists `need`.
    ///
    /// # Panics
    /// If the benchmark does not list `need`. Such a benchmark would fail on a machine on which the needed program is
    /// not installed yet.
    fn require(&self, need: Need) {
        assert!(self.needs.contains(&need), "the benchmark does not list {need:?} among its needs");
    }

    pub(crate) fn start(&self, mut launch: Launch) -> Result<Server> {
        Server::start(&mut launch, &self.dir)
    }

    /// Starts a server. Unlike [`Lab::start`], only borrows `launch`, so that the caller can start the server several
    /// times.
    pub(crate) fn start_again(&self, launch: &mut Launch) -> Result<Server> {
        Server::start(launch, &self.dir)
    }

    /// Returns the path of the `isomer` program that is measured.
    pub(crate) fn isomer_program(&self) -> &Path {
        &self.isomer
    }

    /// Returns a command that runs the load generator `wrk`.
    pub(crate) fn wrk(&self) -> Command {
        self.require(Need::Wrk);
        Command::new("wrk")
    }

    /// Returns the command that starts the native HTTP server.
    pub(crate) fn native(&self) -> Launch {
        Launch {
            name: "native hyper",
            address_output: AddressOutput::Stdout,
            command: self.program(Need::Programs, "native_hello"),
        }
    }

    /// Returns a command that runs the program `name`, which this workspace builds for `need`.
    pub(crate) fn program(&self, need: Need, name: &str) -> Command {
        self.require(need);
        Command::new(self.programs.join(name))
    }

    /// Returns the command that starts `isomer run` with an app's folder or a component's file. Commands with different
    /// names have separate data directories and compiled code.
    pub(crate) fn isomer(&self, name: &'static str, what: &Path) -> Launch {
        self.isomer_run(name, name, what)
    }

    /// Returns the command that starts `isomer run` with an app's folder and a shape.
    pub(crate) fn isomer_in_shape(&self, name: &'static str, app: &Path, shape: &str) -> Launch {
        let mut launch = self.isomer(name, app);
        launch.command.args(["--shape", shape]);
        launch
    }

    /// Returns the launch of `isomer run` with one group of a shape, as if the group ran on its own machine.
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
        Launch { name, address_output: AddressOutput::Stdout, command }
    }

    /// Returns the launch of `wasmtime serve` with a file that [`Lab::precompiled`] returned.
    pub(crate) fn wasmtime(&self, name: &'static str, precompiled: &Path, flags: &[&str]) -> Launch {
        self.require(Need::Wasmtime);
        let mut command = Command::new(&self.wasmtime);
        command.args(WASMTIME_FLAGS).args(flags).arg(precompiled);
        Launch { name, address_output: AddressOutput::Stderr, command }
    }

    /// Builds an app's components, so that the measured start of the app does not build them.
    pub(crate) fn build_app(&self, dir: &Path) -> Result<()> {
        project::run(Command::new(&self.isomer).arg("build").arg(dir))
    }

    /// Creates an app of two test guests, one of which calls the other.
    pub(crate) fn ping_pong(&self) -> Result<PathBuf> {
        let manifest = "[app]\nname = \"ping-pong\"\nversion = \"0.1.0\"\n\n\
                        [components.ping]\nwasm = \"ping.wasm\"\nroutes = [\"/...\"]\n\n\
                        [components.pong]\nwasm = \"pong.wasm\"\n";
        self.app("ping-pong", manifest, &[("ping", "ping"), ("pong", "pong")])
    }

    /// Creates an app of test guests. Each pair in `guests` is the name of a guest and a file name without extension.
    pub(crate) fn app(&self, name: &str, manifest: &str, guests: &[(&str, &str)]) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        make_dir(&dir)?;
        for (guest, file) in guests {
            let to = dir.join(file).with_extension("wasm");
            std::fs::copy(isomer_test_guests::path(guest), &to)
                .with_context(|| format!("cannot write `{}`", to.display()))?;
        }
        std::fs::write(dir.join("isomer.toml"), manifest)?;
        Ok(dir)
    }

    /// Composes an app's components into one component that other WASI hosts can run. Returns its path.
    pub(crate) fn composed(&self, app: &Path) -> Result<PathBuf> {
        let out = app.join("composed.wasm");
        project::run(self.program(Need::Programs, "compose").arg(app).arg(&out))?;
        Ok(out)
    }

    /// Compiles a component with `wasmtime compile`. Returns the path of the compiled file.
    pub(crate) fn precompiled(&self, wasm: &Path) -> Result<PathBuf> {
        self.compiled(wasm, "cwasm", &[])
    }

    /// Does the same as [`Lab::precompiled`], with code that can be interrupted, for `wasmtime serve -Wtimeout`.
    pub(crate) fn precompiled_to_be_stopped(&self, wasm: &Path) -> Result<PathBuf> {
        self.compiled(wasm, "stoppable.cwasm", &["-Wepoch-interruption=y"])
    }

    fn compiled(&self, wasm: &Path, extension: &str, flags: &[&str]) -> Result<PathBuf> {
        self.require(Need::Wasmtime);
        let stem = wasm.file_stem().context("the component's path has no file name")?;
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
