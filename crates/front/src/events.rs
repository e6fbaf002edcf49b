//! How long a stream of server-sent events may take.
//!
//! Such a response is meant to go on, so `request_deadline` is for its head alone. Instead the stream has a longest time, and a longest time
//! without anything sent: a guest that waits for an event which never comes does not keep its instance. A stream that reaches either is
//! ended in order, since its client connects again by itself.

use std::pin::Pin;
use std::task::{Context, Poll};

use isomer_runtime::Failure;
use tokio::time::{Instant, Sleep};

use crate::site::StreamLimits;

/// The time of one stream.
pub(crate) struct EventClock {
    limits: StreamLimits,
    ends: Instant,
    silent_until: Instant,
    /// Set while the guest sends nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl EventClock {
    /// The clock of a stream whose request came at `start`, and whose head is there `now`.
    pub(crate) fn new(limits: StreamLimits, start: Instant, now: Instant) -> Self {
        Self { limits, ends: start + limits.max, silent_until: now + limits.idle_max, timer: None }
    }

    /// Something was sent `now`. Returns why the stream is over, if it is.
    pub(crate) fn sent(&mut self, now: Instant) -> Option<Failure> {
        self.silent_until = now + self.limits.idle_max;
        self.over(now)
    }

    /// Waits until the stream is over, unless something is sent before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            let until = self.ends.min(self.silent_until);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            if let Some(failure) = self.over(Instant::now().max(until)) {
                return Poll::Ready(failure);
            }
        }
    }

    fn over(&self, now: Instant) -> Option<Failure> {
        let reason = if now >= self.ends {
            let max = self.limits.max.as_secs_f64();
            format!("it has taken {max} s, as long as `limits.stream` allows")
        } else if now >= self.silent_until {
            let idle = self.limits.idle_max.as_secs_f64();
            format!("nothing was sent for {idle} s, as long as `limits.stream.idle` allows")
        } else {
            return None;
        };
        Some(Failure::StreamEnded { reason })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stream_ends_when_it_is_silent_or_old() {
        let limits = StreamLimits { max: Duration::from_secs(100), idle_max: Duration::from_secs(30) };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = EventClock::new(limits, start, at(5));
        assert!(clock.over(at(34)).is_none());
        let over = clock.over(at(35)).expect("it is silent").to_string();
        assert!(over.contains("30 s, as long as `limits.stream.idle` allows"), "{over}");
        for seconds in [34, 63, 92] {
            assert!(clock.sent(at(seconds)).is_none(), "{seconds}");
        }
        assert!(clock.over(at(99)).is_none());
        let over = clock.sent(at(100)).expect("it is old").to_string();
        assert!(over.contains("100 s, as long as `limits.stream` allows"), "{over}");
    }
}
