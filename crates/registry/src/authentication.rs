//! Authentication after a registry's challenge (RFC 9110, section 11; the token protocol of Docker's registry).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use crate::connection::{Connection, Order, check_target, read, server, shown, status_error};
use crate::credentials::Credentials;
use crate::error::RegistryError;

/// The maximum size of the response of a token service in bytes.
const TOKEN_BYTES_MAX: usize = 256 << 10;

/// The access to a repository that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// How a registry wants its clients to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    Basic,
    /// A token of the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

/// Returns the value of `Authorization` for a repository after the registry has refused a request; `None` if the
/// registry offers no way to authenticate with these credentials.
pub(crate) async fn authorize(
    connection: &Connection,
    headers: &HeaderMap,
    repository: &str,
    access: Access,
    credentials: Option<&Credentials>,
) -> Result<Option<HeaderValue>, RegistryError> {
    match challenge(headers) {
        Some(Challenge::Basic) => Ok(credentials.and_then(basic)),
        Some(Challenge::Bearer { realm, service }) => {
            let token = token(connection, &realm, service.as_deref(), &scope(repository, access), credentials).await?;
            secret(format!("Bearer {token}")).map(Some).ok_or_else(|| RegistryError::Malformed {
                server: server(connection.base()),
                problem: "its token service returned a token with invalid characters".to_owned(),
            })
        }
        None => Ok(None),
    }
}

/// Returns the scope of a token. It depends only on the operation: the scope in the registry's challenge could be
/// wider.
fn scope(repository: &str, access: Access) -> String {
    match access {
        Access::Pull => format!("repository:{repository}:pull"),
        Access::Push => format!("repository:{repository}:pull,push"),
    }
}

async fn token(
    connection: &Connection,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<String, RegistryError> {
    let base = connection.base();
    let mut url = Url::parse(realm).map_err(|_| RegistryError::Redirect {
        server: server(base),
        target: shown(realm),
        reason: "it is not a URL",
    })?;
    check_target(base, &url)?;
    let (order, authorization) = match credentials {
        Some(Credentials::IdentityToken(token)) => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("service", service.unwrap_or_default()),
                ("client_id", "isomer"),
                ("scope", scope),
                ("refresh_token", token),
            ];
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
            let order = Order::new(Method::POST, "a request for a token").body(Bytes::from(form.join("&")));
            (order.header(CONTENT_TYPE, "application/x-www-form-urlencoded"), None)
        }
        other => {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", scope);
            drop(query);
            (Order::new(Method::GET, "a request for a token"), other.and_then(basic))
        }
    };
    let order = order.header(ACCEPT, "application/json");
    let (url, response) = connection.send(url, &order, authorization.as_ref()).await?;
    if !response.status().is_success() {
        return Err(status_error(&url, response, order.operation).await);
    }
    let bytes = read(&url, response, "the token", TOKEN_BYTES_MAX).await?;
    let parsed: Option<TokenResponse> = serde_json::from_slice(&bytes).ok();
    parsed
        .and_then(|parsed| parsed.token.or(parsed.access_token))
        .ok_or_else(|| RegistryError::Malformed { server: server(&url), problem: "it contains no token".to_owned() })
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { user, password } = credentials else { return None };
    secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn secret(value: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the first challenge that this client can respond to. A challenge for a token is preferred.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut found: Vec<_> = values.filter_map(parse).collect();
    found.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    found.into_iter().next()
}

fn parse(value: &str) -> Option<Challenge> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    let mut rest = rest;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = parameter(after)?;
        match name.trim().trim_start_matches(',').trim().to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            _ => {}
        }
        rest = after;
    }
    Some(Challenge::Bearer { realm: realm?, service })
}

/// Returns the value of a parameter, and the text after it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_parsed() {
        let parsed = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            challenge(&headers)
        };
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(ToOwned::to_owned) })
        };
        assert_eq!(parsed(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(
            parsed(&["Bearer realm=\"https://a.example/t?x=1\",service=\"r, \\\"s\\\"\",scope=\"a:b:pull,push\""]),
            bearer("https://a.example/t?x=1", Some("r, \"s\""))
        );
        assert_eq!(parsed(&["Basic realm=x", "bearer Realm=https://t.example"]), bearer("https://t.example", None));
        for bad in ["Negotiate", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x", "Bearer realm=\"x\\", ""] {
            assert_eq!(parsed(&[bad]), None, "{bad}");
        }
    }
}
