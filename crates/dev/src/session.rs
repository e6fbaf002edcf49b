//! The loop: a change, a build, and if its result is new, a revision that takes over.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_console::{CliError, Console, WarningPrinter};
use isomer_ids::StoreName;
use isomer_manifest::MONOLITH;
use isomer_project::{AppDir, ValueSources, read_components};
use isomer_seam::Components;
use isomer_serve::{RevisionSource, RevisionStarter};
use isomer_toolchain::BuildProfile;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::draft_stores::{DraftStores, OutdatedStore, StoreContext};
use crate::sources::{SourceSnapshot, watch_set};
use crate::watch::FileWatcher;

/// Editors write several files, and the same file several times: a build starts after this long without a change.
const QUIET: Duration = Duration::from_millis(60);

/// The maximum time that a build waits for [`QUIET`].
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// The number of questions that may be open at once. Further stores are asked about after the next change.
const QUESTIONS_MAX: usize = 1;

/// Settings of a development session.
#[derive(Debug, Clone)]
pub struct DevSettings {
    /// The app's shape, which must have one process.
    pub shape: String,
    /// Values from outside of the manifest.
    pub values: ValueSources,
    /// The profile with which Cargo packages are built.
    pub profile: BuildProfile,
    /// Whether stores whose applied migrations were edited are recreated without asking.
    pub recreate_stores: bool,
}

/// An app that is being developed.
pub struct DevSession {
    /// The app's path, which is opened again after each change.
    path: PathBuf,
    settings: DevSettings,
    console: Console,
    revisions: RevisionStarter,
    /// The sources of the serving revision.
    served: Option<SourceSnapshot>,
    /// Whether no round has run yet, so that an error can be a mistake on the command line.
    is_first: bool,
    /// Whether the last round failed.
    has_failed: bool,
    /// Whether the last build has added files to watch.
    watches_more: bool,
    watcher: FileWatcher,
    drafts: DraftStores,
    manifest_warnings: WarningPrinter,
    /// The store for which the user is being asked.
    asking: Option<StoreName>,
    answer_sender: Sender<bool>,
    answers: Receiver<bool>,
}

impl DevSession {
    /// Starts to watch the files of `app`.
    ///
    /// # Errors
    /// If they cannot be watched.
    pub fn new(
        app: &AppDir,
        settings: DevSettings,
        revisions: RevisionStarter,
        console: Console,
    ) -> Result<Self, CliError> {
        let watcher = FileWatcher::start(watch_set(app, settings.profile, false))?;
        let (answer_sender, answers) = channel(QUESTIONS_MAX);
        Ok(Self {
            path: app.path.clone(),
            drafts: DraftStores::new(settings.recreate_stores),
            settings,
            console,
            revisions,
            served: None,
            is_first: true,
            has_failed: false,
            watches_more: false,
            watcher,
            manifest_warnings: WarningPrinter::default(),
            asking: None,
            answer_sender,
            answers,
        })
    }

    /// Builds and serves the app, again after every change. Returns only an error that no change of a file can fix.
    pub async fn run(mut self, mut began: Instant) -> CliError {
        loop {
            if let Err(error) = self.round(began).await {
                return error;
            }
            self.changed().await;
            began = Instant::now();
        }
    }

