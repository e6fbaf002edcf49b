//! What a change leads to: a build, and where its outcome is new, a revision that takes over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use isomer_manifest::{App, MONOLITH, SecretSource, StoreName};
use isomer_node::revision::Components;
use isomer_toolchain::{Profile, WatchSet, watch_paths};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::drafts::{Behind, Drafts, Stores};
use super::watch::Watch;
use crate::app_dir::{self, AppDir};
use crate::console::Console;
use crate::fail::Fail;
use crate::serving::{Subject, Workshop};
use crate::values::ValueFlags;

/// Editors write several files, and a file several times: a build begins when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(60);

/// The longest that a build waits for quiet.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// Questions that are open at once. Other stores are asked about with the next change.
const QUESTIONS_MAX: usize = 1;

/// How an app is developed.
pub(crate) struct Settings {
    pub(crate) shape: String,
    pub(crate) values: ValueFlags,
    pub(crate) profile: Profile,
    /// Are stores whose migrations were edited recreated without a question?
    pub(crate) recreate_stores: bool,
}

/// An app that is developed.
pub(crate) struct Session {
    /// Opens the app again.
    path: PathBuf,
    settings: Settings,
    console: Console,
    workshop: Workshop,
    /// What the revision that serves was made from.
    served: Option<Snapshot>,
    /// Is this the first round? The command line has been tried by no other yet.
    is_first: bool,
    /// Did the last round fail?
    has_failed: bool,
    /// Did the last build make more files known?
    looks_again: bool,
    watch: Watch,
    drafts: Drafts,
    /// The store that a question is being asked about.
    asking: Option<StoreName>,
    answer: Sender<bool>,
    answered: Receiver<bool>,
}

/// All that a revision is made from: equal snapshots make equal revisions.
#[derive(PartialEq)]
struct Snapshot {
    manifest: String,
    app: App,
    environment: BTreeMap<String, String>,
    components: Components,
    migrations: BTreeMap<PathBuf, Vec<u8>>,
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

/// Time and size of a file.
type Stamp = (Option<SystemTime>, u64);

impl Session {
    pub(crate) fn new(app: &AppDir, settings: Settings, workshop: Workshop, console: Console) -> Result<Self, Fail> {
        let watch = Watch::start(wanted(app, settings.profile, false))?;
        let (answer, answered) = channel(QUESTIONS_MAX);
        let drafts = Drafts::new(settings.recreate_stores);
        let path = app.path.clone();
        let (served, asking) = (None, None);
        let (is_first, has_failed, looks_again) = (true, false, false);
        Ok(Self {
            path,
            settings,
            console,
            workshop,
            served,
            is_first,
            has_failed,
            looks_again,
            watch,
            drafts,
            asking,
            answer,
            answered,
        })
    }

    /// Builds and serves the app, then waits for changes and takes them over. Returns when no change could help.
    pub(crate) async fn run(mut self, mut began: Instant) -> Fail {
        loop {
            if let Err(fail) = self.round(began).await {
                return fail;
            }
            self.changed().await;
            began = Instant::now();
        }
    }

