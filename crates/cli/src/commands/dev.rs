//! `isomer dev`: serves an app and takes over every change of it.
//!
//! What is watched is what went into the last build. A change is followed by a short wait for more of them, then by a build of
//! what has changed; where the outcome differs from what serves, a new revision is made, and takes over once it has
//! started: requests in flight end with the old one. Whatever fails is shown, and the old revision goes on serving.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_manifest::{App, MONOLITH};
use isomer_node::revision::Components;
use isomer_toolchain::{WatchSet, watch_paths};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::app_dir::{self, AppDir};
use crate::console::Console;
use crate::fail::Fail;
use crate::serving::{Premises, ServeFlags, Server, Subject, Workshop};

/// Editors write several files, and a file several times: a build begins when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(60);

/// The longest that a build waits for quiet.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// Run an app, and build and replace it whenever its sources change.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The app: its folder (or one inside it), its isomer.toml, or a component that answers HTTP.
    #[arg(value_name = "APP", default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    serve: ServeFlags,
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<(), Fail> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One may be busy with compiling while the others serve.
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)))
        .enable_all()
        .build()
        .context("cannot start the executor")?;
    let done = runtime.block_on(develop(arguments, *console));
    // A compiler that still runs is not waited for.
    runtime.shutdown_background();
    done
}

async fn develop(arguments: &Arguments, console: Console) -> Result<(), Fail> {
    let began = Instant::now();
    let app = AppDir::open(&arguments.path)?;
    let dir = app.dir.clone();
    let data = arguments.serve.data.clone().unwrap_or_else(|| dir.join(".isomer"));
    let premises = Premises::new(&arguments.serve, console)?;
    let opened = premises.open(&arguments.serve, &data).await?;
    let server = Server::new(premises, opened, &arguments.serve, None)?;
    let (serving, workshop) = server.split()?;
    // On a task of its own, so that requests are answered while a revision is made.
    let serving = tokio::spawn(serving);
    let (sender, changes) = unbounded_channel();
    let watch = Watch::start(&app.app, &dir, &sender)?;
    let shape = arguments.serve.shape.clone();
    let mut session = Session { path: app.path, dir, shape, console, workshop, served: None, watch, sender, changes };
    session.round(began).await?;
    tokio::select! {
        ended = serving => ended.context("the server ended unexpectedly")??,
        gave_up = session.follow() => return Err(gave_up),
    }
    Ok(())
}

struct Session {
    /// What opens the app again.
    path: PathBuf,
    dir: PathBuf,
    shape: String,
    console: Console,
    workshop: Workshop,
    /// What the revision that serves was made from.
    served: Option<Snapshot>,
    watch: Watch,
    sender: UnboundedSender<PathBuf>,
    changes: UnboundedReceiver<PathBuf>,
}

/// All that a revision is made from: equal snapshots make equal revisions.
#[derive(PartialEq)]
struct Snapshot {
    manifest: String,
    components: Components,
    migrations: BTreeMap<PathBuf, Vec<u8>>,
}

impl Session {
    /// Waits for changes and takes them over, until one cannot be waited for.
    async fn follow(&mut self) -> Fail {
        loop {
            self.changed().await;
            if let Err(fail) = self.round(Instant::now()).await {
                return fail;
            }
        }
    }

