//! What benchmarks work with: the programs, built; the components; a folder for what they write.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Options;
use super::node::Fleet;
use super::server::{Launch, Says, Server};
use crate::project::{self, Project};
use crate::setup;

/// How much is measured.
pub(super) struct Effort {
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

pub(super) struct Lab {
    /// For files that are made on the way; emptied before. Results lie beside it.
    pub dir: PathBuf,
    /// The repository's example app.
    pub boutique: PathBuf,
    pub effort: Effort,
    isomer: PathBuf,
    wasmtime: PathBuf,
    /// Where the programs are that are measured beside.
    programs: PathBuf,
    fleet: OnceCell<Fleet>,
}

/// The engine's own server is started as its documentation says it is fastest: instances out of a pool, components compiled
/// before. Everything else that matters is on by default: WASI 0.3, and its handlers' instances are reused.
const WASMTIME_FLAGS: [&str; 5] =
    ["serve", "--allow-precompiled", "-Scli", "-Opooling-allocator=y", "--addr=127.0.0.1:0"];

impl Lab {
    /// Builds what is measured; with `calls`, also what makes calls in other ways.
    pub(super) fn prepare(project: &Project, options: &Options, calls: bool) -> Result<Self> {
        let release = project.target.join("release");
        let isomer = match &options.isomer {
            Some(program) => std::path::absolute(program)?,
            None => release.join("isomer"),
        };
        // Each by itself: built together, they would have each other's features.
        let isomer_too = options.isomer.is_none().then_some("isomer");
        let beside = ["isomer-bench-programs", "isomer-bench-grpc", "isomer-bench-dynamic"];
        let packages = isomer_too.into_iter().chain(beside.into_iter().take(if calls { 3 } else { 1 }));
        for package in packages.filter(|_| !options.built) {
            project::run(&mut project.cargo(&["build", "--release", "--locked", "--package", package]))?;
        }
        let dir = dir(project).join("work");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("`{}` cannot be emptied", dir.display()))?;
        }
        make_dir(&dir)?;
        let mut effort = if options.quick { QUICK } else { FULL };
        let long = options.long.then_some(LONG_APPS);
        effort.apps = options.apps.or(long).unwrap_or(effort.apps);
        let wasmtime = setup::wasmtime_program(project);
        Ok(Self {
            dir,
            boutique: project.boutique(),
            effort,
            isomer,
            wasmtime,
            programs: release,
            fleet: OnceCell::new(),
        })
    }

    pub(super) fn start(&self, mut launch: Launch) -> Result<Server> {
        Server::start(&mut launch, &self.dir)
    }

    /// Starts a server that was started before.
    pub(super) fn start_again(&self, launch: &mut Launch) -> Result<Server> {
        Server::start(launch, &self.dir)
    }

    /// Many apps, deployed to a node when they are first asked for.
    pub(super) fn fleet(&self) -> Result<&Fleet> {
        if self.fleet.get().is_none() {
            let _set_once = self.fleet.set(Fleet::deploy(self)?);
        }
        self.fleet.get().context("the fleet was just deployed")
    }

    /// The program to measure.
    pub(super) fn isomer_program(&self) -> &Path {
        &self.isomer
    }

    /// A native server.
    pub(super) fn native(&self) -> Launch {
        Launch { name: "native hyper", says: Says::Stdout, command: self.program("native_hello") }
    }

    /// A program that was built to be measured beside.
    pub(super) fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// Isomer, with an app's folder or a component's file. Data and compiled code of each `name` are its own.
    pub(super) fn isomer(&self, name: &'static str, what: &Path) -> Launch {
        self.isomer_run(name, name, what)
    }

    /// Isomer, with an app's folder, in a shape.
    pub(super) fn isomer_in_shape(&self, name: &'static str, app: &Path, shape: &str) -> Launch {
        let mut launch = self.isomer(name, app);
        launch.command.args(["--shape", shape]);
        launch
    }

    /// Isomer, with one group of an app's shape, as on a machine of its own.
    pub(super) fn isomer_group(
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
    pub(super) fn wasmtime(&self, name: &'static str, precompiled: &Path, flags: &[&str]) -> Launch {
        let mut command = Command::new(&self.wasmtime);
        command.args(WASMTIME_FLAGS).args(flags).arg(precompiled);
        Launch { name, says: Says::Stderr, command }
    }

    /// Builds an app's components, so that starting it does not.
    pub(super) fn build_app(&self, dir: &Path) -> Result<()> {
        project::run(Command::new(&self.isomer).arg("build").arg(dir))
    }

    /// Two test guests that call each other, as an app.
    pub(super) fn ping_pong(&self) -> Result<PathBuf> {
        let manifest = "[app]\nname = \"ping-pong\"\nversion = \"0.1.0\"\n\n\
                        [components.ping]\nwasm = \"ping.wasm\"\nroutes = [\"/...\"]\n\n\
                        [components.pong]\nwasm = \"pong.wasm\"\n";
        self.app("ping-pong", manifest, &[("ping", "ping"), ("pong", "pong")])
    }

    /// An app made of test guests, each as a file: (guest, file without its extension).
    pub(super) fn app(&self, name: &str, manifest: &str, guests: &[(&str, &str)]) -> Result<PathBuf> {
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
    pub(super) fn composed(&self, app: &Path) -> Result<PathBuf> {
        let out = app.join("composed.wasm");
        project::run(self.program("compose").arg(app).arg(&out))?;
        Ok(out)
    }

    /// A component, compiled by the engine's own command line.
    pub(super) fn precompiled(&self, wasm: &Path) -> Result<PathBuf> {
        self.compiled(wasm, "cwasm", &[])
    }

    /// As [`Lab::precompiled`], so that what runs can be stopped: for servers with `-Wtimeout`.
    pub(super) fn precompiled_to_be_stopped(&self, wasm: &Path) -> Result<PathBuf> {
        self.compiled(wasm, "stoppable.cwasm", &["-Wepoch-interruption=y"])
    }

    fn compiled(&self, wasm: &Path, extension: &str, flags: &[&str]) -> Result<PathBuf> {
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

/// A name as part of a file's name.
pub(super) fn file_name(name: &str) -> String {
    name.replace([' ', '/', ','], "-")
}

/// The folder of everything that benchmarks write.
pub(super) fn dir(project: &Project) -> PathBuf {
    project.target.join("bench")
}

pub(super) fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("`{}` cannot be made", dir.display()))
}
