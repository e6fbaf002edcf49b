//! The calls over fused seams that a probed composition has reported and that have not ended yet.
//!
//! A probe reports the start and the end of a call, but not which of several concurrent calls it is. wasmtime knows the
//! task that runs now and the tasks that it was called from. Each probed call is a task of its own, so the task
//! identifies the call.
//!
//! A task that is dropped before it ends (after a trap, or because its caller was dropped) reports no end. Its call
//! stays open until the request ends, or until wasmtime gives the number of the task to a new task that also runs a
//! probed call. While a call is open, the trace of its request is not complete.

use std::sync::Arc;

use isomer_telemetry::SpanContext;

use crate::spans::CallSpan;

/// The maximum number of open calls of one instance. Further calls are not recorded.
pub(crate) const CALLS_MAX: usize = 256;

/// The maximum length of the list of tasks (the current task and the tasks that led to it) that is searched for the
/// current call.
pub(crate) const TASKS_MAX: usize = 64;

/// A call over a fused seam that has not ended. If it is dropped, its span fails as cancelled.
pub(crate) struct FusedCall {
    pub(super) span: CallSpan,
    pub(super) callee: Arc<str>,
}

impl FusedCall {
    /// Returns the context of the operations that the call causes.
    pub(super) fn context(&self) -> Option<&SpanContext> {
        self.span.context()
    }
}

/// The open calls of one wasmtime store. `T` identifies a task, and `S` is the record of a call: its span.
#[derive(Debug)]
pub(crate) struct ProbedCalls<T, S> {
    open: Vec<OpenCall<T, S>>,
}

#[derive(Debug)]
struct OpenCall<T, S> {
    task: T,
    /// The task of the request that the call belongs to.
    root: T,
    span: S,
}

impl<T, S> Default for ProbedCalls<T, S> {
    fn default() -> Self {
        Self { open: Vec::new() }
    }
}

impl<T: Copy + Eq, S> ProbedCalls<T, S> {
    /// Returns whether no call is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the span of the call that the current task belongs to. `tasks` is the engine's call stack: the current
    /// task first, then the tasks that led to it.
    pub(crate) fn current(&self, tasks: &[T]) -> Option<&S> {
        tasks.iter().find_map(|task| self.of_task(*task)).map(|call| &call.span)
    }

    /// Records the start of a call. `tasks` is the engine's call stack: the task of the call first, then the tasks that
    /// led to it. `root` is the last of them: the task of the request. Drops `span` if [`CALLS_MAX`] calls are open.
    pub(crate) fn enter(&mut self, tasks: &[T], root: T, span: S) {
        let [task, ..] = tasks else { return };
        // If an open call already has this task's number, its own task was dropped without reporting the end of the
        // call, and wasmtime has reused the number. Such a call is removed.
        self.open.retain(|call| call.task != *task);
        if self.open.len() < CALLS_MAX {
            self.open.push(OpenCall { task: *task, root, span });
        }
    }

    /// Records the end of the call that `task` runs, and returns its span. Returns `None` if the start of the call was
    /// not recorded.
    pub(crate) fn exit(&mut self, task: T) -> Option<S> {
        let position = self.open.iter().position(|call| call.task == task)?;
        Some(self.open.remove(position).span)
    }

    /// Drops the calls of the request whose task is `root` that are still open.
    pub(crate) fn end_request(&mut self, root: T) {
        self.open.retain(|call| call.root != root);
    }

    /// Forgets all calls that are still open, and returns their spans, the oldest first.
    pub(crate) fn end_all(&mut self) -> impl Iterator<Item = S> {
        std::mem::take(&mut self.open).into_iter().map(|call| call.span)
    }

    fn of_task(&self, task: T) -> Option<&OpenCall<T, S>> {
        self.open.iter().find(|call| call.task == task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_the_current_call_again_when_a_call_ends() {
        let mut calls = ProbedCalls::default();
        assert!(calls.is_empty());
        calls.enter(&[2, 1], 1, "outer");
        // Task 3 runs a call without a probe.
        calls.enter(&[4, 3, 2, 1], 1, "inner");
        assert_eq!(calls.current(&[4, 3, 2, 1]), Some(&"inner"));
        assert_eq!(calls.current(&[3, 2, 1]), Some(&"outer"));
        assert_eq!(calls.exit(4), Some("inner"));
        assert_eq!(calls.current(&[3, 2, 1]), Some(&"outer"));
        assert_eq!(calls.exit(2), Some("outer"));
        assert!(calls.is_empty());
    }

    #[test]
    fn concurrent_calls_are_told_apart_by_their_tasks() {
        let mut calls = ProbedCalls::default();
        calls.enter(&[2, 1], 1, "first");
        calls.enter(&[3, 1], 1, "second");
        calls.enter(&[4, 2, 1], 1, "inner");
        assert_eq!(calls.current(&[4, 2, 1]), Some(&"inner"));
        assert_eq!(calls.current(&[5, 3, 1]), Some(&"second"));
        assert_eq!(calls.current(&[1]), None);
        assert_eq!(calls.exit(2), Some("first"));
        assert_eq!(calls.exit(2), None);
        assert_eq!(calls.exit(4), Some("inner"));
        assert_eq!(calls.end_all().collect::<Vec<_>>(), ["second"]);
        assert_eq!(calls.current(&[3]), None);
    }

    #[test]
    fn a_reused_task_number_replaces_the_call_of_a_dropped_task() {
        let mut calls = ProbedCalls::default();
        calls.enter(&[2], 1, "dropped");
        calls.enter(&[2], 1, "new");
        assert_eq!(calls.exit(2), Some("new"));
        assert_eq!(calls.end_all().count(), 0);
    }

    #[test]
    fn the_end_of_a_request_ends_only_its_calls() {
        let mut calls = ProbedCalls::default();
        calls.enter(&[2, 1], 1, "first");
        calls.enter(&[6, 5], 5, "second");
        calls.end_request(1);
        assert_eq!((calls.exit(2), calls.exit(6)), (None, Some("second")));
    }

    #[test]
    fn the_number_of_open_calls_is_bounded() {
        let mut calls = ProbedCalls::default();
        (0..2 * CALLS_MAX).for_each(|task| calls.enter(&[task], 0, ()));
        assert_eq!(calls.current(&[CALLS_MAX]), None);
        assert_eq!(calls.end_all().count(), CALLS_MAX);
        calls.enter(&[0], 0, ());
        assert_eq!(calls.end_all().count(), 1);
    }
}
