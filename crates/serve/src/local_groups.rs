//! An arrangement in which the serving process itself runs all groups of the app.

use std::time::Duration;

use isomer_apps::{FrontGate, GateGoal, GateStop, SingleApp};
use isomer_front::Connections;
use isomer_observe::Log;
use tokio::sync::watch;

use crate::context::report_cut_off;
use crate::shutdown::{ArrangementTasks, ShutdownLevel};

/// The parts that all arrangements in this process share. They are created once.
pub(crate) struct LocalHome {
    /// The app with its engine and its storage engines.
    pub(crate) single_app: SingleApp,
    /// The statistics of the front door's connections.
    pub(crate) connections: Connections,
}

/// The groups of the app in this process. Initially, their front door is closed.
#[derive(Clone)]
pub(crate) struct LocalGroups {
    goal: watch::Sender<GateGoal>,
    state: watch::Receiver<GateState>,
}

/// The state of the front door.
#[derive(Debug, Clone, Copy, Default)]
struct GateState {
    /// The number of the last pause in which all connections have ended.
    drained: u64,
    is_over: bool,
}

impl LocalGroups {
    /// Starts the task of the front door `gate`. When the process shuts down, requests may take `grace`.
    pub(crate) fn start(gate: FrontGate, tasks: &ArrangementTasks, log: Log, grace: Duration) -> Self {
        let goal = watch::Sender::new(GateGoal::default());
        let (published, state) = watch::channel(GateState::default());
        let (goals, aborted) = (goal.subscribe(), tasks.aborted());
        let work = async move {
            let drained = |pause| published.send_modify(|state| state.drained = pause);
            tokio::select! {
                left = gate.follow(goals, drained, grace) => report_cut_off(&log, left),
                () = aborted => {}
            }
            published.send_modify(|state| state.is_over = true);
        };
        let stopping = goal.clone();
        tasks.spawn(work, move |level| {
            if level >= ShutdownLevel::Drain {
                stopping.send_modify(|goal| goal.stop = goal.stop.or(Some(GateStop::AcceptQueue)));
            }
        });
        Self { goal, state }
    }

    pub(crate) fn accept(&self) {
        self.goal.send_modify(|goal| goal.open = true);
    }

    pub(crate) fn pause(&self) {
        self.goal.send_modify(|goal| *goal = GateGoal { open: false, pause: goal.pause + 1, ..*goal });
    }

    /// Ends the task of the front door after its requests have finished. Connections that it has not accepted are left to
    /// another process.
    pub(crate) fn retire(&self) {
        self.goal.send_modify(|goal| (goal.open, goal.stop) = (false, Some(GateStop::LeaveQueue)));
    }

    /// Waits until all connections have ended in the current pause.
    pub(crate) async fn drained(&self) {
        let pause = self.goal.borrow().pause;
        let _ = self.state.clone().wait_for(|state| state.drained == pause || state.is_over).await;
    }

    /// Waits until the task of the front door has ended.
    pub(crate) async fn ended(&self) {
        let _ = self.state.clone().wait_for(|state| state.is_over).await;
    }
}
