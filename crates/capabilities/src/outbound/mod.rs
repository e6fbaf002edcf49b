//! Outbound HTTP: a client for each component, which reaches only the hosts that the component was granted.
//!
//! For each request, the host and port must match a grant. The host name is looked up once, and addresses that the
//! grant does not cover are discarded. The client connects to one of the remaining *addresses*, so no second look-up
//! can return a different one (DNS rebinding). If an idle connection to the same host was [kept](idle_connections), no
//! look-up is needed, but the address of the connection is checked again. Redirects are returned like other responses,
//! and the proxy settings in the environment are ignored, because both could lead to a host that was not checked.
//!
//! - [`OutboundPolicy`], [`HostRule`]: the grants. [`Reach`]: the part of the network that an address belongs to.
//! - [`OutboundClient`]: sends the requests of one component.
//! - [`Resolve`]: looks up host names. [`Authorities`]: the trusted certificate authorities.

mod address;
mod authorities;
mod connect;
mod exchange;
mod http_connection;
mod idle_connections;
mod policy;
mod resolve;
mod sending;
mod tenant;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use isomer_display::excerpt;
use isomer_runtime::{Account, Denials};
use rustls::RootCertStore;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use exchange::{Exchange, Failed};
use http_connection::{HttpConnection, Permit};
use idle_connections::IdleConnections;
use policy::Host;

pub use address::Reach;
pub(crate) use authorities::AuthorityFiles;
pub use authorities::{Authorities, AuthorityError};
pub use policy::{HostRule, OutboundPolicy};
pub use resolve::{Resolve, SystemResolver};
pub use tenant::{InvalidHostRule, TenantHosts};

/// A response, and the future that drives its connection. The caller must poll the future until the future resolves.
/// Dropping the future closes the connection.
pub type Outgoing = (http::Response<WasiBody>, BoxFuture<'static, Result<(), Error>>);

/// The maximum length in bytes of a host name in a message, which is the maximum length of a DNS name.
const HOST_BYTES_MAX: usize = 255;

/// The limits of outbound HTTP.
#[derive(Debug, Clone)]
pub struct OutboundLimits {
    /// The maximum number of connections in use at the same time. On a node, this limit applies to all components of a
    /// tenant together. In a process with only one app, it applies to each component.
    pub connections_max: usize,
    /// The maximum number of idle connections that are kept for the next requests of a component; 0 keeps none.
    pub idle_max: usize,
    /// The maximum time for which an idle connection is kept.
    pub idle_time: Duration,
    /// The maximum idle time of a connection that is used for a request that must not be sent twice. Most servers close
    /// idle connections only after a longer time, so they do not close the connection while the request is being sent.
    pub idle_time_unrepeatable: Duration,
    /// The timeout for look-up, TCP connection and TLS handshake together, if the guest sets none.
    pub connect_timeout: Duration,
    /// The timeout from sending the request's head to receiving the response's head, if the guest sets none.
    pub first_byte_timeout: Duration,
    /// The timeout between two frames of the response's body, if the guest sets none.
    pub between_bytes_timeout: Duration,
    /// The maximum value of a timeout that a guest sets.
    pub timeout_max: Duration,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            idle_max: 8,
            idle_time: Duration::from_secs(15),
            idle_time_unrepeatable: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            between_bytes_timeout: Duration::from_secs(60),
            timeout_max: Duration::from_secs(600),
        }
    }
}

/// The maximum number of idle connections per tenant.
const TENANT_IDLE_MAX: usize = 32;

/// Returns the certificate authorities that Mozilla trusts.
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The resolver, certificate authorities and limits of outbound HTTP, which the clients of all components share.
#[derive(Clone)]
pub struct OutboundNetwork {
    authorities: Authorities,
    resolver: Arc<dyn Resolve>,
    limits: OutboundLimits,
    /// Addresses by `HOST` or `HOST:PORT`. Requests to these hosts go to the address without a look-up. For tests.
    stubs: Arc<BTreeMap<String, SocketAddr>>,
}

