//! The component that `seam-bench-caller` calls, through interfaces of plain values: one of blocking functions and one
//! of `async func`s.

use isomer_bench_workload::answers;

wit_bindgen::generate!({ path: ["wit"], world: "guest:seam-bench/callee" });

use exports::guest::seam_bench::{async_calls, calls};

export!(Callee);

struct Callee;

impl calls::Guest for Callee {
    fn add(a: u32, b: u32) -> u32 {
        answers::add(a, b)
    }

    fn echo(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    fn lookup(key: String) -> Result<calls::Item, String> {
        answers::lookup(&key).map(calls::Item::from)
    }

    fn all(count: u32) -> Vec<calls::Item> {
        answers::all(count).map(calls::Item::from).collect()
    }
}

impl async_calls::Guest for Callee {
    async fn add(a: u32, b: u32) -> u32 {
        answers::add(a, b)
    }

    async fn echo(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn lookup(key: String) -> Result<async_calls::Item, String> {
        answers::lookup(&key).map(async_calls::Item::from)
    }

    async fn all(count: u32) -> Vec<async_calls::Item> {
        answers::all(count).map(async_calls::Item::from).collect()
    }
}

impl From<answers::Item> for calls::Item {
    fn from(answers::Item { id, name, price_cents, tags }: answers::Item) -> Self {
        Self { id, name, price_cents, tags }
    }
}

impl From<answers::Item> for async_calls::Item {
    fn from(answers::Item { id, name, price_cents, tags }: answers::Item) -> Self {
        Self { id, name, price_cents, tags }
    }
}
