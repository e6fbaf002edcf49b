//! The loop of `isomer dev`: wait for a change, build, and start a new revision if the result differs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isomer_console::{CliError, Console, WarningPrinter};
use isomer_ids::StoreName;
use isomer_manifest::App;
use isomer_project::{AppDir, ValueSources, read_components};
use isomer_serve::{ReshapeOrder, ReshapeOrders, RevisionSource, RevisionStarter, StoreAccess, StorePreparation};
use isomer_toolchain::BuildProfile;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::draft_stores::{DraftStores, OutdatedStore, StoreContext};
use crate::sources::{SourceSnapshot, watch_set};
use crate::watch::FileWatcher;

/// The time without a change after which a build starts. The pause is needed because editors write several files, and
/// the same file several times.
const QUIET: Duration = Duration::from_millis(60);

/// The maximum time from the first change to the build, even if there is no pause of [`QUIET`].
const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// The maximum number of open questions to the user. While a question is open, no question is asked for a further store
/// that can be recreated; instead, a message names the flag that recreates stores without confirmation.
const QUESTIONS_MAX: usize = 1;

/// Settings of a development session.
#[derive(Debug, Clone)]
pub struct DevSettings {
    /// The flags and files that provide config values and variables.
    pub values: ValueSources,
    /// The Cargo profile with which packages are built.
    pub profile: BuildProfile,
    /// Whether stores whose applied migrations were edited are recreated without confirmation.
    pub recreate_stores: bool,
}

/// An app that is being developed.
pub struct DevSession {
    /// The app's path. The app is opened from this path again after each change.
    path: PathBuf,
    settings: DevSettings,
    console: Console,
    revisions: RevisionStarter,
    /// The orders to reshape the app.
    orders: ReshapeOrders,
    /// The sources of the revision that serves, or `None` before the first revision.
    served: Option<SourceSnapshot>,
    /// Whether nothing has been built yet. Some errors can be caused by the command line or by a file. They end the
    /// session only during the first build; later, an edit of the file can fix them.
    is_first: bool,
    /// Whether the last build failed, or the revision that it made could not be started.
    has_failed: bool,
    /// The advice for the user if the last build lacks environment variables: the process must be restarted to set a
    /// variable, or the variable must be added to the app's `.env`.
    missing_variables: Option<String>,
    /// Whether the last build has added files to the watched ones.
    watches_more: bool,
    watcher: FileWatcher,
    drafts: DraftStores,
    manifest_warnings: WarningPrinter,
    /// The store that the open question is about, if there is an open question.
    asking: Option<StoreName>,
    answer_sender: Sender<bool>,
    answers: Receiver<bool>,
}

