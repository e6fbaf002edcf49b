//! The event loop of the supervisor: starts and stops members as `reconcile` decides.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use isomer_observe::MemberLog;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::process::{MemberEvent, MemberProcess, ProcessEnd};
use crate::reconcile::{Action, EndOutcome, Goal, Reconciler};
use crate::restarts::{RESTARTS_MAX, WINDOW};
use crate::trace_orders::TraceOrders;

/// A member to run.
pub struct MemberSpec {
    /// The member's name in messages.
    pub name: String,
    /// The arguments of the member's command line.
    pub arguments: Vec<OsString>,
    /// What the member runs, as JSON without a line ending. Sent to the member as the first line.
    pub task: Vec<u8>,
    /// Whether the member gets the front door's listening socket. This member is stopped first, so that it can finish
    /// its requests while the others still run.
    pub has_front_door: bool,
    /// The log that receives the member's output.
    pub log: MemberLog,
    /// The orders to trace requests, which the member with the front door receives.
    pub orders: TraceOrders,
}

/// A member and its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyMember {
    /// The member's name.
    pub name: String,
    /// The id of the member's process, or `None` if the process has just ended.
    pub pid: Option<u32>,
}

/// The state of all members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembersState {
    /// Whether all members are prepared to start.
    pub is_prepared: bool,
    /// The members, once all of them have been ready at the same time.
    pub ready: Option<Vec<ReadyMember>>,
    /// Whether no member has connections from clients, and none gets one before the goal changes.
    pub is_drained: bool,
    /// Whether all members have ended, and none is started again.
    pub is_over: bool,
}

/// The control of running members. Clones control the same members.
#[derive(Debug, Clone)]
pub struct MembersHandle {
    goal: watch::Sender<Goal>,
    state: watch::Receiver<MembersState>,
}

impl MembersHandle {
    /// Sets the goal of the members. Members that are being stopped can only be killed.
    pub fn set_goal(&self, goal: Goal) {
        self.goal.send_if_modified(|current| {
            let changes = *current != goal && current.allows(goal);
            if changes {
                *current = goal;
            }
            changes
        });
    }

    /// Returns the state of the members, which changes while they run.
    pub fn state(&self) -> watch::Receiver<MembersState> {
        self.state.clone()
    }
}

/// The outcome of a supervisor's run.
#[derive(Debug)]
pub enum SupervisorOutcome {
    /// All members were stopped gracefully after a signal.
    Stopped,
    /// All members were killed after a second signal.
    Killed,
    /// A member failed, and all others were stopped.
    Failed(MemberFailure),
}

/// The failure of one member that made the supervisor stop all members.
#[derive(Debug)]
pub enum MemberFailure {
    /// A member's process could not be started.
    NotStarted {
        /// The member's name.
        member: String,
        /// The system's error.
        source: io::Error,
    },
    /// A member ended before all members were ready.
    NeverReady {
        /// The member's name.
        member: String,
        /// How the member's process ended.
        end: ProcessEnd,
    },
    /// A member ended too often within `window`.
    TooOften {
        /// The member's name.
        member: String,
        /// The number of unexpected exits within `window`.
        times: usize,
        /// The period within which unexpected exits are counted.
        window: Duration,
        /// How the member's process ended the last time.
        end: ProcessEnd,
    },
}

/// Creates the control of `members`, and the future that runs them until they have been stopped. When they are stopped,
/// the member with the front door stops first, and each member that takes longer than `stop_timeout` is killed. Dropping
/// the future kills all members. `member_failed` is called with the error, rendered for people, of a member that exits
/// and is started again.
pub fn members(
    members: Vec<MemberSpec>,
    listener: TcpListener,
    goal: Goal,
    stop_timeout: Duration,
    member_failed: impl FnMut(&str) + Send + 'static,
) -> (MembersHandle, impl Future<Output = SupervisorOutcome> + Send + 'static) {
    let (events, happened) = unbounded_channel();
    let fronts = members.iter().map(|member| member.has_front_door);
    let supervisor = Supervisor {
        reconciler: Reconciler::new(fronts, goal, stop_timeout, Instant::now()),
        members: members.into_iter().map(|spec| Member { spec, process: None, ended_before: false }).collect(),
        listener: Some(listener),
        events,
        failure: None,
    };
    let (goal, goals) = watch::channel(goal);
    let (published, state) = watch::channel(MembersState::default());
    // The sender of goals lives as long as the members, so that they keep running if every handle is dropped.
    let running = run(supervisor, happened, (goal.clone(), goals), published, member_failed);
    (MembersHandle { goal, state }, running)
}

