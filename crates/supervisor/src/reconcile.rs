//! Computes the next actions that bring all members to their goal. Pure: no process, no clock.
//!
//! Events (a member is ready, a member ended, a new goal) only change the known state. Then [`Reconciler::next`]
//! compares the known state with the goal and returns the actions. If it is called again without a new event, it returns
//! no action. So the result does not depend on the order of events, on simultaneous events, or on repeated events.
//!
//! | goal | what holds when no action is left |
//! | --- | --- |
//! | [`Goal::Prepare`] | every member runs, and has opened no store |
//! | [`Goal::Start`] | every member has started; no connection from a client is accepted |
//! | [`Goal::Serve`] | every member has started; the front door's member accepts connections |
//! | [`Goal::Pause`] | every member has started; the front door's member has drained |
//! | [`Goal::Retire`] | as for [`Goal::Stop`], but connections that no process has accepted are left to another process |
//! | [`Goal::Stop`] | first the front door's member drained and ended, then the others; members that took too long were killed |
//! | [`Goal::Kill`] | no member runs |
//!
//! Under the first four goals, members that ended wait for their restart.
//!
//! An alternative, a task per member that restarts its member by itself, was rejected: to stop members in order, to
//! give up on all members together and to announce readiness once, one task must know the state of all members. Two
//! tasks that decide about the same process would contradict each other.
//!
//! The file is long because half of it is tests, one for each order of events that matters.

use std::time::{Duration, Instant};

use crate::messages::SupervisorMessage;
use crate::restarts::Restarts;

/// The goal that applies to all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The members run, and prepare everything that needs no store.
    Prepare,
    /// The members have started, but accept no connections from clients.
    Start,
    /// The members serve.
    Serve,
    /// The members run, but accept no new connections from clients.
    Pause,
    /// The members finish the running requests and exit. Another process accepts connections from the same socket.
    Retire,
    /// The members finish the running requests and exit.
    Stop,
    /// The members are killed.
    Kill,
}

impl Goal {
    /// Returns whether members run under this goal.
    pub(crate) fn runs(self) -> bool {
        !matches!(self, Self::Retire | Self::Stop | Self::Kill)
    }

    /// Returns whether `next` can replace this goal: members that are being stopped can only be killed.
    pub(crate) fn allows(self, next: Self) -> bool {
        match self {
            Self::Kill => false,
            Self::Stop | Self::Retire => next == Self::Kill,
            _ => true,
        }
    }
}

/// The known state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    /// The member does not run, and is started at the time `due`.
    Down { due: Instant },
    /// The member's process runs, but has not reported that it is prepared.
    Starting,
    /// The member has reported that it is prepared.
    Prepared,
    /// The member has reported that it is ready.
    Ready,
    /// The member does not run and is not started again.
    Ended,
}

/// The front door of a member, as the messages to the member determine it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// The member has no connections from clients.
    Closed,
    Open,
    /// The member drains, in the pause with this number.
    Draining(u64),
}

/// An action, for the member with the given number or for all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    Send(usize, SupervisorMessage),
    Kill(usize),
    /// The supervisor reports that all members are ready. Happens once.
    Announce,
}

/// The consequence of the exit of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOutcome {
    /// The member was expected to exit, because all members are being stopped or killed.
    Expected,
    /// The member is started again after this pause.
    Restart(Duration),
    /// The member ended before all members were ready. It is not started again, because it would probably fail again in
    /// the same way.
    NeverReady,
    /// The member ended too often within [`WINDOW`](crate::restarts::WINDOW).
    TooOften,
}

#[derive(Debug)]
struct Member {
    /// Whether the member gets the front door's listening socket.
    front: bool,
    state: MemberState,
    restarts: Restarts,
    /// Whether the member's process was sent the message to start.
    start_sent: bool,
    door: Door,
    /// Whether the member's process was sent the message to accept connections.
    was_open: bool,
    /// The time at which the member was asked to stop, or `None` if it has not been asked.
    stop_sent: Option<Instant>,
    killed: bool,
}

impl Member {
    fn runs(&self) -> bool {
        matches!(self.state, MemberState::Starting | MemberState::Prepared | MemberState::Ready)
    }
}

/// The known state of all members, and their goal.
#[derive(Debug)]
pub(crate) struct Reconciler {
    members: Vec<Member>,
    goal: Goal,
    announced: bool,
    /// The number of pauses that were started.
    pauses: u64,
    /// The time from a stop request until a member that still runs is killed.
    stop_timeout: Duration,
}

