//! The interfaces that the platform implements, the authority that each gives, and the grant that each needs.
//!
//! No other module lists these interfaces. The **authority** decides how a composition imports an interface:
//!
//! - *none*: functions reach only what their handles refer to, and handles are in the component's own table. The composition imports the
//!   interface once, and its components share the import.
//! - *own*: functions reach the component's own environment, output, stores or hosts. The composition imports the interface for each
//!   component under a label, so if it defines resources (`wasi:keyvalue`), each component has its own resource types. Components that pass
//!   handles of these resources across a seam must share the import, which requires equal grants.

use isomer_manifest::{Component, Grants};

use crate::interface::InterfaceId;

/// The interfaces of one WIT package that the platform implements.
struct Package {
    name: &'static str,
    /// The implemented versions, as the parts that decide compatibility: see [`InterfaceId::track`].
    tracks: &'static [&'static str],
    interfaces: &'static [(&'static str, Authority)],
}

/// The resources that calls to an interface can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// The interface carries no authority: its calls reach only resources to which the component already has handles.
    None,
    /// The interface's calls reach the component's own resources: those that a grant allows, or ambient ones that need
    /// no grant (environment, output).
    Own(Option<Grant>),
}

/// The kind of a grant: each kind is a key of a component's `grants` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    Kv,
    Sql,
    Http,
    Config,
    Secrets,
    Dirs,
}

/// The result of looking up an interface in [`PACKAGES`].
pub(crate) enum Verdict {
    /// The platform implements the interface.
    Implemented(Authority),
    /// The platform implements the interface only in these other versions.
    OtherVersions(&'static [&'static str]),
    /// The platform implements only these other interfaces of the interface's package.
    OtherInterfaces(Vec<&'static str>),
    /// The platform implements no interface of the package.
    Unknown,
}

use Authority::{None as Free, Own};

const PACKAGES: &[Package] = &[
    Package { name: "wasi:io", tracks: &["0.2"], interfaces: &[("error", Free), ("poll", Free), ("streams", Free)] },
    Package {
        name: "wasi:clocks",
        tracks: &["0.2", "0.3"],
        interfaces: &[
            ("monotonic-clock", Free),
            ("system-clock", Free),
            ("timezone", Free),
            ("types", Free),
            ("wall-clock", Free),
        ],
    },
    Package {
        name: "wasi:random",
        tracks: &["0.2", "0.3"],
        interfaces: &[("insecure", Free), ("insecure-seed", Free), ("random", Free)],
    },
    Package {
        name: "wasi:cli",
        tracks: &["0.2", "0.3"],
        interfaces: &[
            ("environment", Own(Some(Grant::Config))),
            ("exit", Own(None)),
            ("stderr", Own(None)),
            ("stdin", Own(None)),
            ("stdout", Own(None)),
            ("terminal-input", Free),
            ("terminal-output", Free),
            ("terminal-stderr", Own(None)),
            ("terminal-stdin", Own(None)),
            ("terminal-stdout", Own(None)),
            ("types", Free),
        ],
    },
    Package {
        name: "wasi:filesystem",
        tracks: &["0.2", "0.3"],
        interfaces: &[("preopens", Own(Some(Grant::Dirs))), ("types", Free)],
    },
    // The interfaces of `wasi:sockets` need no grant, because the host refuses every address for every component.
    Package {
        name: "wasi:sockets",
        tracks: &["0.2", "0.3"],
        interfaces: &[
            ("instance-network", Free),
            ("ip-name-lookup", Free),
            ("network", Free),
            ("tcp", Free),
            ("tcp-create-socket", Free),
            ("types", Free),
            ("udp", Free),
            ("udp-create-socket", Free),
        ],
    },
    Package {
        name: "wasi:http",
        tracks: &["0.2", "0.3"],
        interfaces: &[
            ("client", Own(Some(Grant::Http))),
            ("handler", Own(Some(Grant::Http))),
            ("outgoing-handler", Own(Some(Grant::Http))),
            ("types", Free),
        ],
    },
    Package {
        name: "wasi:keyvalue",
        tracks: &["0.2.0-draft", "0.2.0-draft2"],
        interfaces: &[
            ("atomics", Own(Some(Grant::Kv))),
            ("batch", Own(Some(Grant::Kv))),
            ("store", Own(Some(Grant::Kv))),
        ],
    },
    // The drafts of `wasi:config` differ only in their versions and in the name of the interface, which is `runtime` in
    // the oldest draft and `store` in later ones. Spin implements the draft of 2024-09-27.
    Package {
        name: "wasi:config",
        tracks: &["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"],
        interfaces: &[("runtime", Own(Some(Grant::Config))), ("store", Own(Some(Grant::Config)))],
    },
    // Records, spans and metrics reach only the log, the traces and the metrics of the app, like standard output. Many
    // programs import `wasi:logging` without a version.
    Package { name: "wasi:logging", tracks: &["0.1.0-draft", ""], interfaces: &[("logging", Own(None))] },
    Package {
        name: "wasi:otel",
        tracks: &["0.2.0-rc.2"],
        interfaces: &[("logs", Own(None)), ("metrics", Own(None)), ("tracing", Own(None)), ("types", Free)],
    },
    Package { name: "isomer:sql", tracks: &["0.1"], interfaces: &[("store", Own(Some(Grant::Sql))), ("types", Free)] },
    Package { name: "isomer:secrets", tracks: &["0.1"], interfaces: &[("store", Own(Some(Grant::Secrets)))] },
];

