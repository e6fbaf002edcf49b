//! The typed manifest: the contents of `isomer.toml` after it was read and checked.
//!
//! The types contain only data. Paths are stored as written, relative to the manifest's folder, and no function here
//! accesses the file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isomer_diagnostics::Span;
use isomer_ids::{ComponentName, OciReference, StoreName, kebab};
use serde::{Deserialize, Serialize};

use crate::spanned::Spanned;

/// The name of the shape that every app has. It has all components in one group.
pub const MONOLITH: &str = "monolith";

/// An app: its components and how they are connected.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The app's name: `[app] name`.
    pub name: String,
    /// The app's version: `[app] version`.
    pub version: semver::Version,
    /// The path of the health check, `[app] health`. A new revision takes over only after it responds to a request for
    /// this path with a status of 200 to 299.
    pub health: Option<Spanned<String>>,
    /// The components by name: `[components.NAME]`.
    pub components: BTreeMap<ComponentName, Component>,
    /// The shapes by name: `[shapes.NAME]`. The shape `monolith` is always included.
    pub shapes: BTreeMap<String, Shape>,
    /// The secrets by name, each with the source of its value: `[secrets]`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The SQL stores that have settings, by name: `[sql.NAME]`.
    pub sql: BTreeMap<StoreName, SqlStoreSettings>,
    /// Which requests are traced in full: `[telemetry]`.
    pub sampling: Sampling,
    /// How the app recognises its visitors in shapes with a browser group: `[session]`.
    pub session: Option<Session>,
}

/// How the app recognises its visitors in shapes with a browser group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The app's cookie that identifies a visitor: `cookie`. The front door sets its value in requests to components.
    pub cookie: Spanned<String>,
}

/// Which requests are traced in full. A setting that is absent has the default of the process that runs the app.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampling {
    /// The fraction of the requests that are traced, from 0 to 1: `sample`.
    pub fraction: Option<f64>,
    /// The maximum number of requests that are traced in a second because of `fraction`: `samples_per_second`.
    pub per_second_max: Option<u32>,
    /// The duration from which a request that is not traced in full is kept as slow: `slow`.
    pub slow: Option<Duration>,
}

impl App {
    /// Returns an app that has no manifest: its only component is the file `wasm`, serves every path and has `grants`.
    ///
    /// The app's name is the file's name in kebab case, or `app` if no name can be made from it.
    #[must_use]
    pub fn single(wasm: &Path, grants: Grants) -> Self {
        let stem = wasm.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = kebab(&stem).unwrap_or_else(|| "app".to_owned());
        let name = ComponentName::new(&name).expect("`kebab` gives legal names");
        let component = Component {
            source: Spanned::unwritten(ComponentSource::Wasm(wasm.to_owned())),
            routes: vec![Spanned::unwritten(Route::Prefix(String::new()))],
            grants,
            limits: ComponentLimits::default(),
            links: BTreeMap::new(),
            isolate: false,
            idempotent: vec![],
            exposed: vec![],
            concurrency: 1,
            reuse: None,
            compress: false,
            at: Spanned::default(),
        };
        let group = vec![Spanned::unwritten(name.clone())];
        let monolith = Shape { groups: BTreeMap::from([(MONOLITH.to_owned(), group)]), ..Shape::default() };
        Self {
            name: name.to_string(),
            version: semver::Version::new(0, 0, 0),
            health: None,
            components: BTreeMap::from([(name, component)]),
            shapes: BTreeMap::from([(MONOLITH.to_owned(), monolith)]),
            secrets: BTreeMap::new(),
            sql: BTreeMap::new(),
            sampling: Sampling::default(),
            session: None,
        }
    }
}

/// A component: `[components.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The source of the component's file.
    pub source: Spanned<ComponentSource>,
    /// The routes that the component's HTTP handler serves: `routes`.
    pub routes: Vec<Spanned<Route>>,
    /// The resources that the component may reach: `grants`. Default: none.
    pub grants: Grants,
    /// The component's own limits: `limits`. The platform's defaults apply to limits that are absent.
    pub limits: ComponentLimits,
    /// The component that provides an import, by the import's name: `links`. Needed if several components export the
    /// interface.
    pub links: BTreeMap<String, Spanned<ComponentName>>,
    /// Whether the component is never fused with other components: `isolate`.
    pub isolate: bool,
    /// The idempotent functions that the component exports, as `INTERFACE.FUNCTION`, or `INTERFACE` for all functions
    /// of an interface: `idempotent`. Calling an idempotent function twice has the same effect as calling it once. The
    /// planner checks that the component exports the functions.
    pub idempotent: Vec<Spanned<String>>,
    /// The exported functions that components in a tab may call: `exposed`. The planner checks that the component
    /// exports the functions.
    pub exposed: Vec<Exposure>,
    /// The maximum number of requests that one instance serves at the same time: `concurrency`. Default 1.
    pub concurrency: u32,
    /// The maximum number of requests and calls that one instance serves, one after another: `reuse`. If it is `None`,
    /// the planner chooses the default.
    pub reuse: Option<Reuse>,
    /// Whether responses of the component are compressed for clients that accept compression: `compress`.
    pub compress: bool,
    /// The location of `[components.NAME]` in the manifest.
    pub at: Spanned<()>,
}