    /// Resolves when something that counts has changed and no more does.
    async fn changed(&mut self) {
        loop {
            // The session holds a sender, so the channel does not end.
            let Some(path) = self.changes.recv().await else { std::future::pending().await };
            if self.watch.set.contains(&path) {
                break;
            }
        }
        let latest = Instant::now() + QUIET_WAIT_MAX;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            match tokio::time::timeout_at(quiet.into(), self.changes.recv()).await {
                Ok(Some(_)) if Instant::now() < latest => {}
                _ => return,
            }
        }
    }

    /// Builds; where there is something new, makes a revision of it. Shows what fails.
    ///
    /// # Errors
    /// When the command itself cannot be meant like that, which no change of a file would mend.
    async fn round(&mut self, began: Instant) -> Result<(), Fail> {
        match self.try_round(began).await {
            Ok(()) => {}
            Err(fail @ Fail::Usage(_)) if self.served.is_none() => return Err(fail),
            Err(fail) => {
                let goes_on = if self.served.is_some() { "the last revision goes on serving; " } else { "" };
                fail.report(&self.console);
                self.console.say(&format!("{goes_on}waiting for a change"));
            }
        }
        Ok(())
    }

    async fn try_round(&mut self, began: Instant) -> Result<(), Fail> {
        let app = AppDir::open(&self.path)?;
        if self.served.is_none() {
            app.say_warnings(&self.console);
        }
        let console = self.console;
        let built = tokio::task::spawn_blocking(move || {
            let built = app.build(&console);
            (app, built)
        });
        let (app, built) = built.await.context("the build ended unexpectedly")?;
        // Also after a failed build: it may need a file that was not watched.
        self.watch.follow(&app.app, &self.dir, &self.sender)?;
        let components = app_dir::read(&built?)?;
        let snapshot = Snapshot {
            manifest: app.source.text().to_owned(),
            migrations: migrations(&app.app, &app.dir),
            components: components.clone(),
        };
        if self.served.as_ref() == Some(&snapshot) {
            return Ok(());
        }
        self.check_one_process(&app, &components)?;
        let subject = Subject::new(&app, components);
        // Composing and compiling keep a thread busy, and this one is not to be missed by the others.
        let workshop = &mut self.workshop;
        let made =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(workshop.take_over(&subject)));
        let plan = made?;
        match self.served.replace(snapshot) {
            None => self.workshop.say_ready(&plan, began),
            Some(_) => self.workshop.say_replaced(&plan, began),
        }
    }
}

impl Session {
    /// Taking over is a matter of one process: the members of several would have to change all at once.
    fn check_one_process(&self, app: &AppDir, components: &Components) -> Result<(), Fail> {
        if self.shape == MONOLITH {
            return Ok(());
        }
        let plan = isomer_node::revision::plan(&app.app, components, &self.shape);
        let plan = plan.map_err(|error| Fail::revision(error, Some(&app.source)))?;
        match plan.processes().len() {
            0 | 1 => Ok(()),
            several => Err(Fail::usage(
                format!("`isomer dev` serves from one process, and shape `{}` has {several}", self.shape),
                format!(
                    "develop in a shape of one process (without `--shape`: all together), or run it: isomer run --shape {}",
                    self.shape
                ),
            )),
        }
    }
}

/// The files of the folders of migrations. What cannot be read will be found by whoever applies them.
fn migrations(app: &App, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = app.sql.values().filter_map(|store| store.migrations.as_ref());
    let files = folders.flat_map(|folder| std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten());
    files.filter_map(|file| Some((file.path(), std::fs::read(file.path()).ok()?))).collect()
}

/// The files that are watched.
struct Watch {
    set: WatchSet,
    _watcher: RecommendedWatcher,
}

impl Watch {
    fn start(app: &App, dir: &Path, sender: &UnboundedSender<PathBuf>) -> Result<Self, Fail> {
        let set = watch_paths(app, dir);
        let (sender, rescan) = (sender.clone(), dir.join(isomer_manifest::MANIFEST_FILE));
        let told = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.need_rescan() {
                // Something was missed: look at everything, as if the manifest had changed.
                let _ = sender.send(rescan.clone());
            }
            if !matches!(event.kind, EventKind::Access(_)) {
                event.paths.into_iter().for_each(|path| drop(sender.send(path)));
            }
        };
        let mut watcher = notify::recommended_watcher(told).context("cannot watch files")?;
        let roots = set.roots.iter().map(|root| (root, RecursiveMode::Recursive));
        let dirs = set.dirs.iter().map(|dir| (dir, RecursiveMode::NonRecursive));
        for (path, mode) in roots.chain(dirs).filter(|(path, _)| path.exists()) {
            watcher.watch(path, mode).map_err(|error| {
                let too_many = matches!(error.kind, notify::ErrorKind::MaxFilesWatch);
                let error = anyhow::Error::new(error).context(format!("cannot watch `{}`", path.display()));
                match too_many {
                    true => {
                        let hint = "allow more watches: sudo sysctl fs.inotify.max_user_watches=524288";
                        Fail::Error(isomer_manifest::Hinted::new(error.into_boxed_dyn_error(), hint).into())
                    }
                    false => Fail::Error(error),
                }
            })?;
        }
        Ok(Self { set, _watcher: watcher })
    }

    /// Watches what is to be watched from now on, without a gap.
    fn follow(&mut self, app: &App, dir: &Path, sender: &UnboundedSender<PathBuf>) -> Result<(), Fail> {
        if watch_paths(app, dir) != self.set {
            *self = Self::start(app, dir, sender)?;
        }
        Ok(())
    }
}
