//! The keys of a manifest. Only this file and `raw_shapes.rs` define a key, its type and its meaning.
//!
//! `serde` reads these types after `structure.rs` has removed everything that does not match their schema, so
//! deserializing does not fail, whatever a manifest contains. Every key is optional here, even a required one, because
//! `structure.rs` reports missing keys, removes invalid ones, and lets the rest be read, so that one run finds many
//! errors. The doc comments are the descriptions in the schema and in the reference.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::model::{ComponentLimits, SqlStoreSettings};
use crate::raw_shapes::RawShape;
use crate::spanned::Spanned;
use crate::texts::{
    CommandText, CookieText, DurationText, EnvironmentText, FunctionText, GuestText, HealthText, HostText, ImportText,
    NameText, ParameterText, PathText, RouteText, SecretText, SizeText, VersionText,
};
use crate::units::{show_duration, show_size};

/// The maximum value of the key `concurrency`.
pub(crate) const CONCURRENCY_MAX: u32 = 10_000;

/// The maximum value of the key `reuse`.
pub(crate) const REUSE_MAX: u32 = 10_000;

/// The maximum value of the key `samples_per_second`.
pub(crate) const PER_SECOND_MAX: u32 = 1_000_000;

/// The maximum number of folders that are granted to one component. Each folder is open while the component runs.
pub(crate) const DIRS_MAX: usize = 32;

/// An app: its components and how they are connected.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "isomer.toml")]
pub(crate) struct RawManifest {
    /// The app's name and version.
    #[schemars(required)]
    pub(crate) app: Option<RawApp>,
    /// The components, by name. The manifest and the logs use these names.
    #[schemars(required, extend("minProperties" = 1))]
    pub(crate) components: Option<BTreeMap<Spanned<NameText>, RawComponent>>,
    /// Named arrangements of the components: which components run together. The shape `monolith`, with all components
    /// in one group, always exists.
    #[serde(default)]
    pub(crate) shapes: BTreeMap<Spanned<NameText>, RawShape>,
    /// The secrets, by name, with the sources of their values. A component can read only the secrets that are granted
    /// to the component.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<Spanned<SecretText>, Spanned<RawSecret>>,
    /// Settings of SQL stores, by the store's name. A grant is enough to create a store, so a store without settings
    /// needs no table here.
    #[serde(default)]
    pub(crate) sql: BTreeMap<Spanned<NameText>, RawSqlStore>,
    /// Which requests of the app are traced in full. On a node, the node's limits apply to these settings.
    pub(crate) telemetry: Option<RawSampling>,
    /// How the app recognises its visitors, in shapes with a browser group.
    pub(crate) session: Option<RawSession>,
}

/// How the app recognises its visitors, in shapes with a browser group.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawSession {
    /// The name of the app's cookie that identifies a visitor. In a shape with a browser group, the front door sets the
    /// cookie's value in the requests that components receive: it is the identity of the visitor's session, 32
    /// hexadecimal digits. A value that a client sends is dropped, so the value can be trusted. A response that removes
    /// or changes the cookie starts a new session. Other shapes ignore this key.
    #[schemars(required)]
    pub(crate) cookie: Option<Spanned<CookieText>>,
}

/// Which requests of the app are traced in full. On a node, the node's limits apply to these settings.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawSampling {
    /// The fraction of the requests that are traced, from 0 to 1. Default: 1 for `isomer run` and `isomer dev`, and
    /// the node's own setting (0.01) on a node.
    #[schemars(range(min = 0, max = 1))]
    pub(crate) sample: Option<Spanned<f64>>,
    /// The maximum number of requests that are traced in a second because of `sample`. Default: 200 for `isomer run`
    /// and `isomer dev`, and the node's own setting (50) on a node.
    #[schemars(range(min = 0, max = PER_SECOND_MAX))]
    pub(crate) samples_per_second: Option<u32>,
    /// The duration from which a request that is not traced in full is kept as slow.
    #[schemars(extend("default" = "1s"))]
    pub(crate) slow: Option<Spanned<DurationText>>,
}

/// The app's name and version.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawApp {
    /// The app's name.
    #[schemars(required)]
    #[schemars(extend("examples" = ["shop"]))]
    pub(crate) name: Option<Spanned<NameText>>,
    /// The app's version, as in semantic versioning.
    #[schemars(required)]
    pub(crate) version: Option<Spanned<VersionText>>,
    /// The path of the app's health check. On a node, a new revision takes over only after it responds to a `GET`
    /// request for this path with a status of 200 to 299.
    pub(crate) health: Option<Spanned<HealthText>>,
}

