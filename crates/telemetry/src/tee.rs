//! Sinks that pass on what they receive to several other sinks.

use std::sync::Arc;

use crate::{Event, EventSink, TraceFragment, TraceSink};

/// A sink that passes traces or events to several sinks, in their order. With one sink, nothing is copied.
pub struct Tee<S: ?Sized>(Vec<Arc<S>>);

impl<S: ?Sized> Tee<S> {
    /// Creates a sink that passes everything to `sinks`.
    pub fn new(sinks: impl IntoIterator<Item = Arc<S>>) -> Self {
        Self(sinks.into_iter().collect())
    }
}

impl TraceSink for Tee<dyn TraceSink> {
    fn record(&self, fragment: TraceFragment) {
        let Some((last, others)) = self.0.split_last() else { return };
        for sink in others {
            sink.record(fragment.clone());
        }
        last.record(fragment);
    }
}

impl EventSink for Tee<dyn EventSink> {
    fn is_enabled(&self) -> bool {
        self.0.iter().any(|sink| sink.is_enabled())
    }

    fn emit(&self, event: Event<'_>) {
        for sink in &self.0 {
            sink.emit(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{DiscardEvents, RequestId, TraceId};

    #[derive(Default)]
    struct Count(Mutex<usize>);

    impl TraceSink for Count {
        fn record(&self, _: TraceFragment) {
            *self.0.lock().unwrap() += 1;
        }
    }

    impl EventSink for Count {
        fn emit(&self, _: Event<'_>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn every_sink_receives_everything() {
        let (one, other) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let traces = Tee::new([one.clone() as Arc<dyn TraceSink>, other.clone()]);
        traces.record(TraceFragment {
            trace_id: TraceId::random(),
            request: RequestId::random(),
            app: None,
            is_sampled: true,
            spans: Vec::new(),
            spans_dropped: 0,
        });
        let events = Tee::new([one.clone() as Arc<dyn EventSink>, Arc::new(DiscardEvents)]);
        events.emit(Event::AccessDenied { component: "cart", text: "no" });
        assert!(events.is_enabled() && !Tee::<dyn EventSink>::new([]).is_enabled());
        assert_eq!((*one.0.lock().unwrap(), *other.0.lock().unwrap()), (2, 1));
    }
}
