//! Paths in messages.

use std::path::Path;

/// Returns the text of `path` for messages. The text is relative to the working directory if `path` is inside it.
pub fn shown(path: &Path) -> String {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| path.to_owned()).display().to_string()
}
