//! The hosts to which a component may send HTTP requests.
//!
//! Each request is checked twice. Before the look-up, a grant must cover its host and port. After the look-up, the
//! grant must also cover the address.

use std::net::IpAddr;

use super::address::Reach;
use crate::grants::GrantedBy;

/// A rule that allows requests to one host or to a group of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// The host in lower case: a name, `*.suffix` (all names below the suffix, but not the suffix itself), `*`, or an
    /// IP address.
    pub host: String,
    /// The allowed port; `None` allows all ports.
    pub port: Option<u16>,
    /// Whether the host name may resolve to loopback, link-local and private addresses.
    pub private: bool,
}

/// The outbound HTTP grants of a component.
#[derive(Debug, Clone, Default)]
pub struct OutboundPolicy {
    component: String,
    rules: Vec<HostRule>,
    granted_by: GrantedBy,
}

/// The host in the URI of a request: a name in lower case without a final dot, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Parses the host of a URI's authority: `example.com`, `127.0.0.1`, `[::1]`. Returns `None` if it is invalid.
    pub(super) fn parse(host: &str) -> Option<Self> {
        if let Some(bracketed) = host.strip_prefix('[') {
            return bracketed.strip_suffix(']')?.parse().ok().map(|v6| Self::Address(IpAddr::V6(v6)));
        }
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // Refuses spellings such as `0x7f.1` and `2130706433`, which are not addresses here, but which resolvers
        // convert to addresses.
        let numeric = name.rsplit('.').next().is_some_and(|last| {
            let digits = last.strip_prefix("0x").unwrap_or(last);
            last.bytes().all(|b| b.is_ascii_digit())
                || (digits.len() < last.len() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        if name.is_empty() || numeric { None } else { Some(Self::Name(name)) }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl OutboundPolicy {
    /// Creates a policy that allows `component` to send the requests that `rules` match.
    pub fn new(component: &str, rules: Vec<HostRule>) -> Self {
        Self { component: component.to_owned(), rules, granted_by: GrantedBy::Manifest }
    }

    /// Returns this policy with the source of the grants, for the messages about denials.
    #[must_use]
    pub fn granted_by(self, granted_by: GrantedBy) -> Self {
        Self { granted_by, ..self }
    }

    /// Returns the name of the component.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Returns the rules that match `host` and `port`. A request that no rule matches is denied.
    pub(super) fn rules_for<'a>(&'a self, host: &'a Host, port: u16) -> impl Iterator<Item = &'a HostRule> {
        self.rules.iter().filter(move |rule| rule.matches(host, port))
    }

    /// Returns whether a request to `host` and `port` may connect to `address`.
    pub(super) fn allows(&self, host: &Host, port: u16, address: IpAddr) -> bool {
        let reach = Reach::of(address);
        self.rules_for(host, port).any(|rule| match reach {
            Reach::Public => true,
            Reach::Loopback => rule.private || rule.names_an_address() || rule.names_loopback(),
            Reach::Private => rule.private || rule.names_an_address(),
            Reach::Never => false,
        })
    }

    /// Returns what the user must do so that requests to `host` and `port` are granted. `private` is true if the host
    /// name resolves to loopback or to a private address.
    pub(super) fn grant_instruction(&self, host: &Host, port: u16, private: bool) -> String {
        let host = super::excerpt::cut(host, super::HOST_BYTES_MAX);
        let host = match port {
            80 | 443 => host,
            _ => format!("{host}:{port}"),
        };
        match (self.granted_by, private) {
            (GrantedBy::Flags, false) => format!("start the process with `--allow {host}`"),
            (GrantedBy::Flags, true) => {
                "start the process with `--allow` and the address itself, or with `--allow '*'`".to_owned()
            }
            (GrantedBy::Manifest, _) => {
                let rule =
                    if private { format!("{{ host = \"{host}\", private = true }}") } else { format!("\"{host}\"") };
                format!("write `grants.http = [{rule}]` under `[components.{}]`", self.component)
            }
        }
    }
}

impl HostRule {
    pub(super) fn matches(&self, host: &Host, port: u16) -> bool {
        if self.port.is_some_and(|granted| granted != port) {
            return false;
        }
        if self.host == "*" {
            return true;
        }
        match host {
            Host::Address(address) => self.address() == Some(*address),
            Host::Name(name) => match self.host.strip_prefix("*.") {
                Some(suffix) => name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                None => *name == self.host,
            },
        }
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        let host = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host);
        host.parse().ok()
    }

    fn names_an_address(&self) -> bool {
        self.address().is_some()
    }

    /// Returns whether the rule names `localhost` or a name below it, which always mean loopback (RFC 6761, section
    /// 6.3).
    pub(super) fn names_loopback(&self) -> bool {
        self.host == "localhost" || self.host.ends_with(".localhost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> HostRule {
        let (text, private) = text.strip_suffix('!').map_or((text, false), |text| (text, true));
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() && !host.ends_with(':') => (host, port.parse().ok()),
            _ => (text, None),
        };
        HostRule { host: host.to_owned(), port, private }
    }

    fn names(granted: &str, host: &str, port: u16) -> bool {
        let policy = OutboundPolicy::new("c", vec![rule(granted)]);
        Host::parse(host).is_some_and(|host| policy.rules_for(&host, port).next().is_some())
    }

    #[test]
    fn a_pattern_matches_nothing_else() {
        for (granted, host, port) in [
            ("example.com", "example.com", 443),
            ("example.com", "EXAMPLE.com.", 1),
            ("example.com:8080", "example.com", 8080),
            ("*.example.com", "a.example.com", 443),
            ("*.example.com", "a.b.example.com", 443),
            ("*", "anything.test", 1),
            ("*", "[::1]", 1),
            ("127.0.0.1", "127.0.0.1", 1),
            ("[::1]", "[::1]", 1),
        ] {
            assert!(names(granted, host, port), "{granted} {host} {port}");
        }
        for (granted, host, port) in [
            ("example.com", "a.example.com", 443),
            ("example.com", "example.com.evil.test", 443),
            ("example.com", "notexample.com", 443),
            ("example.com:8080", "example.com", 80),
            ("*.example.com", "example.com", 443),
            ("*.example.com", ".example.com", 443),
            ("*.example.com", "notexample.com", 443),
            ("*.example.com", "a.example.com.evil.test", 443),
            ("127.0.0.1", "127.0.0.2", 1),
            ("127.0.0.1", "localhost", 1),
        ] {
            assert!(!names(granted, host, port), "{granted} {host} {port}");
        }
        for host in ["", "0x7f.1", "2130706433", "127.1", "0x7f000001", "1.2.3.4.5", "[::1", "[127.0.0.1]"] {
            assert!(!names("*", host, 80), "{host}");
        }
    }

    #[test]
    fn a_private_address_behind_a_name_needs_a_private_grant() {
        let allows = |granted: &str, host: &str, address: &str| {
            let policy = OutboundPolicy::new("c", vec![rule(granted)]);
            policy.allows(&Host::parse(host).unwrap(), 80, address.parse().unwrap())
        };
        for inside in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "fd00::1", "::ffff:192.168.0.1"]
        {
            assert!(!allows("example.com", "example.com", inside), "{inside}");
            assert!(!allows("*", "example.com", inside), "{inside}");
            assert!(!allows("*", if inside.contains(':') { "[::1]" } else { inside }, inside), "{inside}");
            assert!(allows("example.com!", "example.com", inside), "{inside}");
        }
        assert!(allows("10.0.0.1", "10.0.0.1", "10.0.0.1"));
        assert!(allows("localhost", "localhost", "127.0.0.1") && allows("app.localhost", "app.localhost", "::1"));
        assert!(!allows("localhost", "localhost", "10.0.0.1"));
        for never in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255"] {
            assert!(!allows("example.com!", "example.com", never), "{never}");
        }
        assert!(allows("example.com", "example.com", "1.1.1.1"));
        assert!(!allows("example.com", "other.com", "1.1.1.1"));
    }
}
