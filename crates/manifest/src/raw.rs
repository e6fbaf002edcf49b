//! The keys of a manifest: the only place where a key, its type and its meaning are written down.
//!
//! `serde` reads these types after `structure.rs` has checked the text against their schema, so reading them cannot fail on
//! what a person wrote. Everything that may be left out is optional here, required keys too: `structure.rs` reports what
//! is missing and takes out what is wrong, and the rest is still read, so that one run finds many errors.
//! Doc comments are the descriptions in the schema and in the reference.

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

/// The most requests that one instance can be told to serve at once.
pub(crate) const CONCURRENCY_MAX: u32 = 10_000;

/// The most that `reuse` can be.
pub(crate) const REUSE_MAX: u32 = 10_000;

/// Folders that a component may be granted: each is open while it runs.
pub(crate) const DIRS_MAX: usize = 32;

/// An app: components and how they are linked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "isomer.toml")]
pub(crate) struct RawManifest {
    /// What the app is called.
    #[schemars(required)]
    pub(crate) app: Option<RawApp>,
    /// The components, each under the name by which the manifest and the logs speak of it.
    #[schemars(required, extend("minProperties" = 1))]
    pub(crate) components: Option<BTreeMap<Spanned<NameText>, RawComponent>>,
    /// Named topologies: which components are placed together. `monolith`, all components in one group, always exists.
    #[serde(default)]
    pub(crate) shapes: BTreeMap<Spanned<NameText>, RawShape>,
    /// Where the values of secrets come from. A component gets a secret by a grant.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<Spanned<SecretText>, Spanned<RawSecret>>,
    /// Settings of SQL stores. A store without settings needs no table here; a grant makes it.
    #[serde(default)]
    pub(crate) sql: BTreeMap<Spanned<NameText>, RawSqlStore>,
}

/// What the app is called.
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
    /// A path that says whether the app works. A revision that is deployed to a node takes over only after a `GET` of it was answered
    /// with a status of 200 to 299.
    pub(crate) health: Option<Spanned<HealthText>>,
}

/// One component. It has one source: `cargo`, or `wasm`, or `wasm` with the `command` that makes it.
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
    /// Shell command, run in the manifest's folder, that makes the file named by `wasm`.
    pub(crate) command: Option<Spanned<CommandText>>,
    /// What `command` reads, relative to the manifest: files, folders with all that is below them, and patterns (`*`, `**`, `?`). It runs
    /// again when one of these changes. Default: every file of the manifest's folder.
    #[schemars(extend("examples" = [["src", "package.json", "assets/**/*.png"]]))]
    pub(crate) inputs: Option<Vec<Spanned<PathText>>>,
    /// Paths that the component's HTTP handler answers: `/cart` is one path, `/static/...` is that path and all below it,
    /// `/...` is everything. The longest route that matches a request gets it.
    #[serde(default)]
    pub(crate) routes: Vec<Spanned<RouteText>>,
    /// What the component may reach. Default: nothing.
    pub(crate) grants: Option<RawGrants>,
    /// Hard limits.
    pub(crate) limits: Option<RawLimits>,
    /// For an import that several components export: the component that meets it, by import.
    #[serde(default)]
    pub(crate) links: BTreeMap<Spanned<ImportText>, Spanned<NameText>>,
    /// Never fuse this component with another, in any shape. For code that you do not trust.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) isolate: bool,
    /// Exported functions that may be called twice with the effect of one call: a call of theirs that was lost on its way to another
    /// process is sent again. An interface, which means all of its functions, or one function of it; the version may be left out.
    #[serde(default)]
    pub(crate) idempotent: Vec<Spanned<FunctionText>>,
    /// Requests that one instance may serve at once. More than 1 is for components that do only asynchronous I/O: a trap
    /// costs all of them.
    #[schemars(range(min = 1, max = CONCURRENCY_MAX), extend("default" = 1))]
    pub(crate) concurrency: Option<u32>,
    /// How many requests and calls one instance may serve, one after another: `true` for as many as the platform allows, `false` for one,
    /// or a number. Where nothing is said: one for HTTP handlers of WASI 0.2, as many as the platform allows for all others. Of components
    /// that share an instance, the lowest number holds.
    pub(crate) reuse: Option<RawReuse>,
    /// Compress responses (zstd, gzip) for clients that accept it: text, JSON, XML, JavaScript, SVG, WebAssembly and fonts of 1 KiB and more.
    /// Never streams of events, nor what is compressed already. Not for pages that show a secret beside something that others can choose:
    /// their length gives the secret away.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) compress: bool,
}

