//! A log that the test can read.

use std::io::{self, Write};

use serde_json::Value;
use tokio::sync::watch;

use super::within;

/// Stores the node's log in memory, and notifies tests of new lines.
#[derive(Clone, Default)]
pub(crate) struct MemoryLog(watch::Sender<Vec<u8>>);

impl MemoryLog {
    /// Returns the events of all complete lines.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events_since(&mut 0)
    }

    /// Returns the events of all complete lines after `position`, and sets `position` to the end of these lines.
    pub(crate) fn events_since(&self, position: &mut usize) -> Vec<Value> {
        let bytes = {
            let bytes = self.0.borrow();
            let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let new = bytes[*position..whole].to_vec();
            *position = whole;
            new
        };
        let text = std::str::from_utf8(&bytes).expect("the log is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("each line of the log is JSON")).collect()
    }

    /// Waits for an event after `position` for which `wanted` returns true. Returns the event.
    pub(crate) async fn event(&self, what: &str, mut position: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        within(what, async {
            let mut written = self.0.subscribe();
            loop {
                if let Some(event) = self.events_since(&mut position).into_iter().find(&wanted) {
                    return event;
                }
                let has_line = |bytes: &Vec<u8>| bytes[position..].contains(&b'\n');
                written.wait_for(has_line).await.expect("`self` is a sender");
            }
        })
        .await
    }
}

impl Write for MemoryLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|written| written.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
