//! A callee whose encoded arguments determine what it does: `echo:…`, `wait:NAME` (until the test opens the gate),
//! `hang`, `trap`, `panic`, `spin:MS`.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isomer_wire::{Call, CallFailure, CallResult, Callee, FunctionKey};
use tokio::sync::{Semaphore, watch};

pub const FUNCTION: FunctionKey = FunctionKey([1; 16]);

/// The numbers of calls that were started, that ended, and that were dropped before they ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub started: usize,
    pub ended: usize,
    pub dropped: usize,
}

/// Counts the calls.
#[derive(Default)]
pub struct Script {
    counts: watch::Sender<Counts>,
    last: Mutex<Option<Call>>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Script {
    pub fn started(&self) -> usize {
        self.counts.borrow().started
    }

    pub fn ended(&self) -> usize {
        self.counts.borrow().ended
    }

    pub fn dropped(&self) -> usize {
        self.counts.borrow().dropped
    }

    /// Returns a receiver that is notified of every change of the counts from now on.
    pub fn changes(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    pub fn last(&self) -> Call {
        self.last.lock().unwrap().clone().expect("there was a call")
    }

    /// Releases all calls that wait for the gate `name`. Later calls pass the gate without waiting.
    pub fn open(&self, name: &str) {
        self.gate(name).add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn gate(&self, name: &str) -> Arc<Semaphore> {
        self.gates.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }
}

/// A callee that counts its calls in a [`Script`].
pub struct Scripted(pub Arc<Script>);

struct RunningCall {
    script: Arc<Script>,
    is_ended: bool,
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let is_ended = self.is_ended;
        self.script.counts.send_modify(|counts| if is_ended { counts.ended += 1 } else { counts.dropped += 1 });
    }
}

impl Callee for Scripted {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        let script = self.0.clone();
        Box::pin(async move {
            if call.function != FUNCTION {
                return Err(CallFailure::refused("unknown function"));
            }
            if call.context.plan != super::PLAN {
                return Err(CallFailure::refused("another plan"));
            }
            script.counts.send_modify(|counts| counts.started += 1);
            let image = call.image.clone();
            *script.last.lock().unwrap() = Some(call);
            let mut running = RunningCall { script: script.clone(), is_ended: false };
            let head = String::from_utf8_lossy(&image[..image.len().min(32)]).into_owned();
            let answer = match head.split_once(':') {
                Some(("wait", name)) => {
                    script.gate(name).acquire().await.unwrap().forget();
                    Ok(image)
                }
                Some(("spin", ms)) => {
                    std::thread::sleep(Duration::from_millis(ms.parse().unwrap()));
                    Ok(image)
                }
                _ if head == "hang" => std::future::pending().await,
                _ if head == "trap" => Err(CallFailure::trap("unreachable")),
                _ if head == "panic" => panic!("the callee's host is at fault"),
                _ => Ok(image),
            };
            running.is_ended = true;
            answer
        })
    }
}
