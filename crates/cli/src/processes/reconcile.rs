//! What is to be done so that the members are as they should be. Pure: no process, no clock.
//!
//! Events (a member is ready, a member ended, somebody wants it all to stop) only change what is known. Then [`Ensemble::next`]
//! compares what is known with the goal and says what to do; asked again with nothing new, it says nothing. So it does not
//! matter in which order events come, whether two come at once, or whether one comes twice.
//!
//! | goal | what holds when nothing is left to do |
//! | --- | --- |
//! | [`Goal::Serve`] | every member runs; those that died wait for their time |
//! | [`Goal::Stop`] | the front door has closed and its requests have ended, then the others have ended; who takes too long was killed |
//! | [`Goal::Kill`] | no member runs |
//!
//! Rejected: a task per member that restarts it by itself. Stopping in order, giving up together and announcing once need
//! somebody who sees all of them, and two who decide about one process will disagree.

use std::time::{Duration, Instant};

use super::restarts::Restarts;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Serve,
    Stop,
    Kill,
}

/// What is known about a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It does not run, and is to be started then.
    Down { due: Instant },
    /// Its process runs and has not said that it is ready.
    Starting,
    /// It answers.
    Ready,
    /// It does not run and is not needed any more.
    Ended,
}

/// What is to be done about a member, by its number, or about all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    /// Ask it to finish what runs and end.
    Stop(usize),
    Kill(usize),
    /// Everything answers, for the first time.
    Announce,
}

/// What the end of a member means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was to end.
    Wanted,
    /// It is started again after this time.
    Again(Duration),
    /// It ended before everything answered: there is no point in trying again.
    NeverStarted,
    /// It died too often.
    TooOften,
}

#[derive(Debug)]
struct Member {
    /// Has it the front door?
    front: bool,
    state: State,
    restarts: Restarts,
    /// When it was asked to stop.
    asked: Option<Instant>,
    killed: bool,
}

/// All members.
#[derive(Debug)]
pub(crate) struct Ensemble {
    members: Vec<Member>,
    goal: Goal,
    announced: bool,
    /// How long a member may take to stop.
    patience: Duration,
}

impl Ensemble {
    /// Members that are all to be started; for each, whether it has the front door.
    pub(crate) fn new(fronts: impl IntoIterator<Item = bool>, patience: Duration, now: Instant) -> Self {
        let member = |front| Member {
            front,
            state: State::Down { due: now },
            restarts: Restarts::default(),
            asked: None,
            killed: false,
        };
        Self { members: fronts.into_iter().map(member).collect(), goal: Goal::Serve, announced: false, patience }
    }

    /// The member answers.
    pub(crate) fn ready(&mut self, member: usize) {
        let member = &mut self.members[member];
        if member.state == State::Starting {
            member.state = State::Ready;
        }
    }

    /// The member's process is gone.
    pub(crate) fn ended(&mut self, member: usize, now: Instant) -> Ending {
        let (goal, announced) = (self.goal, self.announced);
        let member = &mut self.members[member];
        member.killed = false;
        member.state = State::Ended;
        if goal != Goal::Serve {
            return Ending::Wanted;
        }
        if !announced {
            self.goal = Goal::Kill;
            return Ending::NeverStarted;
        }
        match member.restarts.after_death(now) {
            Some(pause) => {
                member.state = State::Down { due: now + pause };
                Ending::Again(pause)
            }
            None => {
                self.goal = Goal::Stop;
                Ending::TooOften
            }
        }
    }

    /// Somebody wants it to stop; whoever wants it twice does not want to wait.
    pub(crate) fn stop(&mut self) {
        self.goal = if self.goal == Goal::Serve { Goal::Stop } else { Goal::Kill };
    }

    /// A member could not even be started: all ends.
    pub(crate) fn give_up(&mut self) {
        self.goal = Goal::Kill;
    }

    pub(crate) fn goal(&self) -> Goal {
        self.goal
    }

    /// Is everything over?
    pub(crate) fn is_over(&self) -> bool {
        self.goal != Goal::Serve && self.members.iter().all(|member| member.state == State::Ended)
    }

