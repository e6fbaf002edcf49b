//! Measures a call over a link without an engine on either side. The callee is another process, which returns the
//! payload of each call unchanged.
//!
//! `link_calls` prints one line of JSON for each transport, size and number of concurrent calls: the median and the
//! 99th percentile of the duration of a call in µs, calls per second, and µs of processor time of both processes per
//! call. With `link_calls ROUND_MS`, each measurement takes `ROUND_MS` milliseconds instead of one second.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::error::Error;
use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_link::{Peer, PeerLimits, Server, ServerLimits};
use isomer_wire::{Call, CallContext, CallResult, Callee, FunctionKey};

type Failed = Box<dyn Error + Send + Sync>;

const SIZES: [usize; 4] = [16, 1 << 10, 64 << 10, 1 << 20];
const IN_FLIGHT: [usize; 3] = [1, 16, 256];
/// The maximum product of the payload size and the number of concurrent calls. With more bytes in flight, only the
/// speed of memory would be measured.
const BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

struct Echo;

impl Callee for Echo {
    fn call(&self, call: Call) -> Pin<Box<dyn Future<Output = CallResult> + Send>> {
        Box::pin(async move { Ok(call.image) })
    }
}

/// The callee's process. Killed when dropped.
struct Callees(Child);

impl Drop for Callees {
    fn drop(&mut self) {
        // Killing fails only if the process has exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [serve, address] if serve == "serve" => {
            let server = Server::listen(&address.parse()?, None, ServerLimits::default(), Arc::new(Echo)).await?;
            println!("{}", server.address());
            server.serve(std::future::pending(), Duration::ZERO).await;
            Ok(())
        }
        [round_ms] => measure(Duration::from_millis(round_ms.parse()?)).await,
        _ => measure(Duration::from_secs(1)).await,
    }
}

async fn measure(round: Duration) -> Result<(), Failed> {
    let folder = std::env::temp_dir().join(format!("isomer-link-calls-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    let socket = format!("unix:{}", folder.join("echo.sock").display());
    for (transport, address) in [("unix", &*socket), ("tcp", "127.0.0.1:0")] {
        let mut child =
            Command::new(std::env::current_exe()?).args(["serve", address]).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the echo has no output")?;
        let callees = Callees(child);
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        let peer = Arc::new(Peer::new("echo", vec![address.trim().parse()?], None, PeerLimits::default())?);
        peer.wait_ready(Instant::now() + CONNECT_TIMEOUT).await?;
        for size in SIZES {
            for in_flight in IN_FLIGHT.into_iter().filter(|in_flight| size * in_flight <= BYTES_MAX) {
                // These calls warm up memory and branch predictors, and are not measured.
                calls(&peer, size, in_flight, round / 5).await?;
                let before = processor_us(callees.0.id())?;
                let start = Instant::now();
                let mut times = calls(&peer, size, in_flight, round).await?;
                let seconds = start.elapsed().as_secs_f64();
                let processor = processor_us(callees.0.id())? - before;
                times.sort_unstable();
                let count = times.len() as f64;
                let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
                println!(
                    "{{\"transport\":\"{transport}\",\"bytes\":{size},\"in_flight\":{in_flight},\"median_us\":{:.1},\
                     \"p99_us\":{:.1},\"calls_per_s\":{:.0},\"processor_us_per_call\":{:.2}}}",
                    at(50),
                    at(99),
                    count / seconds,
                    processor / count
                );
            }
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Makes calls for the duration `round`. Each of `in_flight` callers makes one call after another. Returns the duration
/// of each call.
async fn calls(peer: &Arc<Peer>, size: usize, in_flight: usize, round: Duration) -> Result<Vec<Duration>, Failed> {
    let end = Instant::now() + round;
    let callers: Vec<_> = (0..in_flight)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while times.is_empty() || Instant::now() < end {
                    let start = Instant::now();
                    let bytes = peer.call(call(start, size)).await?;
                    if bytes.len() != size {
                        return Err(Failed::from("the echo differs"));
                    }
                    times.push(start.elapsed());
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.append(&mut caller.await??);
    }
    Ok(times)
}

fn call(now: Instant, size: usize) -> Call {
    let context = CallContext {
        deadline: now + CALL_TIMEOUT,
        request: 1,
        traceparent: None,
        plan: isomer_ids::PlanDigest::default(),
    };
    Call { function: FunctionKey([0; 16]), context, is_idempotent: false, image: vec![1; size] }
}

/// Returns the processor time of this process and of the process `other` together, in µs.
fn processor_us(other: u32) -> Result<f64, Failed> {
    let mut sum = 0.0;
    for process in [std::process::id(), other] {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        let fields = text.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        // `utime` and `stime` are fields 14 and 15 of `/proc/PID/stat`, in ticks of 10 ms.
        for field in fields.split_whitespace().skip(11).take(2) {
            sum += field.parse::<f64>()? * 10_000.0;
        }
    }
    Ok(sum)
}
