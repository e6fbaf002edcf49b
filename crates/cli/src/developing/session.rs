//! What a change leads to: a build, and where its outcome is new, a revision that takes over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_manifest::{App, MONOLITH, StoreName};
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

/// Questions that are asked at once: more stores are asked about with the next change.
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
    /// What opens the app again.
    path: PathBuf,
    settings: Settings,
    console: Console,
    workshop: Workshop,
    /// What the revision that serves was made from.
    served: Option<Snapshot>,
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
}

impl Session {
    pub(crate) fn new(app: &AppDir, settings: Settings, workshop: Workshop, console: Console) -> Result<Self, Fail> {
        let watch = Watch::start(wanted(app, settings.profile))?;
        let (answer, answered) = channel(QUESTIONS_MAX);
        let drafts = Drafts::new(settings.recreate_stores);
        let path = app.path.clone();
        let (served, asking) = (None, None);
        Ok(Self { path, settings, console, workshop, served, watch, drafts, asking, answer, answered })
    }

    /// Waits for changes and takes them over, until one cannot be waited for.
    pub(crate) async fn follow(&mut self) -> Fail {
        loop {
            self.changed().await;
            if let Err(fail) = self.round(Instant::now()).await {
                return fail;
            }
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
    /// When the command itself cannot be meant like that, which no change of a file would mend.
    pub(crate) async fn round(&mut self, began: Instant) -> Result<(), Fail> {
        // Before anything is read.
        self.watch.refresh()?;
        match self.try_round(began).await {
            Ok(()) => {}
            Err(fail @ Fail::Usage(_)) if self.served.is_none() => return Err(fail),
            Err(fail) => {
                let goes_on = if self.served.is_some() { "the last revision goes on serving; " } else { "" };
                let next = match self.workshop.missing_variable() {
                    None => "waiting for a change".to_owned(),
                    Some(variable) => format!("start again with {variable}=…, or write {variable}=… into .env"),
                };
                fail.report(&self.console);
                self.console.say(&format!("{goes_on}{next}"));
            }
        }
        Ok(())
    }

    async fn try_round(&mut self, began: Instant) -> Result<(), Fail> {
        self.workshop.begin();
        let app = AppDir::open_with(&self.path, &self.settings.values)?;
        if self.served.is_none() {
            app.say_warnings(&self.console);
        }
        let (console, profile) = (self.console, self.settings.profile);
        // What is known before the build has to be watched during it.
        self.watch.follow(wanted(&app, profile))?;
        let built = tokio::task::spawn_blocking(move || {
            let built = app.build_as(profile, &console);
            (app, built)
        });
        let (app, built) = built.await.context("the build ended unexpectedly")?;
        // Also after a failed build: it may need a file that was not watched.
        self.watch.follow(wanted(&app, profile))?;
        let components = app_dir::read(&built?)?;
        let snapshot = Snapshot {
            manifest: app.source.text().to_owned(),
            app: app.app.clone(),
            environment: app.values.environment.clone(),
            migrations: migrations(&app.app, &app.dir),
            components: components.clone(),
        };
        if self.served.as_ref() == Some(&snapshot) {
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
                    "make the SQL store {store} anew from the copy of before the migration? What was written since is lost."
                );
                self.asking = Some(store);
                // Without an answer it ends with the process.
                std::thread::spawn(move || answer.blocking_send(console.confirm(&question) == Some(true)));
            } else {
                self.console.say(&format!(
                    "to make {store} anew from a copy of before the migration: isomer dev --recreate-stores (what was written since is lost)"
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

/// What is to be watched for an app.
fn wanted(app: &AppDir, profile: Profile) -> WatchSet {
    let mut wanted = watch_paths(&app.app, &app.dir, profile);
    for file in &app.values.files {
        wanted.add(file.clone());
    }
    wanted
}

/// The files of the folders of migrations. A file that cannot be read is reported when they are applied.
pub(super) fn migrations(app: &App, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = app.sql.values().filter_map(|store| store.migrations.as_ref());
    let files = folders.flat_map(|folder| std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten());
    files.filter_map(|file| Some((file.path(), std::fs::read(file.path()).ok()?))).collect()
}