async fn run(
    mut supervisor: Supervisor,
    mut happened: UnboundedReceiver<(usize, MemberEvent)>,
    (_goal, mut goals): (watch::Sender<Goal>, watch::Receiver<Goal>),
    published: watch::Sender<MembersState>,
    mut member_failed: impl FnMut(&str) + Send + 'static,
) -> SupervisorOutcome {
    loop {
        supervisor.reconciler.set_goal(*goals.borrow_and_update());
        for action in supervisor.reconciler.next(Instant::now()) {
            supervisor.act(action);
        }
        let is_over = supervisor.reconciler.is_over();
        published.send_if_modified(|state| {
            let next = supervisor.state();
            let changes = *state != next;
            *state = next;
            changes
        });
        if is_over {
            break;
        }
        let due = supervisor.reconciler.due();
        tokio::select! {
            _ = goals.changed() => {}
            event = next(&mut happened) => supervisor.learn(event, &mut member_failed),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }
    match supervisor.failure {
        Some(failure) => SupervisorOutcome::Failed(failure),
        None if supervisor.reconciler.goal() == Goal::Kill => SupervisorOutcome::Killed,
        None => SupervisorOutcome::Stopped,
    }
}

async fn next(events: &mut UnboundedReceiver<(usize, MemberEvent)>) -> (usize, MemberEvent) {
    match events.recv().await {
        Some(event) => event,
        // Unreachable, because the supervisor holds a sender.
        None => std::future::pending().await,
    }
}

struct Member {
    spec: MemberSpec,
    process: Option<MemberProcess>,
    /// Whether the process has ended at least once since the member was last ready.
    ended_before: bool,
}

impl Member {
    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }
}

struct Supervisor {
    reconciler: Reconciler,
    members: Vec<Member>,
    /// The front door's listening socket. Closed before the first member is stopped.
    listener: Option<TcpListener>,
    events: UnboundedSender<(usize, MemberEvent)>,
    /// The first failure, because of which all members are stopped.
    failure: Option<MemberFailure>,
}

impl Supervisor {
    fn state(&self) -> MembersState {
        let ready = |member: &Member| ReadyMember { name: member.spec.name.clone(), pid: member.pid() };
        MembersState {
            is_prepared: self.reconciler.is_prepared(),
            ready: self.reconciler.was_ready().then(|| self.members.iter().map(ready).collect()),
            is_drained: self.reconciler.is_drained(),
            is_over: self.reconciler.is_over(),
        }
    }

    fn act(&mut self, action: Action) {
        if !self.reconciler.goal().runs() {
            self.listener = None;
        }
        match action {
            Action::Start(number) => {
                let member = &mut self.members[number];
                let MemberSpec { name, arguments, task, has_front_door, log, orders } = &member.spec;
                let listener = self.listener.as_ref().filter(|_| *has_front_door);
                let orders = has_front_door.then(|| orders.clone());
                let (log, events) = (log.clone(), self.events.clone());
                match MemberProcess::start(arguments, task, listener, number, log, orders, events) {
                    Ok(process) => member.process = Some(process),
                    Err(source) => {
                        let failure = MemberFailure::NotStarted { member: name.clone(), source };
                        self.failure.get_or_insert(failure);
                        self.reconciler.ended(number, Instant::now());
                        self.reconciler.set_goal(Goal::Kill);
                    }
                }
            }
            Action::Send(number, message) => {
                if let Some(process) = &self.members[number].process {
                    process.send(message);
                }
            }
            Action::Kill(number) => {
                let member = &self.members[number];
                if self.reconciler.goal() != Goal::Kill {
                    member.spec.log.warn("did not stop in time and is killed");
                }
                if let Some(process) = &member.process {
                    process.kill();
                }
            }
            Action::Announce => {}
        }
    }

    fn learn(&mut self, (number, event): (usize, MemberEvent), member_failed: &mut impl FnMut(&str)) {
        let member = &mut self.members[number];
        let log = &member.spec.log;
        match event {
            MemberEvent::Prepared => self.reconciler.prepared(number),
            MemberEvent::Drained(pause) => self.reconciler.drained(number, pause),
            MemberEvent::Ready => {
                self.reconciler.ready(number);
                if std::mem::take(&mut member.ended_before) {
                    let pid = member.pid().map_or_else(String::new, |pid| format!(" (process {pid})"));
                    log.note(format!("is ready again{pid}"));
                }
            }
            MemberEvent::Ended(end) => {
                let pid = member.pid().map_or_else(String::new, |pid| format!(" {pid}"));
                member.process = None;
                member.ended_before = true;
                let name = member.spec.name.clone();
                match self.reconciler.ended(number, Instant::now()) {
                    EndOutcome::Expected => {}
                    EndOutcome::Restart(pause) => {
                        if let Some((text, _)) = &end.error {
                            member_failed(text);
                        }
                        let (how, pause) = (end.describe(), pause.as_millis());
                        log.warn(format!("process{pid} {how}; it is started again in {pause} ms"));
                    }
                    EndOutcome::NeverReady => {
                        self.failure.get_or_insert(MemberFailure::NeverReady { member: name, end });
                    }
                    EndOutcome::TooOften => {
                        let times = RESTARTS_MAX + 1;
                        self.failure.get_or_insert(MemberFailure::TooOften {
                            member: name,
                            times,
                            window: WINDOW,
                            end,
                        });
                    }
                }
            }
        }
    }
}
