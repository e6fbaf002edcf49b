//! The importance of log messages.

/// The importance of a log message, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A failure: something does not work as it should.
    Error,
    /// A problem that an operator should look at.
    Warning,
    /// Information that an operator should know.
    Info,
    /// Details that help to find a fault.
    Debug,
    /// The single steps of an operation.
    Trace,
}

impl Level {
    /// All levels, with the names that directives and records use.
    const NAMES: [(Self, &str); 5] = [
        (Self::Error, "error"),
        (Self::Warning, "warning"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];

    /// Returns the level's name.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find_map(|(level, name)| (level == self).then_some(name)).unwrap_or("info")
    }

    /// Returns the level whose lower-case name is `name`. `warn` is another name for `warning`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name == "warn" { "warning" } else { name };
        Self::NAMES.into_iter().find_map(|(level, other)| (other == name).then_some(level))
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_named() {
        assert!(Level::Error < Level::Warning && Level::Debug < Level::Trace);
        for (level, name) in Level::NAMES {
            assert_eq!((level.name(), Level::from_name(name)), (name, Some(level)));
        }
        assert_eq!(Level::from_name("warn"), Some(Level::Warning));
        assert_eq!(Level::from_name("note"), None);
    }
}
