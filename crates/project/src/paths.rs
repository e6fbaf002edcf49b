//! How paths are shown to people.

use std::path::Path;

/// Returns `path` as a person would write it: relative to the working directory if it is below it.
pub fn shown(path: &Path) -> String {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| path.to_owned()).display().to_string()
}
