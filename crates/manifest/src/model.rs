//! The typed manifest: the meaning of `isomer.toml` after it was read and checked.
//!
//! Pure data. Paths are kept as written, relative to the manifest's folder; nothing here touches the file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isomer_diagnostics::Span;
use isomer_ids::{ComponentName, StoreName, kebab};
use serde::{Deserialize, Serialize};

use crate::spanned::Spanned;

/// The shape that every app has: all components in one group.
pub const MONOLITH: &str = "monolith";

/// An app: its components and how they are connected.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The app's name: `[app] name`.
    pub name: String,
    /// The app's version: `[app] version`.
    pub version: semver::Version,
    /// The path of the health check, `[app] health`: a new revision takes over after it answered a request for this
    /// path with success.
    pub health: Option<Spanned<String>>,
    /// The components by name: `[components.NAME]`.
    pub components: BTreeMap<ComponentName, Component>,
    /// The shapes by name: `[shapes.NAME]`. `monolith` always exists, whether it is written or not.
    pub shapes: BTreeMap<String, Shape>,
    /// The source of each secret's value: `[secrets]`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The settings of SQL stores: `[sql.NAME]`.
    pub sql: BTreeMap<StoreName, SqlStoreSettings>,
}

impl App {
    /// Returns an app without a manifest: the single component in `wasm`, which serves every path and has these grants.
    ///
    /// The app is named after the file, as far as the file's name is a valid name.
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
            concurrency: 1,
            reuse: None,
            compress: false,
            at: Spanned::default(),
        };
        let group = vec![Spanned::unwritten(name.clone())];
        let monolith = Shape { groups: BTreeMap::from([(MONOLITH.to_owned(), group)]), isolate: vec![] };
        Self {
            name: name.to_string(),
            version: semver::Version::new(0, 0, 0),
            health: None,
            components: BTreeMap::from([(name, component)]),
            shapes: BTreeMap::from([(MONOLITH.to_owned(), monolith)]),
            secrets: BTreeMap::new(),
            sql: BTreeMap::new(),
        }
    }
}

/// A component: `[components.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The source of the component's bytes.
    pub source: Spanned<ComponentSource>,
    /// The routes that its HTTP handler serves: `routes`.
    pub routes: Vec<Spanned<Route>>,
    /// The component's access to anything outside of it: `grants`. Default: none.
    pub grants: Grants,
    /// The component's own limits: `limits`. Absent ones have the platform's defaults.
    pub limits: ComponentLimits,
    /// The named links: for an import that several components export, the component to use: `links`.
    pub links: BTreeMap<String, Spanned<ComponentName>>,
    /// Whether the component is never fused with another one: `isolate`.
    pub isolate: bool,
    /// The exported interfaces, or functions of them (`INTERFACE.FUNCTION`), that are idempotent: calling one twice has
    /// the same effect as calling it once. The planner checks whether the component exports them.
    pub idempotent: Vec<Spanned<String>>,
    /// The number of requests that one instance may serve at once: `concurrency`. Default 1.
    pub concurrency: u32,
    /// How many requests one instance may serve, one after another: `reuse`. The planner knows the default.
    pub reuse: Option<Reuse>,
    /// Whether the component's responses are compressed for clients that accept it: `compress`.
    pub compress: bool,
    /// The place of `[components.NAME]` in the manifest.
    pub at: Spanned<()>,
}

/// The number of requests and calls that one instance may serve, one after another. Ordered from few to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reuse {
    /// At most this number.
    Times(u32),
    /// As many requests and calls as the platform allows.
    Unbounded,
}

impl Reuse {
    /// A new instance for every request.
    pub const FRESH: Self = Self::Times(1);

    /// Returns the number, if there is one.
    #[must_use]
    pub fn times(self) -> Option<u32> {
        match self {
            Self::Times(times) => Some(times),
            Self::Unbounded => None,
        }
    }
}

/// The source of a component's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentSource {
    /// A Cargo package that is built for the guest target: `cargo = "DIR"`.
    Cargo(PathBuf),
    /// A component that is already built: `wasm = "FILE"`.
    Wasm(PathBuf),
    /// A shell command, run in the app's folder, that makes the file: `command = "…"` with `wasm = "FILE"`.
    Command {
        /// The shell command.
        command: String,
        /// The file that the command makes.
        wasm: PathBuf,
        /// The files that the command reads, as paths and patterns: `inputs`. `None` means every file of the app's folder.
        inputs: Option<Vec<PathBuf>>,
    },
}

/// A route that a component serves: exact (`/cart`) or prefix (`/static/...`; `/...` is everything).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Route {
    /// This path only.
    Exact(String),
    /// This path and all paths below it, stored without the trailing `/...`; `/...` is the empty string.
    Prefix(String),
}

/// The access that a component gets through capabilities.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants {
    /// The key-value stores: `kv`.
    pub kv: Vec<Spanned<StoreName>>,
    /// The SQL stores: `sql`.
    pub sql: Vec<Spanned<StoreName>>,
    /// The hosts to which it may send HTTP requests: `http`.
    pub http: Vec<Spanned<OutboundHost>>,
    /// The values for `wasi:config` and the environment: `config`.
    pub config: BTreeMap<String, String>,
    /// The names of secrets in `[secrets]`: `secrets`.
    pub secrets: Vec<Spanned<String>>,
    /// The directories of the host: `dirs`.
    pub dirs: Vec<Spanned<DirGrant>>,
    /// The place of `grants` in the manifest; that of the component's header if there are no grants.
    pub at: Spanned<()>,
}

