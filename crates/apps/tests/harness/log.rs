//! A log that the test can read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Stores the node's log in memory.
#[derive(Clone, Default)]
pub(crate) struct MemoryLog(Arc<Mutex<Vec<u8>>>);

impl MemoryLog {
    /// Returns the events of all complete lines.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.events_since(&mut 0)
    }

    /// Returns the events of all complete lines after `position`, and sets `position` to the end of these lines.
    pub(crate) fn events_since(&self, position: &mut usize) -> Vec<serde_json::Value> {
        let bytes = {
            let bytes = self.0.lock().expect("no writer panics");
            let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let new = bytes[*position..whole].to_vec();
            *position = whole;
            new
        };
        let text = std::str::from_utf8(&bytes).expect("the log is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("each line of the log is JSON")).collect()
    }
}

impl Write for MemoryLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no reader panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
