//! The deadline of a response whose client does not read it.
//!
//! A guest runs, and checks its deadline, only while the body of its response is read. hyper polls a body only when it
//! can send more data, so a client that stops reading, or reads a byte now and then, could postpone the deadline
//! forever. Therefore each task that sends a response records the deadline of the response here. If the task is still
//! waiting when the deadline has passed, the task is dropped with everything that it holds. A timer is created only
//! when a task waits with a partly sent response, which is rare. The guest's run cannot enforce this deadline, because
//! it may have ended before its response is read (WASI 0.2), or may belong to another task (if `concurrency` in the
//! manifest exceeds 1).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use hyper::rt::Executor;
use tokio::time::{Sleep, sleep_until};

tokio::task_local! {
    /// The deadline of the response that this task is sending, or `None` if it is sending none.
    static SENDING_UNTIL: Cell<Option<Instant>>;
}

/// Records that this task is sending a response that must be complete by `deadline`.
pub(crate) fn begin(deadline: Instant) {
    // `try_with` fails outside of `watch`, where the task-local variable does not exist.
    let _ = SENDING_UNTIL.try_with(|until| until.set(Some(deadline)));
}

/// Records that this task is no longer sending a response.
pub(crate) fn end() {
    let _ = SENDING_UNTIL.try_with(|until| until.set(None));
}

/// Runs `task` to its end. If `task` is still waiting at the deadline of a response that it is sending, drops it and
/// returns `None`.
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

/// An executor that runs each HTTP/2 stream in a new task with [`watch`].
#[derive(Clone, Copy)]
pub(crate) struct WatchedTasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for WatchedTasks {
    fn execute(&self, task: F) {
        tokio::spawn(watch(task));
    }
}
