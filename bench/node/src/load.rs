//! Load: many connections that send requests to many host names. Each response is checked and timed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::http::{Connection, Response, request};

/// The maximum time for a response. A request without a response in this time has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The maximum number of failures whose descriptions are kept. All failures are counted.
const FAILURES_KEPT: usize = 5;

/// A request and the only response that is correct for it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The encoded request.
    pub request: Vec<u8>,
    /// The status of a correct response.
    pub status: u16,
    /// The body of a correct response.
    pub body: Vec<u8>,
}

/// The condition that ends a load.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// The load ends after this time.
    Elapsed(Duration),
    /// The load ends after this number of requests, over all connections together.
    Requests(u64),
}

/// The settings of a load on a server.
#[derive(Debug, Clone)]
pub struct Load {
    /// The address of the server.
    pub address: SocketAddr,
    /// The number of connections, each with one request in flight.
    pub connections: usize,
    /// The number of requests per second, over all connections together. If `None`, each connection sends a request as
    /// soon as it has the previous response. If set, the duration of a request is measured from its scheduled time, so
    /// that any delay by a slow server is included.
    pub per_second: Option<f64>,
    /// The condition that ends the load.
    pub until: Until,
    /// The seed that selects the first target of each connection.
    pub seed: u64,
}

/// The result of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The times to the first byte of the correct responses, in microseconds.
    pub first_byte_us: Vec<f64>,
    /// The times to the last byte of the correct responses, in microseconds.
    pub whole_us: Vec<f64>,
    /// The number of requests without a correct response.
    pub failed: u64,
    /// Descriptions of the first failures, at most five.
    pub failures: Vec<String>,
    /// The duration of the load.
    pub took: Duration,
}

impl Target {
    /// Creates a target for a GET request of `path`. Its correct response has status 200 and the given body.
    #[must_use]
    pub fn get(host: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { request: request("GET", path, host, &[], b""), status: 200, body: body.into() }
    }

    /// Checks a response.
    ///
    /// # Errors
    /// If the status or the body is wrong. The message describes the response.
    pub fn check(&self, response: &Response) -> Result<()> {
        ensure!(
            response.status == self.status && response.body == self.body,
            "wrong response to {}: {} {:?}",
            String::from_utf8_lossy(&self.request).lines().take(2).collect::<Vec<_>>().join(" "),
            response.status,
            response.text()
        );
        Ok(())
    }
}

