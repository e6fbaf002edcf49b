//! The callee in tests of calls over seams. The argument of `act` and its variants selects the action:
//!
//! - `trap`: traps; `loop`: never returns; `hog`: allocates memory until none is left, then traps;
//! - `count`: returns `count=N`, the number of `count` calls in this instance;
//! - `memory`: returns `memory=N`, the size of the instance's memory in bytes;
//! - `say TEXT`: prints the text to stdout, without a newline;
//! - `env NAME`: returns the value of the environment variable, or `nothing`;
//! - `wait MS`: waits MS milliseconds, blocking its instance, and returns `waited=MS`;
//! - `keep TEXT`: returns the text of the previous `keep` in this instance, and stores the new text.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wasip3::clocks::monotonic_clock::wait_for;
use wit_bindgen::spawn_local;

wit_bindgen::generate!({ path: ["../../crates/wit/wit/isomer-link", "wit"], world: "guest:seam/callee", generate_all });

use exports::guest::seam::work::{Failure, Guest, Item};

export!(Callee);

struct Callee;

static COUNT: AtomicU32 = AtomicU32::new(0);
static KEPT: Mutex<String> = Mutex::new(String::new());

impl Guest for Callee {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }

    fn change(item: Item) -> Item {
        Item { name: item.name.to_uppercase(), count: item.count + 1, ..item }
    }

    fn echo(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    fn make(bytes: u32) -> Vec<u8> {
        vec![7; bytes as usize]
    }

    fn act(what: String) -> String {
        act(&what).unwrap_or_else(|| format!("unknown: {what}"))
    }

    fn act_carefully(what: String) -> Result<String, Failure> {
        act(&what).ok_or(Failure::Unknown(what))
    }

    async fn wait(name: String, ms: u32) -> String {
        wait_for(u64::from(ms) * 1_000_000).await;
        name
    }

    async fn leave(item: Item, ms: u32) -> Item {
        let name = item.name.clone();
        spawn_local(async move {
            wait_for(u64::from(ms) * 1_000_000).await;
            println!("{name} is done");
        });
        item
    }

    async fn act_later(what: String) -> String {
        Self::act(what)
    }

    async fn act_later_carefully(what: String) -> Result<String, Failure> {
        Self::act_carefully(what)
    }
}

fn act(what: &str) -> Option<String> {
    let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
    Some(match verb {
        "trap" => core::arch::wasm32::unreachable(),
        "loop" => loop {
            black_box(());
        },
        "hog" => {
            let mut taken = Vec::new();
            loop {
                taken.push(vec![1_u8; 1 << 20]);
                black_box(&taken);
            }
        }
        "count" => format!("count={}", COUNT.fetch_add(1, Ordering::Relaxed) + 1),
        "memory" => format!("memory={}", core::arch::wasm32::memory_size(0) << 16),
        "say" => {
            print!("{rest}");
            std::io::stdout().flush().ok()?;
            "said".to_owned()
        }
        "env" => std::env::var(rest).unwrap_or_else(|_| "nothing".to_owned()),
        "wait" => {
            std::thread::sleep(Duration::from_millis(rest.parse().ok()?));
            format!("waited={rest}")
        }
        "keep" => {
            let mut kept = KEPT.lock().ok()?;
            std::mem::replace(&mut *kept, rest.to_owned())
        }
        _ => return None,
    })
}
