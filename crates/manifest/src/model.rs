//! The typed manifest: what `isomer.toml` means once it has been read and checked.
//!
//! Pure data. Paths are as written, relative to the manifest's folder; nothing here touches the file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isomer_diagnostics::Span;
use isomer_ids::{ComponentName, StoreName, kebab};
use serde::{Deserialize, Serialize};

use crate::spanned::Spanned;

/// The shape that every app has: all components in one group.
pub const MONOLITH: &str = "monolith";

/// An app: components and how they are linked.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// `[app] name`.
    pub name: String,
    /// `[app] version`.
    pub version: semver::Version,
    /// `[app] health`: the path of a request that a new revision must answer with success before it takes over.
    pub health: Option<Spanned<String>>,
    /// `[components.NAME]`, by name.
    pub components: BTreeMap<ComponentName, Component>,
    /// `[shapes.NAME]`, by name. `monolith` is always among them, written or not.
    pub shapes: BTreeMap<String, Shape>,
    /// `[secrets]`: where each named secret's value comes from.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `[sql.NAME]`: settings of SQL stores.
    pub sql: BTreeMap<StoreName, SqlStoreSettings>,
}

impl App {
    /// An app without a manifest: the one component in `wasm`, which answers every path and has these grants.
    ///
    /// It is named after the file, as far as the file's name can be one.
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

/// `[components.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// Where its bytes come from.
    pub source: Spanned<ComponentSource>,
    /// `routes`: the paths that its HTTP handler answers.
    pub routes: Vec<Spanned<Route>>,
    /// `grants`: what it may reach. Default: nothing.
    pub grants: Grants,
    /// `limits`: its own limits; absent ones have the platform's defaults.
    pub limits: ComponentLimits,
    /// `links`: import → the component that meets it, where several export it.
    pub links: BTreeMap<String, Spanned<ComponentName>>,
    /// `isolate = true`: never fused with another.
    pub isolate: bool,
    /// `idempotent`: interfaces that it exports, or functions of them (`INTERFACE.FUNCTION`), which may be called twice with
    /// the effect of one call. As written: the plan knows what it exports.
    pub idempotent: Vec<Spanned<String>>,
    /// `concurrency = N`: requests that one instance may serve at once. Default 1.
    pub concurrency: u32,
    /// `reuse`: requests that one instance may serve, one after another. The plan knows the default.
    pub reuse: Option<Reuse>,
    /// `compress = true`: its responses are compressed for clients that accept it.
    pub compress: bool,
    /// Where `[components.NAME]` stands in the manifest.
    pub at: Spanned<()>,
}

/// How many requests and calls one instance may serve, one after another. The fewer, the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reuse {
    /// So many.
    Times(u32),
    /// As many as the platform allows.
    Unbounded,
}

impl Reuse {
    /// Every request has an instance of its own.
    pub const FRESH: Self = Self::Times(1);

    /// The number, if there is one.
    #[must_use]
    pub fn times(self) -> Option<u32> {
        match self {
            Self::Times(times) => Some(times),
            Self::Unbounded => None,
        }
    }
}

/// Where a component's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentSource {
    /// `cargo = "DIR"`: a Cargo package built for the guest target.
    Cargo(PathBuf),
    /// `wasm = "FILE"`: a component that is already built.
    Wasm(PathBuf),
    /// `command = "…"` with `wasm = "FILE"`: a shell command, run in the app's folder, that makes the file.
    Command {
        /// The shell command.
        command: String,
        /// The file that it makes.
        wasm: PathBuf,
        /// `inputs`: what it reads, as paths and patterns; `None` for every file of the app's folder.
        inputs: Option<Vec<PathBuf>>,
    },
}

/// A path that a component answers: exact (`/cart`) or prefix (`/static/...`; `/...` is everything).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Route {
    /// This path only.
    Exact(String),
    /// This path and all below it; stored without the trailing `/...` (so `/...` is the empty string).
    Prefix(String),
}

/// What a component may reach through capabilities.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants {
    /// `kv`: key-value stores by name.
    pub kv: Vec<Spanned<StoreName>>,
    /// `sql`: SQL stores by name.
    pub sql: Vec<Spanned<StoreName>>,
    /// `http`: hosts that it may send HTTP requests to.
    pub http: Vec<Spanned<OutboundHost>>,
    /// `config`: values for `wasi:config` and the environment.
    pub config: BTreeMap<String, String>,
    /// `secrets`: names out of `[secrets]`.
    pub secrets: Vec<Spanned<String>>,
    /// `dirs`: directories of the host.
    pub dirs: Vec<Spanned<DirGrant>>,
    /// Where `grants` stands; the component's header where there are none.
    pub at: Spanned<()>,
}

