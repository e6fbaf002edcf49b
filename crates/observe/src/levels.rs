//! How much the platform says of itself: `info`, or `warn,front=debug,runtime::code=trace`.
//!
//! A directive is a level for all parts of the platform, or `PART=LEVEL` for one of them: a crate, or a module of it. The most specific
//! one counts. Other people's crates are never listened to: what they say at these levels holds headers and bytes of requests.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::record::Level;

/// The parts of the platform that say something, by the folders of their crates.
pub const PARTS: &[&str] = &[
    "admin",
    "api",
    "capabilities",
    "cli",
    "disk",
    "display",
    "front",
    "link",
    "manifest",
    "node",
    "observe",
    "plan",
    "runtime",
    "seam",
    "sqlite-heap",
    "state",
    "toolchain",
    "transport",
    "wire",
    "wit",
];

/// What the targets of all parts begin with.
pub(crate) const ALL: &str = "isomer";

/// The most bytes of the text of directives.
const TEXT_BYTES_MAX: usize = 1024;

/// Which lines the platform says of itself. What guests print, failed requests and the access log are not its own, and are always written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// For everything that has none of its own; `None`: nothing.
    default: Option<Level>,
    /// By the part's target, as written last.
    parts: Vec<(String, Option<Level>)>,
    text: String,
}

/// A text that says no levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLevels {
    /// No such level.
    #[error("`{0}` is no level: write `error`, `warn`, `info`, `debug`, `trace` or `off`, or `PART=LEVEL`")]
    Level(String),
    /// No such part.
    #[error("`{0}` is no part of the platform: the parts are {parts}", parts = PARTS.join(", "))]
    Part(String),
    /// Too long.
    #[error("the levels are longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
}

impl Default for Levels {
    fn default() -> Self {
        Self { default: Some(Level::Info), parts: Vec::new(), text: "info".to_owned() }
    }
}

impl Levels {
    /// Are lines of this level written that no part says, but the process as a whole?
    pub(crate) fn includes(&self, level: Level) -> bool {
        self.default.is_some_and(|most| level <= most)
    }

    /// The filter of events: cheap for those that are not wanted.
    pub(crate) fn targets(&self) -> Targets {
        let all = Targets::new().with_default(LevelFilter::OFF).with_target(ALL, filter(self.default));
        self.parts.iter().fold(all, |targets, (part, level)| targets.with_target(part.clone(), filter(*level)))
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
                None => levels.default = level(directive)?,
                Some((part, said)) => levels.parts.push((target(part.trim())?, level(said.trim())?)),
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

fn level(text: &str) -> Result<Option<Level>, InvalidLevels> {
    Ok(Some(match text.to_ascii_lowercase().as_str() {
        "off" | "none" => return Ok(None),
        "error" => Level::Error,
        "warn" | "warning" => Level::Warning,
        "info" => Level::Info,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => return Err(InvalidLevels::Level(text.to_owned())),
    }))
}

/// `front::connection`, `isomer_front::connection` or `isomer-front` → what the targets of these events begin with.
fn target(part: &str) -> Result<String, InvalidLevels> {
    let (name, module) = part.split_once("::").map_or((part, None), |(name, module)| (name, Some(module)));
    let plain = name.replace('_', "-");
    let plain = plain.strip_prefix("isomer-").unwrap_or(&plain);
    if !PARTS.contains(&plain) {
        return Err(InvalidLevels::Part(part.to_owned()));
    }
    // The command line's crate is called like the program.
    let crate_name = if plain == "cli" { ALL.to_owned() } else { format!("{ALL}_{}", plain.replace('-', "_")) };
    Ok(match (module, plain) {
        (Some(module), _) => format!("{crate_name}::{module}"),
        (None, "cli") => format!("{crate_name}::"),
        (None, _) => crate_name,
    })
}

fn filter(level: Option<Level>) -> LevelFilter {
    match level {
        None => LevelFilter::OFF,
        Some(Level::Error) => LevelFilter::ERROR,
        Some(Level::Warning) => LevelFilter::WARN,
        Some(Level::Info) => LevelFilter::INFO,
        Some(Level::Debug) => LevelFilter::DEBUG,
        Some(Level::Trace) => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn levels_are_for_all_or_for_parts() {
        let levels: Levels = "warn, front=debug,isomer_runtime::code=trace,cli=off,isomer-node=error".parse().unwrap();
        assert!(levels.includes(Level::Warning) && !levels.includes(Level::Info));
        let targets = levels.targets();
        let wants = |target: &str, level| targets.would_enable(target, &level);
        assert!(wants("isomer_front::connection", tracing::Level::DEBUG));
        assert!(!wants("isomer_front::connection", tracing::Level::TRACE));
        assert!(wants("isomer_runtime::code", tracing::Level::TRACE));
        assert!(
            wants("isomer_runtime::lanes", tracing::Level::WARN)
                && !wants("isomer_runtime::lanes", tracing::Level::INFO)
        );
        assert!(!wants("isomer::serving", tracing::Level::ERROR));
        assert!(!wants("isomer_node::host", tracing::Level::WARN));
        // Other people's crates.
        for target in ["h2::codec", "hyper", "rustls::client", "wasmtime"] {
            assert!(!wants(target, tracing::Level::ERROR), "{target}");
        }
    }

    #[test]
    fn nothing_and_the_default_can_be_said() {
        assert!(Levels::default().includes(Level::Info) && !Levels::default().includes(Level::Debug));
        assert_eq!("".parse::<Levels>().map(|levels| levels.includes(Level::Info)), Ok(true));
        assert_eq!("off".parse::<Levels>().map(|levels| levels.includes(Level::Error)), Ok(false));
        assert_eq!("front=debug".parse::<Levels>().map(|levels| levels.includes(Level::Info)), Ok(true));
    }

    #[test]
    fn what_says_no_level_is_refused_with_those_that_there_are() {
        for (text, part) in
            [("loud", "`loud` is no level"), ("h2=debug", "no part"), ("front=", "no level"), ("=debug", "no part")]
        {
            let error = text.parse::<Levels>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!("x".repeat(2000).parse::<Levels>(), Err(InvalidLevels::TooLong));
    }

    #[test]
    fn every_crate_that_says_something_is_a_part() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie side by side");
        for krate in std::fs::read_dir(crates).expect("the folder can be read").flatten() {
            let manifest = std::fs::read_to_string(krate.path().join("Cargo.toml")).unwrap_or_default();
            let name = krate.file_name().into_string().expect("crates have plain names");
            if manifest.lines().any(|line| line.starts_with("tracing")) {
                assert!(PARTS.contains(&name.as_str()), "{name}");
            }
        }
        assert!(PARTS.is_sorted());
    }
}
