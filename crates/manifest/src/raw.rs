//! The keys of a manifest: the only place that defines a key, its type and its meaning.
//!
//! `serde` reads these types after `structure.rs` has checked the text against their schema, so reading them cannot
//! fail because of what the author wrote. Every key is optional here, required ones too: `structure.rs` reports missing
//! keys and removes wrong ones, and the rest is still read, so that one run finds many errors. The doc comments are the
//! descriptions in the schema and in the reference.

use std::borrow::Cow;
use std::collections::BTreeMap;

use isomer_ids::{ENVIRONMENT_PATTERN, NAME_CHARS_MAX, NAME_PATTERN, SECRET_NAME_PATTERN};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::keyword::{Keyword, KeywordOr};
use crate::model::{ComponentLimits, SqlStoreSettings};
use crate::spanned::Spanned;
use crate::units::{DURATION_UNITS, SIZE_UNITS, pattern, show_duration, show_size};
use crate::{directory, route};

/// The maximum of `concurrency`.
pub(crate) const CONCURRENCY_MAX: u32 = 10_000;

/// The maximum of `reuse`.
pub(crate) const REUSE_MAX: u32 = 10_000;

/// The maximum number of folders that a component may be granted: each is open while it runs.
pub(crate) const DIRS_MAX: usize = 32;

/// An app: its components and how they are connected.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "isomer.toml")]
pub(crate) struct RawManifest {
    /// The app's name and version.
    #[schemars(required)]
    pub(crate) app: Option<RawApp>,
    /// The components. The key is the name that the manifest and the logs use.
    #[schemars(required, extend("minProperties" = 1))]
    pub(crate) components: Option<BTreeMap<Spanned<NameText>, RawComponent>>,
    /// Named topologies: which components run together. `monolith`, all components in one group, always exists.
    #[serde(default)]
    pub(crate) shapes: BTreeMap<Spanned<NameText>, RawShape>,
    /// The sources of secrets' values. A component needs a grant to read a secret.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<Spanned<SecretText>, Spanned<RawSecret>>,
    /// Settings of SQL stores. A store without settings needs no table here; it is created by a grant.
    #[serde(default)]
    pub(crate) sql: BTreeMap<Spanned<NameText>, RawSqlStore>,
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
    /// The app's version (semantic versioning).
    #[schemars(required)]
    pub(crate) version: Option<Spanned<VersionText>>,
    /// The path of the app's health check. A new revision takes over on a node only after it answered a `GET` for this
    /// path with a status of 200 to 299.
    pub(crate) health: Option<Spanned<HealthText>>,
}

/// A component. It has one source: `cargo`, or `wasm`, or `wasm` with the `command` that makes it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "component")]
#[schemars(extend("oneOf" = json!([{ "required": ["cargo"] }, { "required": ["wasm"] }])))]
#[schemars(extend("dependencies" = json!({ "command": ["wasm"], "inputs": ["command"] })))]
pub(crate) struct RawComponent {
    /// Folder of a Cargo package, which `isomer build` builds for the guest target. Paths are relative to the manifest.
    pub(crate) cargo: Option<Spanned<PathText>>,
    /// File of a component that is already built, or that `command` makes.
    #[schemars(extend("examples" = ["cart.wasm"]))]
    pub(crate) wasm: Option<Spanned<PathText>>,
    /// Shell command that makes the file named by `wasm`. It runs in the manifest's folder.
    pub(crate) command: Option<Spanned<CommandText>>,
    /// The inputs of `command`, relative to the manifest: files, folders with everything below them, and patterns (`*`,
    /// `**`, `?`). The command runs again when one of them changes. Default: every file of the manifest's folder.
    #[schemars(extend("examples" = [["src", "package.json", "assets/**/*.png"]]))]
    pub(crate) inputs: Option<Vec<Spanned<PathText>>>,
    /// Routes that the component's HTTP handler serves: `/cart` is one path, `/static/...` is that path and all below
    /// it, `/...` is everything. The longest matching route gets a request.
    #[serde(default)]
    pub(crate) routes: Vec<Spanned<RouteText>>,
    /// What the component may reach. Default: nothing.
    pub(crate) grants: Option<RawGrants>,
    /// Hard limits.
    pub(crate) limits: Option<RawLimits>,
    /// For an import that several components export: the component to use, by import.
    #[serde(default)]
    pub(crate) links: BTreeMap<Spanned<ImportText>, Spanned<NameText>>,
    /// Never fuse this component with another, in any shape. For code that you do not trust.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) isolate: bool,
    /// Exported functions that are idempotent: calling one twice has the same effect as calling it once. A call that
    /// was lost on its way to another process is repeated. Names an interface, which means all its functions, or one
    /// function of it; the version may be left out.
    #[serde(default)]
    pub(crate) idempotent: Vec<Spanned<FunctionText>>,
    /// Number of requests that one instance may serve at once. More than 1 is for components that only do asynchronous
    /// I/O: a trap fails all of them.
    #[schemars(range(min = 1, max = CONCURRENCY_MAX), extend("default" = 1))]
    pub(crate) concurrency: Option<u32>,
    /// Number of requests and calls that one instance may serve, one after another: `true` for as many as the platform
    /// allows, `false` for one, or a number. Default: one for HTTP handlers of WASI 0.2, as many as the platform allows
    /// for all others. For components that share an instance, the lowest number applies.
    pub(crate) reuse: Option<RawReuse>,
    /// Compress responses (zstd, gzip) for clients that accept it: text, JSON, XML, JavaScript, SVG, WebAssembly and
    /// fonts of 1 KiB or more. Streams of events and compressed content are never compressed. Do not use it for pages
    /// that contain both a secret and text that others can choose: the compressed length reveals the secret.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) compress: bool,
}

