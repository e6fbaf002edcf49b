//! All environment variables that the program reads. `isomer --help` and the reference list them.

/// An environment variable that the program reads.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// The meaning of the variable, as one sentence without a full stop.
    pub(crate) about: &'static str,
}

/// All variables, ordered by name.
pub(crate) const VARIABLES: &[Variable] = &[
    Variable {
        name: "CARGO_HOME",
        about: "the folder of Cargo's configuration; components are built again if the configuration changes",
    },
    Variable { name: "CARGO_TARGET_DIR", about: "the folder in which Cargo builds components" },
    Variable { name: "CLICOLOR_FORCE", about: "use colours even if the output is not a terminal" },
    Variable {
        name: "COLUMNS",
        about: "the width of tables and waterfalls in columns if the output is not a terminal",
    },
    Variable {
        name: "DOCKER_CONFIG",
        about: "the folder with Docker's `config.json`, which contains the credentials for registries [default: `~/.docker`]",
    },
    Variable {
        name: "HOME",
        about: "the folder whose `.cache`, `.local/share`, `.local/state` and `.docker` are used if `XDG_CACHE_HOME`, `XDG_DATA_HOME`, `XDG_STATE_HOME` and `DOCKER_CONFIG` are not set",
    },
    Variable {
        name: "ISOMER_GUEST_TOOLCHAIN",
        about: "the toolchain that builds components: `rustup` (the default one) or `debian` (assembled from Debian's packages) [default: the first that is installed]",
    },
    Variable {
        name: "ISOMER_GUEST_TOOLCHAIN_DIR",
        about: "the folder of the toolchain assembled from Debian's packages [default: `guest-toolchain` in the cache folder]",
    },
    Variable {
        name: "ISOMER_KEY_PASSPHRASE",
        about: "the passphrase of the private key with which apps are signed [default: ask on the terminal]",
    },
    Variable {
        name: "ISOMER_LOG",
        about: "the level of the platform's own log, like `--log` of `isomer run` [default: `info`]",
    },
    Variable {
        name: "ISOMER_NODE",
        about: "the node for remote commands: `HOST:PORT`, `unix:PATH` or the node's data directory [default: `127.0.0.1:7171`]",
    },
    Variable {
        name: "ISOMER_TOKEN",
        about: "the token of the node or of a tenant [default: `admin.token` in the node's data directory]",
    },
    Variable { name: "NO_COLOR", about: "use no colours" },
    Variable {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        about: "the base URL of a collector, to which `isomer run`, `dev` and `node` send traces, logs and metrics: `http://localhost:4318`. The other standard variables of OpenTelemetry apply, too",
    },
    Variable {
        name: "SSL_CERT_FILE",
        about: "a PEM file with certificate authorities that HTTPS requests of apps and connections to registries trust, in addition to the public ones",
    },
    Variable {
        name: "STATE_DIRECTORY",
        about: "the default data directory of a shipped program; systemd sets it for units with `StateDirectory=`",
    },
    Variable { name: "TMPDIR", about: "the folder for temporary files [default: `/tmp`]" },
    Variable {
        name: "XDG_CACHE_HOME",
        about: "the folder that contains the program's cache folder, `isomer` [default: `~/.cache`]",
    },
    Variable {
        name: "XDG_DATA_HOME",
        about: "the folder that contains the default data directory of a node, `isomer/node`, and the apps that run from a registry, `isomer/apps` [default: `~/.local/share`]",
    },
    Variable {
        name: "XDG_RUNTIME_DIR",
        about: "the folder in which the processes of a shape create a private folder for their sockets [default: the folder for temporary files]",
    },
    Variable {
        name: "XDG_STATE_HOME",
        about: "the folder that contains the default data directories of shipped programs, `isomer/NAME` [default: `~/.local/state`]",
    },
];

/// Returns the text at the end of `isomer --help`.
pub(crate) fn help() -> String {
    let widest = VARIABLES.iter().map(|variable| variable.name.len()).max().unwrap_or(0);
    let lines = VARIABLES.iter().map(|Variable { name, about }| format!("  {name:<widest$}  {about}\n"));
    format!("Environment variables:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Adds to `names` the environment variables that the sources in `dir` read. A string literal is the name of a
    /// variable if one of the texts in the loop, such as `env::var("`, precedes it.
    fn named_in(dir: &Path, names: &mut BTreeSet<String>) {
        for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                named_in(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a text file");
                for before in ["var_os(\"", "env::var(\"", "variable(\"", "= \"ISOMER_"] {
                    let found = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
                    let prefix = if before.ends_with("ISOMER_") { "ISOMER_" } else { "" };
                    names.extend(found.map(|name| format!("{prefix}{name}")));
                }
            }
        }
    }

    #[test]
    fn every_variable_that_is_read_is_listed() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie side by side");
        let mut names = BTreeSet::new();
        for krate in std::fs::read_dir(crates).expect("the folder can be read").flatten() {
            if krate.file_name() != "test-guests" {
                named_in(&krate.path().join("src"), &mut names);
            }
        }
        let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && !name.is_empty();
        // `PATH` needs no explanation, and the other variables are only for the project's own tests.
        let unlisted = ["PATH", "ISOMER_BLESS", "ISOMER_LONG", "ISOMER_SEED"];
        names.retain(|name| is_name(name) && !unlisted.contains(&name.as_str()));
        let listed: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
        let missing: Vec<_> = names.iter().filter(|name| !listed.contains(&name.as_str())).collect();
        assert!(missing.is_empty() && names.contains("ISOMER_GUEST_TOOLCHAIN_DIR"), "{missing:?} of {names:?}");
        assert!(listed.is_sorted(), "{listed:?}");
    }
}
