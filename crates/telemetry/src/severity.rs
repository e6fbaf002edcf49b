//! The severity of records that components log.

/// The severity of a record that a component logs, the least severe first. In contrast to [`Level`](crate::Level), which
/// belongs to messages of the platform, it includes `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Every single step.
    Trace,
    /// Details that help to find a fault.
    Debug,
    /// Information about normal operation.
    Info,
    /// A problem that does not prevent the work.
    Warning,
    /// A failure.
    Error,
    /// A failure after which the component cannot do its work.
    Critical,
}

impl Severity {
    /// All severities, with their names.
    const NAMES: [(Self, &str); 6] = [
        (Self::Trace, "trace"),
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Warning, "warning"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
    ];

    /// Returns the name that logs show.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find_map(|(severity, name)| (severity == self).then_some(name)).unwrap_or("info")
    }

    /// Returns the severity for a name of a common logging library, in upper or lower case: `WARN`, `warning`, `fatal`.
    pub fn from_name(name: &str) -> Option<Self> {
        /// The length of the longest name.
        const NAME_BYTES_MAX: usize = 13;
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        Some(match name.to_ascii_lowercase().as_str() {
            "trace" | "verbose" => Self::Trace,
            "debug" | "dbg" => Self::Debug,
            "info" | "information" | "informational" | "notice" | "inf" => Self::Info,
            "warning" | "warn" | "wrn" => Self::Warning,
            "error" | "err" | "severe" => Self::Error,
            "critical" | "crit" | "fatal" | "alert" | "emergency" | "emerg" | "panic" => Self::Critical,
            _ => return None,
        })
    }

    /// Returns the severity for a number of OpenTelemetry's data model, from 1 to 24.
    pub fn from_otel(number: u8) -> Option<Self> {
        Some(match number {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warning,
            17..=20 => Self::Error,
            21..=24 => Self::Critical,
            _ => return None,
        })
    }

    /// Returns the severity for a number of the logging libraries pino and bunyan: 10, 20 and so on up to 60.
    pub fn from_tens(number: i64) -> Option<Self> {
        let (tens, rest) = (number / 10, number % 10);
        let index = usize::try_from(tens).ok().and_then(|tens| tens.checked_sub(1)).filter(|_| rest == 0)?;
        Self::NAMES.get(index).map(|(severity, _)| *severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_ordered_and_named() {
        assert!(Severity::Trace < Severity::Info && Severity::Error < Severity::Critical);
        for (severity, name) in Severity::NAMES {
            assert_eq!((severity.name(), Severity::from_name(name)), (name, Some(severity)));
            assert_eq!(Severity::from_name(&name.to_uppercase()), Some(severity));
        }
        assert_eq!(Severity::from_name("FATAL"), Some(Severity::Critical));
        assert_eq!([Severity::from_name("loud"), Severity::from_name(&"x".repeat(100))], [None, None]);
    }

    #[test]
    fn numbers_of_libraries_have_severities() {
        let otel = [0, 1, 9, 13, 17, 24, 25].map(Severity::from_otel);
        use Severity::{Critical, Error, Info, Trace, Warning};
        assert_eq!(otel, [None, Some(Trace), Some(Info), Some(Warning), Some(Error), Some(Critical), None]);
        let pino = [0, 10, 30, 35, 60, 70, -10].map(Severity::from_tens);
        assert_eq!(pino, [None, Some(Trace), Some(Info), None, Some(Critical), None, None]);
    }
}