/// How often an instance is used again.
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
    /// Key-value stores (`wasi:keyvalue`), by name. A store is made when it is first used.
    #[serde(default)]
    pub(crate) kv: Vec<Spanned<NameText>>,
    /// SQL stores (`isomer:sql`), by name.
    #[serde(default)]
    pub(crate) sql: Vec<Spanned<NameText>>,
    /// Hosts to which it may send HTTP requests: `"api.example.com"`, `"api.example.com:443"`, `"*.example.com"`, `"*"`, or a
    /// table. A name that resolves to a loopback or private address is refused unless `private` is set.
    #[serde(default)]
    pub(crate) http: Vec<Spanned<RawHost>>,
    /// Values that it finds in its environment and in `wasi:config`.
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

/// A host for outbound HTTP, with or without more said about it.
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
    /// May the name resolve to loopback, link-local or private addresses?
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub(crate) private: bool,
    /// PEM file with the certificate of an authority that is trusted for this host, beside the public ones: for servers of a private
    /// network.
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
    /// May it be written to?
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
    /// Time from a request's head to the last byte of its answer. A stream of server-sent events has to begin in it.
    #[schemars(extend("default" = show_duration(ComponentLimits::REQUEST_DEADLINE_DEFAULT)))]
    pub(crate) request_deadline: Option<Spanned<DurationText>>,
    /// Time from a request's head to the end of its answer where that is a stream of server-sent events (`text/event-stream`); or a
    /// table of this (`max`) and of the time in which nothing may be sent (`idle`, 60 s where it is absent).
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_MAX_DEFAULT)))]
    pub(crate) stream: Option<Spanned<RawStream>>,
    /// Size of a request's body.
    #[schemars(extend("default" = show_size(ComponentLimits::BODY_BYTES_DEFAULT)))]
    pub(crate) body: Option<Spanned<SizeText>>,
}

/// How long a stream of server-sent events may take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawStream {
    Max(DurationText),
    Table(RawStreamTable),
}

/// How long a stream of server-sent events may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawStreamTable {
    /// From the request's head to the stream's end.
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_MAX_DEFAULT)))]
    pub(crate) max: Option<DurationText>,
    /// While nothing is sent. A comment line (`:`) now and then keeps a stream alive that has no events.
    #[schemars(extend("default" = show_duration(ComponentLimits::STREAM_IDLE_DEFAULT)))]
    pub(crate) idle: Option<DurationText>,
}

/// A named topology: its groups are processes. A shape without `groups` has one, of all components.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "shape")]
pub(crate) struct RawShape {
    /// The components of each group, by the group's name; components in none are in a group of their own. `"each"` puts every
    /// component into a group of its own.
    pub(crate) groups: Option<Spanned<KeywordOr<Each, RawGroups>>>,
    /// Components that are never fused with another in this shape; `"all"` of them.
    #[serde(default)]
    pub(crate) isolate: Spanned<KeywordOr<All, Vec<Spanned<NameText>>>>,
}

/// Groups by name.
pub(crate) type RawGroups = BTreeMap<Spanned<NameText>, Vec<Spanned<NameText>>>;

/// Every component by itself.
#[derive(Debug)]
pub(crate) enum Each {}

impl Keyword for Each {
    const KEYWORD: &'static str = "each";
}

/// Every component.
#[derive(Debug)]
pub(crate) enum All {}

impl Keyword for All {
    const KEYWORD: &'static str = "all";
}

/// Where a secret's value comes from: one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
#[schemars(extend("oneOf" = json!([{ "required": ["env"] }, { "required": ["file"] }])))]
pub(crate) struct RawSecret {
    /// An environment variable of the node.
    pub(crate) env: Option<Spanned<EnvironmentText>>,
    /// A file; a final newline is cut off.
    #[schemars(extend("examples" = ["keys/payment"]))]
    pub(crate) file: Option<Spanned<PathText>>,
}

/// Settings of one SQL store.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "SQL store")]
pub(crate) struct RawSqlStore {
    /// Folder of `.sql` files, applied once each, in the order of their names.
    #[schemars(extend("examples" = ["migrations"]))]
    pub(crate) migrations: Option<Spanned<PathText>>,
    /// How long one statement may run.
    #[schemars(extend("default" = show_duration(SqlStoreSettings::STATEMENT_TIMEOUT_DEFAULT)))]
    pub(crate) statement_timeout: Option<Spanned<DurationText>>,
}

/// Kinds of text: what they are called, their rule for editors, an example. Their whole rules are checked when the manifest
/// is lowered, so that the message can say which rule is broken.
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
