//! The interfaces that the platform implements, the authority that each gives, and the grant that it needs.
//!
//! No other module lists these interfaces. The **authority** decides how a composition imports an interface:
//!
//! - *none*: everything is reached through handles, which are in the component's own table. The interface is imported once and shared.
//! - *own*: calls reach the component's own environment, output, stores or hosts. The interface is imported for each component under a label,
//!   even if it defines resources (`wasi:keyvalue`): each component then has its own resource types. Only if a seam passes handles of them
//!   must the components share the import, which requires equal grants.

use isomer_manifest::{Component, Grants};

use crate::interface::InterfaceId;

/// The interfaces of one package, in the versions that the platform implements.
struct Package {
    name: &'static str,
    /// The parts of the versions that decide compatibility, see [`InterfaceId::track`].
    tracks: &'static [&'static str],
    interfaces: &'static [(&'static str, Authority)],
}

/// The resources that calls to an interface can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Only the resources that the handles in the component's table refer to.
    None,
    /// The component's own resources, whether granted or ambient (environment, output).
    Own(Option<Grant>),
}

/// A kind of grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    Kv,
    Sql,
    Http,
    Config,
    Secrets,
    Dirs,
}

/// Whether the platform implements an interface.
pub(crate) enum Verdict {
    /// The platform implements the interface.
    Implemented(Authority),
    /// The platform implements only these other versions of the interface.
    OtherVersions(&'static [&'static str]),
    /// The platform implements only these other interfaces of the package.
    OtherInterfaces(Vec<&'static str>),
    /// The platform implements nothing of the package.
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
    // No grant allows a socket: every address is refused, for every component.
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
    // The drafts differ only in their names; the second one is Spin's.
    Package {
        name: "wasi:config",
        tracks: &["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"],
        interfaces: &[("runtime", Own(Some(Grant::Config))), ("store", Own(Some(Grant::Config)))],
    },
    Package { name: "isomer:sql", tracks: &["0.1"], interfaces: &[("store", Own(Some(Grant::Sql))), ("types", Free)] },
    Package { name: "isomer:secrets", tracks: &["0.1"], interfaces: &[("store", Own(Some(Grant::Secrets)))] },
];

/// Returns whether the platform implements an interface.
pub(crate) fn verdict(id: &InterfaceId) -> Verdict {
    let Some(package) = PACKAGES.iter().find(|package| package.name == id.family()) else { return Verdict::Unknown };
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

/// Returns the authority of an interface that the platform implements.
pub(crate) fn authority(id: &InterfaceId) -> Option<Authority> {
    match verdict(id) {
        Verdict::Implemented(authority) => Some(authority),
        _ => None,
    }
}

/// Returns whether an interface returns the time of day or random values. Monotonic clocks are not included, because
/// they only measure.
pub(crate) fn is_nondeterministic(id: &InterfaceId) -> bool {
    id.family() == "wasi:random" || matches!(id.path().as_str(), "wasi:clocks/wall-clock" | "wasi:clocks/system-clock")
}

/// Returns the grant that an interface needs.
pub(crate) fn grant(id: &InterfaceId) -> Option<Grant> {
    match authority(id) {
        Some(Authority::Own(grant)) => grant,
        _ => None,
    }
}

impl Grant {
    pub(crate) const ALL: [Grant; 6] = [Grant::Kv, Grant::Sql, Grant::Http, Grant::Config, Grant::Secrets, Grant::Dirs];

    /// Returns the key under `grants`.
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

    /// Returns the noun for one granted resource.
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

    /// Returns the interfaces that use the grant.
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

    /// Returns the consequence for calls without the grant.
    pub(crate) fn consequence(self) -> &'static str {
        match self {
            Grant::Kv | Grant::Sql => "opening a store fails",
            Grant::Http => "every request that it sends is refused",
            Grant::Config => "it finds no values",
            Grant::Secrets => "reading a secret fails",
            Grant::Dirs => "it finds no directories",
        }
    }

    /// Returns whether standard libraries import an interface for every program, so that a missing grant is not worth a
    /// message.
    pub(crate) fn is_ambient(id: &InterfaceId) -> bool {
        matches!(id.family().as_str(), "wasi:cli" | "wasi:filesystem")
    }

    /// Returns whether importing the capability without the grant is probably a mistake. For config it is not, because
    /// config has defaults.
    pub(crate) fn is_expected(self) -> bool {
        self != Grant::Config
    }

    /// Returns a manifest line that gives `component` the grant.
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

    /// Returns the granted resources as text, sorted.
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

    /// Returns the place of the grant in the manifest.
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
