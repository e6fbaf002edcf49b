//! Flags that give grants to a component that runs without a manifest: environment, directories, hosts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use isomer_capabilities::outbound::Reach;
use isomer_console::Console;
use isomer_diagnostics::Diagnostic;
use isomer_ids::is_environment_name;
use isomer_manifest::{DirGrant, Grants, OutboundHost, Spanned};
use isomer_runtime::command::{SocketPolicy, SocketUse};

use isomer_flags::with_hint;

/// The grants of a component that `isomer run` or `isomer exec` runs directly from its file, without a manifest.
/// Without flags, the component has no grants.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct GrantFlags {
    /// Set an environment variable of the component, which is also a value of its `wasi:config`. May be repeated.
    #[arg(long = "env", value_name = "K=V", value_parser = environment)]
    environment: Vec<(String, String)>,
    /// Grant the component access to a folder: `HOST` is the path on this machine, `GUEST` the absolute path at which
    /// the component sees the folder. With `:ro`, the component can only read. May be repeated.
    #[arg(long = "dir", value_name = "HOST::GUEST[:ro]", value_parser = directory)]
    directories: Vec<DirGrant>,
    /// Grant the component access to a host: a name, `*.NAME`, an IP address, or `*` for every host including private
    /// networks. May be repeated.
    #[arg(long = "allow", value_name = "HOST[:PORT]", value_parser = host)]
    hosts: Vec<OutboundHost>,
}

impl GrantFlags {
    /// Returns the first grant flag that was used, if any was.
    pub(crate) fn first_used(&self) -> Option<&'static str> {
        let given = [
            ("--env", !self.environment.is_empty()),
            ("--dir", !self.directories.is_empty()),
            ("--allow", !self.hosts.is_empty()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    /// Returns the grants as if they were written in a manifest.
    pub(crate) fn grants(&self) -> Grants {
        Grants {
            config: self.environment.iter().cloned().collect(),
            dirs: self.directories.iter().cloned().map(Spanned::unwritten).collect(),
            http: self.hosts.iter().cloned().map(Spanned::unwritten).collect(),
            ..Grants::default()
        }
    }

    /// Returns the environment variables in the order of the flags. If a name is repeated, the last value is used.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = Vec::with_capacity(self.environment.len());
        for (name, value) in &self.environment {
            match environment.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.clone_from(value),
                None => environment.push((name.clone(), value.clone())),
            }
        }
        environment
    }

    /// Returns the socket policy of the component. Denied operations are reported on `console`.
    pub(crate) fn sockets(&self, console: &Console) -> ReportingSockets {
        let sockets = CommandSockets { allowed: self.hosts.clone() };
        ReportingSockets { sockets, console: *console, reported: Arc::default() }
    }
}

fn environment(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("the value is missing: write `{text}=VALUE`"));
    };
    if !is_environment_name(name) {
        return Err(format!(
            "`{name}` is not the name of an environment variable: letters, digits and `_`, not starting with a digit"
        ));
    }
    if value.contains('\0') {
        return Err("the value contains a NUL character".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn directory(text: &str) -> Result<DirGrant, String> {
    let Some((host, guest)) = text.split_once("::") else {
        return Err(format!("the component's path is missing: write `{text}::/PATH`"));
    };
    let (guest, write) = match guest.strip_suffix(":ro") {
        Some(guest) => (guest, false),
        None => (guest, true),
    };
    let here = std::path::absolute(host).unwrap_or_else(|_| PathBuf::from(host));
    let host = if host.is_empty() { PathBuf::new() } else { here };
    DirGrant::new(host, guest, write).map_err(|invalid| with_hint(&invalid))
}

fn host(text: &str) -> Result<OutboundHost, String> {
    let mut host: OutboundHost = text.parse().map_err(|invalid| with_hint(&invalid))?;
    host.private = host.host == "*";
    Ok(host)
}

/// The socket policy of a command component: it may connect to the hosts of its `--allow` flags.
#[derive(Debug, Clone)]
pub(crate) struct CommandSockets {
    allowed: Vec<OutboundHost>,
}

impl SocketPolicy for CommandSockets {
    fn looks_up_names(&self) -> bool {
        !self.allowed.is_empty()
    }

    fn allows(&self, address: SocketAddr, purpose: SocketUse) -> BoxFuture<'static, bool> {
        let everything = self.allowed.iter().any(|host| host.host == "*" && host.port.is_none());
        match purpose {
            _ if everything => Box::pin(async { true }),
            // Binding to an address that the system chooses is always allowed, because it exposes nothing.
            SocketUse::Bind => Box::pin(async move { address.ip().is_unspecified() && address.port() == 0 }),
            SocketUse::Serve => Box::pin(async { false }),
            SocketUse::Connect => {
                let at_port = |host: &&OutboundHost| host.port.is_none_or(|port| port == address.port());
                let allowed: Vec<_> = self.allowed.iter().filter(at_port).cloned().collect();
                Box::pin(async move {
                    for host in &allowed {
                        if resolves_to(host, address).await {
                            return true;
                        }
                    }
                    false
                })
            }
        }
    }
}

/// The maximum number of addresses for which a denial is reported.
const REPORTS_MAX: usize = 20;

/// A socket policy that applies [`CommandSockets`], and reports denied operations with the flags that would allow them.
pub(crate) struct ReportingSockets {
    sockets: CommandSockets,
    console: Console,
    reported: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl SocketPolicy for ReportingSockets {
    fn allows(&self, address: SocketAddr, purpose: SocketUse) -> BoxFuture<'static, bool> {
        let (allows, reported, console) = (self.sockets.allows(address, purpose), self.reported.clone(), self.console);
        Box::pin(async move {
            let is_allowed = allows.await;
            if !is_allowed && is_first_report(&reported, address) {
                console.message(&console.renderer().diagnostic(&denied(address, purpose)));
            }
            is_allowed
        })
    }

    fn looks_up_names(&self) -> bool {
        self.sockets.looks_up_names()
    }
}

fn is_first_report(reported: &Mutex<BTreeSet<SocketAddr>>, address: SocketAddr) -> bool {
    let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
    reported.len() < REPORTS_MAX && reported.insert(address)
}

fn denied(address: SocketAddr, purpose: SocketUse) -> Diagnostic {
    match purpose {
        SocketUse::Connect => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            Diagnostic::warning(format!("a connection to `{address}` was denied")).hint(format!("--allow {address}"))
        }
        SocketUse::Bind | SocketUse::Serve => {
            Diagnostic::warning(format!("listening on `{address}` was denied")).hint("allow everything: --allow '*'")
        }
    }
}