/// How many requests an instance serves.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawReuse {
    Switch(bool),
    Times(#[schemars(range(min = 1, max = REUSE_MAX))] u32),
}

/// What a component may reach. Default: nothing.
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
    /// Hosts to which it may send HTTP requests: `"api.example.com"`, `"api.example.com:443"`, `"*.example.com"`,
    /// `"*"`, or a table. A name that resolves to a loopback or private address is refused unless `private` is set.
    #[serde(default)]
    pub(crate) http: Vec<Spanned<RawHost>>,
    /// Values in its environment and in `wasi:config`.
    #[serde(default)]
    pub(crate) config: BTreeMap<Spanned<EnvironmentText>, Spanned<String>>,
    /// Secrets (`isomer:secrets`), by their names in `[secrets]`.
    #[serde(default)]
    pub(crate) secrets: Vec<Spanned<SecretText>>,
    /// Folders of the host, at most 32.
    #[serde(default)]
    #[schemars(length(max = DIRS_MAX))]
    pub(crate) dirs: Vec<Spanned<RawDirectory>>,
}

/// A host for outbound HTTP, or a table with options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawHost {
    Text(HostText),
    Table(RawHostTable),
}

/// A host for outbound HTTP.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawHostTable {
    /// The host, written as above.
    #[schemars(required)]
    pub(crate) host: Option<HostText>,
    /// Whether the name may resolve to loopback, link-local or private addresses.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) private: bool,
    /// PEM file with the certificate of an authority that is trusted for this host in addition to the public ones: for
    /// servers of a private network.
    #[schemars(extend("examples" = ["certificates/company.pem"]))]
    pub(crate) authority: Option<PathText>,
}

/// A folder of the host that a component sees.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawDirectory {
    /// The folder of the host.
    #[schemars(required)]
    #[schemars(extend("examples" = ["data"]))]
    pub(crate) host: Option<Spanned<PathText>>,
    /// The absolute path at which the component sees it.
    #[schemars(required)]
    pub(crate) guest: Option<Spanned<GuestText>>,
    /// Whether the component may write to it.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) write: bool,
}

/// Hard limits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawLimits {
    /// Linear memory of one instance.
    #[schemars(extend("default" = show_size(ComponentLimits::MEMORY_BYTES_DEFAULT)))]
    pub(crate) memory: Option<Spanned<SizeText>>,
    /// Time from a request's head to the last byte of the response. A stream of server-sent events must begin within
    /// it.
    #[schemars(extend("default" = show_duration(ComponentLimits::REQUEST_DEADLINE_DEFAULT)))]
    pub(crate) request_deadline: Option<Spanned<DurationText>>,
    /// Time from a request's head to the end of a response that is a stream of server-sent events
    /// (`text/event-stream`); or a table with this time (`max`) and the time in which nothing may be sent (`idle`,
    /// default 60 s).
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_MAX_DEFAULT)))]
    pub(crate) stream: Option<Spanned<RawStream>>,
    /// Size of a request's body.
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
    /// Time from the request's head to the end of the stream.
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_MAX_DEFAULT)))]
    pub(crate) max: Option<DurationText>,
    /// Time in which nothing may be sent. A comment line (`:`) from time to time keeps a stream without events open.
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_IDLE_DEFAULT)))]
    pub(crate) idle: Option<DurationText>,
}

