//! A log that the test can read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Where the node's log is written.
#[derive(Clone, Default)]
pub(crate) struct MemoryLog(Arc<Mutex<Vec<u8>>>);

impl MemoryLog {
    /// All lines that were written whole.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().expect("no writer panics");
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&bytes[..whole]).expect("the log is UTF-8");
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