impl DevSession {
    /// Starts to watch the files of `app`.
    ///
    /// # Errors
    /// If the files cannot be watched.
    pub fn new(
        app: &AppDir,
        settings: DevSettings,
        (revisions, orders): (RevisionStarter, ReshapeOrders),
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
            orders,
            served: None,
            is_first: true,
            has_failed: false,
            missing_variables: None,
            watches_more: false,
            watcher,
            manifest_warnings: WarningPrinter::default(),
            asking: None,
            answer_sender,
            answers,
        })
    }

    /// Builds and serves the app, and repeats this after every change. Returns only on an error that no change of a
    /// file can fix.
    pub async fn run(mut self, mut began: Instant) -> CliError {
        loop {
            if let Err(error) = self.round(began).await {
                return error;
            }
            self.changed().await;
            began = Instant::now();
        }
    }

    /// Waits until a watched file has changed and no further change follows for [`QUIET`], or until the user has
    /// answered yes to a question.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = self.watcher.changed() => break,
                order = self.orders.next() => self.reshape(order),
                Some(yes) = self.answers.recv() => {
                    if let Some(store) = self.asking.take().filter(|_| yes) {
                        self.drafts.allow_recreation(store);
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

    /// Runs the revision that serves in another shape, which later revisions keep.
    fn reshape(&mut self, order: ReshapeOrder) {
        // Composing and compiling block this thread, so `block_in_place` moves the thread's other tasks to other
        // threads.
        tokio::task::block_in_place(|| Handle::current().block_on(self.revisions.reshape(order)));
    }

    /// Builds the app. If the result differs from the serving revision, starts a new revision. Prints errors that a
    /// change of a file can fix.
    ///
    /// # Errors
    /// If the command line is wrong, or if files cannot be watched.
    async fn round(&mut self, began: Instant) -> Result<(), CliError> {
        // Watches the files before they are read, so that no change is missed.
        self.watcher.refresh()?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.try_round(began).await {
            Ok(()) => {
                self.has_failed = false;
                // The build may have read files that were not watched at that time, and that may have changed since.
                if self.watches_more {
                    self.watcher.look_again();
                }
            }
            // An error in the command line ends the session at the first build. After that, an edit of `.env` or of the
            // manifest may have caused the error, and another edit can fix it.
            Err(error @ (CliError::Usage(_) | CliError::UsageFinding(_))) if is_first => return Err(error),
            Err(error) => {
                self.has_failed = true;
                let serves = if self.served.is_some() { "the previous revision still serves; " } else { "" };
                let next = self.missing_variables.as_deref().unwrap_or("waiting for a change");
                self.console.report(&error);
                self.console.message(&format!("{serves}{next}"));
            }
        }
        Ok(())
    }

    async fn try_round(&mut self, began: Instant) -> Result<(), CliError> {
        self.missing_variables = None;
        self.watches_more = false;
        let app = AppDir::open_with(&self.path, &self.settings.values)?;
        self.manifest_warnings.print(&self.console, &app.warnings);
        let (console, profile) = (self.console, self.settings.profile);
        // Watches the files that are known before the build, so that no change during the build is missed. The build
        // may show that more files must be watched.
        self.watcher.follow(watch_set(&app, profile, self.has_failed))?;
        if let Some(missing) = app.missing_secrets(|_| true) {
            let variables: Vec<_> = missing.variables.iter().map(|variable| format!("{variable}=…")).collect();
            let file = missing.variables_file;
            self.missing_variables = (!variables.is_empty())
                .then(|| format!("start again with {0}, or write {0} into {file}", variables.join(" ")));
            return Err(CliError::findings(missing.findings, &app.source));
        }
        let built = tokio::task::spawn_blocking(move || {
            let built = app.build_as(profile, &console);
            (app, built)
        });
        let (app, built) = built.await.context("the build ended unexpectedly")?;
        // The watched files are updated even after a failed build, because the fix may be in a file that was not
        // watched.
        self.watches_more = self.watcher.follow(watch_set(&app, profile, built.is_err()))?;
        let components = read_components(&built?)?;
        let snapshot = SourceSnapshot::of(&app, components.clone());
        if self.served.as_ref() == Some(&snapshot) {
            if self.has_failed {
                self.console.message("the sources match those of the serving revision again");
            }
            return Ok(());
        }
        let source = RevisionSource::new(&app, components)?;
        let mut drafts = PreparedDrafts { drafts: &mut self.drafts, console, outdated: Vec::new() };
        let revisions = &mut self.revisions;
        // Composing and compiling block this thread, so `block_in_place` moves the thread's other tasks to other
        // threads.
        let started = tokio::task::block_in_place(|| {
            Handle::current().block_on(async { revisions.take_over(source, &mut drafts).await })
        });
        let outdated = drafts.outdated;
        self.ask(outdated);
        if !self.revisions.serves() {
            // The previous revision could not be started again after its processes had been stopped.
            self.served = None;
            self.revisions.serve_unbuilt()?;
        }
        started?;
        match self.served.replace(snapshot) {
            None => self.revisions.report_ready(began),
            Some(_) => self.revisions.report_replaced(began),
        }
    }

    /// Asks the user whether to recreate a store. Does not wait for the answer.
    fn ask(&mut self, outdated: Vec<OutdatedStore>) {
        for OutdatedStore { store, .. } in outdated.into_iter().filter(|outdated| outdated.can_be_recreated) {
            let (console, answer) = (self.console, self.answer_sender.clone());
            if self.asking.is_none() && console.is_interactive() {
                let question = format!(
                    "recreate the SQL store {store} from the latest copy that fits its migrations, or empty if no copy fits? Data written after that copy is lost."
                );
                self.asking = Some(store);
                // If the user does not answer, the thread ends with the process.
                std::thread::spawn(move || answer.blocking_send(console.confirm(&question) == Some(true)));
            } else {
                self.console.message(&format!(
                    "to recreate the SQL store {store} from the latest copy that fits its migrations, or empty if no copy fits: isomer dev --recreate-stores (data written after that copy is lost)"
                ));
            }
        }
    }
}

/// Applies the migrations of draft stores before a revision starts.
struct PreparedDrafts<'a> {
    drafts: &'a mut DraftStores,
    console: Console,
    /// The stores whose migrations could not be applied.
    outdated: Vec<OutdatedStore>,
}

impl StorePreparation for PreparedDrafts<'_> {
    async fn prepare(&mut self, app: &mut App, stores: &StoreAccess<'_>) {
        let StoreAccess { engines, place, data } = stores;
        let stores = StoreContext { engines, place, data };
        self.outdated.extend(self.drafts.apply_migrations(app, &stores, &self.console).await);
    }
}
