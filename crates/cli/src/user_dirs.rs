//! The user's own folders.

use std::path::PathBuf;

/// Where the program keeps what it can make again: `$XDG_CACHE_HOME/isomer`, else `~/.cache/isomer`.
pub(crate) fn cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(cache.join("isomer"))
}