    /// What is to be done now. It counts as done when this returns.
    pub(crate) fn next(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.goal != Goal::Serve {
            for member in self.members.iter_mut().filter(|member| matches!(member.state, State::Down { .. })) {
                member.state = State::Ended;
            }
        }
        let front_runs = self.members.iter().any(|member| member.front && member.state != State::Ended);
        for (number, member) in self.members.iter_mut().enumerate() {
            let runs = matches!(member.state, State::Starting | State::Ready);
            let late = member.asked.is_some_and(|asked| now >= asked + self.patience);
            // What has not begun to serve has nothing to finish; but once all has been announced, clients connect to a front door that
            // starts again.
            let unneeded = member.state == State::Starting && !(member.front && self.announced);
            match self.goal {
                Goal::Serve => {
                    if matches!(member.state, State::Down { due } if due <= now) {
                        member.state = State::Starting;
                        actions.push(Action::Start(number));
                    }
                }
                Goal::Stop if runs && !member.killed && (late || unneeded) => {
                    member.killed = true;
                    actions.push(Action::Kill(number));
                }
                Goal::Stop => {
                    if runs && member.asked.is_none() && !member.killed && (member.front || !front_runs) {
                        member.asked = Some(now);
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
        if self.goal == Goal::Serve && !self.announced && self.members.iter().all(|member| member.state == State::Ready)
        {
            self.announced = true;
            actions.push(Action::Announce);
        }
        actions
    }

    /// When to look again though nothing has happened.
    pub(crate) fn due(&self) -> Option<Instant> {
        let due = |member: &Member| match (self.goal, member.state) {
            (Goal::Serve, State::Down { due }) => Some(due),
            (Goal::Stop, State::Ready | State::Starting) if !member.killed => {
                member.asked.map(|asked| asked + self.patience)
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

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Three members, of which the second has the front door, all ready.
    fn serving(now: Instant) -> Ensemble {
        let mut all = Ensemble::new([false, true, false], PATIENCE, now);
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
    fn a_member_that_dies_is_started_again_when_its_time_has_come() {
        let now = Instant::now();
        let mut all = serving(now);
        let Ending::Again(pause) = all.ended(2, now) else { panic!("it is to be started again") };
        assert_eq!(all.next(now), []);
        assert_eq!(all.due(), Some(now + pause));
        assert_eq!(all.next(now + pause), [Start(2)]);
        all.ready(2);
        assert_eq!(all.next(now + pause), [], "it is announced once");
    }

    #[test]
    fn the_front_door_closes_first_and_the_rest_wait_for_it() {
        let now = Instant::now();
        let mut all = serving(now);
        all.stop();
        assert_eq!(all.next(now), [Stop(1)]);
        assert_eq!(all.next(now), []);
        assert!(!all.is_over());
        assert_eq!(all.ended(1, now), Ending::Wanted);
        assert_eq!(all.next(now), [Stop(0), Stop(2)]);
        all.ended(0, now);
        all.ended(2, now);
        assert_eq!(all.next(now), []);
        assert!(all.is_over());
    }

    #[test]
    fn who_does_not_stop_in_time_is_killed() {
        let now = Instant::now();
        let mut all = serving(now);
        all.stop();
        all.next(now);
        assert_eq!(all.due(), Some(now + PATIENCE));
        assert_eq!(all.next(now + PATIENCE), [Kill(1)]);
        assert_eq!((all.next(now + PATIENCE), all.due()), (vec![], None));
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
    fn a_member_that_waits_for_its_restart_is_not_waited_for() {
        let now = Instant::now();
        let mut all = serving(now);
        all.ended(1, now);
        all.stop();
        assert_eq!(all.next(now), [Stop(0), Stop(2)]);
    }

    #[test]
    fn a_front_door_that_starts_again_serves_who_waits_for_it_before_it_stops() {
        let now = Instant::now();
        let mut all = serving(now);
        let Ending::Again(pause) = all.ended(1, now) else { panic!("it is to be started again") };
        assert_eq!(all.next(now + pause), [Start(1)]);
        all.stop();
        assert_eq!(all.next(now + pause), [Stop(1)]);
        assert_eq!(all.due(), Some(now + pause + PATIENCE));
        assert_eq!(all.next(now + pause + PATIENCE), [Kill(1)]);
        // Before anything was announced, nobody can wait.
        let mut all = Ensemble::new([true, false], PATIENCE, now);
        all.next(now);
        all.stop();
        assert_eq!(all.next(now), [Kill(0), Kill(1)]);
    }

    #[test]
    fn who_ends_before_all_answer_ends_all_and_so_does_who_dies_too_often() {
        let now = Instant::now();
        let mut all = Ensemble::new([true, false], PATIENCE, now);
        all.next(now);
        assert_eq!(all.ended(1, now), Ending::NeverStarted);
        assert_eq!(all.next(now), [Kill(0)]);
        let mut all = serving(now);
        let mut endings = (0..100).map(|_| {
            let ending = all.ended(0, now);
            all.next(now + PATIENCE);
            ending
        });
        assert!(endings.by_ref().any(|ending| ending == Ending::TooOften));
        assert_eq!(all.goal(), Goal::Stop);
    }

    /// Whatever happens in whatever order: nobody is started while it runs, and after a stop nobody is started at all.
    #[test]
    fn nobody_runs_twice() {
        for seed in 0..500_u64 {
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            let mut roll = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let mut now = Instant::now();
            let mut all = Ensemble::new([true, false, false], PATIENCE, now);
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
                assert!(all.next(now).is_empty(), "seed {seed}: nothing new, nothing to do");
                assert!(!all.is_over() || running == [false; 3], "seed {seed}");
            }
        }
    }
}