/// Returns whether `address` belongs to the host. A DNS name can resolve to any address that its operator enters,
/// including one of this machine or its network. So only `localhost` and its subdomains match a loopback address, and
/// no name matches a private address.
async fn resolves_to(host: &OutboundHost, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    if host.host == "*" {
        return true;
    }
    if let Ok(named) = host.host.parse::<std::net::IpAddr>() {
        return named.to_canonical() == ip;
    }
    let is_local_name = host.host == "localhost" || host.host.ends_with(".localhost");
    let may_be = match Reach::of(ip) {
        Reach::Public => true,
        Reach::Loopback => is_local_name,
        Reach::Private | Reach::Never => false,
    };
    // `*.NAME` does not work for sockets, because it is unknown which name the guest resolved to this address.
    if !may_be || host.host.starts_with("*.") {
        return false;
    }
    match tokio::net::lookup_host((host.host.as_str(), address.port())).await {
        Ok(mut found) => found.any(|found| found.ip().to_canonical() == ip),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(hosts: &[&str]) -> CommandSockets {
        CommandSockets { allowed: hosts.iter().map(|text| host(text).expect(text)).collect() }
    }

    async fn connects(hosts: &[&str], address: &str) -> bool {
        sockets(hosts).allows(address.parse().expect(address), SocketUse::Connect).await
    }

    #[tokio::test]
    async fn sockets_reach_only_named_peers() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("127.0.0.1:81", "127.0.0.1:81"),
            ("127.0.0.1", "[::ffff:127.0.0.1]:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("*", "10.0.0.1:5"),
            ("*:5", "10.0.0.1:5"),
        ] {
            assert!(connects(&[host], address).await, "{host} {address}");
        }
        for (host, address) in [
            ("127.0.0.1", "127.0.0.2:80"),
            ("127.0.0.1:81", "127.0.0.1:80"),
            ("localhost:81", "127.0.0.1:80"),
            ("localhost", "10.0.0.1:80"),
            ("*:5", "10.0.0.1:6"),
            ("*.example.com", "1.1.1.1:80"),
        ] {
            assert!(!connects(&[host], address).await, "{host} {address}");
        }
    }

    #[tokio::test]
    async fn only_a_grant_of_everything_allows_listening() {
        let address = "127.0.0.1:80".parse().unwrap();
        assert!(sockets(&["*"]).allows(address, SocketUse::Serve).await);
        assert!(sockets(&["*"]).allows(address, SocketUse::Bind).await);
        for hosts in [&["127.0.0.1:80"][..], &["*:80"], &["localhost"]] {
            assert!(!sockets(hosts).allows(address, SocketUse::Serve).await, "{hosts:?}");
            assert!(!sockets(hosts).allows(address, SocketUse::Bind).await, "{hosts:?}");
            assert!(sockets(hosts).allows("0.0.0.0:0".parse().unwrap(), SocketUse::Bind).await, "{hosts:?}");
        }
    }

    #[test]
    fn a_denial_names_the_flag_and_is_reported_once() {
        let reported = Mutex::default();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(is_first_report(&reported, address(1)) && !is_first_report(&reported, address(1)));
        assert_eq!((2..100).filter(|port| is_first_report(&reported, address(*port))).count(), REPORTS_MAX - 1);
        let message = |text: &str, purpose| {
            isomer_diagnostics::Renderer::plain().diagnostic(&denied(text.parse().expect("an address"), purpose))
        };
        assert!(message("[::ffff:10.0.0.1]:5", SocketUse::Connect).contains("--allow 10.0.0.1:5"));
        assert!(message("[::1]:5", SocketUse::Connect).contains("--allow [::1]:5"));
        assert!(host("[::1]:5").is_ok());
        assert!(message("127.0.0.1:80", SocketUse::Serve).contains("--allow '*'"));
    }

    #[test]
    fn directories_are_written_host_first() {
        let grant = directory("/srv/data::/data").unwrap();
        assert_eq!((grant.host.to_str(), grant.guest.as_str(), grant.write), (Some("/srv/data"), "/data", true));
        assert!(!directory("/srv/data::/data:ro").unwrap().write);
        for (text, problem) in [("data", "`data::/PATH`"), ("data::data", "`/data`"), ("::/data", "empty")] {
            assert!(directory(text).unwrap_err().contains(problem), "{text}: {}", directory(text).unwrap_err());
        }
    }
}
