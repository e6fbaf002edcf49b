//! The user's own folders.

use std::path::PathBuf;

/// Where the program keeps what it can make again: `$XDG_CACHE_HOME/isomer`, else `~/.cache/isomer`.
pub(crate) fn cache() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(cache.join("isomer"))
}

/// Where the user's own node keeps its data: `$XDG_DATA_HOME/isomer/node`, else `~/.local/share/isomer/node`.
pub(crate) fn node_data() -> Option<PathBuf> {
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")))?;
    Some(data.join("isomer/node"))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
