//! Executes the steps of a take-over as [`Takeover`] decides.

use std::sync::Arc;
use std::time::Duration;

use isomer_console::{CliError, WarningPrinter};
use isomer_diagnostics::Hinted;

use crate::arrangement::{Arrangement, ArrangementHome, PreparedArrangement, StartedArrangement};
use crate::revision_source::RevisionSource;
use crate::serving::{RunningRevision, Serving};
use crate::store_preparation::{StoreAccess, StorePreparation};
use crate::takeover::{OldArrangement, Takeover, TakeoverOutcome, TakeoverStep};

/// The maximum time that new connections wait until the old arrangement has finished its requests. If it takes longer,
/// the old arrangement continues to serve.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The maximum time that new connections wait if `isomer dev` has rebuilt the app. Then the open connections are
/// closed. Without this limit, a page that keeps a stream open would prevent each new revision.
const REBUILD_PAUSE_MAX: Duration = Duration::from_secs(3);

/// The maximum time in which a new arrangement prepares. Includes compiling; the old arrangement serves meanwhile.
const PREPARE_MAX: Duration = Duration::from_secs(600);

/// The maximum time in which an arrangement opens its stores and starts, if it replaces another one. Connections may wait
/// meanwhile. The first start has no limit, because its migrations may take long, and no other arrangement can serve.
const START_MAX: Duration = Duration::from_secs(60);

/// The number of attempts to start the old arrangement again.
const RESTARTS: u32 = 3;

/// The pause between two attempts to start the old arrangement again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The parts that execute a take-over.
pub(crate) struct TakeoverSteps<'a> {
    pub(crate) home: &'a mut ArrangementHome,
    pub(crate) warnings: &'a mut WarningPrinter,
    /// Whether the app is reshaped: the new arrangement must pass the app's health check, and each step is reported in
    /// the log.
    pub(crate) is_reshape: bool,
}

/// The state of the new arrangement.
enum NewArrangement {
    Absent,
    Prepared(PreparedArrangement),
    Started(Box<StartedArrangement>),
}

