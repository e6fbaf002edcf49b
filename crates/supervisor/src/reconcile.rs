//! Computes the next actions that bring all members to their goal. Pure: no process, no clock.
//!
//! Events (a member is ready, a member ended, a stop signal arrived) only change the known state. Then
//! [`Reconciler::next`] compares the known state with the goal and returns the actions. If it is called again without a
//! new event, it returns no action. So the result does not depend on the order of events, on simultaneous events, or on
//! repeated events.
//!
//! | goal | what holds when no action is left |
//! | --- | --- |
//! | [`Goal::Serve`] | every member runs; members that ended wait for their restart |
//! | [`Goal::Stop`] | first the front door's member drained and ended, then the others; members that took too long were killed |
//! | [`Goal::Kill`] | no member runs |
//!
//! An alternative, a task per member that restarts its member by itself, was rejected: to stop members in order, to
//! give up on all members together and to announce readiness once, one task must know the state of all members. Two
//! tasks that decide about the same process would contradict each other.

use std::time::{Duration, Instant};

use crate::restarts::Restarts;

/// The goal that applies to all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Serve,
    Stop,
    Kill,
}

/// The known state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    /// The member does not run, and is started at the time `due`.
    Down { due: Instant },
    /// The member's process runs, but has not reported that it is ready.
    Starting,
    /// The member has reported that it is ready.
    Ready,
    /// The member does not run and is not started again.
    Ended,
}

/// An action, for the member with the given number or for all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    /// The supervisor asks the member to drain and exit.
    Stop(usize),
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
    /// Whether the member has the front door.
    front: bool,
    state: MemberState,
    restarts: Restarts,
    /// The time at which the member was asked to stop, or `None` if it has not been asked.
    stop_sent: Option<Instant>,
    killed: bool,
}

/// The known state of all members, and their goal.
#[derive(Debug)]
pub(crate) struct Reconciler {
    members: Vec<Member>,
    goal: Goal,
    announced: bool,
    /// The time from a stop request until a member that still runs is killed.
    stop_timeout: Duration,
}

impl Reconciler {
    /// Creates the state in which no member runs and all are due to start. `fronts` has one entry per member: whether
    /// the member has the front door.
    pub(crate) fn new(fronts: impl IntoIterator<Item = bool>, stop_timeout: Duration, now: Instant) -> Self {
        let member = |front| Member {
            front,
            state: MemberState::Down { due: now },
            restarts: Restarts::default(),
            stop_sent: None,
            killed: false,
        };
        Self { members: fronts.into_iter().map(member).collect(), goal: Goal::Serve, announced: false, stop_timeout }
    }

    /// Records that the member has reported that it is ready.
    pub(crate) fn ready(&mut self, member: usize) {
        let member = &mut self.members[member];
        if member.state == MemberState::Starting {
            member.state = MemberState::Ready;
        }
    }

    /// Records that the member's process has ended.
    pub(crate) fn ended(&mut self, member: usize, now: Instant) -> EndOutcome {
        let (goal, announced) = (self.goal, self.announced);
        let member = &mut self.members[member];
        member.killed = false;
        member.state = MemberState::Ended;
        if goal != Goal::Serve {
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

    /// Records a stop signal. The second signal kills all members.
    pub(crate) fn stop(&mut self) {
        self.goal = if self.goal == Goal::Serve { Goal::Stop } else { Goal::Kill };
    }

    /// Records that a process could not be started, so that all members are killed.
    pub(crate) fn give_up(&mut self) {
        self.goal = Goal::Kill;
    }

    pub(crate) fn goal(&self) -> Goal {
        self.goal
    }

    /// Returns whether all members have ended and none will be restarted.
    pub(crate) fn is_over(&self) -> bool {
        self.goal != Goal::Serve && self.members.iter().all(|member| member.state == MemberState::Ended)
    }

    /// Returns the next actions, and records them as done.
    pub(crate) fn next(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.goal != Goal::Serve {
            for member in self.members.iter_mut().filter(|member| matches!(member.state, MemberState::Down { .. })) {
                member.state = MemberState::Ended;
            }
        }
        let front_runs = self.members.iter().any(|member| member.front && member.state != MemberState::Ended);
        for (number, member) in self.members.iter_mut().enumerate() {
            let runs = matches!(member.state, MemberState::Starting | MemberState::Ready);
            let late = member.stop_sent.is_some_and(|sent| now >= sent + self.stop_timeout);
            // A member that has not become ready has no requests to finish, so it is killed. The exception is a front
            // door that restarts after the report that all members are ready, because clients may already be connected
            // to its socket.
            let unneeded = member.state == MemberState::Starting && !(member.front && self.announced);
            match self.goal {
                Goal::Serve => {
                    if matches!(member.state, MemberState::Down { due } if due <= now) {
                        member.state = MemberState::Starting;
                        actions.push(Action::Start(number));
                    }
                }
                Goal::Stop if runs && !member.killed && (late || unneeded) => {
                    member.killed = true;
                    actions.push(Action::Kill(number));
                }
                Goal::Stop => {
                    if runs && member.stop_sent.is_none() && !member.killed && (member.front || !front_runs) {
                        member.stop_sent = Some(now);
                        actions.push(Action::Stop(number));
                    }
                }
                Goal::Kill => {
                    if runs && !member.killed {
                        member.killed = true;
                        actions.push(Action::Kill(number));
                    }
                }
            }
        }
        let all_ready = self.members.iter().all(|member| member.state == MemberState::Ready);
        if self.goal == Goal::Serve && !self.announced && all_ready {
            self.announced = true;
            actions.push(Action::Announce);
        }
        actions
    }

    /// Returns the time at which [`Reconciler::next`] must be called even if no event occurs.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = |member: &Member| match (self.goal, member.state) {
            (Goal::Serve, MemberState::Down { due }) => Some(due),
            (Goal::Stop, MemberState::Ready | MemberState::Starting) if !member.killed => {
                member.stop_sent.map(|sent| sent + self.stop_timeout)
            }
            _ => None,
        };
        self.members.iter().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Announce, Kill, Start, Stop};
    use super::*;