/// A named topology. Its groups are processes. A shape without `groups` has one group of all components.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "shape")]
pub(crate) struct RawShape {
    /// The components of each group, by the group's name. A component that no group names is a group of its own.
    /// `"each"` makes every component a group of its own.
    pub(crate) groups: Option<Spanned<KeywordOr<Each, RawGroups>>>,
    /// Components that are never fused with another one in this shape, or `"all"`.
    #[serde(default)]
    pub(crate) isolate: Spanned<KeywordOr<All, Vec<Spanned<NameText>>>>,
}

/// Groups by name.
pub(crate) type RawGroups = BTreeMap<Spanned<NameText>, Vec<Spanned<NameText>>>;

/// The keyword for a group for each component.
#[derive(Debug)]
pub(crate) enum Each {}

impl Keyword for Each {
    const KEYWORD: &'static str = "each";
}

/// The keyword for every component.
#[derive(Debug)]
pub(crate) enum All {}

impl Keyword for All {
    const KEYWORD: &'static str = "all";
}

/// The source of a secret's value: one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
#[schemars(extend("oneOf" = json!([{ "required": ["env"] }, { "required": ["file"] }])))]
pub(crate) struct RawSecret {
    /// An environment variable of the node.
    pub(crate) env: Option<Spanned<EnvironmentText>>,
    /// A file. A final newline is removed.
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
    /// Time limit of one statement.
    #[schemars(extend("default" = show_duration(SqlStoreSettings::STATEMENT_TIMEOUT_DEFAULT)))]
    pub(crate) statement_timeout: Option<Spanned<DurationText>>,
}

/// Kinds of text: name, rule for editors, example. The complete rules are checked when the manifest is lowered, so that
/// the message can say which rule is broken.
macro_rules! text_types {
    ($($(#[$doc:meta])* $type:ident: $title:literal, $rule:expr, $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $type(pub(crate) String);

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!({ "type": "string", "title": $title, "examples": [$example] });
                let rules: serde_json::Value = $rule;
                for (key, rule) in rules.as_object().into_iter().flatten() {
                    schema.insert(key.clone(), rule.clone());
                }
                schema
            }
        }
    )*};
}
pub(crate) use text_types;

text_types! {
    /// A kebab name.
    NameText: "name", json!({ "pattern": NAME_PATTERN, "maxLength": NAME_CHARS_MAX }), "cart";
    /// The name of a secret.
    SecretText: "secret name", json!({ "pattern": SECRET_NAME_PATTERN }), "payment-key";
    /// The name of an environment variable.
    EnvironmentText: "environment name", json!({ "pattern": ENVIRONMENT_PATTERN }), "PAYMENT_KEY";
    /// The id of an import.
    ImportText: "import", json!({ "pattern": "." }), "shop:boutique/catalog";
    /// An interface, or a function of one.
    FunctionText: "function", json!({ "pattern": "." }), "shop:boutique/catalog.get-product";
    /// A semantic version.
    VersionText: "version", json!({ "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+" }), "0.1.0";
    /// A path of the host.
    PathText: "path", json!({ "minLength": 1 }), "components/cart";
    /// A shell command.
    CommandText: "command", json!({ "minLength": 1 }), "npm run build";
    /// A route.
    RouteText: "route", json!({ "pattern": route::ROUTE_PATTERN }), "/cart";
    /// The path of a request.
    HealthText: "path of a request", json!({ "pattern": route::PATH_PATTERN }), "/health";
    /// A host for outbound HTTP.
    HostText: "host", json!({ "minLength": 1, "pattern": "^[^/]+$" }), "api.example.com";
    /// A path of the guest.
    GuestText: "absolute path", json!({ "pattern": directory::GUEST_PATTERN }), "/data";
    /// A number of bytes.
    SizeText: "size", json!({ "pattern": pattern(SIZE_UNITS) }), "64MiB";
    /// A time.
    DurationText: "duration", json!({ "pattern": pattern(DURATION_UNITS) }), "30s";
}