impl std::fmt::Debug for OutboundNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboundNetwork").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Default for OutboundNetwork {
    fn default() -> Self {
        Self::new(OutboundLimits::default())
    }
}

impl OutboundNetwork {
    /// Creates a network with the operating system's resolver and the public certificate authorities.
    pub fn new(limits: OutboundLimits) -> Self {
        Self::with(limits, Arc::new(SystemResolver), public_roots())
    }

    /// Creates a network with the given resolver and certificate authorities.
    pub fn with(limits: OutboundLimits, resolver: Arc<dyn Resolve>, roots: RootCertStore) -> Self {
        Self { authorities: Authorities::from(roots), resolver, limits, stubs: Arc::default() }
    }

    /// Returns this network with `authorities` in place of its certificate authorities.
    #[must_use]
    pub fn trusting(self, authorities: Authorities) -> Self {
        Self { authorities, ..self }
    }

    /// Returns this network with stubs for tests: requests to the hosts in `stubs` (`HOST` or `HOST:PORT`) go to the
    /// given addresses, without TLS. The hosts are not looked up, and the addresses are not checked.
    #[must_use]
    pub fn with_stubs(self, stubs: BTreeMap<String, SocketAddr>) -> Self {
        Self { stubs: Arc::new(stubs), ..self }
    }

    /// Returns the trusted certificate authorities.
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    fn stub_for(&self, to: &Destination) -> Option<SocketAddr> {
        if self.stubs.is_empty() {
            return None;
        }
        let host = to.host.to_string();
        self.stubs.get(&format!("{host}:{}", to.port)).or_else(|| self.stubs.get(&host)).copied()
    }
}

/// Sends the HTTP requests of one component. Clones share connections and limits.
#[derive(Clone)]
pub struct OutboundClient {
    network: OutboundNetwork,
    policy: Arc<OutboundPolicy>,
    tenant: Option<Arc<TenantHosts>>,
    connections: Arc<Semaphore>,
    idle: Arc<IdleConnections>,
    /// Certificate authorities for the hosts that a rule matches, used instead of the authorities in `network`.
    trusted: Arc<[(HostRule, Authorities)]>,
    denials: Option<Arc<Denials>>,
}

/// The host, port and protocol to which a request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    host: Host,
    port: u16,
    tls: bool,
}

impl OutboundClient {
    /// Creates a client that can reach the hosts that `policy` grants.
    pub fn new(network: OutboundNetwork, policy: OutboundPolicy) -> Self {
        let connections = Arc::new(Semaphore::new(network.limits.connections_max));
        let idle = Arc::new(Semaphore::new(network.limits.idle_max));
        Self::limited(network, policy, None, connections, idle)
    }

    /// Creates a client that can reach the hosts that both `policy` grants and `tenant` allows.
    pub fn of_tenant(network: OutboundNetwork, policy: OutboundPolicy, tenant: Arc<TenantHosts>) -> Self {
        let connections = tenant.connections(network.limits.connections_max);
        let idle = tenant.idle_connections(TENANT_IDLE_MAX);
        Self::limited(network, policy, Some(tenant), connections, idle)
    }

    fn limited(
        network: OutboundNetwork,
        policy: OutboundPolicy,
        tenant: Option<Arc<TenantHosts>>,
        connections: Arc<Semaphore>,
        idle: Arc<Semaphore>,
    ) -> Self {
        let idle = IdleConnections::new(network.limits.idle_max, network.limits.idle_time, idle);
        Self { network, policy: Arc::new(policy), tenant, connections, idle, trusted: Arc::new([]), denials: None }
    }

    /// Returns this client with other certificate authorities for the hosts that the rules match.
    #[must_use]
    pub fn trusting(self, trusted: Vec<(HostRule, Authorities)>) -> Self {
        Self { trusted: trusted.into(), ..self }
    }

