//! The future of a guest, whose processor time is measured and charged to its account. It is polled in the fast or the
//! slow lane.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_task::Task;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

use super::meter::PollMeasurement;
use super::slow;
use crate::pool::Account;

/// The time that a guest may run without a pause in the fast lane before it must yield. A guest that uses up a complete
/// slice moves to the slow lane, because otherwise its computation would delay requests that arrive in the meantime.
const FAST_SLICE: Duration = Duration::from_micros(500);

/// The processor time that a guest may use within [`FAST_WINDOW`] in the fast lane, in polls shorter than
/// [`FAST_SLICE`], before it moves to the slow lane.
const FAST_TOTAL: Duration = Duration::from_millis(2);

/// The period over which a guest's processor time in the fast lane is added up. It is short, because over a long period
/// even the processor time of many short requests, which a guest may serve, would exceed [`FAST_TOTAL`].
const FAST_WINDOW: Duration = Duration::from_millis(20);

/// The time that a guest may run without a pause in the slow lane before it must yield. Also applies in the fast lane
/// if the guest's account has no limits.
pub(crate) const SLOW_SLICE: Duration = Duration::from_millis(5);

/// The period over which a guest in the slow lane is observed. A guest is calm if it uses less than [`CALM_USE`] of
/// processor time in this period, in short polls only. A calm guest moves back to the fast lane, whose limits allow
/// this use.
const CALM_TIME: Duration = Duration::from_millis(50);

/// The processor time per [`CALM_TIME`] below which a guest is calm.
const CALM_USE: Duration = Duration::from_millis(4);

/// The future of a guest, whose processor time is measured and charged to its account. It is polled in the fast or the
/// slow lane. Dropping it drops the guest.
pub(crate) struct MeteredFuture<T> {
    account: Arc<Account>,
    state: LaneState<T>,
}

/// The future of a guest, and the lane that the future is in.
enum LaneState<T> {
    /// The future has not been polled yet.
    New(BoxFuture<'static, T>),
    Fast(BoxFuture<'static, T>, FastUse),
    Slow(Task<SlowLaneEnd<T>>),
    /// The future was ready and must not be polled again.
    Over,
}

/// The use of the fast lane by one guest.
#[derive(Debug, Clone, Copy, Default)]
struct FastUse {
    /// The processor time that the guest has used since the start of `window`.
    used: Duration,
    window: Option<Instant>,
    /// Whether the guest has used up a complete time slice.
    is_slice_used: bool,
}

impl FastUse {
    fn add(&mut self, used: Duration) {
        self.is_slice_used |= used >= FAST_SLICE;
        let now = Instant::now();
        match self.window {
            Some(window) if now.saturating_duration_since(window) < FAST_WINDOW => self.used += used,
            _ => (self.window, self.used) = (Some(now), used),
        }
    }

    fn is_too_much(&self) -> bool {
        self.is_slice_used || self.used >= FAST_TOTAL
    }
}

/// The reasons why a guest leaves the slow lane.
enum SlowLaneEnd<T> {
    Ended(PanicSafeDrop<T>),
    /// The guest is calm, so its future moves back to the fast lane.
    Calm(PanicSafeDrop<BoxFuture<'static, T>>),
}

impl<T: Send + 'static> MeteredFuture<T> {
    pub(crate) fn new(account: &Arc<Account>, future: BoxFuture<'static, T>) -> Self {
        Self { account: account.clone(), state: LaneState::New(future) }
    }
}

impl<T: Send + 'static> Future for MeteredFuture<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.state, LaneState::Over) {
                LaneState::New(future) => {
                    this.state = if this.account.may_begin_fast() {
                        LaneState::Fast(future, FastUse::default())
                    } else {
                        move_to_slow(&this.account, future)
                    };
                }
                LaneState::Fast(mut future, mut used) => {
                    let slice = if this.account.is_limited() { FAST_SLICE } else { SLOW_SLICE };
                    let Some(polling) = PollMeasurement::begin(&this.account, slice) else {
                        // This poll is not measured, because it is part of another guest's poll, which is measured.
                        let polled = future.as_mut().poll(cx);
                        if polled.is_pending() {
                            this.state = LaneState::Fast(future, used);
                        }
                        return polled;
                    };
                    let polled = future.as_mut().poll(cx);
                    let took = polling.end();
                    let is_limited = this.account.is_limited();
                    if is_limited {
                        used.add(took);
                    }
                    let too_long = is_limited && used.is_too_much();
                    if too_long {
                        this.account.charge_fast_lane(used.used);
                    }
                    if polled.is_ready() {
                        return polled;
                    }
                    if !too_long {
                        this.state = LaneState::Fast(future, used);
                        return Poll::Pending;
                    }
                    this.state = move_to_slow(&this.account, future);
                }
                LaneState::Slow(mut task) => match Pin::new(&mut task).poll(cx) {
                    Poll::Ready(SlowLaneEnd::Ended(output)) => return Poll::Ready(output.take()),
                    Poll::Ready(SlowLaneEnd::Calm(guest)) => {
                        this.state = LaneState::Fast(guest.take(), FastUse::default())
                    }
                    Poll::Pending => {
                        this.state = LaneState::Slow(task);
                        return Poll::Pending;
                    }
                },
                LaneState::Over => panic!("a guest's future was polled after its end"),
            }
        }
    }
}

