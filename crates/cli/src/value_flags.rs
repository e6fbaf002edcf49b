//! Flags that give an app config values and variables.

use std::path::PathBuf;

use isomer_project::ValueSources;

/// Values besides those of the manifest.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct ValueFlags {
    /// Give a config key this value, whatever isomer.toml says: for every component that has `K` in its `config`, or with `COMPONENT.K=V` for
    /// one. May be repeated.
    #[arg(long = "config", value_name = "K=V")]
    config: Vec<String>,
    /// Take config values from a file: TOML, JSON (`.json`) or lines `K=V` (`.env`); a table is for the component of its name. May be
    /// repeated, the last counts.
    #[arg(long, value_name = "FILE")]
    config_file: Vec<PathBuf>,
    /// Read variables from this file instead of `.env` in the app's folder: values of config keys, and what secrets name as `env`. May be
    /// repeated, the last counts.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

impl ValueFlags {
    /// The sources of values that the flags name.
    pub(crate) fn sources(&self) -> ValueSources {
        ValueSources {
            config: self.config.clone(),
            config_files: self.config_file.clone(),
            env_files: self.env_file.clone(),
        }
    }
}
