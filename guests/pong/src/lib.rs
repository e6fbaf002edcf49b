//! The component that `ping` calls, through the interface `guest:pong/pong`.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::clocks::monotonic_clock::wait_for;

wit_bindgen::generate!({ path: ["wit"], world: "guest:pong/ponger", generate_all });

use exports::guest::pong::pong::{Guest, Refusal, Reply};

export!(Pong);

struct Pong;

const NAME_BYTES_MAX: usize = 64;
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Guest for Pong {
    fn greet(name: String) -> Result<Reply, Refusal> {
        if name.is_empty() {
            return Err(Refusal::EmptyName);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::TooLong(name.len() as u32));
        }
        Ok(Reply { text: format!("pong to {name}"), count: COUNT.fetch_add(1, Ordering::Relaxed) + 1 })
    }

    async fn greet_later(name: String, ms: u32) -> Result<Reply, Refusal> {
        wait_for(u64::from(ms) * 1_000_000).await;
        Self::greet(name)
    }

    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }

    fn trap() {
        core::arch::wasm32::unreachable()
    }

    fn time_and_chance() -> String {
        guest_support::time_and_chance()
    }

    fn environment(name: String) -> Option<String> {
        let value = std::env::var(&name).ok();
        println!("pong sees {name}={}", value.as_deref().unwrap_or("nothing"));
        value
    }
}