    /// Returns this client, with the memory of its idle connections charged to `account`. The memory of exchanges is
    /// not charged here, but by the caller.
    #[must_use]
    pub fn charging(self, account: Arc<Account>) -> Self {
        self.idle.charge_to(account);
        self
    }

    /// Returns this client, which reports refused requests to `denials`. `None` reports nothing.
    #[must_use]
    pub fn reporting_to(self, denials: Option<Arc<Denials>>) -> Self {
        Self { denials, ..self }
    }

    fn report(&self, text: &std::fmt::Arguments<'_>) {
        if let Some(denials) = &self.denials {
            denials.report(self.policy.component(), &text.to_string());
        }
    }

    /// Sends `request`. Returns the response when its head has been received.
    ///
    /// Uses an idle connection to the destination, if there is one. If the server has closed this connection, the
    /// request is sent again over a new connection, provided that sending it twice has no additional effect.
    ///
    /// # Errors
    /// `HttpRequestDenied` if the host is not granted, or not allowed for the tenant; `DestinationIpProhibited` if the
    /// grant or the tenant's allowed hosts do not cover the addresses of the host. Both are reported
    /// ([`OutboundClient::reporting_to`]). If a grant is missing, the report contains the line of the manifest that
    /// would grant the request. Any other error is an error of the exchange.
    pub async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Outgoing, Error> {
        if request.method() == http::Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let to = Destination::of(request.uri())?;
        self.check_host(&to)?;
        let limits = &self.network.limits;
        let options = options.unwrap_or_default();
        let time = |requested: Option<Duration>, default| requested.unwrap_or(default).min(limits.timeout_max);
        let permit = self.connections.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let permit = Arc::new(permit);
        let timeouts = exchange::Timeouts {
            first_byte: time(options.first_byte_timeout, limits.first_byte_timeout),
            between_bytes: time(options.between_bytes_timeout, limits.between_bytes_timeout),
        };
        let exchange = Exchange { to, timeouts, idle: self.idle.clone() };
        let mut request = sending::prepare(request).await;
        let idle_time = if sending::is_repeatable(&request) { limits.idle_time } else { limits.idle_time_unrepeatable };
        while let Some(idle) = self.idle.take(&exchange.to, idle_time, |address| self.may_reach(&exchange.to, address))
        {
            let Some(connection) = idle.reserve(&permit).await else { continue };
            match exchange.run(connection, request, true).await {
                Ok(outgoing) => return Ok(outgoing),
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Unsent(unsent)) => {
                    // Sends the request again only once, over a new connection. The server may have closed the
                    // connection because of this request (RFC 9110, section 9.2.2), and would do so each time.
                    request = *unsent;
                    break;
                }
            }
        }
        let connecting = self.connect(&exchange.to, permit);
        let connection = tokio::time::timeout(time(options.connect_timeout, limits.connect_timeout), connecting)
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        exchange.run(connection, request, false).await.map_err(|failed| match failed {
            Failed::Finally(error) => error,
            Failed::Unsent(_) => Error::ConnectionTerminated,
        })
    }

    /// Opens a new connection to the destination.
    async fn connect(&self, to: &Destination, permit: Permit) -> Result<HttpConnection, Error> {
        if let Some(stub) = self.network.stub_for(to) {
            let (stream, address) = connect::tcp(&[stub.ip()], stub.port(), &self.connections).await?;
            return HttpConnection::open(connect::Connection::Plain(stream), address, permit).await;
        }
        let addresses = self.addresses(to).await?;
        let (stream, address) = connect::tcp(&addresses, to.port, &self.connections).await?;
        let connection = if to.tls {
            let trusted = self.trusted.iter().find(|(rule, _)| rule.matches(&to.host, to.port));
            let authorities = trusted.map_or(&self.network.authorities, |(_, authorities)| authorities);
            connect::tls(authorities.tls().clone(), &to.host, stream).await?
        } else {
            connect::Connection::Plain(stream)
        };
        HttpConnection::open(connection, address, permit).await
    }

    /// Returns whether an idle connection to `address` may be used for a request to `to`.
    fn may_reach(&self, to: &Destination, address: IpAddr) -> bool {
        if self.network.stub_for(to).is_some() {
            return true;
        }
        let Destination { host, port, .. } = to;
        self.policy.allows(host, *port, address)
            && self.tenant.as_ref().is_none_or(|tenant| tenant.allows(host, *port, address))
    }

    fn check_host(&self, destination: &Destination) -> Result<(), Error> {
        let Destination { host, port, .. } = destination;
        if self.policy.rules_for(host, *port).next().is_some() {
            return match &self.tenant {
                Some(tenant) if !tenant.may_name(host, *port) => Err(self.refuse(tenant, host, *port)),
                _ => Ok(()),
            };
        }
        self.report(&format_args!(
            "an HTTP request to `{host}:{port}` was denied; to grant it, {}",
            self.policy.grant_instruction(host, *port, false),
            host = excerpt::cut(host, HOST_BYTES_MAX),
        ));
        Err(Error::HttpRequestDenied)
    }

    /// Resolves `destination`, and returns those of its addresses that the grants allow. Returns an error if no address
    /// is left.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<IpAddr>, Error> {
        let Destination { host, port, .. } = destination;
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolve(name).await.map_err(|error| {
                tracing::debug!(%host, %error, "cannot look up a host name");
                Error::DnsError { rcode: Some("the host name could not be looked up".to_owned()), info_code: None }
            })?,
        };
        if found.is_empty() {
            return Err(Error::DestinationNotFound);
        }
        let allowed: Vec<_> = found.into_iter().filter(|address| self.policy.allows(host, *port, *address)).collect();
        if allowed.is_empty() {
            self.report(&format_args!(
                "an HTTP request to `{host}:{port}` was denied because the host leads to loopback or a private network; to grant it, {}",
                self.policy.grant_instruction(host, *port, matches!(host, Host::Name(_))),
                host = excerpt::cut(host, HOST_BYTES_MAX),
            ));
            return Err(Error::DestinationIpProhibited);
        }
        let Some(tenant) = &self.tenant else { return Ok(allowed) };
        let allowed: Vec<_> = allowed.into_iter().filter(|address| tenant.allows(host, *port, *address)).collect();
        if allowed.is_empty() {
            self.refuse(tenant, host, *port);
            return Err(Error::DestinationIpProhibited);
        }
        Ok(allowed)
    }

    /// Looks up a name. The resolver of the operating system occupies a thread until it has a result, even if the
    /// caller no longer waits, so a look-up for a tenant keeps its permit until then.
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let resolver = self.network.resolver.clone();
        let Some(tenant) = &self.tenant else { return resolver.resolve(name).await };
        let permit = tenant.lookup().await;
        let name = name.to_owned();
        let lookup = tokio::spawn(async move {
            let _permit = permit;
            resolver.resolve(&name).await
        });
        lookup.await.map_err(std::io::Error::other)?
    }

    /// Reports and counts a request to a host that is not allowed for the tenant. Returns the error for the guest.
    fn refuse(&self, tenant: &TenantHosts, host: &Host, port: u16) -> Error {
        tenant.refuse();
        self.report(&format_args!(
            "an HTTP request to `{host}:{port}` was denied by the tenant's quota `outbound-hosts`",
            host = excerpt::cut(host, HOST_BYTES_MAX),
        ));
        Error::HttpRequestDenied
    }
}

impl Destination {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::HttpProtocolError),
        };
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = Host::parse(authority.host()).ok_or(Error::HttpRequestUriInvalid)?;
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if tls => 443,
            None => 80,
        };
        Ok(Self { host, port, tls })
    }
}