impl TakeoverSteps<'_> {
    /// Replaces `current` by a revision of `source` in `shape`. Returns the arrangement that serves afterwards, and the
    /// error if the take-over failed.
    pub(crate) async fn run(
        self,
        current: Option<Serving>,
        source: RevisionSource,
        shape: &str,
        stores: &mut impl StorePreparation,
    ) -> (Option<Serving>, Result<(), CliError>) {
        let plan = match source.plan_of_processes(shape) {
            Ok(plan) => plan,
            Err(error) => return (current, Err(error)),
        };
        // The warnings are printed before the processes start, because the start may fail.
        if let Some(plan) = &plan {
            source.print_warnings(plan, self.warnings, &self.home.context.console);
        }
        let old = match &current {
            None => OldArrangement::None,
            Some(Serving { arrangement: Arrangement::Local(_), .. }) if plan.is_none() => {
                return self.replace_local(current, source, shape, stores).await;
            }
            Some(Serving { revision: Some(old), .. }) if old.source.shares_stores_with(&source) => {
                OldArrangement::HoldsStores
            }
            Some(_) => OldArrangement::Compatible,
        };
        if let Some(current) = &current {
            current.arrangement.set_being_replaced(true);
        }
        let is_reshape = self.is_reshape;
        let mut execution =
            Execution { steps: self, old: current, source, shape, plan, new: NewArrangement::Absent, stores };
        let mut takeover = Takeover::new(old);
        let mut first_error = None;
        let outcome = loop {
            match takeover.step() {
                Ok(step) => {
                    if is_reshape {
                        tracing::info!(shape, "{}", step.message());
                    }
                    let done = execution.execute(step).await;
                    takeover.finish_step(done.is_ok());
                    if let Err(error) = done {
                        first_error.get_or_insert(error);
                    }
                }
                Err(outcome) => break outcome,
            }
        };
        let Execution { old, source, new, .. } = execution;
        match (outcome, new) {
            (TakeoverOutcome::TakenOver, NewArrangement::Started(started)) => {
                let StartedArrangement { arrangement, plan, digest } = *started;
                let revision = RunningRevision { source: Arc::new(source), shape: shape.to_owned(), plan, digest };
                (Some(Serving { arrangement, revision: Some(revision) }), Ok(()))
            }
            (outcome, _) => {
                let error = first_error.unwrap_or_else(|| CliError::failed("the take-over failed", "try again"));
                let old = old.filter(|_| outcome != TakeoverOutcome::Lost);
                if let Some(old) = &old {
                    old.arrangement.set_being_replaced(false);
                }
                (old, Err(error))
            }
        }
    }

    /// Replaces a revision in this process by another one in this process. Both share the open stores, and no request
    /// waits.
    async fn replace_local(
        self,
        mut current: Option<Serving>,
        mut source: RevisionSource,
        shape: &str,
        stores: &mut impl StorePreparation,
    ) -> (Option<Serving>, Result<(), CliError>) {
        let replaced = async {
            source.read_secrets(&self.home.data)?;
            prepare_stores(self.home, &mut source, stores).await?;
            let package = self.home.prepare_local(&source, shape)?;
            self.home.start_local(package, &source, self.is_reshape).await
        };
        let result = match replaced.await {
            Ok((plan, digest)) => {
                if let Some(current) = &mut current {
                    let (source, shape) = (Arc::new(source), shape.to_owned());
                    current.revision = Some(RunningRevision { source, shape, plan, digest });
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        (current, result)
    }
}

/// A take-over that is being executed.
struct Execution<'a, P> {
    steps: TakeoverSteps<'a>,
    old: Option<Serving>,
    source: RevisionSource,
    shape: &'a str,
    plan: Option<isomer_plan::Plan>,
    new: NewArrangement,
    stores: &'a mut P,
}

impl<P: StorePreparation> Execution<'_, P> {
    async fn execute(&mut self, step: TakeoverStep) -> Result<(), CliError> {
        let Self { steps: TakeoverSteps { home, is_reshape, .. }, old, source, .. } = self;
        let is_first = old.as_ref().is_none_or(|old| old.revision.is_none());
        let at_most = |max| if is_first { Duration::MAX } else { max };
        match step {
            TakeoverStep::PrepareNew => {
                // A missing secret is found before the old arrangement stops.
                source.read_secrets(&home.data)?;
                let (plan, max) = (self.plan.take(), at_most(PREPARE_MAX));
                let prepared = home.prepare(source, self.shape, plan, *is_reshape, max).await?;
                self.new = NewArrangement::Prepared(prepared);
            }
            TakeoverStep::PauseOld => {
                let Some(old) = old else { return Ok(()) };
                old.arrangement.pause();
                let max = if *is_reshape { PAUSE_MAX } else { REBUILD_PAUSE_MAX };
                if tokio::time::timeout(max, old.arrangement.drained()).await.is_err() {
                    if !*is_reshape {
                        tracing::warn!("requests of the previous revision did not finish in time and are cut off");
                        old.arrangement.cut_off();
                        return Ok(());
                    }
                    let error = format!("requests in progress did not finish within {} s", PAUSE_MAX.as_secs());
                    let hint = "an app with stores can change its processes only when no request is in progress: wait for long requests to end, and try again";
                    return Err(Hinted::new(error, hint).into());
                }
            }
            TakeoverStep::StopOld => {
                let Some(Serving { arrangement, revision }) = old else { return Ok(()) };
                if let (Some(app), Some(revision)) = (&home.app, revision) {
                    // The admin API must not open the stores again.
                    app.set_manifest(&revision.source.app, None);
                }
                arrangement.retire().await;
                return home.close_stores(arrangement).await;
            }
            TakeoverStep::StartNew => {
                let has_changed = prepare_stores(home, source, self.stores).await?;
                if P::IS_NEEDED {
                    // The stores of an old arrangement that still runs in this process do not close, so this wait is
                    // bounded.
                    home.local_stores_closed().await;
                }
                let mut prepared = std::mem::replace(&mut self.new, NewArrangement::Absent);
                if has_changed && matches!(prepared, NewArrangement::Prepared(PreparedArrangement::Local(_))) {
                    // The package contains the settings of the stores. Its code is already compiled.
                    let package = home.prepare_local(source, self.shape)?;
                    prepared = NewArrangement::Prepared(PreparedArrangement::Local(Box::new(package)));
                }
                if let NewArrangement::Prepared(prepared) = prepared {
                    let started = home.start(prepared, source, *is_reshape, at_most(START_MAX)).await?;
                    self.new = NewArrangement::Started(Box::new(started));
                }
            }
            TakeoverStep::Accept => {
                if let NewArrangement::Started(started) = &mut self.new {
                    started.arrangement.accept(&home.tasks).await?;
                }
            }
            TakeoverStep::DiscardNew => match std::mem::replace(&mut self.new, NewArrangement::Absent) {
                NewArrangement::Absent | NewArrangement::Prepared(PreparedArrangement::Local(_)) => {}
                NewArrangement::Prepared(PreparedArrangement::Members(groups, ..)) => {
                    Arrangement::Members(groups).discard().await;
                }
                NewArrangement::Started(started) => {
                    started.arrangement.discard().await;
                    return home.close_stores(&started.arrangement).await;
                }
            },
            TakeoverStep::ResumeOld => {
                if let Some(old) = old {
                    old.arrangement.resume();
                }
            }
            TakeoverStep::RestartOld => {
                let Some(Serving { arrangement, revision: Some(revision) }) = old else { return Ok(()) };
                let mut attempt = 1;
                *arrangement = loop {
                    match restart(home, revision).await {
                        Ok(restarted) => break restarted,
                        Err(error) if attempt == RESTARTS || home.tasks.is_shutting_down() => return Err(error),
                        Err(error) => {
                            home.context.console.report(&error);
                            tracing::warn!("the previous arrangement does not start; the next attempt follows");
                        }
                    }
                    attempt += 1;
                    tokio::time::sleep(RESTART_PAUSE).await;
                };
            }
        }
        Ok(())
    }
}