/// `"HOST"`, `"HOST:PORT"`, `"*.example.com"`, `"*"`. Loopback and private addresses are reached only by a grant that names
/// a loopback name or an IP literal, or has `private = true` (`{ host = "db.internal", private = true }`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundHost {
    /// Lower-case host pattern: a name, `*.suffix`, `*` or an IP address.
    pub host: String,
    /// Any port where absent.
    pub port: Option<u16>,
    /// May the name resolve to loopback, link-local or private addresses?
    pub private: bool,
    /// PEM file with certificate authorities that are trusted for it, beside the public ones.
    #[serde(default)]
    pub authority: Option<PathBuf>,
}

/// `{ host = "DIR", guest = "/path", write = false }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirGrant {
    /// Folder of the host, relative to the manifest's folder.
    pub host: PathBuf,
    /// The absolute path that the guest sees.
    pub guest: String,
    /// Read-only unless true.
    pub write: bool,
}

/// Hard limits. `None` is the platform's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ComponentLimits {
    /// `memory`: bytes of linear memory of one instance (`"64MiB"`).
    pub memory_bytes: Option<u64>,
    /// `request_deadline`: from the request's head to the last byte of its answer (`"30s"`).
    pub request_deadline: Option<Duration>,
    /// `stream`, or `stream.max`: as `request_deadline`, of a response that is a stream of server-sent events (`"1h"`).
    pub stream_max: Option<Duration>,
    /// `stream.idle`: how long such a stream may send nothing (`"60s"`).
    pub stream_idle: Option<Duration>,
    /// `body`: bytes of a request's body (`"10MiB"`).
    pub body_bytes: Option<u64>,
    /// Where `limits` stands; the component's header where there are none.
    pub at: Option<Spanned<()>>,
}

impl ComponentLimits {
    /// Memory of one instance where the manifest says nothing: 128 MiB.
    pub const MEMORY_BYTES_DEFAULT: u64 = 128 << 20;
    /// Deadline of a request where the manifest says nothing: 30 seconds.
    pub const REQUEST_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
    /// Longest time of a stream of events where the manifest says nothing: one hour.
    pub const STREAM_MAX_DEFAULT: Duration = Duration::from_secs(3600);
    /// Longest silence of a stream of events where the manifest says nothing: 60 seconds.
    pub const STREAM_IDLE_DEFAULT: Duration = Duration::from_secs(60);
    /// Size of a request's body where the manifest says nothing: 10 MiB.
    pub const BODY_BYTES_DEFAULT: u64 = 10 << 20;

    /// `memory`, or the platform's default.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.unwrap_or(Self::MEMORY_BYTES_DEFAULT)
    }

    /// `request_deadline`, or the platform's default.
    #[must_use]
    pub fn request_deadline(&self) -> Duration {
        self.request_deadline.unwrap_or(Self::REQUEST_DEADLINE_DEFAULT)
    }

    /// `stream.max`, or the platform's default.
    #[must_use]
    pub fn stream_max(&self) -> Duration {
        self.stream_max.unwrap_or(Self::STREAM_MAX_DEFAULT)
    }

    /// `stream.idle`, or the platform's default.
    #[must_use]
    pub fn stream_idle(&self) -> Duration {
        self.stream_idle.unwrap_or(Self::STREAM_IDLE_DEFAULT)
    }

    /// `body`, or the platform's default.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.unwrap_or(Self::BODY_BYTES_DEFAULT)
    }
}

/// `[shapes.NAME]`: groups of components, each of which is a process. Components in no group are in a group of their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// `groups.NAME = ["component", …]`; all components in [`MONOLITH`] where `groups` was not written, each in a group of its own
    /// name where it is `"each"`.
    pub groups: BTreeMap<String, Vec<Spanned<ComponentName>>>,
    /// `isolate = ["component", …]` or `"all"`: components isolated in this shape only.
    pub isolate: Vec<Spanned<ComponentName>>,
}

/// Where a secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// `{ env = "NAME" }`.
    Env(String),
    /// `{ file = "PATH" }`; a final newline is cut off.
    File(PathBuf),
}

/// `[sql.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlStoreSettings {
    /// `migrations = "DIR"`: `.sql` files, applied once each, in the order of their names.
    pub migrations: Option<PathBuf>,
    /// Where `migrations` stands in the manifest.
    #[serde(skip)]
    pub migrations_at: Span,
    /// `statement_timeout = "5s"`.
    pub statement_timeout: Option<Duration>,
}

impl SqlStoreSettings {
    /// Time limit of a statement where the manifest says nothing: 5 seconds.
    pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

    /// `statement_timeout`, or the platform's default.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout.unwrap_or(Self::STATEMENT_TIMEOUT_DEFAULT)
    }
}