impl Reconciler {
    /// Creates the state in which no member runs and all are due to start. `fronts` has one entry per member: whether
    /// the member gets the front door's listening socket.
    pub(crate) fn new(
        fronts: impl IntoIterator<Item = bool>,
        goal: Goal,
        stop_timeout: Duration,
        now: Instant,
    ) -> Self {
        let member = |front| Member {
            front,
            state: MemberState::Down { due: now },
            restarts: Restarts::default(),
            start_sent: false,
            door: Door::Closed,
            was_open: false,
            stop_sent: None,
            killed: false,
        };
        Self { members: fronts.into_iter().map(member).collect(), goal, announced: false, pauses: 0, stop_timeout }
    }

    /// Records that the member has reported that it is prepared.
    pub(crate) fn prepared(&mut self, member: usize) {
        let member = &mut self.members[member];
        if member.state == MemberState::Starting {
            member.state = MemberState::Prepared;
        }
    }

    /// Records that the member has reported that it is ready.
    pub(crate) fn ready(&mut self, member: usize) {
        let member = &mut self.members[member];
        if member.runs() {
            member.state = MemberState::Ready;
        }
    }

    /// Records that the member has closed all connections from clients in the pause with this number.
    pub(crate) fn drained(&mut self, member: usize, number: u64) {
        let member = &mut self.members[member];
        if member.door == Door::Draining(number) {
            member.door = Door::Closed;
        }
    }

    /// Records that the member's process has ended.
    pub(crate) fn ended(&mut self, member: usize, now: Instant) -> EndOutcome {
        let (goal, announced) = (self.goal, self.announced);
        let member = &mut self.members[member];
        member.killed = false;
        member.start_sent = false;
        (member.door, member.was_open) = (Door::Closed, false);
        member.state = MemberState::Ended;
        if !goal.runs() {
            return EndOutcome::Expected;
        }
        if !announced {
            self.goal = Goal::Kill;
            return EndOutcome::NeverReady;
        }
        match member.restarts.after_end(now) {
            Some(pause) => {
                member.state = MemberState::Down { due: now + pause };
                EndOutcome::Restart(pause)
            }
            None => {
                self.goal = Goal::Stop;
                EndOutcome::TooOften
            }
        }
    }

    /// Sets the goal, unless the members are being stopped or killed for a stronger goal.
    pub(crate) fn set_goal(&mut self, goal: Goal) {
        if self.goal.allows(goal) && self.goal != goal {
            self.goal = goal;
            self.pauses += u64::from(goal == Goal::Pause);
        }
    }

    pub(crate) fn goal(&self) -> Goal {
        self.goal
    }

    /// Returns whether all members are prepared.
    pub(crate) fn is_prepared(&self) -> bool {
        self.members.iter().all(|member| matches!(member.state, MemberState::Prepared | MemberState::Ready))
    }

    /// Returns whether all members were ready at the same time.
    pub(crate) fn was_ready(&self) -> bool {
        self.announced
    }

    /// Returns whether no member has connections from clients, and none gets one before the goal changes.
    pub(crate) fn is_drained(&self) -> bool {
        self.goal != Goal::Serve && self.members.iter().all(|member| member.door == Door::Closed)
    }

    /// Returns whether all members have ended and none will be restarted.
    pub(crate) fn is_over(&self) -> bool {
        !self.goal.runs() && self.members.iter().all(|member| member.state == MemberState::Ended)
    }

