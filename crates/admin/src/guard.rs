//! Authentication: checks that a request has the node's token or a tenant's token, and that no browser has sent it.
//!
//! Any web page can make a browser send requests to a loopback address, by forms and by scripts. Usually, the page
//! cannot read the responses. But it can if its owner points the page's host name to a loopback address (DNS
//! rebinding). A page has no token, so its requests can neither change nor read anything. In addition, this module
//! refuses requests from web pages before it checks the token: browsers send the header `Origin` or `Sec-Fetch-Site`,
//! and after DNS rebinding, the header `Host` contains the host name of the page. Only requests from pages of the
//! dashboard, which have a session instead of a token, are not refused (`dashboard_access`).

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Uri};
use isomer_api::{ApiProblem, ProblemKind, StoredToken};
use isomer_ids::TokenId;

use crate::audit::Credential;
use crate::caller::Caller;
use crate::token::{self, Token};

/// The checks that each request must pass.
#[derive(Debug)]
pub(crate) struct Guard {
    token: Token,
    /// The host names under which the admin API is reachable, in addition to IP addresses and `localhost`.
    hosts: Vec<String>,
}

impl Guard {
    pub(crate) fn new(token: Token, hosts: Vec<String>) -> Self {
        Self { token, hosts }
    }

    /// Returns the kind of token in the request, and either the caller or the reason why the request is refused.
    /// `find_token` returns the stored form of a tenant's token.
    pub(crate) fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        find_token: impl FnOnce(&TokenId) -> Option<StoredToken>,
    ) -> (Credential, Result<Caller, ApiProblem>) {
        let (credential, caller) = self.credential(headers, find_token);
        let checked = self.check_host(uri, headers).and(match credential {
            Credential::Missing => Err(unauthorized("the request has no token")),
            Credential::Valid | Credential::Tenant | Credential::Wrong => caller.ok_or_else(unknown_token),
        });
        (credential, checked)
    }

    fn credential(
        &self,
        headers: &HeaderMap,
        find_token: impl FnOnce(&TokenId) -> Option<StoredToken>,
    ) -> (Credential, Option<Caller>) {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            let has_some = headers.contains_key(AUTHORIZATION);
            return (if has_some { Credential::Wrong } else { Credential::Missing }, None);
        };
        let value = value.as_bytes();
        let is_bearer = value.len() > SCHEME.len() && value[..SCHEME.len()].eq_ignore_ascii_case(SCHEME);
        if !is_bearer {
            return (Credential::Wrong, None);
        }
        let given = &value[SCHEME.len()..];
        if self.token.is(given) {
            return (Credential::Valid, Some(Caller::Node));
        }
        let found = token::id_of(given).and_then(|id| find_token(&id));
        match found.filter(|stored| token::matches_stored(stored, given)) {
            Some(stored) => (Credential::Tenant, Some(Caller::Tenant(stored.info))),
            None => (Credential::Wrong, None),
        }
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiProblem> {
        let forbidden = |title: String| ApiProblem::new(ProblemKind::Forbidden, title);
        if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
            let problem = forbidden("the admin API responds to browsers only if they have a session".to_owned());
            return Err(problem.hint("open the dashboard: isomer dashboard"));
        }
        self.check_host_name(uri, headers)
    }

    /// Checks that the request names an address or name of this admin API as its host. After DNS rebinding, a request
    /// names the host name of the web page instead.
    pub(crate) fn check_host_name(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiProblem> {
        let forbidden = |title: String| ApiProblem::new(ProblemKind::Forbidden, title);
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(forbidden("the request must have exactly one header `Host`".to_owned()));
        };
        let host = host.to_str().unwrap_or_default();
        for named in [Some(host), uri.authority().map(http::uri::Authority::as_str)].into_iter().flatten() {
            if !self.is_own(named) {
                let shown: String = named.chars().filter(|c| !c.is_control()).take(80).collect();
                let hint = "use the node's IP address, `localhost`, or a host name that the node file configures for the admin API";
                return Err(forbidden(format!("`{shown}` is not a host name of the admin API")).hint(hint));
            }
        }
        Ok(())
    }

    /// Returns whether `authority` is an address or name of this admin API. All IP addresses are accepted, because DNS
    /// rebinding needs a host name.
    fn is_own(&self, authority: &str) -> bool {
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => {
                return address.parse::<Ipv6Addr>().is_ok()
                    && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_own = host.parse::<Ipv4Addr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        is_own && port.is_none_or(is_port)
    }
}

const SCHEME: &[u8] = b"bearer ";

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Returns the problem for a request whose token is unknown, revoked or expired.
pub(crate) fn unknown_token() -> ApiProblem {
    unauthorized("the token is unknown to this node, or has expired")
}