/// Returns whether the platform implements the interface, and what it implements instead if it does not.
pub(crate) fn verdict(id: &InterfaceId) -> Verdict {
    let Some(package) = PACKAGES.iter().find(|package| package.name == id.package_name()) else {
        return Verdict::Unknown;
    };
    let Some((_, authority)) = package.interfaces.iter().find(|(name, _)| *name == id.interface) else {
        return Verdict::OtherInterfaces(package.interfaces.iter().map(|(name, _)| *name).collect());
    };
    let track = id.track();
    let track = track.split_once('@').map_or("", |(_, version)| version);
    if package.tracks.contains(&track) {
        Verdict::Implemented(*authority)
    } else {
        Verdict::OtherVersions(package.tracks)
    }
}

/// Returns the authority that the interface gives, or `None` if the platform does not implement it.
pub(crate) fn authority(id: &InterfaceId) -> Option<Authority> {
    match verdict(id) {
        Verdict::Implemented(authority) => Some(authority),
        _ => None,
    }
}

/// Returns whether the interface returns the time of day or random values. Monotonic clocks are not included, because
/// they measure only time differences.
pub(crate) fn is_nondeterministic(id: &InterfaceId) -> bool {
    id.package_name() == "wasi:random"
        || matches!(id.path().as_str(), "wasi:clocks/wall-clock" | "wasi:clocks/system-clock")
}

/// Returns the kind of grant that the interface needs, if it needs one.
pub(crate) fn grant(id: &InterfaceId) -> Option<Grant> {
    match authority(id) {
        Some(Authority::Own(grant)) => grant,
        _ => None,
    }
}

/// Returns the key, in a component's `grants` table, of the grant that the interface needs, if it needs one.
#[must_use]
pub fn grant_key(id: &InterfaceId) -> Option<&'static str> {
    grant(id).map(Grant::key)
}

/// Returns whether the platform implements the interface. If one component of an app exports such an interface, it provides
/// the interface to the other components in place of the platform.
#[must_use]
pub fn is_of_platform(id: &InterfaceId) -> bool {
    matches!(verdict(id), Verdict::Implemented(_))
}

impl Grant {
    pub(crate) const ALL: [Grant; 6] = [Grant::Kv, Grant::Sql, Grant::Http, Grant::Config, Grant::Secrets, Grant::Dirs];

