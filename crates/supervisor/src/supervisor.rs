//! The event loop of the supervisor: starts and stops members as `reconcile` decides.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use isomer_observe::MemberLog;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

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

/// A member that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadyMember<'a> {
    /// The member's name.
    pub name: &'a str,
    /// The id of the member's process, or `None` if the process has just ended.
    pub pid: Option<u32>,
}

/// Reports the state of the members to the user.
pub trait MemberReporter {
    /// The error of a failed report. Such an error ends [`run`].
    type Error;

    /// Reports that all members are ready. Called once.
    fn ready(&mut self, members: &[ReadyMember<'_>]) -> Result<(), Self::Error>;

    /// Reports an error that made a member exit; the member is started again. `text` is rendered for people.
    fn member_failed(&mut self, text: &str);
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

/// Runs `members` until `next_signal` resolves. Then stops them, the member with the front door first, and kills each
/// member that takes longer than `stop_timeout`. If `next_signal` resolves again, kills all members.
///
/// # Errors
/// If a report fails. In this case all members are killed.
pub async fn run<R: MemberReporter>(
    members: Vec<MemberSpec>,
    listener: TcpListener,
    stop_timeout: Duration,
    mut next_signal: impl AsyncFnMut(),
    reporter: &mut R,
) -> Result<SupervisorOutcome, R::Error> {
    let (events, mut happened) = unbounded_channel();
    let fronts = members.iter().map(|member| member.has_front_door);
    let mut supervisor = Supervisor {
        reconciler: Reconciler::new(fronts, stop_timeout, Instant::now()),
        members: members.into_iter().map(|spec| Member { spec, process: None, ended_before: false }).collect(),
        listener: Some(listener),
        events,
        failure: None,
    };
    loop {
        for action in supervisor.reconciler.next(Instant::now()) {
            match action {
                Action::Announce => {
                    let members = supervisor.members.iter();
                    let ready = members.map(|it| ReadyMember { name: &it.spec.name, pid: it.pid() });
                    reporter.ready(&ready.collect::<Vec<_>>())?;
                }
                action => supervisor.act(action),
            }
        }
        if supervisor.reconciler.is_over() {
            break;
        }
        let due = supervisor.reconciler.due();
        tokio::select! {
            () = next_signal() => supervisor.reconciler.stop(),
            event = next(&mut happened) => supervisor.learn(event, reporter),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }
    Ok(match supervisor.failure {
        Some(failure) => SupervisorOutcome::Failed(failure),
        None if supervisor.reconciler.goal() == Goal::Kill => SupervisorOutcome::Killed,
        None => SupervisorOutcome::Stopped,
    })
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
    fn act(&mut self, action: Action) {
        if self.reconciler.goal() != Goal::Serve {
            self.listener = None;
        }
        match action {
            Action::Start(number) => {
                let member = &mut self.members[number];
                let MemberSpec { name, arguments, task, has_front_door, log, orders } = &member.spec;
                let listener = self.listener.as_ref().filter(|_| *has_front_door);
                let orders = has_front_door.then(|| orders.receiver());
                let (log, events) = (log.clone(), self.events.clone());
                match MemberProcess::start(arguments, task, listener, number, log, orders, events) {
                    Ok(process) => member.process = Some(process),
                    Err(source) => {
                        let failure = MemberFailure::NotStarted { member: name.clone(), source };
                        self.failure.get_or_insert(failure);
                        self.reconciler.ended(number, Instant::now());
                        self.reconciler.give_up();
                    }
                }
            }
            Action::Stop(number) => {
                if let Some(process) = &self.members[number].process {
                    process.stop();
                }
            }
            Action::Kill(number) => {
                let member = &self.members[number];
                if self.reconciler.goal() == Goal::Stop {
                    member.spec.log.warn("did not stop in time and is killed");
                }
                if let Some(process) = &member.process {
                    process.kill();
                }
            }
            Action::Announce => {}
        }
    }

    fn learn(&mut self, (number, event): (usize, MemberEvent), reporter: &mut impl MemberReporter) {
        let member = &mut self.members[number];
        let log = &member.spec.log;
        match event {
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
                            reporter.member_failed(text);
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