fn unauthorized(title: &str) -> ApiProblem {
    ApiProblem::new(ProblemKind::Unauthorized, title)
        .hint("pass --token-file FILE (a tenant's token, or `admin.token` in the node's data directory), or set ISOMER_TOKEN to a token")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn guard() -> Guard {
        Guard::new(Token::parse(&"ab".repeat(32)).unwrap(), vec!["node.internal".to_owned()])
    }

    /// Returns the stored form of the token `id`, if it exists. In these tests, only one token exists, and it belongs
    /// to a tenant.
    fn stored_token(id: &TokenId) -> Option<StoredToken> {
        let (name, tenant) = ("ci".parse().unwrap(), "acme".parse().unwrap());
        let token = Token::parse(&tenants_token()).unwrap();
        let own: TokenId = "1111111111111111".parse().unwrap();
        let info = isomer_api::TokenInfo {
            name,
            id: own.clone(),
            tenant,
            role: isomer_api::TokenRole::Read,
            data: false,
            created_at: 1,
            expires_at: None,
        };
        (own == *id).then(|| StoredToken { info, digest: token.digest() })
    }

    fn tenants_token() -> String {
        format!("isomer_{}_{}", "1".repeat(16), "cd".repeat(32))
    }

    fn check(headers: &[(&'static str, &str)]) -> Result<(), ProblemKind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        guard().check(&Uri::from_static("/v1/status"), &map, stored_token).1.map(drop).map_err(|problem| problem.kind)
    }

    fn with_token(more: &[(&'static str, &str)]) -> Result<(), ProblemKind> {
        let token = format!("Bearer {}", "ab".repeat(32));
        check(&[&[("authorization", token.as_str())], more].concat())
    }

    #[test]
    fn only_the_token_opens() {
        let host = ("host", "127.0.0.1:7171");
        assert_eq!(with_token(&[host]), Ok(()));
        let digits = "ab".repeat(32);
        let wrong = [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            digits.clone(),
            format!("Basic {digits}"),
            format!("Bearer  {digits}"),
            format!("Bearer {digits}00"),
            format!("Bearer {}", "ba".repeat(32)),
            format!("Bearer {}", digits.to_uppercase()),
        ];
        for wrong in &wrong {
            assert_eq!(check(&[host, ("authorization", wrong)]), Err(ProblemKind::Unauthorized), "{wrong}");
        }
        assert_eq!(check(&[host]), Err(ProblemKind::Unauthorized));
        assert_eq!(
            with_token(&[host, ("authorization", "Bearer x")]),
            Err(ProblemKind::Unauthorized),
            "two headers `Authorization`"
        );
        assert_eq!(check(&[host, ("cookie", &format!("token={digits}"))]), Err(ProblemKind::Unauthorized));
    }

    #[test]
    fn a_tenants_token_says_whose_it_is() {
        let checked = |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("localhost"));
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
            guard().check(&Uri::from_static("/v1/status"), &headers, stored_token)
        };
        let token = tenants_token();
        let (credential, caller) = checked(&token);
        assert_eq!((credential, caller.unwrap().tenant().unwrap().as_str()), (Credential::Tenant, "acme"));
        let wrong = [
            token.replace("11_", "12_"),
            token.replace("cd", "ce"),
            token[..token.len() - 1].to_owned(),
            format!("{token}0"),
            token.replace("isomer_", "Isomer_"),
            token[24..].to_owned(),
            format!("isomer_{}_{}", "1".repeat(16), "ab".repeat(32)),
        ];
        for wrong in &wrong {
            let (credential, caller) = checked(wrong);
            assert_eq!(
                (credential, caller.unwrap_err().kind),
                (Credential::Wrong, ProblemKind::Unauthorized),
                "{wrong}"
            );
        }
    }

    #[test]
    fn browsers_are_refused() {
        let host = ("host", "127.0.0.1:7171");
        for (name, value) in [("origin", "http://127.0.0.1:7171"), ("origin", "null"), ("sec-fetch-site", "none")] {
            assert_eq!(with_token(&[host, (name, value)]), Err(ProblemKind::Forbidden), "{name}: {value}");
        }
    }

    #[test]
    fn foreign_host_names_are_refused() {
        let own =
            ["127.0.0.1:7171", "127.0.0.1", "[::1]:7171", "localhost", "LocalHost:1", "node.internal:80", "10.0.0.7"];
        for own in own {
            assert_eq!(with_token(&[("host", own)]), Ok(()), "{own}");
        }
        let foreign = [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost:x",
            "",
            "[::1",
            "[::1]x",
            "0x7f.1",
        ];
        for foreign in foreign {
            assert_eq!(with_token(&[("host", foreign)]), Err(ProblemKind::Forbidden), "{foreign}");
        }
        assert_eq!(with_token(&[]), Err(ProblemKind::Forbidden), "none");
        assert_eq!(with_token(&[("host", "localhost"), ("host", "evil.example")]), Err(ProblemKind::Forbidden));
    }

    #[test]
    fn the_authority_of_an_absolute_uri_counts_too() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("localhost"));
        headers.insert("authorization", guard().token.header());
        let uri = Uri::from_static("http://evil.example/v1/status");
        assert_eq!(guard().check(&uri, &headers, stored_token).1.unwrap_err().kind, ProblemKind::Forbidden);
    }
}