    /// Resolves when a watched file has changed and then none for [`QUIET`], or when a question was answered with yes.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = self.watcher.changed() => break,
                Some(yes) = self.answers.recv() => {
                    if let Some(store) = self.asking.take().filter(|_| yes) {
                        self.drafts.agree(store);
                        self.served = self.served.take().map(SourceSnapshot::without_migrations);
                        return;
                    }
                }
            }
        }
        let latest = Instant::now() + QUIET_WAIT_MAX;
        while Instant::now() < latest {
            let quiet = (Instant::now() + QUIET).min(latest);
            if tokio::time::timeout_at(quiet.into(), self.watcher.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Builds the app; if the result is new, creates a revision of it. Prints errors that a change of a file can fix.
    ///
    /// # Errors
    /// If the command line is wrong, or if files cannot be watched.
    async fn round(&mut self, began: Instant) -> Result<(), CliError> {
        // Before anything is read.
        self.watcher.refresh()?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.try_round(began).await {
            Ok(()) => {
                self.has_failed = false;
                // A file that only this build has added may have been edited before it was watched.
                if self.watches_more {
                    self.watcher.look_again();
                }
            }
            // Later rounds can fail in the same way after an edit of `.env` or of the manifest, which another edit corrects.
            Err(error @ (CliError::Usage(_) | CliError::UsageFinding(_))) if is_first => return Err(error),
            Err(error) => {
                self.has_failed = true;
                let serves = if self.served.is_some() { "the previous revision still serves; " } else { "" };
                let next = match self.revisions.missing_variable() {
                    None => "waiting for a change".to_owned(),
                    Some(variable) => format!("start again with {variable}=…, or write {variable}=… into .env"),
                };
                self.console.report(&error);
                self.console.message(&format!("{serves}{next}"));
            }
        }
        Ok(())
    }

    async fn try_round(&mut self, began: Instant) -> Result<(), CliError> {
        self.revisions.clear_missing_variable();
        self.watches_more = false;
        let app = AppDir::open_with(&self.path, &self.settings.values)?;
        self.manifest_warnings.print(&self.console, &app.warnings);
        let (console, profile) = (self.console, self.settings.profile);
        // Files that are known before the build must be watched while it runs.
        self.watcher.follow(watch_set(&app, profile, self.has_failed))?;
        let built = tokio::task::spawn_blocking(move || {
            let built = app.build_as(profile, &console);
            (app, built)
        });
        let (app, built) = built.await.context("the build ended unexpectedly")?;
        // Done even after a failed build: it may need a file that was not watched.
        self.watches_more = self.watcher.follow(watch_set(&app, profile, built.is_err()))?;
        let components = read_components(&built?)?;
        let snapshot = SourceSnapshot::of(&app, components.clone());
        if self.served.as_ref() == Some(&snapshot) {
            if self.has_failed {
                self.console.message("the sources are the same again as those of the serving revision");
            }
            return Ok(());
        }
        self.check_one_process(&app, &components)?;
        let mut source = RevisionSource::new(&app, components);
        // Composing and compiling block this thread; `block_in_place` lets other threads take over its tasks.
        let made = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let place = self.revisions.place(&source.dir);
                let stores =
                    StoreContext { engines: self.revisions.stores(), place: &place, data: self.revisions.data() };
                let outdated = self.drafts.settle(&mut source.app, &stores, &self.console).await;
                let made = self.revisions.take_over(&source).await;
                self.ask(outdated);
                made
            })
        });
        let plan = made?;
        match self.served.replace(snapshot) {
            None => self.revisions.report_ready(&plan, began),
            Some(_) => self.revisions.report_replaced(&plan, began),
        }
    }

    /// Asks whether a store should be recreated. The new revision does not wait for the answer.
    fn ask(&mut self, outdated: Vec<OutdatedStore>) {
        for OutdatedStore { store, .. } in outdated.into_iter().filter(|outdated| outdated.can_be_recreated) {
            let (console, answer) = (self.console, self.answer_sender.clone());
            if self.asking.is_none() && console.is_interactive() {
                let question = format!(
                    "recreate the SQL store {store} from the latest copy that fits its migrations, or empty if there is none? What was written since then is lost."
                );
                self.asking = Some(store);
                // The thread ends with the process if there is no answer.
                std::thread::spawn(move || answer.blocking_send(console.confirm(&question) == Some(true)));
            } else {
                self.console.message(&format!(
                    "to recreate {store} from the latest copy that fits its migrations, or empty if there is none: isomer dev --recreate-stores (what was written since then is lost)"
                ));
            }
        }
    }

    /// Refuses a shape of several processes: a take-over would have to change all of them at once.
    fn check_one_process(&self, app: &AppDir, components: &Components) -> Result<(), CliError> {
        let shape = &self.settings.shape;
        if shape == MONOLITH {
            return Ok(());
        }
        let plan = app.plan(components, shape)?;
        match plan.processes().len() {
            0 | 1 => Ok(()),
            several => Err(CliError::usage(
                format!("`isomer dev` serves from one process, and shape `{shape}` has {several}"),
                format!(
                    "develop in a shape of one process (without `--shape`: all components together), or run it: isomer run --shape {shape}"
                ),
            )),
        }
    }
}
