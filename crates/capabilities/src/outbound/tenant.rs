//! The hosts to which a tenant's apps may send HTTP requests. Both this restriction and the grants in the app's
//! manifest must allow a request.
//!
//! A manifest belongs to its tenant, so on a node with many tenants it must not grant access to the node's network.
//! `private = true` and grants of addresses therefore do not reach loopback and private networks, unless the operator
//! of the node has listed the *address* for the tenant. Listing a name is not enough, because the owner of the name's
//! DNS zone can point the name to any address. The exceptions are `localhost` and the names below it, which always mean
//! loopback.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::Reach;
use super::policy::{Host, HostRule};

/// The allowed hosts of one tenant, and the limits that all its apps share. Changes apply to later requests.
#[derive(Debug)]
pub struct TenantHosts {
    /// The rules for allowed hosts; `None` allows all public hosts.
    rules: RwLock<Option<Vec<HostRule>>>,
    refused: AtomicU64,
    connections: OnceLock<Arc<Semaphore>>,
    idle_connections: OnceLock<Arc<Semaphore>>,
    lookups: Arc<Semaphore>,
}

/// The maximum number of concurrent look-ups per tenant.
const LOOKUPS_MAX: usize = 16;

/// The error for a text that is not a host rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid host: use `api.example`, `*.example`, `*` or an address, with `:PORT` for a single port"
)]
pub struct InvalidHostRule {
    /// The invalid text, shortened to 80 characters.
    pub text: String,
}

impl TenantHosts {
    /// Allows the given hosts, in the syntax of `grants.http` in a manifest; `None` allows all public hosts.
    ///
    /// # Errors
    /// If a text is not a host rule.
    pub fn new(hosts: Option<&[String]>) -> Result<Self, InvalidHostRule> {
        let rules = RwLock::new(parse(hosts)?);
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let (connections, idle_connections) = (OnceLock::new(), OnceLock::new());
        Ok(Self { rules, refused: AtomicU64::new(0), connections, idle_connections, lookups })
    }

    /// Replaces the allowed hosts.
    ///
    /// # Errors
    /// The error of [`TenantHosts::new`]. The allowed hosts are then unchanged.
    pub fn set(&self, hosts: Option<&[String]>) -> Result<(), InvalidHostRule> {
        let rules = parse(hosts)?;
        *self.rules.write().unwrap_or_else(std::sync::PoisonError::into_inner) = rules;
        Ok(())
    }

    /// Returns the number of requests that the manifests of the tenant's apps grant, but that were refused because the
    /// tenant's allowed hosts do not include the host.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the semaphore that limits the tenant's connections. All components of the tenant share its permits. The
    /// first call creates it with `permits` permits.
    pub(super) fn connections(&self, permits: usize) -> Arc<Semaphore> {
        self.connections.get_or_init(|| Arc::new(Semaphore::new(permits))).clone()
    }

    /// Returns the semaphore that limits the tenant's idle connections. All components of the tenant share its permits.
    /// The first call creates it with `permits` permits.
    pub(super) fn idle_connections(&self, permits: usize) -> Arc<Semaphore> {
        self.idle_connections.get_or_init(|| Arc::new(Semaphore::new(permits))).clone()
    }

    /// Waits for a permit to look up a name.
    pub(super) async fn lookup(&self) -> Option<OwnedSemaphorePermit> {
        self.lookups.clone().acquire_owned().await.ok()
    }

    /// Returns whether a request to `host` and `port` may be sent, as far as this is known before the look-up.
    pub(super) fn may_name(&self, host: &Host, port: u16) -> bool {
        self.with(|rules| match (rules, host) {
            (None, Host::Name(_)) => true,
            (None, Host::Address(address)) => Reach::of(*address) == Reach::Public,
            (Some(rules), _) => rules.iter().any(|rule| rule.matches(host, port)),
        })
    }

