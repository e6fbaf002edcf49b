//! The deadline of a response whose client does not read it.
//!
//! A guest is driven by the reader of its response's body, and its deadline with it. A client that stops reading, or reads a byte now and
//! then, would postpone that deadline for ever: hyper polls a body only when there is room to send more of it. So each task that may hold
//! such a body notes its deadline here, and is dropped with all that it holds if it still waits when the deadline has passed. The timer is
//! set only when a task waits with a response that is partly sent, which most never do. The guest's run cannot do this: it may have ended
//! before its response is read (WASI 0.2), or belong to another task (`concurrency`).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use hyper::rt::Executor;
use tokio::time::{Sleep, sleep_until};

tokio::task_local! {
    /// When the response that this task sends has to be complete; `None` while it sends none.
    static SENDING_UNTIL: Cell<Option<Instant>>;
}

/// Notes that this task sends a response from now on.
pub(crate) fn begin(deadline: Instant) {
    // Outside of `watch` there is no place to note it.
    let _ = SENDING_UNTIL.try_with(|until| until.set(Some(deadline)));
}

/// Notes that the response is complete.
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

/// Runs each stream of HTTP/2 in a task that is watched.
#[derive(Clone, Copy)]
pub(crate) struct WatchedTasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for WatchedTasks {
    fn execute(&self, task: F) {
        tokio::spawn(watch(task));
    }
}
