//! The time limits of a stream of server-sent events.
//!
//! Such a response has no end by design, so `request_deadline` applies only to its head. The stream has two limits
//! instead: a maximum duration, and a maximum time without data. Without the second limit, a guest that waits for an
//! event that never happens would keep its instance. A stream that reaches a limit ends without an error, since clients
//! of server-sent events reconnect automatically.
//!
//! For the same reason, streams do not delay a front door that makes room for another one: it ends its streams, and their
//! clients connect to the other front door.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use crate::interruption::Interruption;
use crate::site::StreamLimits;

/// The time limits of one stream, and its timer.
pub(crate) struct EventClock {
    limits: StreamLimits,
    ends: Instant,
    silent_until: Instant,
    /// The timer for the next limit. `None` before the first call of [`EventClock::poll`], because a stream whose data
    /// is always available needs no timer.
    timer: Option<Pin<Box<Sleep>>>,
    /// Resolves when another front door takes over the clients of streams.
    handed_over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl EventClock {
    /// Creates the clock of a stream whose request arrived at `start` and whose response head was received at `now`.
    pub(crate) fn new(limits: StreamLimits, start: Instant, now: Instant) -> Self {
        Self { limits, ends: start + limits.max, silent_until: now + limits.idle_max, timer: None, handed_over: None }
    }

    /// Ends the stream when `handed_over` resolves.
    pub(crate) fn end_when(&mut self, handed_over: impl Future<Output = ()> + Send + 'static) {
        self.handed_over = Some(Box::pin(handed_over));
    }

    /// Returns whether another front door takes over the client. If not, the task is woken when it does. Must not be
    /// called again after it has returned `true`.
    pub(crate) fn is_handed_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.handed_over.as_mut().is_some_and(|handed_over| handed_over.as_mut().poll(cx).is_ready())
    }

    /// Records that data was sent at `now`. Returns the reason if the stream must end.
    pub(crate) fn sent(&mut self, now: Instant) -> Option<Interruption> {
        self.silent_until = now + self.limits.idle_max;
        self.interruption(now)
    }

    /// Waits until the stream reaches one of its limits, and returns the reason why it must end. [`EventClock::sent`]
    /// restarts the time of the limit for a stream without data.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Interruption> {
        loop {
            let until = self.ends.min(self.silent_until);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            if let Some(interruption) = self.interruption(Instant::now().max(until)) {
                return Poll::Ready(interruption);
            }
        }
    }

    fn interruption(&self, now: Instant) -> Option<Interruption> {
        let reason = if now >= self.ends {
            let max = self.limits.max.as_secs_f64();
            format!("the stream has lasted for {max} s, the maximum in `limits.stream`")
        } else if now >= self.silent_until {
            let idle = self.limits.idle_max.as_secs_f64();
            format!("nothing was sent for {idle} s, the maximum in `limits.stream.idle`")
        } else {
            return None;
        };
        Some(Interruption::EventStream { reason })
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
        assert!(clock.interruption(at(34)).is_none());
        let over = clock.interruption(at(35)).expect("it is silent").to_string();
        assert!(over.contains("30 s, the maximum in `limits.stream.idle`"), "{over}");
        for seconds in [34, 63, 92] {
            assert!(clock.sent(at(seconds)).is_none(), "{seconds}");
        }
        assert!(clock.interruption(at(99)).is_none());
        let over = clock.sent(at(100)).expect("it is old").to_string();
        assert!(over.contains("100 s, the maximum in `limits.stream`"), "{over}");
    }
}