    /// Returns the key of the grant in a component's `grants` table.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Grant::Kv => "kv",
            Grant::Sql => "sql",
            Grant::Http => "http",
            Grant::Config => "config",
            Grant::Secrets => "secrets",
            Grant::Dirs => "dirs",
        }
    }

    /// Returns the noun for one resource of this kind of grant.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Grant::Kv => "store",
            Grant::Sql => "SQL store",
            Grant::Http => "host",
            Grant::Config => "config value",
            Grant::Secrets => "secret",
            Grant::Dirs => "directory",
        }
    }

    /// Returns the names of the interfaces that use the grant, as text.
    pub(crate) fn interfaces(self) -> &'static str {
        match self {
            Grant::Kv => "`wasi:keyvalue/store`",
            Grant::Sql => "`isomer:sql/store`",
            Grant::Http => "`wasi:http/client` or `wasi:http/outgoing-handler`",
            Grant::Config => "`wasi:config/store` or `wasi:cli/environment`",
            Grant::Secrets => "`isomer:secrets/store`",
            Grant::Dirs => "`wasi:filesystem/preopens`",
        }
    }

    /// Returns a clause that states what happens to calls if the component does not have the grant.
    pub(crate) fn consequence(self) -> &'static str {
        match self {
            Grant::Kv | Grant::Sql => "opening a store fails",
            Grant::Http => "every request that it sends is refused",
            Grant::Config => "the component finds no values",
            Grant::Secrets => "reading a secret fails",
            Grant::Dirs => "the component finds no directories",
        }
    }

    /// Returns whether language runtimes import the interface into every program. For such an interface, a warning
    /// about a missing grant would be wrong.
    pub(crate) fn is_ambient(id: &InterfaceId) -> bool {
        matches!(id.package_name().as_str(), "wasi:cli" | "wasi:filesystem")
    }

    /// Returns whether an import without this grant is probably a mistake. A missing config grant is probably intended,
    /// because programs usually have defaults for config values.
    pub(crate) fn is_expected(self) -> bool {
        self != Grant::Config
    }

    /// Returns an example line for the manifest that gives `component` the grant.
    pub(crate) fn line(self, component: &str) -> String {
        match self {
            Grant::Kv => format!("kv = [\"{component}\"]"),
            Grant::Sql => format!("sql = [\"{component}\"]"),
            Grant::Http => "http = [\"api.example.com\"]".to_owned(),
            Grant::Config => "config = { NAME = \"value\" }".to_owned(),
            Grant::Secrets => "secrets = [\"NAME\"]".to_owned(),
            Grant::Dirs => "dirs = [{ host = \"data\", guest = \"/data\" }]".to_owned(),
        }
    }

    /// Returns the granted resources of this kind as text, sorted.
    pub(crate) fn granted(self, grants: &Grants) -> Vec<String> {
        let mut granted: Vec<String> = match self {
            Grant::Kv => grants.kv.iter().map(ToString::to_string).collect(),
            Grant::Sql => grants.sql.iter().map(ToString::to_string).collect(),
            Grant::Http => grants.http.iter().map(ToString::to_string).collect(),
            Grant::Config => grants.config.keys().cloned().collect(),
            Grant::Secrets => grants.secrets.iter().map(ToString::to_string).collect(),
            Grant::Dirs => grants
                .dirs
                .iter()
                .map(|dir| {
                    let mode = if dir.value.write { "read and write" } else { "read only" };
                    format!("{} at {} ({mode})", dir.value.host.display(), dir.value.guest)
                })
                .collect(),
        };
        granted.sort();
        granted
    }

    /// Returns the location of the grant in the manifest.
    pub(crate) fn span(self, component: &Component) -> isomer_diagnostics::Span {
        let grants = &component.grants;
        let first = match self {
            Grant::Kv => grants.kv.first().map(|it| it.span),
            Grant::Sql => grants.sql.first().map(|it| it.span),
            Grant::Http => grants.http.first().map(|it| it.span),
            Grant::Secrets => grants.secrets.first().map(|it| it.span),
            Grant::Dirs => grants.dirs.first().map(|it| it.span),
            Grant::Config => None,
        };
        first.unwrap_or(grants.at.span)
    }
}