    /// Resolves when something that counts has changed and no more does, or when a question was answered with yes.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = self.watch.changed() => break,
                Some(yes) = self.answered.recv() => {
                    if let Some(store) = self.asking.take().filter(|_| yes) {
                        self.drafts.agree(store);
                        self.served = self.served.take().map(|served| Snapshot { migrations: BTreeMap::new(), ..served });
                        return;
                    }
                }
            }
        }
        let latest = Instant::now() + QUIET_WAIT_MAX;
        while Instant::now() < latest {
            let quiet = (Instant::now() + QUIET).min(latest);
            if tokio::time::timeout_at(quiet.into(), self.watch.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Builds; where there is something new, makes a revision of it. Shows what fails.
    ///
    /// # Errors
    /// When the command line is wrong, or files cannot be watched.
    async fn round(&mut self, began: Instant) -> Result<(), Fail> {
        // Before anything is read.
        self.watch.refresh()?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.try_round(began).await {
            Ok(()) => {
                self.has_failed = false;
                // A file that only this build made known may have been edited before it was watched.
                if self.looks_again {
                    self.watch.look_again();
                }
            }
            // Later, the same may come of an edit of `.env` or of the manifest, and another edit corrects it.
            Err(fail @ Fail::Usage(_)) if is_first => return Err(fail),
            Err(fail) => {
                self.has_failed = true;
                let serves = if self.served.is_some() { "the last revision still serves; " } else { "" };
                let next = match self.workshop.missing_variable() {
                    None => "waiting for a change".to_owned(),
                    Some(variable) => format!("start again with {variable}=…, or write {variable}=… into .env"),
                };
                fail.report(&self.console);
                self.console.say(&format!("{serves}{next}"));
            }
        }
        Ok(())
    }

    async fn try_round(&mut self, began: Instant) -> Result<(), Fail> {
        self.workshop.begin();
        self.looks_again = false;
        let app = AppDir::open_with(&self.path, &self.settings.values)?;
        if self.served.is_none() {
            app.say_warnings(&self.console);
        }
        let (console, profile) = (self.console, self.settings.profile);
        // What is known before the build has to be watched during it.
        self.watch.follow(wanted(&app, profile, self.has_failed))?;
        let built = tokio::task::spawn_blocking(move || {
            let built = app.build_as(profile, &console);
            (app, built)
        });
        let (app, built) = built.await.context("the build ended unexpectedly")?;
        // Also after a failed build: it may need a file that was not watched.
        self.looks_again = self.watch.follow(wanted(&app, profile, built.is_err()))?;
        let components = app_dir::read(&built?)?;
        let snapshot = Snapshot {
            manifest: app.source.text().to_owned(),
            app: app.app.clone(),
            environment: app.values.environment.clone(),
            migrations: migrations(&app.app, &app.dir),
            files: stamps(&app),
            components: components.clone(),
        };
        if self.served.as_ref() == Some(&snapshot) {
            if self.has_failed {
                self.console.say("the sources are again those of the revision that serves");
            }
            return Ok(());
        }
        self.check_one_process(&app, &components)?;
        let mut subject = Subject::new(&app, components);
        // Composing and compiling keep a thread busy, and this one is not to be missed by the others.
        let made = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let place = self.workshop.place(&subject.dir);
                let stores = Stores { engines: self.workshop.stores(), place: &place, data: self.workshop.data() };
                let behind = self.drafts.settle(&mut subject.app, &stores, &self.console).await;
                let made = self.workshop.take_over(&subject).await;
                self.ask(behind);
                made
            })
        });
        let plan = made?;
        match self.served.replace(snapshot) {
            None => self.workshop.say_ready(&plan, began),
            Some(_) => self.workshop.say_replaced(&plan, began),
        }
    }

    /// Asks whether a store is to be recreated. Code does not wait for the answer.
    fn ask(&mut self, behind: Vec<Behind>) {
        for Behind { store, .. } in behind.into_iter().filter(|behind| behind.is_draft) {
            let (console, answer) = (self.console, self.answer.clone());
            if self.asking.is_none() && console.is_interactive() {
                let question = format!(
                    "recreate the SQL store {store} from the latest copy that fits its migrations, or empty if there is none? What was written since then is lost."
                );
                self.asking = Some(store);
                // Without an answer it ends with the process.
                std::thread::spawn(move || answer.blocking_send(console.confirm(&question) == Some(true)));
            } else {
                self.console.say(&format!(
                    "to recreate {store} from the latest copy that fits its migrations, or empty if there is none: isomer dev --recreate-stores (what was written since then is lost)"
                ));
            }
        }
    }

    /// Taking over is a matter of one process: the members of several would have to change all at once.
    fn check_one_process(&self, app: &AppDir, components: &Components) -> Result<(), Fail> {
        let shape = &self.settings.shape;
        if shape == MONOLITH {
            return Ok(());
        }
        let plan = isomer_node::revision::plan(&app.app, components, shape);
        let plan = plan.map_err(|error| Fail::revision(error, Some(&app.source)))?;
        match plan.processes().len() {
            0 | 1 => Ok(()),
            several => Err(Fail::usage(
                format!("`isomer dev` serves from one process, and shape `{shape}` has {several}"),
                format!(
                    "develop in a shape of one process (without `--shape`: all together), or run it: isomer run --shape {shape}"
                ),
            )),
        }
    }
}

/// What is to be watched for an app, and after a failure.
fn wanted(app: &AppDir, profile: Profile, has_failed: bool) -> WatchSet {
    let mut wanted = watch_paths(&app.app, &app.dir, profile);
    if has_failed {
        wanted.add_packages(&app.dir);
    }
    for file in app.values.files.iter().cloned().chain(files(app)) {
        wanted.add(file);
    }
    wanted
}

/// Files that a revision reads when it is started, beside components and migrations: secrets, and certificate authorities of its hosts.
fn files(app: &AppDir) -> impl Iterator<Item = PathBuf> + '_ {
    let secrets = app.app.secrets.values().filter_map(|source| match source {
        SecretSource::File(path) => Some(path),
        SecretSource::Env(_) => None,
    });
    let hosts = app.app.components.values().flat_map(|component| &component.grants.http);
    let authorities = hosts.filter_map(|host| host.value.authority.as_ref());
    secrets.chain(authorities).map(|path| app.dir.join(path))
}

/// How these files are now. Secrets are not kept for this.
fn stamps(app: &AppDir) -> BTreeMap<PathBuf, Option<Stamp>> {
    let stamp = |path: &PathBuf| std::fs::metadata(path).ok().map(|found| (found.modified().ok(), found.len()));
    files(app).map(|path| (path.clone(), stamp(&path))).collect()
}

/// The files of the folders of migrations. A file that cannot be read is reported when they are applied.
pub(super) fn migrations(app: &App, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = app.sql.values().filter_map(|store| store.migrations.as_ref());
    let files = folders.flat_map(|folder| std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten());
    let is_migration = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) && path.is_file()
    };
    let paths = files.map(|file| file.path()).filter(is_migration);
    paths.filter_map(|path| Some((path.clone(), std::fs::read(&path).ok()?))).collect()
}
