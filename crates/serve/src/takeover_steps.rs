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
/// the old arrangement goes on.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The maximum time from the end of the last request until the stores of an arrangement in this process are closed.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// The parts that execute a take-over.
pub(crate) struct TakeoverSteps<'a> {
    pub(crate) home: &'a mut ArrangementHome,
    pub(crate) warnings: &'a mut WarningPrinter,
    /// Whether the app is reshaped: the new arrangement must pass the app's health check, and each step is reported in
    /// the log.
    pub(crate) is_reshape: bool,
}

/// The new arrangement, as far as it has come.
enum NewArrangement {
    Absent,
    Prepared(PreparedArrangement),
    Started(Box<StartedArrangement>),
}

impl TakeoverSteps<'_> {
    /// Replaces `current` by a revision of `source` in `shape`. Returns what serves afterwards, and the error if this is
    /// not the new revision.
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
        // Printed before the processes start, because they may fail.
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
                (old.filter(|_| outcome != TakeoverOutcome::Lost), Err(error))
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
        match step {
            TakeoverStep::PrepareNew => {
                let prepared = home.prepare(source, self.shape, self.plan.take(), *is_reshape).await?;
                self.new = NewArrangement::Prepared(prepared);
            }
            TakeoverStep::PauseOld => {
                let Some(old) = old else { return Ok(()) };
                old.arrangement.pause();
                if tokio::time::timeout(PAUSE_MAX, old.arrangement.drained()).await.is_err() {
                    let error = format!("requests in progress did not finish within {} s", PAUSE_MAX.as_secs());
                    let hint = "an app with stores can change its processes only when no request is in progress: wait for long requests and streams to end, and try again";
                    return Err(Hinted::new(error, hint).into());
                }
            }
            TakeoverStep::StopOld => {
                let Some(Serving { arrangement, revision }) = old else { return Ok(()) };
                if let (Some(app), Some(revision)) = (&home.app, revision) {
                    // The admin API must not open the stores again.
                    app.set_manifest(&revision.source.app, None);
                }
                return retire(home, arrangement).await;
            }
            TakeoverStep::StartNew => {
                let has_changed = prepare_stores(home, source, self.stores).await?;
                if P::IS_NEEDED
                    && let Some(local) = &home.local
                {
                    // If the old arrangement has other stores open in this process, they do not close.
                    let closed = local.single_app.stores().closed(home.data.path());
                    let _ = tokio::time::timeout(CLOSE_MAX, closed).await;
                }
                let mut prepared = std::mem::replace(&mut self.new, NewArrangement::Absent);
                if has_changed && matches!(prepared, NewArrangement::Prepared(PreparedArrangement::Local(_))) {
                    // The package contains the settings of the stores. Its code is already compiled.
                    let package = home.prepare_local(source, self.shape)?;
                    prepared = NewArrangement::Prepared(PreparedArrangement::Local(Box::new(package)));
                }
                if let NewArrangement::Prepared(prepared) = prepared {
                    self.new = NewArrangement::Started(Box::new(home.start(prepared, source, *is_reshape).await?));
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
                    return close_stores(home, &started.arrangement).await;
                }
            },
            TakeoverStep::ResumeOld => {
                if let Some(old) = old {
                    old.arrangement.resume();
                }
            }
            TakeoverStep::RestartOld => {
                let Some(Serving { arrangement, revision: Some(revision) }) = old else { return Ok(()) };
                let RunningRevision { source, shape, .. } = revision;
                let plan = source.plan_of_processes(shape)?;
                let prepared = home.prepare(source, shape, plan, false).await?;
                let mut started = home.start(prepared, source, false).await?;
                started.arrangement.accept(&home.tasks).await?;
                *arrangement = started.arrangement;
            }
        }
        Ok(())
    }
}

/// Ends an arrangement after its requests have finished, and waits until its stores are closed.
async fn retire(home: &ArrangementHome, arrangement: &Arrangement) -> Result<(), CliError> {
    arrangement.retire().await;
    close_stores(home, arrangement).await
}

/// Waits until the stores of an arrangement that has ended are closed.
async fn close_stores(home: &ArrangementHome, arrangement: &Arrangement) -> Result<(), CliError> {
    if let (Arrangement::Local(_), Some(local)) = (arrangement, &home.local)
        && !local.single_app.retire(&home.data, CLOSE_MAX).await
    {
        let error = format!("the stores were not closed within {} s, because a guest still runs", CLOSE_MAX.as_secs());
        return Err(CliError::failed(error, "try again"));
    }
    Ok(())
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
