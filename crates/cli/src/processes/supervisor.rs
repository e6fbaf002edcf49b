//! The process that was started: it plans, starts the members, and carries out what `reconcile` decides.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use isomer_manifest::{Diagnostic, SourceFile};
use isomer_node::revision::Components;
use isomer_observe::{Log, MemberLog};
use isomer_plan::Plan;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::child::{Child, End, Event, in_words};
use super::home::Home;
use super::order::Order;
use super::reconcile::{Action, Ending, Ensemble, Goal};
use super::restarts::{RESTARTS_MAX, WINDOW};
use crate::console::Console;
use crate::fail::{FAILED, Fail, INTERRUPTED};
use crate::serving::{Opened, Premises};
use crate::stop_signals::StopSignals;

/// What a member may take to end beyond the time that its requests have.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// What is to be run.
pub(crate) struct Subject<'a> {
    pub(crate) app_dir: PathBuf,
    pub(crate) manifest: &'a SourceFile,
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) components: &'a Components,
    pub(crate) plan: &'a Plan,
}

/// Runs every group of the plan in a process of its own until it is told to stop.
pub(crate) async fn run(premises: Premises, opened: Opened, subject: Subject<'_>, began: Instant) -> Result<(), Fail> {
    let plan = subject.plan;
    let home = Home::make()?;
    let members = members(&premises, &opened, &subject, &home)?;
    let mut signals = StopSignals::listen()?;
    let patience = premises.grace + STOP_MARGIN;
    let (events, mut happened) = unbounded_channel();
    let mut supervisor = Supervisor {
        ensemble: Ensemble::new(members.iter().map(|member| member.front), patience, Instant::now()),
        members,
        listener: Some(opened.listener),
        events,
        console: premises.console,
        ending: None,
    };
    loop {
        for action in supervisor.ensemble.next(Instant::now()) {
            match action {
                Action::Announce => {
                    let members = supervisor.members.iter().map(|it| (it.order.group.as_str(), it.pid()));
                    premises.say_ready(plan, &opened.url, members.collect(), began)?;
                }
                action => supervisor.act(action),
            }
        }
        if supervisor.ensemble.is_over() {
            break;
        }
        let due = supervisor.ensemble.due();
        tokio::select! {
            () = signals.come() => supervisor.ensemble.stop(),
            event = next(&mut happened) => supervisor.learn(event),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }
    premises.log.flush();
    drop(home);
    match supervisor.ending {
        Some(fail) => Err(fail),
        None if supervisor.ensemble.goal() == Goal::Kill => Err(Fail::Exit(INTERRUPTED)),
        None => Ok(()),
    }
}

async fn next(events: &mut UnboundedReceiver<(usize, Event)>) -> (usize, Event) {
    match events.recv().await {
        Some(event) => event,
        // The supervisor holds a sender.
        None => std::future::pending().await,
    }
}

struct Member {
    order: Order,
    front: bool,
    log: MemberLog,
    child: Option<Child>,
    /// Has it died since it last answered?
    died: bool,
}

impl Member {
    fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.pid)
    }
}

struct Supervisor {
    ensemble: Ensemble,
    members: Vec<Member>,
    /// Closed before anything stops.
    listener: Option<TcpListener>,
    events: UnboundedSender<(usize, Event)>,
    console: Console,
    /// Why it all ends, where that was nobody's wish.
    ending: Option<Fail>,
}

impl Supervisor {
    fn act(&mut self, action: Action) {
        if self.ensemble.goal() != Goal::Serve {
            self.listener = None;
        }
        match action {
            Action::Start(number) => {
                let member = &mut self.members[number];
                let listener = self.listener.as_ref().filter(|_| member.front);
                match Child::start(&member.order, listener, number, member.log.clone(), self.events.clone()) {
                    Ok(child) => member.child = Some(child),
                    Err(error) => {
                        let context = format!("cannot start a process for group `{}`", member.order.group);
                        self.ending.get_or_insert(anyhow::Error::new(error).context(context).into());
                        self.ensemble.ended(number, Instant::now());
                        self.ensemble.give_up();
                    }
                }
            }
            Action::Stop(number) => {
                if let Some(child) = &self.members[number].child {
                    child.stop();
                }
            }
            Action::Kill(number) => {
                let member = &self.members[number];
                if self.ensemble.goal() == Goal::Stop {
                    member.log.warn("did not end in time and is killed");
                }
                if let Some(child) = &member.child {
                    child.kill();
                }
            }
            Action::Announce => {}
        }
    }