    /// Returns whether a request to `host` and `port` may connect to `address`.
    pub(super) fn allows(&self, host: &Host, port: u16, address: IpAddr) -> bool {
        let reach = Reach::of(address);
        self.with(|rules| {
            let Some(rules) = rules else { return reach == Reach::Public };
            let fits = |rule: &&HostRule| rule.port.is_none_or(|allowed| allowed == port);
            match reach {
                Reach::Public => rules.iter().any(|rule| rule.matches(host, port)),
                Reach::Loopback => rules
                    .iter()
                    .filter(fits)
                    .any(|rule| rule.address() == Some(address) || (rule.names_loopback() && rule.matches(host, port))),
                Reach::Private => rules.iter().filter(fits).any(|rule| rule.address() == Some(address)),
                Reach::Never => false,
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(Option<&[HostRule]>) -> T) -> T {
        let rules = self.rules.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(rules.as_deref())
    }
}

fn parse(hosts: Option<&[String]>) -> Result<Option<Vec<HostRule>>, InvalidHostRule> {
    hosts.map(|hosts| hosts.iter().map(|host| parse_rule(host)).collect()).transpose()
}

fn parse_rule(text: &str) -> Result<HostRule, InvalidHostRule> {
    let invalid = || InvalidHostRule { text: text.chars().filter(|it| !it.is_control()).take(80).collect() };
    let bare = text.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare && !text.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, Some(port.ok_or_else(invalid)?))
        }
        _ => (text, None),
    };
    let host = if bare { format!("[{host}]") } else { host.to_ascii_lowercase() };
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let is_name = |name: &str| {
        let label = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        name.len() <= 253 && name.split('.').all(label)
    };
    let fits = host == "*"
        || match Host::parse(name) {
            Some(Host::Address(_)) => name == host,
            Some(Host::Name(parsed)) => parsed == name && is_name(name),
            None => false,
        };
    if fits { Ok(HostRule { host, port, private: false }) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(rules: &[&str]) -> TenantHosts {
        let rules: Vec<_> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        TenantHosts::new(Some(&rules)).unwrap()
    }

    fn reaches(tenant: &TenantHosts, host: &str, port: u16, address: &str) -> bool {
        let host = Host::parse(host).unwrap();
        tenant.may_name(&host, port) && tenant.allows(&host, port, address.parse().unwrap())
    }

    #[test]
    fn private_addresses_must_be_listed() {
        let everything = TenantHosts::new(None).unwrap();
        assert!(reaches(&everything, "a.example", 80, "1.1.1.1") && reaches(&everything, "1.1.1.1", 80, "1.1.1.1"));
        let named = hosts(&["*", "evil.example", "*.evil.example"]);
        for tenant in [&everything, &named] {
            for address in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fd00::1", "::ffff:127.0.0.1", "0.0.0.0"]
            {
                let literal = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                for host in ["evil.example", "localhost", &literal] {
                    assert!(!reaches(tenant, host, 80, address), "{host} {address}");
                }
            }
        }
        let listed = hosts(&["10.0.0.1:8080", "[fd00::1]", "localhost:3000", "billing.internal"]);
        assert!(reaches(&listed, "10.0.0.1", 8080, "10.0.0.1") && !reaches(&listed, "10.0.0.1", 80, "10.0.0.1"));
        assert!(reaches(&listed, "billing.internal", 8080, "10.0.0.1"), "a name that leads to a listed address");
        assert!(!reaches(&listed, "billing.internal", 8080, "10.0.0.2"));
        assert!(reaches(&listed, "[fd00::1]", 1, "fd00::1"));
        assert!(reaches(&listed, "localhost", 3000, "127.0.0.1") && !reaches(&listed, "localhost", 80, "127.0.0.1"));
        assert!(!reaches(&listed, "127.0.0.1", 3000, "127.0.0.1"));
    }

    #[test]
    fn hosts_can_be_changed_and_are_validated() {
        let tenant = hosts(&["a.example"]);
        assert!(reaches(&tenant, "a.example", 1, "1.1.1.1") && !reaches(&tenant, "b.example", 1, "1.1.1.1"));
        tenant.set(Some(&["B.example:2".to_owned()])).unwrap();
        assert!(reaches(&tenant, "b.example", 2, "1.1.1.1") && !reaches(&tenant, "b.example", 3, "1.1.1.1"));
        assert!(!reaches(&tenant, "a.example", 1, "1.1.1.1"));
        for wrong in ["", "a b", "http://a", "a/b", "a:0", "a:x", "*.*.a", "*.1.2.3.4", "a..b", ":80", "[::1", "0x7f.1"]
        {
            let refused = tenant.set(Some(&[wrong.to_owned()]));
            assert!(refused.is_err(), "{wrong}");
        }
        assert!(reaches(&tenant, "b.example", 2, "1.1.1.1"), "a refused change changes nothing");
        tenant.set(Some(&[])).unwrap();
        assert!(!reaches(&tenant, "b.example", 2, "1.1.1.1"));
    }
}
