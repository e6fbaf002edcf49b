//! The end of a request whose client does not take the answer.
//!
//! A guest is driven by whoever reads the body of its response, and its deadline with it. A client that stops reading, or reads a
//! byte now and then, would put off that deadline for ever: hyper polls a body only when there is room to send more of it. So
//! each task that may hold such a body notes its deadline here, and is dropped with all that it holds if it still waits when the
//! deadline has passed. No further timer is needed: that of the guest's run wakes the same task.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use hyper::rt::Executor;

tokio::task_local! {
    /// When the guest's response that this task sends must be over; none while it sends none.
    static SENDING_UNTIL: Cell<Option<Instant>>;
}

/// From here on, this task sends a guest's response.
pub(crate) fn begin(deadline: Instant) {
    // Outside of `watch` there is nothing to note.
    let _ = SENDING_UNTIL.try_with(|until| until.set(Some(deadline)));
}

/// The response is over.
pub(crate) fn end() {
    let _ = SENDING_UNTIL.try_with(|until| until.set(None));
}

/// Runs `task` to its end, or drops it when it still waits after the deadline of the response that it sends: then `None`.
pub(crate) async fn watch<T>(task: impl Future<Output = T>) -> Option<T> {
    let watched = async {
        let mut task = pin!(task);
        poll_fn(|cx| match task.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if SENDING_UNTIL.with(Cell::get).is_some_and(|until| until <= Instant::now()) => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    };
    SENDING_UNTIL.scope(Cell::new(None), watched).await
}

/// Gives each stream of HTTP/2 a task that is watched.
#[derive(Clone, Copy)]
pub(crate) struct WatchedTasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for WatchedTasks {
    fn execute(&self, task: F) {
        tokio::spawn(watch(task));
    }
}