    fn learn(&mut self, (number, event): (usize, Event)) {
        let member = &mut self.members[number];
        match event {
            Event::Ready => {
                self.ensemble.ready(number);
                if std::mem::take(&mut member.died) {
                    let pid = member.pid().map_or_else(String::new, |pid| format!(" (process {pid})"));
                    member.log.note(format!("answers again{pid}"));
                }
            }
            Event::Ended(end) => {
                let how = in_words(&end.status);
                let pid = member.pid().map_or_else(String::new, |pid| format!(" {pid}"));
                member.child = None;
                member.died = true;
                match self.ensemble.ended(number, Instant::now()) {
                    Ending::Wanted => {}
                    Ending::Again(pause) => {
                        if let Some((text, _)) = &end.failed {
                            self.console.say(text);
                        }
                        let pause = pause.as_millis();
                        member.log.warn(format!("process{pid} {how}; it is started again in {pause} ms"));
                    }
                    Ending::NeverStarted => {
                        let fail = never_started(&self.console, &member.order, &how, end);
                        self.ending.get_or_insert(fail);
                    }
                    Ending::TooOften => {
                        let fail = too_often(&self.console, &member.order, &how, &end);
                        self.ending.get_or_insert(fail);
                    }
                }
            }
        }
    }
}

fn never_started(console: &Console, order: &Order, how: &str, end: End) -> Fail {
    let Order { group, shape, .. } = order;
    match end.failed {
        Some((text, code)) => {
            Fail::Said { text: format!("{text}note: so says group `{group}` of shape `{shape}`\n"), code }
        }
        None => {
            let error = Diagnostic::error(format!("group `{group}` {how} before it answered"));
            said(console, end.last_lines.into_iter().fold(error, Diagnostic::note))
        }
    }
}

fn too_often(console: &Console, order: &Order, how: &str, end: &End) -> Fail {
    let (group, times, window) = (&order.group, RESTARTS_MAX + 1, WINDOW.as_secs());
    let error =
        Diagnostic::error(format!("group `{group}` ended {times} times within {window} s; the last time it {how}"));
    let last_words = end.failed.iter().flat_map(|(text, _)| text.lines().map(str::to_owned));
    let notes = end.last_lines.iter().cloned().chain(last_words);
    said(console, notes.fold(error, Diagnostic::note))
}

fn said(console: &Console, error: Diagnostic) -> Fail {
    Fail::Said { text: console.renderer().diagnostic(&error), code: FAILED }
}

/// A member for each group of the plan.
fn members(premises: &Premises, opened: &Opened, subject: &Subject<'_>, home: &Home) -> Result<Vec<Member>, Fail> {
    let components = home.keep(subject.components)?;
    let processes = subject.plan.processes();
    let front = front_of(subject.plan);
    let sockets = processes.keys().enumerate().map(|(number, group)| ((*group).to_owned(), home.socket(number)));
    let sockets: BTreeMap<_, _> = sockets.collect();
    let width = processes.keys().map(|group| group.chars().count()).max().unwrap_or(0);
    let member = |group: &&str| Member {
        order: Order {
            shape: subject.plan.shape.clone(),
            group: (*group).to_owned(),
            app_dir: subject.app_dir.clone(),
            manifest: (subject.manifest.name().to_owned(), subject.manifest.text().to_owned()),
            environment: subject.environment.clone(),
            components: components.clone(),
            data: opened.data.path().to_owned(),
            cache: opened.code.clone(),
            sockets: sockets.clone(),
            home: home.path().to_owned(),
            log: premises.log.levels().to_string(),
            access_log: premises.log.wants_access(),
            grace_s: premises.grace.as_secs(),
            colour: premises.console.colour(),
            given_clock_and_random: premises.given_clock_and_random,
            given_secrets: premises.given_secrets.clone(),
            stubs: premises.stubs.clone(),
        },
        front: *group == front,
        log: Log::member(&premises.log, group, width),
        child: None,
        died: false,
    };
    Ok(processes.keys().map(member).collect())
}

/// The group that has the front door: the one with routes, of which a plan has no more than one. Without routes, nothing but
/// the platform's own answers is to be had there, and somebody has to give them.
fn front_of(plan: &Plan) -> &str {
    let processes = plan.processes();
    let with_routes = processes.iter().find(|(_, groups)| groups.iter().any(|group| !group.handlers.is_empty()));
    let front = with_routes.map(|(front, _)| *front).or_else(|| processes.keys().next().copied());
    front.unwrap_or_default()
}
