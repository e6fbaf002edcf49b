//! Attempts to use up all memory and all handles: those of the guest, and those that the platform keeps for the guest.

use core::arch::wasm32::memory_grow;
use std::hint::black_box;
use std::mem::forget;

use guest_support::{HandlerResult, respond};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Method, Request};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

use crate::canary;
use crate::wasi::keyvalue::atomics::Cas;
use crate::wasi::keyvalue::store as kv;

/// Grows the memory until the platform refuses, then allocates a gigabyte.
pub fn memory() -> HandlerResult {
    while memory_grow::<0>(16) != usize::MAX {}
    canary::stain(1 << 30);
    respond(200, "a gigabyte\n")
}

/// Allocates `bytes` and writes to all of them.
pub fn touch(bytes: usize) -> HandlerResult {
    canary::stain(bytes);
    respond(200, format!("touched={bytes}\n"))
}

/// Recurses until the stack overflows.
#[inline(never)]
pub fn recursion(depth: u64) -> u64 {
    let frame = black_box([depth; 8]);
    if depth == 0 { 0 } else { frame[7].wrapping_add(recursion(black_box(depth - 1))) }
}

/// Creates resources of the platform forever and never drops them.
pub fn handles() -> HandlerResult {
    loop {
        forget(Fields::new());
    }
}

/// Creates pollables of WASI 0.2 forever and never drops them.
pub fn pollables() -> HandlerResult {
    loop {
        forget(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX));
    }
}

/// Creates both ends of streams and futures forever and never drops them.
pub fn streams() -> HandlerResult {
    loop {
        forget(wit_stream::new::<u8>());
        forget(wit_future::new::<Result<(), ErrorCode>>(|| Ok(())));
    }
}

/// Starts asynchronous calls forever and never waits for them.
pub async fn subtasks() -> HandlerResult {
    loop {
        spawn_local(wait_for(u64::MAX));
        wasip3::wit_bindgen::yield_async().await;
    }
}

/// Creates requests until the platform refuses. For each request, the platform keeps a method name of `bytes` bytes.
pub fn heavy_methods(bytes: usize) -> HandlerResult {
    let method = Method::Other("M".repeat(bytes));
    let mut kept = 0;
    loop {
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        drop(trailers);
        let (request, sent) = Request::new(Fields::new(), None, trailers_reader, None);
        let set = request.set_method(&method);
        forget((request, sent));
        if set.is_err() {
            return respond(200, format!("refused after {kept}\n"));
        }
        kept += 1;
    }
}

/// Creates sets of header fields of the maximum size forever.
pub fn heavy_fields() -> HandlerResult {
    let value = vec![b'a'; 4096];
    loop {
        let fields = Fields::new();
        while fields.append("x-heavy", &value).is_ok() {}
        forget(fields);
    }
}

/// Creates `handles` sets of header fields of the maximum size and keeps them until the deadline.
pub async fn kept_fields(handles: u64) -> HandlerResult {
    let value = vec![b'a'; 4096];
    for _ in 0..handles {
        let fields = Fields::new();
        while fields.append("x-heavy", &value).is_ok() {}
        forget(fields);
    }
    wait_for(u64::MAX).await;
    respond(200, "kept\n")
}

/// Stores one value of `bytes` bytes, opens many `cas` handles of its key, and keeps the handles until the deadline.
pub async fn kept_values(bytes: usize) -> HandlerResult {
    let bucket = match kv::open("default") {
        Ok(bucket) => bucket,
        Err(error) => return respond(200, format!("{error:?}\n")),
    };
    if let Err(error) = bucket.set("kept", &vec![b'v'; bytes]) {
        return respond(200, format!("{error:?}\n"));
    }
    for _ in 0..1500 {
        match Cas::new(&bucket, "kept") {
            Ok(handle) => forget(handle),
            Err(_) => break,
        }
    }
    wait_for(u64::MAX).await;
    respond(200, "kept\n")
}

/// Requests `bytes` random bytes, which may be more than fit into memory.
pub fn random_bytes(bytes: u64) -> HandlerResult {
    let random = wasip3::random::random::get_random_bytes(bytes);
    respond(200, format!("random={}\n", random.len()))
}

/// Polls `count` pollables with one call.
pub fn many_polls(count: usize) -> HandlerResult {
    let pollable = wasip2::clocks::monotonic_clock::subscribe_duration(0);
    let ready = wasip2::io::poll::poll(&vec![&pollable; count]);
    respond(200, format!("ready={}\n", ready.len()))
}
