//! The deadline of a response whose client does not read it.
//!
//! The guest of a response runs, and checks its deadline, only while the response's body is read. A client that stops
//! reading, or reads a byte now and then, would postpone that deadline forever: hyper polls a body only when it has
//! room to send more. So each task that may hold such a body records its deadline here. If the task still waits when
//! the deadline has passed, it is dropped with all that it holds. The timer is set only when a task waits with a partly
//! sent response, which most tasks never do. The guest's run cannot enforce this deadline: it may have ended before its
//! response is read (WASI 0.2), or belong to another task (`concurrency`).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use hyper::rt::Executor;
use tokio::time::{Sleep, sleep_until};

tokio::task_local! {
    /// The deadline of the response that this task sends; `None` while it sends none.
    static SENDING_UNTIL: Cell<Option<Instant>>;
}

/// Records that this task sends a response from now on, until `deadline`.
pub(crate) fn begin(deadline: Instant) {
    // Outside of `watch` the task-local variable does not exist.
    let _ = SENDING_UNTIL.try_with(|until| until.set(Some(deadline)));
}

/// Records that the response is complete.
pub(crate) fn end() {
    let _ = SENDING_UNTIL.try_with(|until| until.set(None));
}

/// Runs `task` to its end. Drops it and returns `None` if it still waits after the deadline of the response that it sends.
pub(crate) async fn watch<T>(task: impl Future<Output = T>) -> Option<T> {
    let watched = async {
        let mut task = pin!(task);
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = task.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let Some(until) = SENDING_UNTIL.with(Cell::get).map(tokio::time::Instant::from) else {
                return Poll::Pending;
            };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await
    };
    SENDING_UNTIL.scope(Cell::new(None), watched).await
}

/// Runs each HTTP/2 stream in a task with [`watch`].
#[derive(Clone, Copy)]
pub(crate) struct WatchedTasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for WatchedTasks {
    fn execute(&self, task: F) {
        tokio::spawn(watch(task));
    }
}