fn move_to_slow<T: Send + 'static>(account: &Arc<Account>, future: BoxFuture<'static, T>) -> LaneState<T> {
    // Outside of a tokio runtime, there is no other work that the guest could delay.
    let Ok(executor) = Handle::try_current() else { return LaneState::Fast(future, FastUse::default()) };
    let id = account.id();
    let schedule = move |runnable| slow::push(id, runnable, executor.clone());
    let (runnable, task) = async_task::Builder::new()
        .propagate_panic(true)
        .spawn(|()| run_in_slow_lane(account.clone(), PanicSafeDrop::new(future)), schedule);
    runnable.schedule();
    LaneState::Slow(task)
}

/// Runs a guest in the slow lane until its future is ready, or until the guest is calm: it uses so little processor
/// time that it may return to the fast lane (see [`CALM_TIME`]).
async fn run_in_slow_lane<T: Send + 'static>(
    account: Arc<Account>,
    mut guest: PanicSafeDrop<BoxFuture<'static, T>>,
) -> SlowLaneEnd<T> {
    let (mut window, mut any_long) = ((Instant::now(), Duration::ZERO), false);
    let ended = poll_fn(|cx| {
        let polling = PollMeasurement::begin(&account, SLOW_SLICE);
        let polled = guest.get().as_mut().poll(cx);
        let took = polling.map(PollMeasurement::end).unwrap_or_default();
        window.1 += took;
        any_long |= took >= FAST_SLICE;
        let is_over = window.0.elapsed() >= CALM_TIME;
        let is_calm = is_over && window.1 < CALM_USE && !any_long;
        if is_over {
            (window, any_long) = ((Instant::now(), Duration::ZERO), false);
        }
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if is_calm => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    match ended.await {
        Some(output) => SlowLaneEnd::Ended(PanicSafeDrop::new(output)),
        None => SlowLaneEnd::Calm(guest),
    }
}

/// A value whose drop does not panic: the panic is caught and logged. Without this, a guest whose drop panics would
/// abort the process, because `async_task` aborts if a future or output panics while its task drops it.
struct PanicSafeDrop<V>(Option<V>);

impl<V> PanicSafeDrop<V> {
    const THERE: &str = "the value is removed only at the end";

    fn new(value: V) -> Self {
        Self(Some(value))
    }

    fn get(&mut self) -> &mut V {
        self.0.as_mut().expect(Self::THERE)
    }

    fn take(mut self) -> V {
        self.0.take().expect(Self::THERE)
    }
}

impl<V> Drop for PanicSafeDrop<V> {
    fn drop(&mut self) {
        let value = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(value))).is_err() {
            isomer_telemetry::error!("dropping a guest panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::processor_time;
    use crate::pool::AccountLimits;

    /// Sends durations to a guest. For each of them, the guest uses the processor for that long.
    type Orders = mpsc::UnboundedSender<Duration>;
    /// Receives, for each duration that was sent to the guest, the id of the thread on which the guest computed.
    type Threads = mpsc::UnboundedReceiver<ThreadId>;

    fn limited() -> Arc<Account> {
        Account::new("t".into(), AccountLimits { memory_bytes: 0, cpu_per_second: Duration::from_secs(100) })
    }

    /// Returns a guest that uses the processor for each duration that it receives, and ends when the sender is dropped.
    fn guest(account: &Arc<Account>) -> (MeteredFuture<&'static str>, Orders, Threads) {
        let (orders, mut received) = mpsc::unbounded_channel::<Duration>();
        let (done, threads) = mpsc::unbounded_channel();
        let future = Box::pin(async move {
            while let Some(time) = received.recv().await {
                let until = processor_time() + time;
                while processor_time() < until {}
                let _ = done.send(std::thread::current().id());
            }
            "ended"
        });
        (MeteredFuture::new(account, future), orders, threads)
    }

    async fn computes(orders: &Orders, threads: &mut Threads, time: Duration) -> ThreadId {
        orders.send(time).unwrap();
        threads.recv().await.unwrap()
    }

    const LONG: Duration = Duration::from_millis(3);
    const SHORT: Duration = Duration::ZERO;

    #[tokio::test]
    async fn a_guest_that_computes_moves_to_the_slow_lane_and_back_when_it_is_calm() {
        let executor = std::thread::current().id();
        let (guest, orders, mut threads) = guest(&limited());
        let guest = tokio::spawn(guest);
        assert_eq!(computes(&orders, &mut threads, SHORT).await, executor);
        assert_eq!(
            computes(&orders, &mut threads, LONG).await,
            executor,
            "a guest moves to the slow lane during its first long poll"
        );
        assert_ne!(computes(&orders, &mut threads, SHORT).await, executor);
        // Waits for several periods of `FAST_WINDOW`.
        let waited = Instant::now();
        while computes(&orders, &mut threads, SHORT).await != executor {
            assert!(waited.elapsed() < Duration::from_secs(60), "the guest has not returned to the fast lane");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(orders);
        assert_eq!(guest.await.unwrap(), "ended");
    }

    #[tokio::test]
    async fn an_account_that_often_computes_begins_in_the_slow_lane() {
        let executor = std::thread::current().id();
        let account = limited();
        let other = limited();
        for _ in 0..4 {
            let (guest, orders, mut threads) = guest(&account);
            let guest = tokio::spawn(guest);
            computes(&orders, &mut threads, LONG).await;
            drop(orders);
            guest.await.unwrap();
        }
        for (account, is_fast) in [(&account, false), (&other, true)] {
            let (guest, orders, mut threads) = guest(account);
            let guest = tokio::spawn(guest);
            assert_eq!(computes(&orders, &mut threads, SHORT).await == executor, is_fast);
            drop(orders);
            guest.await.unwrap();
        }
    }

    #[tokio::test]
    async fn guests_without_limits_stay_in_the_fast_lane() {
        let executor = std::thread::current().id();
        let (guest, orders, mut threads) = guest(&Account::unlimited());
        let guest = tokio::spawn(guest);
        for _ in 0..3 {
            assert_eq!(computes(&orders, &mut threads, LONG).await, executor);
        }
        drop(orders);
        assert_eq!(guest.await.unwrap(), "ended");
    }

    #[tokio::test]
    async fn dropping_a_guest_in_the_slow_lane_drops_its_future() {
        let (guest, orders, mut threads) = guest(&limited());
        let guest = tokio::spawn(guest);
        computes(&orders, &mut threads, LONG).await;
        computes(&orders, &mut threads, SHORT).await;
        guest.abort();
        assert!(guest.await.unwrap_err().is_cancelled());
        orders.closed().await;
    }

    #[tokio::test]
    async fn a_panic_while_a_guest_is_dropped_in_the_slow_lane_is_contained() {
        struct Panics(Option<Orders>);
        impl Drop for Panics {
            fn drop(&mut self) {
                self.0 = None;
                panic!("on purpose");
            }
        }
        let account = limited();
        let (alive, mut dropped) = mpsc::unbounded_channel();
        let executor = std::thread::current().id();
        let future = Box::pin(async move {
            let _panics = Panics(Some(alive));
            while std::thread::current().id() == executor {
                let until = processor_time() + LONG;
                while processor_time() < until {}
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        });
        let guest = tokio::spawn(MeteredFuture::new(&account, future));
        tokio::task::yield_now().await;
        guest.abort();
        assert!(guest.await.unwrap_err().is_cancelled());
        assert_eq!(dropped.recv().await, None);
    }

    /// A value that panics when it is dropped.
    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    /// Runs `guest` in a task of the slow lane. Drops the [`Task`] during the guest's last poll there. It is the last
    /// poll because the guest is then ready, or because the guest is calm and may return to the fast lane.
    fn dropped_in_its_last_poll<T: Send + 'static>(guest: impl FnOnce() -> Poll<T> + Send + 'static) {
        let task = Arc::new(std::sync::Mutex::new(None::<Task<SlowLaneEnd<T>>>));
        let (dropping, mut guest, panics) = (task.clone(), Some(guest), Panics);
        let future = poll_fn(move |_| {
            let _panics = &panics;
            drop(dropping.lock().unwrap().take());
            guest.take().map_or(Poll::Pending, |guest| guest())
        });
        let stay = run_in_slow_lane(limited(), PanicSafeDrop::new(Box::pin(future) as BoxFuture<'static, T>));
        let (runnable, spawned) = async_task::spawn(stay, |_| ());
        *task.lock().unwrap() = Some(spawned);
        // The guest's first observed period begins with this poll.
        runnable.run();
    }

    #[test]
    fn a_panic_while_the_rest_of_a_guest_is_dropped_is_contained() {
        dropped_in_its_last_poll(|| Poll::Ready(Panics));
        dropped_in_its_last_poll(|| {
            let began = Instant::now();
            while began.elapsed() < CALM_TIME {
                std::thread::park_timeout(CALM_TIME);
            }
            Poll::<()>::Pending
        });
    }

    #[tokio::test]
    async fn a_panic_in_the_slow_lane_reaches_the_task_that_waits() {
        let account = limited();
        let executor = std::thread::current().id();
        let future = Box::pin(async move {
            while std::thread::current().id() == executor {
                let until = processor_time() + LONG;
                while processor_time() < until {}
                tokio::task::yield_now().await;
            }
            panic!("on purpose");
        });
        let guest = tokio::spawn(MeteredFuture::<()>::new(&account, future));
        assert!(guest.await.unwrap_err().is_panic());
        let (guest, orders, mut threads) = self::guest(&account);
        let guest = tokio::spawn(guest);
        computes(&orders, &mut threads, LONG).await;
        computes(&orders, &mut threads, SHORT).await;
        drop(orders);
        assert_eq!(guest.await.unwrap(), "ended", "the slow lane stops after a panic");
    }
}