/// A component. It has one source: `cargo`, or `wasm`, or `wasm` with the `command` that makes this file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "component")]
#[schemars(extend("oneOf" = json!([{ "required": ["cargo"] }, { "required": ["wasm"] }])))]
#[schemars(extend("dependencies" = json!({ "command": ["wasm"], "inputs": ["command"] })))]
pub(crate) struct RawComponent {
    /// Folder of a Cargo package, which `isomer build` builds for the guest target. Paths are relative to the manifest.
    pub(crate) cargo: Option<Spanned<PathText>>,
    /// File of a component that is already built or that `command` makes, or a component in a registry:
    /// `oci://registry.example/team/cart:1.0.0`. The file `isomer.lock` keeps the digest to which a tag referred first.
    #[schemars(extend("examples" = ["cart.wasm"]))]
    pub(crate) wasm: Option<Spanned<PathText>>,
    /// Shell command that makes the file `wasm`. It runs in the manifest's folder.
    pub(crate) command: Option<Spanned<CommandText>>,
    /// The inputs of `command`, relative to the manifest: files, folders with everything in them, and patterns (`*`,
    /// `**`, `?`). The command runs again when an input changes. Default: every file in the manifest's folder.
    #[schemars(extend("examples" = [["src", "package.json", "assets/**/*.png"]]))]
    pub(crate) inputs: Option<Vec<Spanned<PathText>>>,
    /// Routes that the component's HTTP handler serves: `/cart` is one path, `/static/...` is that path and all paths
    /// below it, `/...` is every path. If several routes match a request, the longest one is used.
    #[serde(default)]
    pub(crate) routes: Vec<Spanned<RouteText>>,
    /// The resources that the component may reach. Default: none.
    pub(crate) grants: Option<RawGrants>,
    /// Maximum memory, time and request size.
    pub(crate) limits: Option<RawLimits>,
    /// The component that provides an import, by the import's name. Needed if several components export the interface.
    #[serde(default)]
    pub(crate) links: BTreeMap<Spanned<ImportText>, Spanned<NameText>>,
    /// Whether the component is never fused with another component, in any shape. Use it for code that you do not
    /// trust.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) isolate: bool,
    /// Exported functions that are idempotent: calling one twice has the same effect as calling it once. If a call to
    /// such a function in another process is lost, the call is repeated. An entry is one function of an interface, or
    /// an interface with all its functions. The interface's version may be left out.
    #[serde(default)]
    pub(crate) idempotent: Vec<Spanned<FunctionText>>,
    /// Exported functions that a component in a tab may call over the network, in shapes with a browser group: see
    /// `place`. Anyone who can open the app's pages can call these functions, with any arguments. An entry is one function
    /// of an interface, an interface with all its functions, or a table. Default: none.
    #[serde(default)]
    pub(crate) exposed: Vec<Spanned<RawExposed>>,
    /// Maximum number of requests that one instance serves at the same time. Use more than 1 only for components that
    /// do nothing but asynchronous I/O. If one request traps, all requests of the instance fail.
    #[schemars(range(min = 1, max = CONCURRENCY_MAX), extend("default" = 1))]
    pub(crate) concurrency: Option<u32>,
    /// Maximum number of requests and calls that one instance serves, one after another: `true` for as many as the
    /// platform allows, `false` for one, or a number. Default: `false` for HTTP handlers of WASI 0.2, `true` for all
    /// other components. For components that share an instance, the lowest number applies.
    pub(crate) reuse: Option<RawReuse>,
    /// Whether responses are compressed (zstd, gzip) for clients that accept compression. Text, JSON, XML, JavaScript,
    /// SVG, WebAssembly and fonts of 1 KiB or more are compressed. Streams of events and content that is already
    /// compressed are not. Do not enable this for pages that contain both a secret and text that an attacker can
    /// choose, because the compressed length reveals the secret.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) compress: bool,
}

/// Functions that a component in a tab may call, or a table with options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawExposed {
    Text(FunctionText),
    Table(RawExposedTable),
}

/// Functions that a component in a tab may call, with options.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawExposedTable {
    /// One function of an interface, or an interface with all its functions. The interface's version may be left out.
    #[schemars(required)]
    pub(crate) functions: Option<FunctionText>,
    /// The parameter that identifies the visitor: a parameter of type `string` of each of the functions. A call from a
    /// tab is refused unless its value is the identity of the tab's session.
    #[schemars(extend("examples" = ["session-id"]))]
    pub(crate) session: Option<ParameterText>,
}

/// The value of `reuse`: a switch or a number.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawReuse {
    Switch(bool),
    Times(#[schemars(range(min = 1, max = REUSE_MAX))] u32),
}

