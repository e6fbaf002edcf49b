//! The rules for a granted directory: a folder of the host, and the absolute path at which the guest sees this folder.

use std::path::PathBuf;

use isomer_ids::InvalidText;

use crate::model::DirGrant;

/// The `pattern` of a guest path in the JSON Schema. It matches only the beginning of a path.
pub(crate) const GUEST_PATTERN: &str = "^/";

impl DirGrant {
    /// Checks both paths and creates the grant. A final `/` of the guest path is removed.
    ///
    /// # Errors
    /// Returns the rule that one of the paths breaks.
    pub fn new(host: impl Into<PathBuf>, guest: &str, write: bool) -> Result<Self, InvalidText> {
        let host = host.into();
        if host.as_os_str().is_empty() {
            return Err(InvalidText::new("a folder of the host", ".", "", "it is empty").suggest(Some(".")));
        }
        Ok(Self { host, guest: guest_path(guest)?, write })
    }
}

fn guest_path(guest: &str) -> Result<String, InvalidText> {
    let invalid = |problem: &str| InvalidText::new("a path of the guest", "/data", guest, problem);
    let trimmed = guest.strip_suffix('/').unwrap_or(guest);
    if guest == "/" {
        return Ok(guest.to_owned());
    }
    let Some(parts) = trimmed.strip_prefix('/') else {
        let suggestion = format!("/{}", trimmed.trim_start_matches("./"));
        let suggestion = Some(suggestion).filter(|suggestion| suggestion.len() > 1 && guest_path(suggestion).is_ok());
        return Err(invalid("it must be absolute").suggest(suggestion));
    };
    if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid("no segment may be empty, `.` or `..`"));
    }
    if parts.contains(['\0', '\\']) {
        return Err(invalid("it contains a character that is not allowed in a path"));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_paths_are_absolute_and_normalized() {
        for (guest, stored) in [("/", "/"), ("/data", "/data"), ("/data/", "/data"), ("/a/b", "/a/b")] {
            assert_eq!(DirGrant::new("x", guest, false).map(|dir| dir.guest), Ok(stored.to_owned()));
        }
        for (guest, suggestion) in [
            ("data", Some("/data")),
            ("./data", Some("/data")),
            ("", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("//", None),
        ] {
            assert_eq!(DirGrant::new("x", guest, false).expect_err(guest).suggestion.as_deref(), suggestion);
        }
        assert!(DirGrant::new("", "/data", false).is_err());
    }
}
