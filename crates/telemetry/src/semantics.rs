//! The names of spans, and the keys of their attributes.
//!
//! Keys follow OpenTelemetry's semantic conventions (version 1.37: HTTP, RPC, databases, URLs) where a convention
//! exists. The others begin with `isomer.`. [`ATTRIBUTES`] and [`SPANS`] list all of them; the reference page of the
//! documentation is generated from these lists.

/// Defines constants for keys, and a list of all of them.
macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $name:ident = $key:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $key;)+

        /// The keys of all attributes, each with its meaning.
        pub const ATTRIBUTES: &[(&str, &str)] = &[$(($key, concat!($($doc),+))),+];
    };
}

keys! {
    /// The method of an HTTP request.
    HTTP_METHOD = "http.request.method";
    /// The size in bytes of the body of an HTTP response.
    HTTP_RESPONSE_BYTES = "http.response.body.size";
    /// The route that an HTTP request matched.
    HTTP_ROUTE = "http.route";
    /// The status code of an HTTP response.
    HTTP_STATUS = "http.response.status_code";
    /// The path of a URL.
    URL_PATH = "url.path";
    /// The scheme of a URL.
    URL_SCHEME = "url.scheme";
    /// The host name of a server.
    SERVER_ADDRESS = "server.address";
    /// The port of a server.
    SERVER_PORT = "server.port";
    /// The address of the client.
    CLIENT_ADDRESS = "client.address";
    /// The kind of failure.
    ERROR_TYPE = "error.type";
    /// The protocol of a call across a seam, always `isomer`.
    RPC_SYSTEM = "rpc.system";
    /// The interface of a call across a seam.
    RPC_SERVICE = "rpc.service";
    /// The function of a call across a seam.
    RPC_METHOD = "rpc.method";
    /// The database system: `redb` or `sqlite`.
    DB_SYSTEM = "db.system.name";
    /// The name of the store.
    DB_NAMESPACE = "db.namespace";
    /// The operation on the store.
    DB_OPERATION = "db.operation.name";
    /// The text of an SQL statement, without its parameters.
    DB_QUERY = "db.query.text";
    /// The number of rows that a statement returned.
    DB_ROWS = "db.response.returned_rows";
    /// The way in which a call crosses its seam: `fused`, `isolated` or `remote`.
    MODE = "isomer.seam.mode";
    /// The component that calls.
    CALLER = "isomer.seam.caller";
    /// The component that is called.
    CALLEE = "isomer.seam.callee";
    /// The number of bytes of a call's arguments.
    ARGUMENT_BYTES = "isomer.seam.argument_bytes";
    /// The number of bytes of a call's result.
    RESULT_BYTES = "isomer.seam.result_bytes";
    /// Whether an instance was created for the request or call.
    COLD_START = "isomer.instance.cold";
    /// The components of an instance.
    COMPONENTS = "isomer.instance.components";
    /// `missing` if the request is sampled, but a composition has served it with code that does not report fused calls,
    /// because the code that reports them was not ready or no instance of it could be created.
    FUSED_CALLS = "isomer.fused_calls";
    /// The name of the configuration value that was read. Never its value.
    CONFIG_KEY = "isomer.config.key";
    /// The name of the secret that was read. Never its value.
    SECRET_NAME = "isomer.secret.name";
    /// The component that did the work that the span describes.
    COMPONENT = "isomer.component";
    /// The request's identity in the logs.
    REQUEST_ID = "isomer.request.id";
    /// The library that recorded a component's own span, as `wasi:otel` names it.
    SCOPE_NAME = "otel.scope.name";
    /// The number of attributes of a component's own span that were dropped.
    ATTRIBUTES_DROPPED = "otel.dropped_attributes_count";
    /// The spans to which a component's own span has links: their trace ids and span ids, as `TRACE-SPAN`, separated by
    /// spaces. The export sends them as links.
    LINKS = "isomer.links";
    /// The number of links of a component's own span that were dropped.
    LINKS_DROPPED = "otel.dropped_links_count";
    /// The number of spans of the request that were dropped.
    SPANS_DROPPED = "isomer.spans_dropped";
    /// The kind of a deployment: `deploy`, `rollback`, `swap` or `reshape`.
    DEPLOY_OPERATION = "isomer.deploy.operation";
    /// Whether a deployment compiled code.
    DEPLOY_COMPILED = "isomer.deploy.compiled";
    /// The number of the action in the node's audit log.
    AUDIT_ACTION = "isomer.audit.action_id";
    /// The step of a deployment.
    DEPLOY_STEP = "isomer.deploy.step";
    /// The revision that a deployment starts.
    REVISION = "isomer.revision";
}

/// The names of spans, each with its meaning. A name in `‹›` stands for a value.
pub const SPANS: &[(&str, &str)] = &[
    ("‹method› ‹route›", "A request from a client, from the arrival of its head to the last byte of the response."),
    (WAIT_FOR_INSTANCE, "The time that a request or call waits for an instance, if it waits."),
    (START_INSTANCE, "The creation of an instance."),
    (
        "‹interface›.‹function›",
        "A call across a seam. Isolated and remote calls have one span on each side. A fused call has one span of the \
         kind `internal`, if the request is sampled.",
    ),
    ("kv ‹operation›", "An operation on a key-value store."),
    ("sql ‹operation›", "An operation on an SQL store."),
    ("‹method›", "A request to an external HTTP server."),
    (READ_CONFIG, "The reading of configuration values."),
    (READ_SECRET, "The reading of a secret."),
    ("‹name›", "A span that a component records with `wasi:otel`."),
    ("deploy", "A deployment. `rollback`, `swap` and `reshape` are the names for the other kinds."),
    (
        "‹step›",
        "A step of a deployment: `check`, `compile`, `write files`, `start`, `health check`, `record`, `take over`; if stores are replaced, also `hold requests`, `write intent`, `prepare stores` and `replace stores`. `drain` is the time in which the previous revision finishes its requests; it is stored when it ends.",
    ),
];

/// The value of [`FUSED_CALLS`].
pub const MISSING: &str = "missing";

/// The name of the span of a request or call that waits for an instance.
pub const WAIT_FOR_INSTANCE: &str = "wait for instance";

/// The name of the span in which an instance is created.
pub const START_INSTANCE: &str = "start instance";

/// The name of the span in which configuration values are read.
pub const READ_CONFIG: &str = "read config";

/// The name of the span in which a secret is read.
pub const READ_SECRET: &str = "read secret";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_have_a_meaning() {
        let keys: BTreeSet<_> = ATTRIBUTES.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), ATTRIBUTES.len());
        assert!(ATTRIBUTES.iter().chain(SPANS).all(|(_, meaning)| meaning.trim().ends_with('.')));
    }
}