/// The resources that the component may reach. Default: none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawGrants {
    /// Key-value stores (`wasi:keyvalue`), by name. A store is created when it is first used.
    #[serde(default)]
    pub(crate) kv: Vec<Spanned<NameText>>,
    /// SQL stores (`isomer:sql`), by name.
    #[serde(default)]
    pub(crate) sql: Vec<Spanned<NameText>>,
    /// Hosts to which the component may send HTTP requests: `"api.example.com"`, `"api.example.com:443"`,
    /// `"*.example.com"`, `"*"`, or a table. A name that resolves to a loopback or private address is refused unless
    /// `private` is set.
    #[serde(default)]
    pub(crate) http: Vec<Spanned<RawHost>>,
    /// Values that the component reads as environment variables and through `wasi:config`.
    #[serde(default)]
    pub(crate) config: BTreeMap<Spanned<EnvironmentText>, Spanned<String>>,
    /// Secrets (`isomer:secrets`) that the component may read, by their names in `[secrets]`.
    #[serde(default)]
    pub(crate) secrets: Vec<Spanned<SecretText>>,
    /// Folders of the host that the component may open, at most 32.
    #[serde(default)]
    #[schemars(length(max = DIRS_MAX))]
    pub(crate) dirs: Vec<Spanned<RawDirectory>>,
}

/// A host to which a component may send HTTP requests, or a table with options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawHost {
    Text(HostText),
    Table(RawHostTable),
}

/// A host to which a component may send HTTP requests, with options.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawHostTable {
    /// The host, for example `"api.example.com"` or `"*.example.com"`.
    #[schemars(required)]
    pub(crate) host: Option<HostText>,
    /// Whether the host's name may resolve to loopback, link-local or private addresses.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) private: bool,
    /// PEM file with the certificate of an authority that is trusted for this host in addition to the public
    /// authorities. Use it for servers of a private network.
    #[schemars(extend("examples" = ["certificates/company.pem"]))]
    pub(crate) authority: Option<PathText>,
}

/// A folder of the host that a component may open.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawDirectory {
    /// The folder on the host, relative to the manifest.
    #[schemars(required)]
    #[schemars(extend("examples" = ["data"]))]
    pub(crate) host: Option<Spanned<PathText>>,
    /// The absolute path at which the component sees the folder.
    #[schemars(required)]
    pub(crate) guest: Option<Spanned<GuestText>>,
    /// Whether the component may write to the folder.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) write: bool,
}

/// Maximum memory, time and request size.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawLimits {
    /// Maximum linear memory of one instance.
    #[schemars(extend("default" = show_size(ComponentLimits::MEMORY_BYTES_DEFAULT)))]
    pub(crate) memory: Option<Spanned<SizeText>>,
    /// Maximum time from the end of a request's head to the last byte of the response. A stream of server-sent events
    /// must begin within this time.
    #[schemars(extend("default" = show_duration(ComponentLimits::REQUEST_DEADLINE_DEFAULT)))]
    pub(crate) request_deadline: Option<Spanned<DurationText>>,
    /// Maximum time from the end of a request's head to the end of a response that is a stream of server-sent events
    /// (`text/event-stream`). A table sets this time (`max`) and the maximum time for which the stream may send nothing
    /// (`idle`, default 60 s).
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_MAX_DEFAULT)))]
    pub(crate) stream: Option<Spanned<RawStream>>,
    /// Maximum size of a request's body.
    #[schemars(extend("default" = show_size(ComponentLimits::BODY_BYTES_DEFAULT)))]
    pub(crate) body: Option<Spanned<SizeText>>,
}

/// Time limits of a stream of server-sent events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawStream {
    Max(DurationText),
    Table(RawStreamTable),
}

/// Time limits of a stream of server-sent events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawStreamTable {
    /// Maximum time from the end of the request's head to the end of the stream.
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_MAX_DEFAULT)))]
    pub(crate) max: Option<DurationText>,
    /// Maximum time for which the stream may send nothing. To keep a stream without events open, an app can send a
    /// comment line (`:`) periodically.
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_IDLE_DEFAULT)))]
    pub(crate) idle: Option<DurationText>,
}

/// The source of a secret's value: either `env` or `file`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
#[schemars(extend("oneOf" = json!([{ "required": ["env"] }, { "required": ["file"] }])))]
pub(crate) struct RawSecret {
    /// The name of the environment variable that contains the secret. The variable is read from the environment of the
    /// `isomer` process. A node never reads the variable: it uses the tenant's secret.
    pub(crate) env: Option<Spanned<EnvironmentText>>,
    /// A file that contains the secret. A final newline is removed. A node uses the file only if the tenant has no
    /// secret of this name and the file was deployed with the app.
    #[schemars(extend("examples" = ["keys/payment"]))]
    pub(crate) file: Option<Spanned<PathText>>,
}

/// Settings of one SQL store.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "SQL store")]
pub(crate) struct RawSqlStore {
    /// Folder of `.sql` files, each applied once, in the order of their names.
    #[schemars(extend("examples" = ["migrations"]))]
    pub(crate) migrations: Option<Spanned<PathText>>,
    /// Maximum duration of one statement.
    #[schemars(extend("default" = show_duration(SqlStoreSettings::STATEMENT_TIMEOUT_DEFAULT)))]
    pub(crate) statement_timeout: Option<Spanned<DurationText>>,
}