/// Exported functions that components in a tab may call: an entry of `exposed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The functions, as `INTERFACE.FUNCTION`, or `INTERFACE` for all functions of an interface.
    pub functions: Spanned<String>,
    /// The parameter that must be the identity of the tab's session: `session`. If it is `None`, anyone can call the
    /// functions with any arguments.
    pub session: Option<Spanned<String>>,
}

/// The maximum number of requests and calls that one instance serves, one after another. Smaller numbers sort first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reuse {
    /// At most this number of requests and calls.
    Times(u32),
    /// As many requests and calls as the platform allows.
    Unbounded,
}

impl Reuse {
    /// One request or call: every request and every call gets a new instance.
    pub const FRESH: Self = Self::Times(1);

    /// Returns the maximum number of requests and calls, or `None` if it is unbounded.
    #[must_use]
    pub fn times(self) -> Option<u32> {
        match self {
            Self::Times(times) => Some(times),
            Self::Unbounded => None,
        }
    }
}

/// The source of a component's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentSource {
    /// A Cargo package that is built for the guest target: `cargo = "DIR"`.
    Cargo(PathBuf),
    /// A component that is already built: `wasm = "FILE"`.
    Wasm(PathBuf),
    /// A component in a registry: `wasm = "oci://REFERENCE"`.
    Registry(OciReference),
    /// A file that a shell command makes: `command = "…"` with `wasm = "FILE"`. The command runs in the app's folder.
    Command {
        /// The shell command.
        command: String,
        /// The file that the command makes.
        wasm: PathBuf,
        /// The files that the command reads, as paths and patterns: `inputs`. `None` means every file in the app's
        /// folder.
        inputs: Option<Vec<PathBuf>>,
    },
}

/// A route that a component serves: exact (`/cart`) or a prefix (`/static/...`). `/...` matches every path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Route {
    /// Matches only this path.
    Exact(String),
    /// Matches this path and all paths below it. The trailing `/...` is not stored, so `/...` is the empty string.
    Prefix(String),
}

/// The resources that a component may reach through capabilities.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants {
    /// `grants.kv`: the key-value stores that the component may open.
    pub kv: Vec<Spanned<StoreName>>,
    /// `grants.sql`: the SQL stores that the component may open.
    pub sql: Vec<Spanned<StoreName>>,
    /// `grants.http`: the hosts to which the component may send HTTP requests.
    pub http: Vec<Spanned<OutboundHost>>,
    /// `grants.config`: the values that the component reads through `wasi:config` and as environment variables.
    pub config: BTreeMap<String, String>,
    /// `grants.secrets`: the names of the secrets that the component may read, as in `[secrets]`.
    pub secrets: Vec<Spanned<String>>,
    /// `grants.dirs`: the directories of the host that the component may open.
    pub dirs: Vec<Spanned<DirGrant>>,
    /// The location of `grants` in the manifest, or of the component's header if it has no grants.
    pub at: Spanned<()>,
}

/// A host to which a component may send HTTP requests: `"HOST"`, `"HOST:PORT"`, `"*.example.com"` or `"*"`. Loopback
/// and private addresses are reached only if the grant names a loopback name or an IP address, or sets `private = true`
/// (`{ host = "db.internal", private = true }`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundHost {
    /// The host pattern in lower case: a name, `*.suffix`, `*` or an IP address.
    pub host: String,
    /// The port, or `None` for any port.
    pub port: Option<u16>,
    /// Whether the host's name may resolve to loopback, link-local or private addresses.
    pub private: bool,
    /// A PEM file with certificate authorities that are trusted for this host in addition to the public ones.
    #[serde(default)]
    pub authority: Option<PathBuf>,
}

/// A directory that is granted: `{ host = "DIR", guest = "/path", write = false }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirGrant {
    /// The folder on the host's disk, relative to the manifest's folder.
    pub host: PathBuf,
    /// The absolute path at which the guest sees the folder.
    pub guest: String,
    /// Whether the guest may write to the folder.
    pub write: bool,
}

