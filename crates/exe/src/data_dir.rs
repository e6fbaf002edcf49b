//! The default data directory of a shipped program.
//!
//! It is the folder for the state of the user's programs (`~/.local/state`), so the app finds its data again wherever it is
//! started and wherever its file is moved. A folder next to the program was rejected, because programs are often in folders
//! that their users cannot write to, and a folder in the working directory, because the data would seem lost when the
//! program is started elsewhere.

use std::ffi::OsString;
use std::path::PathBuf;

use isomer_console::CliError;

/// Returns the default data directory of the app `name`: `$STATE_DIRECTORY` of a systemd service, otherwise `isomer/NAME` in
/// `$XDG_STATE_HOME` or `~/.local/state`.
///
/// # Errors
/// If the environment names no such folder.
pub(crate) fn default_data_dir(name: &str) -> Result<PathBuf, CliError> {
    choose(name, |variable| std::env::var_os(variable)).ok_or_else(|| {
        CliError::usage(
            "there is no folder for the app's data: neither HOME, XDG_STATE_HOME nor STATE_DIRECTORY is set",
            "name a folder: --data DIR",
        )
    })
}

fn choose(name: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates the folders of a unit by colons. The first one is the main one.
    let of_service = variable("STATE_DIRECTORY").and_then(|folders| std::env::split_paths(&folders).next());
    if let Some(folder) = of_service.filter(|folder| folder.is_absolute()) {
        return Some(folder);
    }
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("isomer").join(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_folder_comes_from_the_service_or_the_user() {
        let chosen = |set: &[(&str, &str)]| {
            choose("shop", |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/home/me");
        let is = |set: &[(&str, &str)], path: &str| assert_eq!(chosen(set).as_deref(), Some(Path::new(path)));
        is(&[home], "/home/me/.local/state/isomer/shop");
        is(&[home, ("XDG_STATE_HOME", "/state")], "/state/isomer/shop");
        is(&[home, ("XDG_STATE_HOME", "")], "/home/me/.local/state/isomer/shop");
        is(&[home, ("XDG_STATE_HOME", "relative")], "/home/me/.local/state/isomer/shop");
        is(&[("STATE_DIRECTORY", "/var/lib/shop:/var/lib/other"), home], "/var/lib/shop");
        assert_eq!(chosen(&[]), None);
    }
}
