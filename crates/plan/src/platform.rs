//! The interfaces that the platform implements, what authority each gives, and the grant that it wants.
//!
//! This table is the one place that knows them. **Authority** decides how a composition imports an interface:
//!
//! - *none*: everything is reached through handles, which are in the component's own table; imported once and shared;
//! - *own*: the component's own environment, output, stores or hosts stand behind it; imported for each component under a
//!   label. That holds for interfaces that define resources too (`wasi:keyvalue`): each component then has resource types
//!   of its own. Only where a seam passes handles of them must the components share the import, which they may if their
//!   grants are equal.

use isomer_manifest::{Component, Grants};

use crate::interface::InterfaceId;

/// Interfaces of one package, in the versions that the platform implements.
struct Package {
    name: &'static str,
    /// What decides compatibility of the versions, see [`InterfaceId::track`].
    tracks: &'static [&'static str],
    interfaces: &'static [(&'static str, Authority)],
}

/// What calling an interface can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Nothing but what its handles stand for.
    None,
    /// What belongs to the component, whether granted or ambient (environment, output).
    Own(Option<Grant>),
}

/// A kind of grant of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    Kv,
    Sql,
    Http,
    Config,
    Secrets,
    Dirs,
}

/// What the platform says to an imported interface.
pub(crate) enum Verdict {
    /// It implements it.
    Implemented(Authority),
    /// It implements other versions of it.
    OtherVersions(&'static [&'static str]),
    /// It does not know it, but knows these of its package.
    OtherInterfaces(Vec<&'static str>),
    /// It knows nothing of the package.
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
    // No grant of the manifest opens a socket: every address is refused, to all alike.
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
    // The drafts differ in names only; the second one is Spin's.
    Package {
        name: "wasi:config",
        tracks: &["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"],
        interfaces: &[("runtime", Own(Some(Grant::Config))), ("store", Own(Some(Grant::Config)))],
    },
    Package { name: "isomer:sql", tracks: &["0.1"], interfaces: &[("store", Own(Some(Grant::Sql))), ("types", Free)] },
    Package { name: "isomer:secrets", tracks: &["0.1"], interfaces: &[("store", Own(Some(Grant::Secrets)))] },
];

/// Does the platform implement an interface?
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

/// The authority of an interface that the platform implements.
pub(crate) fn authority(id: &InterfaceId) -> Option<Authority> {
    match verdict(id) {
        Verdict::Implemented(authority) => Some(authority),
        _ => None,
    }
}

/// Does an interface of the platform say something else each time it is asked: the time of day, random numbers? Monotonic clocks are
/// none of them: they measure.
pub(crate) fn tells_time_or_chance(id: &InterfaceId) -> bool {
    id.family() == "wasi:random" || matches!(id.path().as_str(), "wasi:clocks/wall-clock" | "wasi:clocks/system-clock")
}

/// The grant that stands behind an interface.
pub(crate) fn grant(id: &InterfaceId) -> Option<Grant> {
    match authority(id) {
        Some(Authority::Own(grant)) => grant,
        _ => None,
    }
}

impl Grant {
    pub(crate) const ALL: [Grant; 6] = [Grant::Kv, Grant::Sql, Grant::Http, Grant::Config, Grant::Secrets, Grant::Dirs];

    /// Its key under `grants`.
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

    /// One of what is granted, as people say it.
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

    /// The interfaces that make use of it.
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

    /// What a call finds where nothing is granted.
    pub(crate) fn consequence(self) -> &'static str {
        match self {
            Grant::Kv | Grant::Sql => "every store that it opens is refused",
            Grant::Http => "every request that it sends is refused",
            Grant::Config => "it finds no values",
            Grant::Secrets => "every secret that it asks for is refused",
            Grant::Dirs => "it finds no directories",
        }
    }

    /// Is an import of `id` without a grant worth a word? Standard libraries import the environment and directories for
    /// every program.
    pub(crate) fn is_ambient(id: &InterfaceId) -> bool {
        matches!(id.family().as_str(), "wasi:cli" | "wasi:filesystem")
    }

    /// Is it probably a mistake to import the capability without a grant? (Config has defaults.)
    pub(crate) fn is_expected(self) -> bool {
        self != Grant::Config
    }

    /// A line that grants it, to paste into the manifest.
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

    /// What of it is granted, sorted, as text.
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

    /// Where it is granted.
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