/// The maximum memory, time and request size of a component. The platform's default applies to a limit that is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ComponentLimits {
    /// The maximum linear memory of one instance in bytes: `memory = "64MiB"`.
    pub memory_bytes: Option<u64>,
    /// The maximum time from the end of a request's head to the last byte of the response: `request_deadline = "30s"`.
    pub request_deadline: Option<Duration>,
    /// The maximum time from the end of a request's head to the end of a response that is a stream of server-sent
    /// events: `stream = "1h"` or `stream.max`.
    pub stream_max: Option<Duration>,
    /// The maximum time for which a stream of server-sent events may send nothing: `stream.idle = "60s"`.
    pub stream_idle: Option<Duration>,
    /// The maximum size of a request's body in bytes: `body = "10MiB"`.
    pub body_bytes: Option<u64>,
    /// The location of `limits` in the manifest, or of the component's header if it has no limits.
    pub at: Option<Spanned<()>>,
}

impl ComponentLimits {
    /// The default of `memory`: 128 MiB per instance.
    pub const MEMORY_BYTES_DEFAULT: u64 = 128 << 20;
    /// The default of `request_deadline`: 30 seconds.
    pub const REQUEST_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
    /// The default of `stream.max`: one hour.
    pub const STREAM_MAX_DEFAULT: Duration = Duration::from_secs(3600);
    /// The default of `stream.idle`: 60 seconds.
    pub const STREAM_IDLE_DEFAULT: Duration = Duration::from_secs(60);
    /// The default of `body`: 10 MiB.
    pub const BODY_BYTES_DEFAULT: u64 = 10 << 20;

    /// Returns the limit `memory` in bytes, or the platform's default.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.unwrap_or(Self::MEMORY_BYTES_DEFAULT)
    }

    /// Returns the limit `request_deadline`, or the platform's default.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        self.request_deadline.unwrap_or(Self::REQUEST_DEADLINE_DEFAULT)
    }

    /// Returns the limit `stream.max`, or the platform's default.
    #[must_use]
    pub fn stream_max(&self) -> Duration {
        self.stream_max.unwrap_or(Self::STREAM_MAX_DEFAULT)
    }

    /// Returns the limit `stream.idle`, or the platform's default.
    #[must_use]
    pub fn stream_idle(&self) -> Duration {
        self.stream_idle.unwrap_or(Self::STREAM_IDLE_DEFAULT)
    }

    /// Returns the limit `body` in bytes, or the platform's default.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.unwrap_or(Self::BODY_BYTES_DEFAULT)
    }
}

/// A shape, `[shapes.NAME]`: which components run together. Each group runs in its own process. A component that is in
/// no group forms a group by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// The groups: `groups.NAME = ["component", …]`. Without `groups`, all components are in one group, [`MONOLITH`].
    /// With `groups = "each"`, every component forms a group with its own name. The browser group is not included: if it
    /// is the only group, all components are in the group [`MONOLITH`].
    pub groups: BTreeMap<String, Vec<Spanned<ComponentName>>>,
    /// The components that are isolated in this shape, in addition to those that set `isolate` themselves: `isolate =
    /// ["component", …]` or `"all"`.
    pub isolate: Vec<Spanned<ComponentName>>,
    /// The group that also runs in the tabs of visitors: the group with `place = "browser"`.
    pub browser: Option<BrowserGroup>,
}

/// A group with `place = "browser"`: components of which each tab runs a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserGroup {
    /// The group's name.
    pub name: Spanned<String>,
    /// The components of the group.
    pub components: Vec<Spanned<ComponentName>>,
}

/// The source of a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// The environment variable with this name: `{ env = "NAME" }`.
    Env(String),
    /// The contents of this file, without a final newline: `{ file = "PATH" }`.
    File(PathBuf),
}

/// The settings of an SQL store: `[sql.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlStoreSettings {
    /// The folder of migrations: `migrations = "DIR"`. It contains `.sql` files, each applied once, in the order of
    /// their names.
    pub migrations: Option<PathBuf>,
    /// The location of `migrations` in the manifest.
    #[serde(skip)]
    pub migrations_at: Span,
    /// The maximum duration of a statement: `statement_timeout = "5s"`.
    pub statement_timeout: Option<Duration>,
}

impl SqlStoreSettings {
    /// The default of `statement_timeout`: 5 seconds.
    pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

    /// Returns the setting `statement_timeout`, or the platform's default.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout.unwrap_or(Self::STATEMENT_TIMEOUT_DEFAULT)
    }
}
