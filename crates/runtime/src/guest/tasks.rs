//! The host memory that wasmtime uses for the tasks, streams, futures and waitable sets of a wasmtime store. The
//! account of the store is charged for it while the guest runs.
//!
//! A guest can create these objects without a call of a host function, up to
//! [`COMPONENT_HANDLES_MAX`](crate::pool::bounds::COMPONENT_HANDLES_MAX) in a store. They are counted whenever the
//! guest stops running, before it waits for anything, and at every epoch tick while it runs. So memory can be uncharged
//! in only two cases: the guest is running at this moment (at most one guest per thread), or the guest was called
//! across a seam, created such objects within one tick, and now waits. The charge follows the highest count and stays
//! until the instance ends, because wasmtime's tables do not shrink.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use wasmtime::component::Accessor;
use wasmtime::{AsContextMut as _, StoreContextMut};

use super::data::Guest;

/// The host memory in bytes of one entry in wasmtime's table of tasks and streams, with the entry's data and the
/// guest's handle. `tests/handles.rs` measures it.
pub(crate) const ENTRY_BYTES: usize = 512;

/// Runs `run`, and charges the wasmtime store's tasks and streams after each poll of `run`. When the guest starts to
/// wait, all of them are charged, because wasmtime polls `run` before the event loop of the wasmtime store becomes
/// idle.
///
/// # Errors
/// The errors of `run`, and an error if the account has no memory left.
pub(crate) async fn charged<T>(
    accessor: &Accessor<Guest>,
    run: impl Future<Output = wasmtime::Result<T>>,
) -> wasmtime::Result<T> {
    let mut run = pin!(run);
    poll_fn(|cx| {
        let polled = run.as_mut().poll(cx);
        match &polled {
            // Memory is also charged when `run` is ready, because the guest may leave tasks and streams, which the
            // instance keeps.
            Poll::Pending | Poll::Ready(Ok(_)) => accessor
                .with(|mut store| charge(store.as_context_mut()))
                .map_or_else(|error| Poll::Ready(Err(error)), |()| polled),
            Poll::Ready(Err(_)) => polled,
        }
    })
    .await
}

/// Charges the memory of the tasks and streams that the wasmtime store holds now.
///
/// # Errors
/// If the account has no memory left. The caller must stop the guest.
pub(crate) fn charge(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<()> {
    let entries = store.concurrent_resource_table().map_or(0, |table| table.iter_mut().count());
    store.data_mut().entries = entries;
    store.data_mut().limiter.charge_tasks(entries * ENTRY_BYTES).map_err(wasmtime::Error::new)
}
