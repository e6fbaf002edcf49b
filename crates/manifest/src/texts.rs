//! The types of text values in manifests and node files, with the keywords of their JSON Schemas.

use std::borrow::Cow;

use isomer_ids::{ENVIRONMENT_PATTERN, NAME_CHARS_MAX, NAME_PATTERN, SECRET_NAME_PATTERN};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use crate::units::{DURATION_UNITS, SIZE_UNITS, pattern};
use crate::{directory, route, session};

/// Defines types of text values. Each entry contains the name of the type, the keywords of its JSON Schema, and an
/// example. The schema checks only some of the rules of a type. `lowering` checks all rules, because its error messages
/// can state which rule a text breaks.
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
    /// The name of a component, store, shape or group, in kebab case.
    NameText: "name", json!({ "pattern": NAME_PATTERN, "maxLength": NAME_CHARS_MAX }), "cart";
    /// The name of a secret.
    SecretText: "secret name", json!({ "pattern": SECRET_NAME_PATTERN }), "payment-key";
    /// The name of an environment variable.
    EnvironmentText: "environment name", json!({ "pattern": ENVIRONMENT_PATTERN }), "PAYMENT_KEY";
    /// The name of an imported interface.
    ImportText: "import", json!({ "pattern": "." }), "shop:boutique/catalog";
    /// An interface, or a function of an interface.
    FunctionText: "function", json!({ "pattern": "." }), "shop:boutique/catalog.get-product";
    /// The name of a parameter of a function.
    ParameterText: "name of a parameter", json!({ "pattern": "." }), "session-id";
    /// The name of a cookie.
    CookieText: "name of a cookie", json!({ "pattern": session::COOKIE_PATTERN, "maxLength": session::COOKIE_CHARS_MAX }), "shop-session";
    /// Where a group runs.
    PlaceText: "place", json!({ "enum": [session::BROWSER] }), "browser";
    /// A semantic version.
    VersionText: "version", json!({ "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+" }), "0.1.0";
    /// A path on the host.
    PathText: "path", json!({ "minLength": 1 }), "components/cart";
    /// A shell command.
    CommandText: "command", json!({ "minLength": 1 }), "npm run build";
    /// A route.
    RouteText: "route", json!({ "pattern": route::ROUTE_PATTERN }), "/cart";
    /// The path of an HTTP request.
    HealthText: "path of a request", json!({ "pattern": route::PATH_PATTERN }), "/health";
    /// A host to which HTTP requests are sent.
    HostText: "host", json!({ "minLength": 1, "pattern": "^[^/]+$" }), "api.example.com";
    /// A path that a guest sees.
    GuestText: "absolute path", json!({ "pattern": directory::GUEST_PATTERN }), "/data";
    /// A number of bytes, with a unit.
    SizeText: "size", json!({ "pattern": pattern(SIZE_UNITS) }), "64MiB";
    /// A duration, with a unit.
    DurationText: "duration", json!({ "pattern": pattern(DURATION_UNITS) }), "30s";
}
