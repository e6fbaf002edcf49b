//! Calls `seam-bench-callee` a given number of times, and reports the duration.
//!
//! `GET /run?what=add|echo|lookup|all&mode=sync|async&n=CALLS&size=SIZE&concurrency=K` responds
//! `{"ns":…,"checksum":"…"}`: the nanoseconds by this component's own monotonic clock, and a checksum of all results.
//! With `mode=async`, K calls are in flight. `isomer-bench-workload` defines the query.

use futures::future::join_all;
use guest_support::{HandlerResult, path, respond};
use isomer_bench_workload::{Callee, Digest, Mode, Outcome, Work, worker};
use wasip3::clocks::monotonic_clock::now;
use wasip3::http::types::Request;

wit_bindgen::generate!({ path: ["../seam-bench-callee/wit"], world: "guest:seam-bench/caller" });

use guest::seam_bench::{async_calls, calls};

wasip3::http::service::export!(Caller);
export!(Caller);

struct Caller;

impl wasip3::exports::http::handler::Guest for Caller {
    async fn handle(request: Request) -> HandlerResult {
        if path(&request) != "/run" {
            return respond(404, "there is /run only\n");
        }
        let target = request.get_path_with_query().unwrap_or_default();
        let (_, query) = target.split_once('?').unwrap_or_default();
        match run(query).await {
            Ok(outcome) => respond(200, outcome),
            Err(reason) => respond(400, format!("{reason}\n")),
        }
    }
}

impl exports::guest::seam_bench::runner::Guest for Caller {
    async fn run(query: String) -> Result<String, String> {
        run(&query).await
    }
}

async fn run(query: &str) -> Result<String, String> {
    let work = Work::parse(query)?;
    let began = now();
    let checksum = match work.mode {
        Mode::Sync => worker(&mut Blocking, work, 0).await,
        Mode::Async if work.concurrency == 1 => worker(&mut InFlight, work, 0).await,
        Mode::Async => {
            let sums =
                join_all((0..work.concurrency).map(|first| async move { worker(&mut InFlight, work, first).await }))
                    .await;
            sums.into_iter().fold(0, u64::wrapping_add)
        }
    };
    Ok(Outcome { ns: now() - began, checksum }.to_string())
}

struct Blocking;

impl Callee for Blocking {
    async fn add(&mut self, a: u32, b: u32) -> u32 {
        calls::add(a, b)
    }

    async fn echo(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        calls::echo(&bytes)
    }

    async fn lookup(&mut self, key: &str) -> Digest {
        let mut digest = Digest::default();
        match calls::lookup(key) {
            Ok(item) => digest.item(item.id, &item.name, item.price_cents, item.tags.iter().map(String::as_str)),
            Err(reason) => digest.refusal(&reason),
        }
        digest
    }

    async fn all(&mut self, count: u32) -> Digest {
        let mut digest = Digest::default();
        for item in calls::all(count) {
            digest.item(item.id, &item.name, item.price_cents, item.tags.iter().map(String::as_str));
        }
        digest
    }
}

struct InFlight;

impl Callee for InFlight {
    async fn add(&mut self, a: u32, b: u32) -> u32 {
        async_calls::add(a, b).await
    }

    async fn echo(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        async_calls::echo(bytes).await
    }

    async fn lookup(&mut self, key: &str) -> Digest {
        let mut digest = Digest::default();
        match async_calls::lookup(key.to_owned()).await {
            Ok(item) => digest.item(item.id, &item.name, item.price_cents, item.tags.iter().map(String::as_str)),
            Err(reason) => digest.refusal(&reason),
        }
        digest
    }

    async fn all(&mut self, count: u32) -> Digest {
        let mut digest = Digest::default();
        for item in async_calls::all(count).await {
            digest.item(item.id, &item.name, item.price_cents, item.tags.iter().map(String::as_str));
        }
        digest
    }
}