    const STOP_TIMEOUT: Duration = Duration::from_secs(30);

    /// Returns a reconciler of three ready members, the second of which has the front door.
    fn serving(now: Instant) -> Reconciler {
        let mut all = Reconciler::new([false, true, false], STOP_TIMEOUT, now);
        assert_eq!(all.next(now), [Start(0), Start(1), Start(2)]);
        assert_eq!(all.next(now), []);
        all.ready(0);
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
        assert_eq!(all.next(now + pause), [Start(2)]);
        all.ready(2);
        assert_eq!(all.next(now + pause), [], "readiness is announced only once");
    }

    #[test]
    fn the_front_door_stops_first_and_the_others_wait_for_it() {
        let now = Instant::now();
        let mut all = serving(now);
        all.stop();
        assert_eq!(all.next(now), [Stop(1)]);
        assert_eq!(all.next(now), []);
        assert!(!all.is_over());
        assert_eq!(all.ended(1, now), EndOutcome::Expected);
        assert_eq!(all.next(now), [Stop(0), Stop(2)]);
        all.ended(0, now);
        all.ended(2, now);
        assert_eq!(all.next(now), []);
        assert!(all.is_over());
    }

    #[test]
    fn a_member_that_does_not_stop_in_time_is_killed() {
        let now = Instant::now();
        let mut all = serving(now);
        all.stop();
        all.next(now);
        assert_eq!(all.due(), Some(now + STOP_TIMEOUT));
        assert_eq!(all.next(now + STOP_TIMEOUT), [Kill(1)]);
        assert_eq!((all.next(now + STOP_TIMEOUT), all.due()), (vec![], None));
    }

    #[test]
    fn a_second_signal_kills_all() {
        let now = Instant::now();
        let mut all = serving(now);
        all.stop();
        all.next(now);
        all.stop();
        assert_eq!(all.next(now), [Kill(0), Kill(1), Kill(2)]);
        assert_eq!(all.next(now), []);
    }

    #[test]
    fn a_pending_restart_does_not_delay_the_stop() {
        let now = Instant::now();
        let mut all = serving(now);
        all.ended(1, now);
        all.stop();
        assert_eq!(all.next(now), [Stop(0), Stop(2)]);
    }

    #[test]
    fn a_restarting_front_door_serves_waiting_connections_before_it_stops() {
        let now = Instant::now();
        let mut all = serving(now);
        let EndOutcome::Restart(pause) = all.ended(1, now) else { panic!("the member must be started again") };
        assert_eq!(all.next(now + pause), [Start(1)]);
        all.stop();
        assert_eq!(all.next(now + pause), [Stop(1)]);
        assert_eq!(all.due(), Some(now + pause + STOP_TIMEOUT));
        assert_eq!(all.next(now + pause + STOP_TIMEOUT), [Kill(1)]);
        // Until all members are reported as ready, no client can be connected, so a stop kills the members immediately.
        let mut all = Reconciler::new([true, false], STOP_TIMEOUT, now);
        all.next(now);
        all.stop();
        assert_eq!(all.next(now), [Kill(0), Kill(1)]);
    }

    #[test]
    fn an_end_before_all_are_ready_stops_all_and_so_do_too_many_ends() {
        let now = Instant::now();
        let mut all = Reconciler::new([true, false], STOP_TIMEOUT, now);
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
            let mut all = Reconciler::new([true, false, false], STOP_TIMEOUT, now);
            let mut running = [false; 3];
            let mut stopped = false;
            for _ in 0..200 {
                let member = usize::try_from(roll(3)).expect("small");
                match roll(20) {
                    0..6 => all.ready(member),
                    6..10 if running[member] => {
                        running[member] = false;
                        all.ended(member, now);
                    }
                    10 if roll(5) == 0 => {
                        all.stop();
                        stopped = true;
                    }
                    _ => now += Duration::from_millis(roll(3000)),
                }
                for action in all.next(now) {
                    match action {
                        Start(member) => {
                            assert!(!running[member] && !stopped, "seed {seed}");
                            running[member] = true;
                        }
                        Stop(member) | Kill(member) => assert!(running[member], "seed {seed}"),
                        Announce => assert_eq!(running, [true; 3], "seed {seed}"),
                    }
                }
                assert!(all.next(now).is_empty(), "seed {seed}: without an event, there is no action");
                assert!(!all.is_over() || running == [false; 3], "seed {seed}");
            }
        }
    }
}
