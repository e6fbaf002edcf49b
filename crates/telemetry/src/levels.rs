//! The filter of log messages: `info`, or `warn,front=debug,runtime::code=trace`.
//!
//! A directive is either a level, which applies to all parts of the platform, or `PART=LEVEL` for one part: a crate, or
//! a module of a crate. The most specific directive applies. Messages of third-party crates are never recorded, because
//! they can contain headers and bytes of requests.

use std::fmt;
use std::str::FromStr;

use crate::Level;

/// The parts of the platform that write log messages, named like the folders of their crates.
pub const PARTS: &[&str] = &[
    "admin",
    "api",
    "app-test",
    "apps",
    "capabilities",
    "cli",
    "console",
    "dev",
    "diagnostics",
    "disk",
    "display",
    "exe",
    "flags",
    "front",
    "gateway",
    "ids",
    "link",
    "manifest",
    "node",
    "observe",
    "otlp",
    "plan",
    "project",
    "runtime",
    "seam",
    "serve",
    "sqlite-heap",
    "state",
    "supervisor",
    "telemetry",
    "toolchain",
    "traces",
    "transport",
    "wire",
    "wit",
];

/// The prefix of the `tracing` targets of all parts.
pub const PLATFORM_TARGET: &str = "isomer";

/// The maximum length in bytes of the text that contains all directives.
const TEXT_BYTES_MAX: usize = 1024;

/// The filter that selects which log messages of the platform are recorded. Guests' output, failed requests and the
/// access log are not messages of the platform, and are always recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// The least important level that is recorded for parts without a directive; `None` if no level is recorded.
    default: Option<Level>,
    /// Each directive for one part of the platform, in the order in which the operator wrote them: the prefix of the
    /// part's log targets, and the least important level that is recorded.
    directives: Vec<(String, Option<Level>)>,
    text: String,
}

/// Why a text is not a list of directives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLevels {
    /// The text contains an unknown level.
    #[error("`{0}` is not a level: use `error`, `warn`, `info`, `debug`, `trace` or `off`, or `PART=LEVEL`")]
    Level(String),
    /// The text names a part of the platform that does not exist.
    #[error("`{0}` is not a part of the platform: the parts are {parts}", parts = PARTS.join(", "))]
    Part(String),
    /// The text is longer than 1024 bytes.
    #[error("the list of log levels is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
}

impl Default for Levels {
    fn default() -> Self {
        Self { default: Some(Level::Info), directives: Vec::new(), text: "info".to_owned() }
    }
}

impl Levels {
    /// Returns whether a message with the level `level` is recorded if it is about the whole process, not about one
    /// part.
    pub fn includes(&self, level: Level) -> bool {
        self.default.is_some_and(|most| level <= most)
    }

    /// Returns the least important level that is recorded for parts without a directive; `None` if no level is
    /// recorded.
    pub fn default_level(&self) -> Option<Level> {
        self.default
    }

    /// Returns each directive for one part of the platform: the prefix of the part's log targets, and the least
    /// important level that is recorded, or `None` if no level is recorded. If several directives have the same prefix,
    /// the last one applies.
    pub fn directives(&self) -> impl Iterator<Item = (&str, Option<Level>)> {
        self.directives.iter().map(|(target, level)| (target.as_str(), *level))
    }
}

impl FromStr for Levels {
    type Err = InvalidLevels;

    fn from_str(text: &str) -> Result<Self, InvalidLevels> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidLevels::TooLong);
        }
        let mut levels = Self { text: text.to_owned(), ..Self::default() };
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match directive.split_once('=') {
                None => levels.default = parse_level(directive)?,
                Some((part, level)) => {
                    levels.directives.push((parse_target(part.trim())?, parse_level(level.trim())?));
                }
            }
        }
        Ok(levels)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Parses a level. Returns `Ok(None)` for `off` and `none`, which record nothing.
fn parse_level(text: &str) -> Result<Option<Level>, InvalidLevels> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "none" => Ok(None),
        name => Level::from_name(name).map(Some).ok_or_else(|| InvalidLevels::Level(text.to_owned())),
    }
}

/// Converts the name of a part (`front::connection`, `isomer_front::connection` or `isomer-front`) to the prefix of the
/// part's targets.
fn parse_target(part: &str) -> Result<String, InvalidLevels> {
    let (name, module) = part.split_once("::").map_or((part, None), |(name, module)| (name, Some(module)));
    let folder = name.replace('_', "-");
    let folder = folder.strip_prefix("isomer-").unwrap_or(&folder);
    if !PARTS.contains(&folder) {
        return Err(InvalidLevels::Part(part.to_owned()));
    }
    // The crate in the folder `cli` is named `isomer`, like the program.
    let crate_name = match folder {
        "cli" => PLATFORM_TARGET.to_owned(),
        _ => format!("{PLATFORM_TARGET}_{}", folder.replace('-', "_")),
    };
    Ok(match (module, folder) {
        (Some(module), _) => format!("{crate_name}::{module}"),
        (None, "cli") => format!("{crate_name}::"),
        (None, _) => crate_name,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn levels_apply_to_all_parts_or_to_one() {
        let levels: Levels = "warn, front=debug,isomer_runtime::code=trace,cli=off,isomer-node=error".parse().unwrap();
        assert!(levels.includes(Level::Warning) && !levels.includes(Level::Info));
        let directives: Vec<_> = levels.directives().collect();
        assert_eq!(
            directives,
            [
                ("isomer_front", Some(Level::Debug)),
                ("isomer_runtime::code", Some(Level::Trace)),
                ("isomer::", None),
                ("isomer_node", Some(Level::Error)),
            ]
        );
    }

    #[test]
    fn the_default_level_can_be_set_and_switched_off() {
        assert!(Levels::default().includes(Level::Info) && !Levels::default().includes(Level::Debug));
        assert_eq!("".parse::<Levels>().map(|levels| levels.includes(Level::Info)), Ok(true));
        assert_eq!("off".parse::<Levels>().map(|levels| levels.includes(Level::Error)), Ok(false));
        assert_eq!("front=debug".parse::<Levels>().map(|levels| levels.includes(Level::Info)), Ok(true));
    }

    #[test]
    fn errors_of_unknown_names_list_the_known_ones() {
        for (text, message) in [
            ("loud", "`loud` is not a level: use `error`"),
            ("h2=debug", "`h2` is not a part of the platform: the parts are admin"),
            ("front=", "not a level"),
            ("=debug", "not a part"),
        ] {
            let error = text.parse::<Levels>().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert_eq!("x".repeat(2000).parse::<Levels>(), Err(InvalidLevels::TooLong));
    }

    #[test]
    fn every_crate_that_writes_log_messages_is_a_part() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies next to the others");
        for krate in std::fs::read_dir(crates).expect("the folder can be read").flatten() {
            let manifest = std::fs::read_to_string(krate.path().join("Cargo.toml")).unwrap_or_default();
            let name = krate.file_name().into_string().expect("crates have plain names");
            let writes = |line: &str| line.starts_with("tracing") || line.starts_with("isomer-telemetry");
            if manifest.lines().any(writes) {
                assert!(PARTS.contains(&name.as_str()), "{name}");
            }
        }
        assert!(PARTS.is_sorted());
    }
}
