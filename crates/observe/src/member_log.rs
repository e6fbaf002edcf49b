//! The log of one member, which becomes a part of the supervisor's log.
//!
//! A member writes its log as JSON lines to a pipe. The supervisor converts each line back to a record, and writes the
//! record with its original time and the member's name. Other text, such as the message of a panic, is logged as a
//! warning.

use std::time::SystemTime;

use isomer_telemetry::Level;

use crate::json;
use crate::log::Log;
use crate::member::MemberName;
use crate::record::LogRecord;

/// Writes records to the supervisor's log under the name of one member.
#[derive(Clone)]
pub struct MemberLog {
    log: Log,
    member: MemberName,
}

impl Log {
    /// Returns the writer for the member `name`. `width` is the length of the longest member name in characters.
    pub fn member(&self, name: &str, width: usize) -> MemberLog {
        MemberLog { log: self.clone(), member: MemberName { name: name.into(), width } }
    }
}

impl MemberLog {
    /// Writes a line that the member sent: as a record if the line is one, or as a warning.
    pub fn relay(&self, line: &str) {
        match json::parse(line) {
            Some((at, record)) => self.log.push(at, Some(self.member.clone()), record),
            None => self.warn(line),
        }
    }

    /// Writes a message about the member with the level [`Level::Info`].
    pub fn note(&self, text: impl Into<String>) {
        self.push(Level::Info, text.into());
    }

    /// Writes a message about the member with the level [`Level::Warning`].
    pub fn warn(&self, text: impl Into<String>) {
        self.push(Level::Warning, text.into());
    }

    fn push(&self, level: Level, text: String) {
        if self.log.levels().includes(level) {
            let record = LogRecord::message(level, None, text);
            self.log.push(SystemTime::now(), Some(self.member.clone()), record);
        }
    }
}
