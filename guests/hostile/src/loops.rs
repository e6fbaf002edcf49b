//! Attempts to occupy the processor or an instance forever.

use std::future::pending;
use std::hint::black_box;

use guest_support::{HandlerResult, respond, respond_stream};
use wasip3::clocks::monotonic_clock::{now, wait_for};
use wasip3::wit_bindgen::{spawn_local, yield_async};
use wasip3::wit_stream;

pub fn plain() -> HandlerResult {
    spin()
}

fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

/// Loops forever in the innermost of many nested calls.
#[inline(never)]
pub fn nested(depth: u32) -> HandlerResult {
    if depth == 0 {
        spin();
    }
    let result = nested(black_box(depth - 1));
    black_box(depth);
    result
}

/// Loops forever after a wait, that is, in the callback of the task and not in its start function.
pub async fn later() -> HandlerResult {
    wait_for(1_000_000).await;
    spin()
}

/// Loops forever in a second task, after the handler has returned a response whose body never ends.
pub fn in_task() -> HandlerResult {
    spawn_local(async {
        wait_for(1_000_000).await;
        spin()
    });
    let (writer, reader) = wit_stream::new();
    // The stream is never written to and never closed, because its writer is never dropped.
    std::mem::forget(writer);
    respond_stream(200, reader)
}

/// Loops forever after the client has read the complete response.
pub async fn after_answer() -> HandlerResult {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        let _unread = writer.write_all(b"answered\n".to_vec()).await;
        drop(writer);
        wait_for(1_000_000).await;
        spin()
    });
    respond_stream(200, reader)
}

/// Calls host functions that return immediately, forever.
pub fn host_calls() -> HandlerResult {
    loop {
        black_box(now());
        black_box(wasip3::random::random::get_random_u64());
    }
}

/// Awaits asynchronous calls that complete immediately, forever.
pub async fn waiting_calls() -> HandlerResult {
    loop {
        wait_for(0).await;
    }
}

/// Yields forever.
pub async fn yields() -> HandlerResult {
    loop {
        yield_async().await;
    }
}

/// Starts tasks that start further tasks, forever.
pub async fn tasks() -> HandlerResult {
    fn breed() {
        spawn_local(async {
            yield_async().await;
            breed();
            breed();
        });
    }
    breed();
    pending().await
}

/// Waits for an event that never happens.
pub async fn wait() -> HandlerResult {
    let (writer, reader) = wit_stream::new::<u8>();
    let read = reader.collect().await;
    drop(writer);
    respond(200, read)
}

/// Sleeps for the maximum duration that the clock accepts.
pub async fn sleep() -> HandlerResult {
    wait_for(u64::MAX).await;
    respond(200, "slept\n")
}
