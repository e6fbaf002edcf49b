//! Flags that set config values and environment variables of an app.

use std::path::PathBuf;

use isomer_project::ValueSources;

/// The values that override or supplement the values in the manifest.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ValueFlags {
    /// Set a config value, overriding isomer.toml: `K=V` for every component that has `K` in its `config`,
    /// `COMPONENT.K=V` for one component. May be repeated.
    #[arg(long = "config", value_name = "K=V")]
    config: Vec<String>,
    /// Read config values from a file: TOML, JSON (`.json`) or lines `K=V` (`.env`). The values in a table are only for
    /// the component with the table's name. May be repeated; later files override earlier ones.
    #[arg(long, value_name = "FILE")]
    config_file: Vec<PathBuf>,
    /// Read environment variables from this file instead of the file `.env` in the app's folder: values of config keys,
    /// and variables that secrets name with `env`. May be repeated; later files override earlier ones.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

impl ValueFlags {
    /// Returns the values and files that the flags of the command line name.
    pub fn sources(&self) -> ValueSources {
        ValueSources {
            config: self.config.clone(),
            config_files: self.config_file.clone(),
            env_files: self.env_file.clone(),
            without_own_env: false,
        }
    }

    /// Returns the values and files for an app that is written into a file for other machines: without the app's `.env`,
    /// unless a flag names it.
    pub fn shipped(&self) -> ValueSources {
        ValueSources { without_own_env: true, ..self.sources() }
    }
}