    /// Returns the next actions, and records them as done.
    pub(crate) fn next(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.goal.runs() {
            for member in self.members.iter_mut().filter(|member| matches!(member.state, MemberState::Down { .. })) {
                member.state = MemberState::Ended;
            }
        }
        let front_runs = self.members.iter().any(|member| member.front && member.state != MemberState::Ended);
        for (number, member) in self.members.iter_mut().enumerate() {
            let runs = member.runs();
            let late = member.stop_sent.is_some_and(|sent| now >= sent + self.stop_timeout);
            // A member that has not become ready has no requests to finish, so it is killed. The exception is a front
            // door that restarts after the report that all members are ready, because clients may already be connected
            // to its socket, and no other process serves them.
            let has_clients = member.front && self.announced && self.goal != Goal::Retire;
            let unneeded = runs && member.state != MemberState::Ready && !has_clients;
            match self.goal {
                Goal::Retire | Goal::Stop if runs && !member.killed && (late || unneeded) => {
                    member.killed = true;
                    actions.push(Action::Kill(number));
                }
                Goal::Retire | Goal::Stop => {
                    if runs && member.stop_sent.is_none() && !member.killed && (member.front || !front_runs) {
                        member.stop_sent = Some(now);
                        if self.goal == Goal::Retire && member.door == Door::Open {
                            actions.push(Action::Send(number, SupervisorMessage::Pause { number: self.pauses }));
                        }
                        // Connections may wait since a pause, and no other process accepts them.
                        if self.goal == Goal::Stop && member.was_open && member.door != Door::Open {
                            actions.push(Action::Send(number, SupervisorMessage::Accept));
                        }
                        actions.push(Action::Send(number, SupervisorMessage::Stop));
                    }
                }
                Goal::Kill => {
                    if runs && !member.killed {
                        member.killed = true;
                        actions.push(Action::Kill(number));
                    }
                }
                goal => {
                    if matches!(member.state, MemberState::Down { due } if due <= now) {
                        member.state = MemberState::Starting;
                        actions.push(Action::Start(number));
                    }
                    if member.runs() && !member.start_sent && goal != Goal::Prepare {
                        member.start_sent = true;
                        actions.push(Action::Send(number, SupervisorMessage::Start { first: !self.announced }));
                    }
                    if let Some(message) = door_message(member, goal, self.pauses) {
                        actions.push(Action::Send(number, message));
                    }
                }
            }
        }
        let all_ready = self.members.iter().all(|member| member.state == MemberState::Ready);
        if self.goal.runs() && !self.announced && all_ready {
            self.announced = true;
            actions.push(Action::Announce);
        }
        actions
    }

    /// Returns the time at which [`Reconciler::next`] must be called even if no event occurs.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = |member: &Member| match member.state {
            MemberState::Down { due } if self.goal.runs() => Some(due),
            _ if matches!(self.goal, Goal::Retire | Goal::Stop) && member.runs() && !member.killed => {
                member.stop_sent.map(|sent| sent + self.stop_timeout)
            }
            _ => None,
        };
        self.members.iter().filter_map(due).min()
    }
}

