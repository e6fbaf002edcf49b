//! Measuring the processor time of guests.
//!
//! A guest runs only while its future is polled, so the thread's processor time over all polls is its own. Two things make it cheap
//! enough for every poll of every request:
//!
//! - The thread's processor clock is a system call (about half a microsecond), the monotonic clock is not (25 ns). A poll that
//!   is over in less than [`SHORT`] was hardly interrupted, so the time that it took is its processor time. Only a longer one, in which
//!   the thread may have waited for a processor, is measured by the thread's own clock.
//! - For those the clock need not be read at their beginning: it was read not long ago ([`SHORT`] at most, or now). What polls have been
//!   charged since then is not charged again.
//!
//! A guest that calls another one on its own thread polls it within its own poll. Both are of one account (no call leaves its app), so the
//! outer poll is charged for both, and the inner one is not measured.
//!
//! Guests that compute for long must not keep the others waiting, either. A poll ends with the engine's tick at the latest, and the guest
//! of an account with limits that was interrupted so then waits for its *turn*: all such guests together have all processors but
//! one, so there is always one for requests that are over quickly. Turns last as long as a poll, so nobody can hold one and do nothing.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;

use crate::account::Account;

/// Polls that take no longer are measured by the monotonic clock, and the thread's clock is read no more often than this: at half a
/// microsecond, that is half a per cent of the time.
const SHORT: Duration = Duration::from_micros(100);

/// A poll that took as long is one of a guest that computes, even if it was not interrupted by the engine's tick.
const HEAVY: Duration = Duration::from_millis(3);

/// When whoever found no turn asks again: about when one ends.
const TURN: Duration = Duration::from_millis(4);

/// How many guests of an account may have become heavy before those that are new have to wait for a turn from the beginning.
const HEAVY_MAX: u32 = 4;

/// Turns that are taken.
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// All processors but one.
static TURNS_MAX: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |count| count.get().saturating_sub(1).max(1)));

/// The right to compute for long, during one poll.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        let add = |taken: usize| (taken < *TURNS_MAX).then_some(taken + 1);
        TURNS.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).ok().map(|_| Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The guests of an account that wait for turns or have one.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicU32);

impl Turns {
    fn is_crowded(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= HEAVY_MAX
    }
}

/// Counts a guest among those.
struct Heavy(Arc<Account>);

impl Heavy {
    fn new(account: &Arc<Account>) -> Self {
        account.turns().0.fetch_add(1, Ordering::Relaxed);
        Self(account.clone())
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.0.turns().0.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    static THREAD: Cell<Readings> = const { Cell::new(Readings { read: None, charged: Duration::ZERO, polling: false, interrupted: false }) };
}

/// What a thread knows of its time.
#[derive(Clone, Copy)]
struct Readings {
    /// Its processor clock, and when that was read.
    read: Option<(Instant, Duration)>,
    /// What has been charged since.
    charged: Duration,
    /// Is a poll being measured?
    polling: bool,
    /// Has the engine's tick interrupted a guest in it?
    interrupted: bool,
}

/// Polls a future of an account's guests.
pub(crate) struct Metered<F> {
    account: Arc<Account>,
    future: F,
    pace: Pace,
}

/// How a future is polled.
enum Pace {
    /// It has not been polled yet.
    New,
    /// Whenever it wants.
    Light,
    /// When it is its turn.
    Heavy(Heavy, Option<Pin<Box<Sleep>>>),
}

impl<F> Metered<F> {
    pub(crate) fn new(account: &Arc<Account>, future: F) -> Self {
        Self { account: account.clone(), future, pace: Pace::New }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let Some(polling) = Polling::begin(&this.account) else { return Pin::new(&mut this.future).poll(cx) };
        if matches!(this.pace, Pace::New) && this.account.turns().is_crowded() {
            this.pace = Pace::Heavy(Heavy::new(&this.account), None);
        }
        let mut turn = None;
        if let Pace::Heavy(_, pause) = &mut this.pace {
            if let Some(sleep) = pause
                && sleep.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            turn = Turn::take();
            if turn.is_none() {
                let sleep = pause.insert(Box::pin(tokio::time::sleep(TURN)));
                // It is not there before its time: this is for its waker.
                let _ = sleep.as_mut().poll(cx);
                return Poll::Pending;
            }
            *pause = None;
        }
        let polled = Pin::new(&mut this.future).poll(cx);
        let was_long = polling.end();
        drop(turn);
        this.pace = match std::mem::replace(&mut this.pace, Pace::Light) {
            Pace::Heavy(heavy, _) if was_long => Pace::Heavy(heavy, None),
            _ if was_long && this.account.is_limited() && polled.is_pending() => {
                Pace::Heavy(Heavy::new(&this.account), None)
            }
            _ => Pace::Light,
        };
        polled
    }
}

/// A poll that is being measured. Charged when it is dropped: a panic costs time, too.
struct Polling<'a> {
    account: &'a Account,
    began: Instant,
}

impl<'a> Polling<'a> {
    /// `None` within another one.
    fn begin(account: &'a Account) -> Option<Self> {
        let mut thread = THREAD.get();
        if thread.polling {
            return None;
        }
        let began = Instant::now();
        if thread.read.is_none_or(|(when, _)| began.saturating_duration_since(when) > SHORT) {
            thread.read = Some((began, processor_time()));
            thread.charged = Duration::ZERO;
        }
        thread.polling = true;
        thread.interrupted = false;
        THREAD.set(thread);
        Some(Self { account, began })
    }
}

impl Polling<'_> {
    /// Was it a long one?
    fn end(self) -> bool {
        let was_long = self.charge();
        std::mem::forget(self);
        was_long
    }

    fn charge(&self) -> bool {
        let now = Instant::now();
        let mut used = now.saturating_duration_since(self.began);
        let mut thread = THREAD.get();
        thread.polling = false;
        let interrupted = std::mem::take(&mut thread.interrupted);
        if used > SHORT {
            let clock = processor_time();
            if let Some((_, before)) = thread.read {
                used = used.min(clock.saturating_sub(before).saturating_sub(thread.charged));
            }
            thread.read = Some((now, clock));
            thread.charged = Duration::ZERO;
        } else {
            thread.charged += used;
        }
        THREAD.set(thread);
        self.account.charge_cpu(used);
        interrupted || used >= HEAVY
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.charge();
    }
}

/// The engine's tick has interrupted the guest that runs on this thread.
pub(crate) fn interrupted() {
    THREAD.set(Readings { interrupted: true, ..THREAD.get() });
}

/// Of this thread, so far.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
