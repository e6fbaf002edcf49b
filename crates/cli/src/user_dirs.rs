//! The user's folders for caches and data.

use std::path::PathBuf;

/// Returns the folder for files that can be created again: `$XDG_CACHE_HOME/isomer`, or `~/.cache/isomer` if the
/// variable is unset.
pub(crate) fn cache() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(cache.join("isomer"))
}

/// Returns the folder of the apps that run from a registry: `$XDG_DATA_HOME/isomer/apps`, or `~/.local/share/isomer/apps`
/// if the variable is unset.
pub(crate) fn apps() -> Option<PathBuf> {
    Some(data()?.join("isomer/apps"))
}

/// Returns the data directory of the user's own node: `$XDG_DATA_HOME/isomer/node`, or `~/.local/share/isomer/node` if
/// the variable is unset.
pub(crate) fn node_data() -> Option<PathBuf> {
    Some(data()?.join("isomer/node"))
}

fn data() -> Option<PathBuf> {
    variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