impl Outcome {
    /// Returns the number of correct responses.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.whole_us.len() as u64
    }

    /// Returns the number of correct responses per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.requests() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns `self` if all responses were correct.
    ///
    /// # Errors
    /// If a request has no correct response, or no request was sent. The message has the descriptions of the first
    /// failures.
    pub fn all_correct(self) -> Result<Self> {
        if self.failed == 0 && !self.whole_us.is_empty() {
            return Ok(self);
        }
        bail!("{} of {} requests failed: {}", self.failed, self.failed + self.requests(), self.failures.join("; "))
    }

    fn add(&mut self, other: Self) {
        self.first_byte_us.extend(other.first_byte_us);
        self.whole_us.extend(other.whole_us);
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT);
    }

    fn note(&mut self, target: &Target, response: Result<Response>, waited: Duration) {
        match response.and_then(|response| target.check(&response).map(|()| response)) {
            Ok(response) => {
                let us = |time: Duration| time.as_secs_f64() * 1e6;
                self.first_byte_us.push(us(waited + response.first_byte));
                self.whole_us.push(us(waited + response.whole));
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < FAILURES_KEPT {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }
}

/// Returns the `percent`th percentile of the values, interpolated between the two closest values. Returns 0 for no
/// values.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = percent / 100.0 * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

impl Load {
    /// Creates a load that lasts `seconds`. Each connection sends a request as soon as it has the previous response.
    #[must_use]
    pub fn for_seconds(address: SocketAddr, connections: usize, seconds: f64) -> Self {
        let until = Until::Elapsed(Duration::from_secs_f64(seconds));
        Self { address, connections, per_second: None, until, seed: 0 }
    }

    /// Runs the load. The requests are distributed equally among the targets.
    pub async fn run(&self, targets: Arc<[Target]>) -> Outcome {
        let began = Instant::now();
        let mut connections = JoinSet::new();
        let mut chance = Chance::new(self.seed);
        let offset = chance.below(targets.len());
        for number in 0..self.connections {
            connections.spawn(one(self.clone(), number, offset, targets.clone(), began));
        }
        let mut outcome = Outcome::default();
        while let Some(one) = connections.join_next().await {
            outcome.add(one.unwrap_or_default());
        }
        outcome.took = began.elapsed();
        outcome
    }
}

/// Runs the connection `number`. It requests every `connections`th target, so that all connections together request all
/// targets.
async fn one(load: Load, number: usize, offset: usize, targets: Arc<[Target]>, began: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = Connection::new(load.address);
    let connections = load.connections.max(1);
    let pause = load.per_second.map(|per_second| connections as f64 / per_second);
    for turn in 0.. {
        let due = pause
            .map(|pause| began + Duration::from_secs_f64(pause * (turn as f64 + number as f64 / connections as f64)));
        let over = match load.until {
            Until::Elapsed(time) => due.unwrap_or_else(Instant::now) >= began + time,
            Until::Requests(requests) => (turn * connections + number) as u64 >= requests,
        };
        if over {
            break;
        }
        let Some(target) = targets.get((offset + turn * connections + number) % targets.len().max(1)) else { break };
        let mut waited = Duration::ZERO;
        if let Some(due) = due {
            tokio::time::sleep_until(due.into()).await;
            waited = due.elapsed();
        }
        let response = connection.send(&target.request, PATIENCE).await;
        outcome.note(target, response, waited);
    }
    outcome
}

/// Requests each target once, one after another, over one connection. Requests to `warm_up` open the connection before
/// the measurement, so that a measured time does not include opening it.
///
/// # Errors
/// If a target or `warm_up` has no correct response.
pub async fn each_once(address: SocketAddr, warm_up: &Target, targets: &[Target]) -> Result<Outcome> {
    let mut connection = Connection::new(address);
    for _ in 0..3 {
        warm_up.check(&connection.send(&warm_up.request, PATIENCE).await?)?;
    }
    let began = Instant::now();
    let mut outcome = Outcome::default();
    for target in targets {
        let response = connection.send(&target.request, PATIENCE).await;
        outcome.note(target, response, Duration::ZERO);
    }
    outcome.took = began.elapsed();
    outcome.all_correct()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Starts a server. Each of its first `correct_responses` responses has the requested host name as its body; later
    /// responses have another host name.
    async fn server(correct_responses: usize) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let responses = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let responses = responses.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut request).await {
                        let text = String::from_utf8_lossy(&request[..read]).into_owned();
                        let mut host = text.split("host: ").nth(1).unwrap().lines().next().unwrap();
                        if responses.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= correct_responses {
                            host = "another";
                        }
                        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{host}", host.len());
                        stream.write_all(response.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        address
    }

    fn targets(count: usize) -> Arc<[Target]> {
        (0..count)
            .map(|number| format!("app-{number}.test"))
            .map(|host| Target::get(&host, "/", host.clone()))
            .collect()
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn every_host_is_requested_and_checked() {
        run(async {
            let load = Load { until: Until::Requests(100), ..Load::for_seconds(server(usize::MAX).await, 7, 0.0) };
            let outcome = load.run(targets(13)).await.all_correct().unwrap();
            assert_eq!((outcome.requests(), outcome.first_byte_us.len()), (100, 100));
            let paced = Load { per_second: Some(2_000.0), ..load };
            let outcome = paced.run(targets(13)).await.all_correct().unwrap();
            assert!(
                outcome.took >= Duration::from_millis(45),
                "100 requests at 2,000 per second took {:?}",
                outcome.took
            );
            let address = load.address;
            assert_eq!(each_once(address, &targets(1)[0], &targets(13)).await.unwrap().requests(), 13);
        });
    }

    #[test]
    fn wrong_responses_are_counted() {
        run(async {
            let load = Load { until: Until::Requests(50), ..Load::for_seconds(server(40).await, 4, 0.0) };
            let outcome = load.run(targets(3)).await;
            assert_eq!((outcome.requests(), outcome.failed, outcome.failures.len()), (40, 10, FAILURES_KEPT));
            let error = outcome.all_correct().unwrap_err().to_string();
            assert!(error.contains("10 of 50") && error.contains("another"), "{error}");
        });
    }

    #[test]
    fn percentiles_lie_between_samples() {
        assert_eq!(
            [percentile(&[1.0, 2.0, 4.0], 100.0), percentile(&[1.0, 2.0], 50.0), percentile(&[], 5.0)],
            [4.0, 1.5, 0.0]
        );
    }
}
