//! The embedded WIT packages.

/// One version of a WIT package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitPackage {
    /// The package's name, for example `wasi:http`.
    pub name: &'static str,
    /// The package's version, for example `0.3.0`.
    pub version: &'static str,
    /// The WIT files of the package.
    pub files: &'static [WitFile],
}

/// One `.wit` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitFile {
    /// The file's name, without a folder.
    pub name: &'static str,
    /// The contents of the file.
    pub text: &'static str,
}

impl WitPackage {
    /// Returns the name of the package's folder in `wit/deps`, for example `wasi-http-0.3.0`.
    pub fn dir_name(&self) -> String {
        format!("{}-{}", self.name.replace(':', "-"), self.version)
    }

    /// Returns name and version, for example `wasi:http@0.3.0`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// Returns all embedded packages, ordered by name and version.
pub fn packages() -> &'static [WitPackage] {
    PACKAGES
}

macro_rules! package {
    ($name:literal, $version:literal, $dir:literal: $($file:literal),+) => {
        WitPackage {
            name: $name,
            version: $version,
            files: &[$(WitFile {
                name: $file,
                text: include_str!(concat!("../wit/", $dir, "/", $file)),
            }),+],
        }
    };
}

static PACKAGES: &[WitPackage] = &[
    package!("isomer:link", "0.1.0", "isomer-link": "types.wit"),
    package!("isomer:secrets", "0.1.0", "isomer-secrets": "secrets.wit"),
    package!("isomer:sql", "0.1.0", "isomer-sql": "sql.wit"),
    package!("wasi:cli", "0.2.12", "wasi-cli-0.2.12": "package.wit"),
    package!("wasi:cli", "0.3.0", "wasi-cli-0.3.0": "package.wit"),
    package!("wasi:clocks", "0.2.12", "wasi-clocks-0.2.12": "package.wit"),
    package!("wasi:clocks", "0.3.0", "wasi-clocks-0.3.0": "package.wit"),
    package!("wasi:config", "0.2.0-rc.1", "wasi-config-0.2.0-rc.1": "store.wit", "world.wit"),
    package!("wasi:filesystem", "0.2.12", "wasi-filesystem-0.2.12": "package.wit"),
    package!("wasi:filesystem", "0.3.0", "wasi-filesystem-0.3.0": "package.wit"),
    package!("wasi:http", "0.2.12", "wasi-http-0.2.12": "package.wit"),
    package!("wasi:http", "0.3.0", "wasi-http-0.3.0": "package.wit"),
    package!("wasi:io", "0.2.12", "wasi-io-0.2.12": "package.wit"),
    package!("wasi:keyvalue", "0.2.0-draft", "wasi-keyvalue-0.2.0-draft": "atomic.wit", "batch.wit", "store.wit", "watch.wit", "world.wit"),
    package!("wasi:keyvalue", "0.2.0-draft2", "wasi-keyvalue-0.2.0-draft2": "package.wit"),
    package!("wasi:logging", "0.1.0-draft", "wasi-logging-0.1.0-draft": "package.wit"),
    package!("wasi:otel", "0.2.0-rc.2", "wasi-otel-0.2.0-rc.2": "package.wit"),
    package!("wasi:random", "0.2.12", "wasi-random-0.2.12": "package.wit"),
    package!("wasi:random", "0.3.0", "wasi-random-0.3.0": "package.wit"),
    package!("wasi:sockets", "0.2.12", "wasi-sockets-0.2.12": "package.wit"),
    package!("wasi:sockets", "0.3.0", "wasi-sockets-0.3.0": "package.wit"),
];
