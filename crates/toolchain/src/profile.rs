//! The Cargo profiles that build components, and the environment variables that affect the code.
//!
//! A component that was built with other settings differs, even if its sources are the same. So the record of a build
//! contains, as one text, all settings that affect the code ([`settings`]). If this text changes, the component is out
//! of date.

use std::ffi::OsString;

/// The Cargo profile of a build, by the build's purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuildProfile {
    /// The profile `release` as the package's workspace defines it. Used for running, testing and deploying.
    #[default]
    Release,
    /// A profile for `isomer dev`: `release`, but incremental, without optimisation across crates, and with line
    /// numbers for backtraces.
    Dev,
}

/// The name of Cargo's profile for [`BuildProfile::Dev`]. The profile's folder in the target folder has the same name.
const DEV: &str = "isomer-dev";

/// The settings of the profile [`DEV`], as arguments of `--config`.
const DEV_SETTINGS: [&str; 6] = [
    "inherits=\"release\"",
    "lto=\"off\"",
    "codegen-units=256",
    "incremental=true",
    "debug=\"line-tables-only\"",
    "strip=\"none\"",
];

/// The environment variables that affect the code that Cargo and the compiler make.
const VARIABLES: [&str; 6] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// The prefixes of environment variables that affect the code, in addition to [`VARIABLES`].
const PREFIXES: [&str; 4] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_WASM32_WASIP2_", "CARGO_UNSTABLE_"];

/// Variables with one of [`PREFIXES`] that affect only the location of artifacts or the speed of a build.
const HARMLESS: [&str; 4] =
    ["CARGO_BUILD_BUILD_DIR", "CARGO_BUILD_JOBS", "CARGO_BUILD_TARGET", "CARGO_BUILD_TARGET_DIR"];

impl BuildProfile {
    /// Returns the arguments with which Cargo uses this profile. The arguments define the profile `isomer-dev`, unless
    /// `manifest`, the text of the workspace's `Cargo.toml`, defines it.
    pub(crate) fn arguments(self, manifest: &str) -> Vec<String> {
        match self {
            Self::Release => vec!["--release".to_owned()],
            Self::Dev => {
                let mut arguments = vec!["--profile".to_owned(), DEV.to_owned()];
                if !manifest.contains(&format!("[profile.{DEV}]")) {
                    for setting in DEV_SETTINGS {
                        arguments.extend(["--config".to_owned(), format!("profile.{DEV}.{setting}")]);
                    }
                }
                arguments
            }
        }
    }

    /// Returns the arguments in the form that is shown to people.
    pub(crate) fn shown(self) -> String {
        match self {
            Self::Release => "--release".to_owned(),
            Self::Dev => format!("--profile {DEV}"),
        }
    }

    /// Returns the name of Cargo's profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => DEV,
        }
    }
}

/// Returns a text with everything that affects the code except the sources: the profile, and variables of this
/// process's environment.
pub(crate) fn settings(profile: BuildProfile) -> String {
    settings_of(profile, std::env::vars_os())
}

fn settings_of(profile: BuildProfile, variables: impl IntoIterator<Item = (OsString, OsString)>) -> String {
    let mut counted: Vec<String> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.to_str()?;
            (counts(name) && !value.is_empty()).then(|| format!("{name}={}", value.to_string_lossy()))
        })
        .collect();
    counted.sort();
    let own = if profile == BuildProfile::Dev { DEV_SETTINGS.join(" ") } else { String::new() };
    std::iter::once(format!("{} {own}", profile.name()).trim_end().to_owned())
        .chain(counted)
        .collect::<Vec<_>>()
        .join("\n")
}

fn counts(name: &str) -> bool {
    VARIABLES.contains(&name) || (PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !HARMLESS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: BuildProfile, variables: &[(&str, &str)]) -> String {
        settings_of(profile, variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn settings_that_affect_the_code_change_the_text() {
        let plain = of(BuildProfile::Release, &[]);
        assert_ne!(plain, of(BuildProfile::Dev, &[]));
        for (name, value) in [
            ("RUSTFLAGS", "-C opt-level=0"),
            ("CARGO_ENCODED_RUSTFLAGS", "-Copt-level=0"),
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
            ("CARGO_BUILD_RUSTFLAGS", "-C debuginfo=2"),
            ("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", "-C debuginfo=2"),
            ("RUSTUP_TOOLCHAIN", "nightly"),
        ] {
            assert_ne!(plain, of(BuildProfile::Release, &[(name, value)]), "{name}");
            assert_eq!(plain, of(BuildProfile::Release, &[(name, "")]), "an empty {name} has no effect");
        }
        for (name, value) in [
            ("CARGO_TERM_COLOR", "always"),
            ("CARGO_BUILD_JOBS", "1"),
            ("CARGO_TARGET_DIR", "/tmp"),
            ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-cpu=native"),
            ("CARGO_PKG_NAME", "outer"),
            ("HOME", "/root"),
        ] {
            assert_eq!(plain, of(BuildProfile::Release, &[(name, value)]), "{name}");
        }
        let both = [("RUSTFLAGS", "a"), ("CARGO_INCREMENTAL", "0")];
        let turned = [both[1], both[0]];
        assert_eq!(
            of(BuildProfile::Dev, &both),
            of(BuildProfile::Dev, &turned),
            "the order of the variables does not matter"
        );
    }

    #[test]
    fn a_workspace_may_define_the_profile_itself() {
        let given = BuildProfile::Dev.arguments("[profile.isomer-dev]\ninherits = \"dev\"\n");
        assert_eq!(given, ["--profile", "isomer-dev"]);
        let own = BuildProfile::Dev.arguments("[workspace]\n");
        assert!(own.contains(&"profile.isomer-dev.lto=\"off\"".to_owned()), "{own:?}");
        assert_eq!(BuildProfile::Release.arguments(""), ["--release"]);
    }
}
