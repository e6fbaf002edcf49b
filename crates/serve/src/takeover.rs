//! The steps in which a new arrangement of an app's groups takes over from the arrangement that serves. Pure: no
//! process, no clock.
//!
//! A store can be open in one process only. If an arrangement has stores and the other one runs in other processes, the
//! stores *move*: the old arrangement stops before the new one starts. Meanwhile, new connections wait in the queue of the
//! listening socket, which no arrangement closes.
//!
//! ```text
//! stores move:     prepare new ─► pause old ─► stop old ─► start new ─► accept
//! no store moves:  prepare new ─► start new ─► accept ─► stop old
//! ```
//!
//! The caller executes the step that [`Takeover::step`] returns, and reports with [`Takeover::finish_step`] whether the
//! step succeeded. If a step fails, the next steps undo the take-over: the new arrangement is discarded, and the old one
//! accepts connections again, or is started again if it was already stopped.

/// A step of a take-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TakeoverStep {
    /// The new arrangement plans, compiles, and starts its processes. It opens no store.
    PrepareNew,
    /// The old arrangement accepts no more connections, and finishes the requests of the open ones. Fails if this takes
    /// too long.
    PauseOld,
    /// The old arrangement drains, closes its stores and ends.
    StopOld,
    /// The new arrangement opens its stores, starts its instances, and passes the health check. It accepts no
    /// connections.
    StartNew,
    /// The new arrangement accepts connections.
    Accept,
    /// The new arrangement ends. It has had no requests.
    DiscardNew,
    /// The old arrangement, which was only paused, accepts connections again.
    ResumeOld,
    /// The old arrangement, which was stopped, is started again and accepts connections.
    RestartOld,
}

impl TakeoverStep {
    /// Returns the message that reports the start of the step.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::PrepareNew => "preparing the new arrangement",
            Self::PauseOld => "new connections wait until the requests in progress have finished",
            Self::StopOld => "stopping the previous arrangement",
            Self::StartNew => "starting the new arrangement",
            Self::Accept => "the new arrangement takes over",
            Self::DiscardNew => "discarding the new arrangement",
            Self::ResumeOld => "the previous arrangement continues",
            Self::RestartOld => "starting the previous arrangement again",
        }
    }
}

/// The end of a take-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeoverOutcome {
    /// The new arrangement serves.
    TakenOver,
    /// The take-over failed, and the old arrangement serves.
    Kept,
    /// The take-over failed, and no arrangement serves: there was no old one, or it could not be started again.
    Lost,
}

/// The arrangement that a take-over replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OldArrangement {
    /// There is none: this is the first start.
    None,
    /// The old arrangement and the new one can run at the same time.
    Compatible,
    /// The old arrangement must close its stores before the new one opens them.
    HoldsStores,
}

/// A take-over in progress.
#[derive(Debug)]
pub(crate) struct Takeover {
    old: OldArrangement,
    /// Whether the old arrangement was stopped, or may have been.
    old_is_stopped: bool,
    /// The current step, or the outcome if no step is left.
    step: Result<TakeoverStep, TakeoverOutcome>,
}

impl Takeover {
    pub(crate) fn new(old: OldArrangement) -> Self {
        Self { old, old_is_stopped: false, step: Ok(TakeoverStep::PrepareNew) }
    }

    /// Returns the step to execute.
    ///
    /// # Errors
    /// The outcome of the take-over, if no step is left.
    pub(crate) fn step(&self) -> Result<TakeoverStep, TakeoverOutcome> {
        self.step
    }

