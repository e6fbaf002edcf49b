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

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::account::Account;

/// Polls that take no longer are measured by the monotonic clock, and the thread's clock is read no more often than this: at half a
/// microsecond, that is half a per cent of the time.
const SHORT: Duration = Duration::from_micros(100);

thread_local! {
    static THREAD: Cell<Readings> = const { Cell::new(Readings { read: None, charged: Duration::ZERO, polling: false }) };
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
}

/// Polls a future of an account's guests.
pub(crate) struct Metered<F> {
    account: Arc<Account>,
    future: F,
}

impl<F> Metered<F> {
    pub(crate) fn new(account: &Arc<Account>, future: F) -> Self {
        Self { account: account.clone(), future }
    }
}

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let _polling = Polling::begin(&this.account);
        Pin::new(&mut this.future).poll(cx)
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
        THREAD.set(thread);
        Some(Self { account, began })
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut used = now.saturating_duration_since(self.began);
        let mut thread = THREAD.get();
        thread.polling = false;
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
    }
}

/// Of this thread, so far.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