/// Returns the message that opens or closes the member's front door as `goal` requires, and records the message as sent.
fn door_message(member: &mut Member, goal: Goal, pauses: u64) -> Option<SupervisorMessage> {
    if !member.front || !member.runs() {
        return None;
    }
    match (goal, member.door) {
        (Goal::Serve, Door::Closed | Door::Draining(_)) => {
            (member.door, member.was_open) = (Door::Open, true);
            Some(SupervisorMessage::Accept)
        }
        (Goal::Pause, Door::Open) => {
            member.door = Door::Draining(pauses);
            Some(SupervisorMessage::Pause { number: pauses })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Announce, Kill, Send, Start};
    use super::SupervisorMessage::{Accept, Pause, Stop};
    use super::*;

    const STOP_TIMEOUT: Duration = Duration::from_secs(30);

    /// Returns the actions that start `members` under the goal to serve.
    fn started<const N: usize>(members: [usize; N], front: usize, first: bool) -> Vec<Action> {
        let of_one = |member| {
            let accept = (member == front).then_some(Send(member, Accept));
            [Start(member), Send(member, SupervisorMessage::Start { first })].into_iter().chain(accept)
        };
        members.into_iter().flat_map(of_one).collect()
    }

    /// Returns a reconciler of three ready members, the second of which has the front door.
    fn serving(now: Instant) -> Reconciler {
        let mut all = Reconciler::new([false, true, false], Goal::Serve, STOP_TIMEOUT, now);
        assert_eq!(all.next(now), started([0, 1, 2], 1, true));
        assert_eq!(all.next(now), []);
        all.ready(0);
        all.prepared(1);
        all.ready(2);
        assert_eq!(all.next(now), []);
        all.ready(1);
        assert_eq!(all.next(now), [Announce]);
        assert_eq!(all.next(now), []);
        all
    }

    #[test]
    fn a_member_that_ends_is_started_again_after_its_pause() {
        let now = Instant::now();
        let mut all = serving(now);
        let EndOutcome::Restart(pause) = all.ended(2, now) else { panic!("the member must be started again") };
        assert_eq!(all.next(now), []);
        assert_eq!(all.due(), Some(now + pause));
        assert_eq!(all.next(now + pause), started([2], 1, false));
        all.ready(2);
        assert_eq!(all.next(now + pause), [], "readiness is announced only once");
    }

    #[test]
    fn the_front_door_stops_first_and_the_others_wait_for_it() {
        let now = Instant::now();
        let mut all = serving(now);
        all.set_goal(Goal::Stop);
        assert_eq!(all.next(now), [Send(1, Stop)]);
        assert_eq!(all.next(now), []);
        assert!(!all.is_over());
        assert_eq!(all.ended(1, now), EndOutcome::Expected);
        assert_eq!(all.next(now), [Send(0, Stop), Send(2, Stop)]);
        all.ended(0, now);
        all.ended(2, now);
        assert_eq!(all.next(now), []);
        assert!(all.is_over());
    }

    #[test]
    fn a_member_that_does_not_stop_in_time_is_killed() {
        let now = Instant::now();
        let mut all = serving(now);
        all.set_goal(Goal::Stop);
        all.next(now);
        assert_eq!(all.due(), Some(now + STOP_TIMEOUT));
        assert_eq!(all.next(now + STOP_TIMEOUT), [Kill(1)]);
        assert_eq!((all.next(now + STOP_TIMEOUT), all.due()), (vec![], None));
    }

    #[test]
    fn a_second_signal_kills_all() {
        let now = Instant::now();
        let mut all = serving(now);
        all.set_goal(Goal::Stop);
        all.next(now);
        all.set_goal(Goal::Kill);
        all.set_goal(Goal::Serve);
        assert_eq!(all.next(now), [Kill(0), Kill(1), Kill(2)]);
        assert_eq!(all.next(now), []);
    }

    #[test]
    fn a_pending_restart_does_not_delay_the_stop() {
        let now = Instant::now();
        let mut all = serving(now);
        all.ended(1, now);
        all.set_goal(Goal::Stop);
        assert_eq!(all.next(now), [Send(0, Stop), Send(2, Stop)]);
    }

    #[test]
    fn a_restarting_front_door_serves_waiting_connections_before_it_stops() {
        let now = Instant::now();
        let mut all = serving(now);
        let EndOutcome::Restart(pause) = all.ended(1, now) else { panic!("the member must be started again") };
        assert_eq!(all.next(now + pause), started([1], 1, false));
        all.set_goal(Goal::Stop);
        assert_eq!(all.next(now + pause), [Send(1, Stop)]);
        assert_eq!(all.due(), Some(now + pause + STOP_TIMEOUT));
        assert_eq!(all.next(now + pause + STOP_TIMEOUT), [Kill(1)]);
        // Until all members are reported as ready, no client can be connected, so a stop kills the members immediately.
        let mut all = Reconciler::new([true, false], Goal::Serve, STOP_TIMEOUT, now);
        all.next(now);
        all.set_goal(Goal::Stop);
        assert_eq!(all.next(now), [Kill(0), Kill(1)]);
    }

    #[test]
    fn an_end_before_all_are_ready_stops_all_and_so_do_too_many_ends() {
        let now = Instant::now();
        let mut all = Reconciler::new([true, false], Goal::Serve, STOP_TIMEOUT, now);
        all.next(now);
        assert_eq!(all.ended(1, now), EndOutcome::NeverReady);
        assert_eq!(all.next(now), [Kill(0)]);
        let mut all = serving(now);
        let mut outcomes = (0..100).map(|_| {
            let outcome = all.ended(0, now);
            all.next(now + STOP_TIMEOUT);
            outcome
        });
        assert!(outcomes.by_ref().any(|outcome| outcome == EndOutcome::TooOften));
        assert_eq!(all.goal(), Goal::Stop);
    }

    #[test]
    fn members_start_and_accept_when_they_are_ordered_to() {
        let now = Instant::now();
        let mut all = Reconciler::new([true, false], Goal::Prepare, STOP_TIMEOUT, now);
        assert_eq!(all.next(now), [Start(0), Start(1)]);
        all.prepared(0);
        assert!(!all.is_prepared());
        all.prepared(1);
        assert!(all.is_prepared() && all.next(now).is_empty());
        all.set_goal(Goal::Start);
        let start = SupervisorMessage::Start { first: true };
        assert_eq!(all.next(now), [Send(0, start.clone()), Send(1, start)]);
        all.ready(0);
        all.ready(1);
        assert!(!all.was_ready());
        assert_eq!(all.next(now), [Announce]);
        assert!(all.was_ready() && all.is_drained());
        all.set_goal(Goal::Serve);
        assert_eq!(all.next(now), [Send(0, Accept)]);
        assert!(!all.is_drained());
    }

    #[test]
    fn retiring_members_leave_waiting_connections_to_another_process() {
        let now = Instant::now();
        let mut all = serving(now);
        all.set_goal(Goal::Retire);
        all.set_goal(Goal::Stop);
        assert_eq!(all.next(now), [Send(1, Pause { number: 0 }), Send(1, Stop)]);
        all.ended(1, now);
        assert_eq!(all.next(now), [Send(0, Stop), Send(2, Stop)]);
        assert_eq!(all.due(), Some(now + STOP_TIMEOUT));
    }

    /// The connections that wait since the pause are not reset.
    #[test]
    fn a_front_door_that_is_stopped_in_a_pause_opens_again() {
        let now = Instant::now();
        let mut all = serving(now);
        all.set_goal(Goal::Pause);
        assert_eq!(all.next(now), [Send(1, Pause { number: 1 })]);
        all.set_goal(Goal::Stop);
        assert_eq!(all.next(now), [Send(1, Accept), Send(1, Stop)]);
        let mut all = serving(now);
        all.set_goal(Goal::Pause);
        all.next(now);
        all.set_goal(Goal::Retire);
        assert_eq!(all.next(now), [Send(1, Stop)], "the next arrangement accepts the connections");
    }

    #[test]
    fn only_the_last_pause_counts() {
        let now = Instant::now();
        let mut all = serving(now);
        all.set_goal(Goal::Pause);
        assert_eq!(all.next(now), [Send(1, Pause { number: 1 })]);
        all.set_goal(Goal::Serve);
        assert_eq!(all.next(now), [Send(1, Accept)]);
        all.set_goal(Goal::Pause);
        assert_eq!(all.next(now), [Send(1, Pause { number: 2 })]);
        all.drained(1, 1);
        assert!(!all.is_drained());
        all.drained(1, 2);
        assert!(all.is_drained() && all.next(now).is_empty());
        // A front door that is started again during a pause does not open.
        let EndOutcome::Restart(pause) = all.ended(1, now) else { panic!("the member must be started again") };
        assert_eq!(all.next(now + pause), [Start(1), Send(1, SupervisorMessage::Start { first: false })]);
        assert!(all.is_drained());
    }

    /// Whatever the order of events, no member is started while it runs, and no member is started after a stop signal.
    #[test]
    fn no_member_runs_twice() {
        for seed in 0..500_u64 {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut roll = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let mut now = Instant::now();
            let mut all = Reconciler::new([true, false, false], Goal::Serve, STOP_TIMEOUT, now);
            let mut running = [false; 3];
            for _ in 0..200 {
                let member = usize::try_from(roll(3)).expect("small");
                match roll(20) {
                    0..6 => all.ready(member),
                    6..10 if running[member] => {
                        running[member] = false;
                        all.ended(member, now);
                    }
                    10 if roll(5) == 0 => all.set_goal(Goal::Stop),
                    11 => {
                        all.set_goal([Goal::Start, Goal::Serve, Goal::Pause][usize::try_from(roll(3)).expect("small")])
                    }
                    12 => all.drained(member, roll(5)),
                    _ => now += Duration::from_millis(roll(3000)),
                }
                let stopped = !all.goal().runs();
                for action in all.next(now) {
                    match action {
                        Start(member) => {
                            assert!(!running[member] && !stopped, "seed {seed}");
                            running[member] = true;
                        }
                        Send(member, message) => {
                            assert!(running[member], "seed {seed}");
                            let is_allowed = match message {
                                Stop => stopped,
                                // A front door that is stopped in a pause first opens again.
                                Accept => true,
                                _ => !stopped,
                            };
                            assert!(is_allowed, "seed {seed}: {message:?}");
                        }
                        Kill(member) => assert!(running[member], "seed {seed}"),
                        Announce => assert_eq!(running, [true; 3], "seed {seed}"),
                    }
                }
                assert!(all.next(now).is_empty(), "seed {seed}: without an event, there is no action");
                assert!(!all.is_over() || running == [false; 3], "seed {seed}");
            }
        }
    }
}