    /// Records the end of the current step.
    pub(crate) fn finish_step(&mut self, succeeded: bool) {
        use TakeoverOutcome::{Kept, Lost, TakenOver};
        use TakeoverStep::{Accept, DiscardNew, PauseOld, PrepareNew, RestartOld, ResumeOld, StartNew, StopOld};
        let Ok(step) = self.step else { return };
        self.old_is_stopped |= step == StopOld;
        self.step = match (step, succeeded, self.old) {
            (PrepareNew, true, OldArrangement::HoldsStores) => Ok(PauseOld),
            (PauseOld, true, _) => Ok(StopOld),
            (PrepareNew, true, _) | (StopOld, true, OldArrangement::HoldsStores) => Ok(StartNew),
            (StartNew, true, _) => Ok(Accept),
            (Accept, true, OldArrangement::Compatible) => Ok(StopOld),
            // A compatible old arrangement stops after the new one has started to serve. So the take-over is complete,
            // even if stopping the old arrangement failed.
            (Accept, true, _) | (StopOld, _, OldArrangement::None | OldArrangement::Compatible) => Err(TakenOver),
            (PauseOld, false, _) => Ok(ResumeOld),
            (PrepareNew | StopOld | StartNew | Accept, false, _) | (ResumeOld, _, _) => Ok(DiscardNew),
            (DiscardNew, _, OldArrangement::None) | (RestartOld, false, _) => Err(Lost),
            (DiscardNew, _, _) if self.old_is_stopped => Ok(RestartOld),
            (DiscardNew, _, _) | (RestartOld, true, _) => Err(Kept),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum number of steps of a take-over.
    const STEPS_MAX: u32 = 8;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum State {
        Absent,
        Prepared,
        /// Has its stores open, and accepts no connections.
        Started,
        Serves,
    }

    /// The two arrangements as the steps change them.
    struct World {
        kind: OldArrangement,
        old: State,
        new: State,
    }

    impl World {
        /// Executes a step. A failed step may have taken effect partly, so the test assumes the worst case.
        fn execute(&mut self, step: TakeoverStep, succeeds: bool) {
            match step {
                TakeoverStep::PrepareNew => self.new = State::Prepared,
                TakeoverStep::PauseOld => self.old = State::Started,
                TakeoverStep::StopOld if succeeds => self.old = State::Absent,
                TakeoverStep::StopOld => {}
                TakeoverStep::StartNew => self.new = State::Started,
                TakeoverStep::Accept => self.new = State::Serves,
                TakeoverStep::DiscardNew => self.new = State::Absent,
                TakeoverStep::ResumeOld => self.old = State::Serves,
                TakeoverStep::RestartOld if succeeds => self.old = State::Serves,
                TakeoverStep::RestartOld => self.old = State::Absent,
            }
            let open = |state| matches!(state, State::Started | State::Serves);
            let both_open = open(self.old) && open(self.new);
            assert!(self.kind != OldArrangement::HoldsStores || !both_open, "after {step:?}: stores are open twice");
            let serves = |state| state == State::Serves;
            let is_served = serves(self.old) || serves(self.new);
            assert!(self.kind != OldArrangement::Compatible || is_served, "after {step:?}: no arrangement serves");
        }
    }

    /// Whichever steps fail, a store is never open twice, and in the end exactly one arrangement serves. The only
    /// exceptions are a failed first start, and an old arrangement that cannot be started again.
    #[test]
    fn a_fault_at_any_step_leaves_one_arrangement() {
        for kind in [OldArrangement::None, OldArrangement::Compatible, OldArrangement::HoldsStores] {
            for faults in 0..1_u32 << STEPS_MAX {
                let old = if kind == OldArrangement::None { State::Absent } else { State::Serves };
                let (mut takeover, mut world) = (Takeover::new(kind), World { kind, old, new: State::Absent });
                let (mut steps, mut last) = (0, None);
                while let Ok(step) = takeover.step() {
                    assert!(steps < STEPS_MAX, "{kind:?}, faults {faults:b}: endless");
                    let succeeds = (faults >> steps) & 1 == 0;
                    world.execute(step, succeeds);
                    takeover.finish_step(succeeds);
                    steps += 1;
                    last = Some((step, succeeds));
                }
                let expected = match takeover.step().unwrap_err() {
                    TakeoverOutcome::TakenOver => (State::Absent, State::Serves),
                    TakeoverOutcome::Kept => (State::Serves, State::Absent),
                    TakeoverOutcome::Lost => {
                        let is_first = kind == OldArrangement::None;
                        assert!(is_first || last == Some((TakeoverStep::RestartOld, false)), "{kind:?} {faults:b}");
                        (State::Absent, State::Absent)
                    }
                };
                let is_old_stuck = kind == OldArrangement::Compatible && last == Some((TakeoverStep::StopOld, false));
                let old = if is_old_stuck { State::Absent } else { world.old };
                assert_eq!((old, world.new), expected, "{kind:?}, faults {faults:b}");
            }
        }
    }

    #[test]
    fn without_a_fault_the_new_arrangement_takes_over() {
        use TakeoverStep::{Accept, PauseOld, PrepareNew, StartNew, StopOld};
        let steps = |kind| {
            let mut takeover = Takeover::new(kind);
            let mut steps = Vec::new();
            while let Ok(step) = takeover.step() {
                steps.push(step);
                takeover.finish_step(true);
            }
            assert_eq!(takeover.step(), Err(TakeoverOutcome::TakenOver));
            steps
        };
        assert_eq!(steps(OldArrangement::None), [PrepareNew, StartNew, Accept]);
        assert_eq!(steps(OldArrangement::Compatible), [PrepareNew, StartNew, Accept, StopOld]);
        assert_eq!(steps(OldArrangement::HoldsStores), [PrepareNew, PauseOld, StopOld, StartNew, Accept]);
    }
}