/// A host for outbound HTTP: `"HOST"`, `"HOST:PORT"`, `"*.example.com"`, `"*"`. Loopback and private addresses are
/// reached only by a grant that names a loopback name or an IP literal, or that sets `private = true` (`{ host =
/// "db.internal", private = true }`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundHost {
    /// The host pattern in lower case: a name, `*.suffix`, `*` or an IP address.
    pub host: String,
    /// The port; any port if absent.
    pub port: Option<u16>,
    /// Whether the name may resolve to loopback, link-local or private addresses.
    pub private: bool,
    /// A PEM file with certificate authorities that are trusted for this host in addition to the public ones.
    #[serde(default)]
    pub authority: Option<PathBuf>,
}

/// A directory that is granted: `{ host = "DIR", guest = "/path", write = false }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirGrant {
    /// The folder of the host, relative to the manifest's folder.
    pub host: PathBuf,
    /// The absolute path at which the guest sees it.
    pub guest: String,
    /// Whether the guest may write to it.
    pub write: bool,
}

/// Hard limits of a component. `None` means the platform's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ComponentLimits {
    /// The linear memory of one instance in bytes: `memory = "64MiB"`.
    pub memory_bytes: Option<u64>,
    /// The time from a request's head to the last byte of the response: `request_deadline = "30s"`.
    pub request_deadline: Option<Duration>,
    /// The time from a request's head to the end of a response that is a stream of server-sent events: `stream = "1h"`
    /// or `stream.max`.
    pub stream_max: Option<Duration>,
    /// The time in which such a stream may send nothing: `stream.idle = "60s"`.
    pub stream_idle: Option<Duration>,
    /// The size of a request's body in bytes: `body = "10MiB"`.
    pub body_bytes: Option<u64>,
    /// The place of `limits` in the manifest; that of the component's header if there are no limits.
    pub at: Option<Spanned<()>>,
}

impl ComponentLimits {
    /// The default memory of one instance: 128 MiB.
    pub const MEMORY_BYTES_DEFAULT: u64 = 128 << 20;
    /// The default deadline of a request: 30 seconds.
    pub const REQUEST_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
    /// The default time limit of a stream of events: one hour.
    pub const STREAM_MAX_DEFAULT: Duration = Duration::from_secs(3600);
    /// The default time in which a stream of events may send nothing: 60 seconds.
    pub const STREAM_IDLE_DEFAULT: Duration = Duration::from_secs(60);
    /// The default size limit of a request's body: 10 MiB.
    pub const BODY_BYTES_DEFAULT: u64 = 10 << 20;

    /// Returns `memory`, or the platform's default.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.unwrap_or(Self::MEMORY_BYTES_DEFAULT)
    }

    /// Returns `request_deadline`, or the platform's default.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        self.request_deadline.unwrap_or(Self::REQUEST_DEADLINE_DEFAULT)
    }

    /// Returns `stream.max`, or the platform's default.
    #[must_use]
    pub fn stream_max(&self) -> Duration {
        self.stream_max.unwrap_or(Self::STREAM_MAX_DEFAULT)
    }

    /// Returns `stream.idle`, or the platform's default.
    #[must_use]
    pub fn stream_idle(&self) -> Duration {
        self.stream_idle.unwrap_or(Self::STREAM_IDLE_DEFAULT)
    }

    /// Returns `body`, or the platform's default.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.unwrap_or(Self::BODY_BYTES_DEFAULT)
    }
}

/// A shape, `[shapes.NAME]`: groups of components, each of which is a process. A component that no group names is a
/// group of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// The groups: `groups.NAME = ["component", …]`. Without `groups`, all components are in one group, [`MONOLITH`];
    /// with `"each"`, every component is a group of its own name.
    pub groups: BTreeMap<String, Vec<Spanned<ComponentName>>>,
    /// The components that are isolated in this shape only: `isolate = ["component", …]` or `"all"`.
    pub isolate: Vec<Spanned<ComponentName>>,
}

/// The source of a secret's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// An environment variable: `{ env = "NAME" }`.
    Env(String),
    /// A file: `{ file = "PATH" }`. A final newline is removed.
    File(PathBuf),
}

/// The settings of a SQL store: `[sql.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlStoreSettings {
    /// The folder of migrations, `migrations = "DIR"`: `.sql` files, each applied once, in the order of their names.
    pub migrations: Option<PathBuf>,
    /// The place of `migrations` in the manifest.
    #[serde(skip)]
    pub migrations_at: Span,
    /// The time limit of a statement: `statement_timeout = "5s"`.
    pub statement_timeout: Option<Duration>,
}

impl SqlStoreSettings {
    /// The default time limit of a statement: 5 seconds.
    pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

    /// Returns `statement_timeout`, or the platform's default.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout.unwrap_or(Self::STATEMENT_TIMEOUT_DEFAULT)
    }
}
