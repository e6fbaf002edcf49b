//! The arguments of an operation: the names in the path, the query, and the body of the request. They are parsed and
//! checked here, before the node gets them.

use std::collections::BTreeMap;

use http::{HeaderMap, Uri};
use isomer_api::{ApiProblem, ProblemKind};
use isomer_ids::{AppName, Digest, InvalidText, SecretName, StoreName, TenantName, TokenName};
use serde::de::value::{Error as ValueError, MapDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};

use crate::admin::UploadBody;
use crate::caller::Caller;

/// Returns the names in a path. Returns `None` if the path does not match the route, and `Some(None)` if a name is not
/// valid UTF-8.
pub(crate) fn names_of(route: &str, path: &str) -> Option<Option<PathNames>> {
    let (route, path) = (route.split('/'), path.split('/'));
    let (count, mut named) = (route.clone().count(), Some(PathNames::default()));
    if path.clone().count() != count {
        return None;
    }
    for (wanted, given) in route.zip(path) {
        let Some(name) = wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
            if wanted != given {
                return None;
            }
            continue;
        };
        let decoded = percent_encoding::percent_decode_str(given).decode_utf8().ok();
        named = named.zip(decoded).map(|(mut named, value)| {
            named.names.push((name.to_owned(), value.into_owned()));
            named
        });
    }
    Some(named)
}

/// The names in the path of a request, and the caller of the operation.
#[derive(Debug, Default)]
pub(crate) struct PathNames {
    pub(crate) names: Vec<(String, String)>,
    /// The caller; `None` until the request is authenticated.
    pub(crate) caller: Option<Caller>,
}

impl PathNames {
    /// Returns a name in the path, unchecked. If the path has no such name, returns an empty string, which is never a
    /// valid name.
    fn get(&self, name: &str) -> &str {
        self.found(name).unwrap_or_default()
    }

    pub(crate) fn found(&self, name: &str) -> Option<&str> {
        self.names.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn caller(&self) -> Result<Caller, ApiProblem> {
        self.caller.clone().ok_or_else(|| ApiProblem::new(ProblemKind::Unauthorized, "the caller is not authenticated"))
    }

    pub(crate) fn token(&self) -> Result<TokenName, ApiProblem> {
        self.get("token").parse().map_err(invalid)
    }

    pub(crate) fn tenant(&self) -> Result<TenantName, ApiProblem> {
        self.get("tenant").parse().map_err(invalid)
    }

    pub(crate) fn app(&self) -> Result<AppName, ApiProblem> {
        self.get("app").parse().map_err(invalid)
    }

    pub(crate) fn digest(&self) -> Result<Digest, ApiProblem> {
        self.get("digest").parse().map_err(invalid)
    }

    /// Returns the id of a trace or of a request: hexadecimal digits.
    pub(crate) fn trace(&self) -> Result<String, ApiProblem> {
        let id = self.get("trace").to_ascii_lowercase();
        let is_id = matches!(id.len(), 16 | 32) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let why = "the id of a trace has 32 hexadecimal digits, and the id of a request has 16";
        if is_id { Ok(id) } else { Err(ApiProblem::new(ProblemKind::BadRequest, why)) }
    }

    /// Returns the name of a store.
    pub(crate) fn store(&self) -> Result<StoreName, ApiProblem> {
        StoreName::new(self.get("store")).map_err(invalid)
    }

    pub(crate) fn secret(&self) -> Result<SecretName, ApiProblem> {
        self.get("secret").parse().map_err(invalid)
    }
}

fn invalid(error: InvalidText) -> ApiProblem {
    ApiProblem::new(ProblemKind::BadRequest, error.to_string())
}

/// The query and the body of a request.
pub(crate) struct Arguments {
    pub(crate) uri: Uri,
    /// The value of the request's `Accept` header.
    pub(crate) accept: Option<String>,
    pub(crate) body: ArgumentBody,
}

pub(crate) enum ArgumentBody {
    Nothing,
    Whole(Vec<u8>),
    Stream(UploadBody),
}

impl Arguments {
    /// Parses the query as `Q`. The type of the field in `Q` decides how a value is parsed: for example, `true` stays a
    /// text if the field is the name of a tenant.
    pub(crate) fn query<Q: DeserializeOwned>(&self) -> Result<Q, ApiProblem> {
        let refused = |why: String| {
            ApiProblem::new(ProblemKind::BadRequest, "the query is not valid for this operation").detail(why)
        };
        let mut fields = BTreeMap::new();
        for (name, text) in form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes()) {
            if fields.insert(name.into_owned(), Text(text.into_owned())).is_some() {
                return Err(refused("a parameter occurs twice".to_owned()));
            }
        }
        Q::deserialize(MapDeserializer::new(fields.into_iter())).map_err(|error: ValueError| refused(error.to_string()))
    }