/// Starts the revision that the old arrangement ran. It has already applied its migrations to the stores.
async fn restart(home: &mut ArrangementHome, revision: &RunningRevision) -> Result<Arrangement, CliError> {
    let (source, shape) = (revision.source.without_migrations(), &revision.shape);
    let plan = source.plan_of_processes(shape)?;
    let prepared = home.prepare(&source, shape, plan, false, PREPARE_MAX).await?;
    let StartedArrangement { mut arrangement, .. } = home.start(prepared, &source, false, START_MAX).await?;
    if let Err(error) = arrangement.accept(&home.tasks).await {
        arrangement.discard().await;
        home.close_stores(&arrangement).await?;
        return Err(error);
    }
    Ok(arrangement)
}

/// Prepares the stores in this process. Returns whether the app was changed.
async fn prepare_stores<P: StorePreparation>(
    home: &mut ArrangementHome,
    source: &mut RevisionSource,
    stores: &mut P,
) -> Result<bool, CliError> {
    if !P::IS_NEEDED || source.app.sql.values().all(|settings| settings.migrations.is_none()) {
        return Ok(false);
    }
    let single_app = home.local()?.single_app.clone();
    let place = single_app.place(&source.dir, &home.data);
    let access = StoreAccess { engines: single_app.stores(), place: &place, data: &home.data };
    let before = source.app.sql.clone();
    stores.prepare(&mut source.app, &access).await;
    Ok(source.app.sql != before)
}