    pub(crate) fn json<Q: DeserializeOwned>(&self) -> Result<Q, ApiProblem> {
        let ArgumentBody::Whole(bytes) = &self.body else {
            return Err(ApiProblem::new(ProblemKind::BadRequest, "the request has no body"));
        };
        let refused = |why: String| {
            ApiProblem::new(ProblemKind::BadRequest, "the body is not valid for this operation").detail(why)
        };
        // Serde also accepts a JSON array with the values of the fields in order. Refuse this form, so that no client
        // depends on the order of the fields.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(refused("the body must be a JSON object".to_owned()));
        }
        serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        match self.body {
            ArgumentBody::Whole(bytes) => bytes,
            ArgumentBody::Nothing | ArgumentBody::Stream(_) => Vec::new(),
        }
    }

    pub(crate) fn stream(self) -> UploadBody {
        match self.body {
            ArgumentBody::Stream(body) => body,
            ArgumentBody::Nothing | ArgumentBody::Whole(_) => Box::pin(futures::stream::empty()),
        }
    }
}

/// The text of a query parameter. It deserializes to the type that the parameter's field has.
struct Text(String);

impl IntoDeserializer<'_, ValueError> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_string(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0.parse() {
            Ok(value) => visitor.visit_bool(value),
            Err(_) => visitor.visit_string(self.0),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0.parse() {
            Ok(value) => visitor.visit_u64(value),
            Err(_) => visitor.visit_string(self.0),
        }
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let variant: StringDeserializer<ValueError> = self.0.into_deserializer();
        visitor.visit_enum(variant)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// Checks that the content type of a request is JSON. An HTML form cannot send this content type.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), ApiProblem> {
    let said = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiProblem::new(ProblemKind::BadRequest, "the content type of the body must be `application/json`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(query: &str) -> Arguments {
        Arguments { uri: format!("/x?{query}").parse().unwrap(), accept: None, body: ArgumentBody::Nothing }
    }

    #[test]
    fn a_query_is_read_whole() {
        let query = given("lines=7&follow=true").query::<isomer_api::LogQuery>().unwrap();
        assert_eq!((query.lines, query.follow), (Some(7), true));
        let query = given("level=warning").query::<isomer_api::LogQuery>().unwrap();
        assert_eq!(query.level, Some(isomer_api::LogLevel::Warning));
        assert!(given("level=loud").query::<isomer_api::LogQuery>().is_err());
        // Names of tenants that could also be parsed as booleans.
        for name in ["true", "false"] {
            let query = given(&format!("tenant={name}")).query::<crate::app_operations::AppsQuery>().unwrap();
            assert_eq!(query.tenant.unwrap().as_str(), name);
        }
        assert!(given("tenant=7").query::<crate::app_operations::AppsQuery>().is_err());
        for bad in ["lines=-1", "lines=x", "follow=yes", "folow=true", "lines=1&lines=2"] {
            let problem = given(bad).query::<isomer_api::LogQuery>().unwrap_err();
            assert_eq!(problem.kind, ProblemKind::BadRequest, "{bad}");
        }
    }

    #[test]
    fn a_path_is_of_a_route_by_its_segments() {
        let names =
            |path: &str| names_of("/v1/tenants/{tenant}/apps/{app}", path).map(|named| named.map(|named| named.names));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(names("/v1/tenants/a/apps/b"), Some(Some(vec![pair("tenant", "a"), pair("app", "b")])));
        assert_eq!(names("/v1/tenants/a%2Fb/apps/b"), Some(Some(vec![pair("tenant", "a/b"), pair("app", "b")])));
        assert_eq!(names("/v1/tenants/%ff/apps/b"), Some(None));
        for other in
            ["/v1/tenants/a/apps/b/", "/v1/tenants/a/apps", "/v1//tenants/a/apps/b", "/v1/tenants/a/app/b", "/"]
        {
            assert_eq!(names(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_checked() {
        let named =
            |name: &str, value: &str| PathNames { names: vec![(name.to_owned(), value.to_owned())], caller: None };
        let secret = |name: &str| named("secret", name).secret();
        assert!(["a", "payment-key", "A.b_c-9"].into_iter().all(|name| secret(name).is_ok()));
        let long = "a".repeat(65);
        assert!(!["", "9a", "a/b", "..", "a b", "ä", &long].into_iter().any(|name| secret(name).is_ok()));
        assert!(named("app", "../x").app().is_err() && named("app", "x").tenant().is_err());
        assert!(named("app", "x").caller().is_err());
    }
}
