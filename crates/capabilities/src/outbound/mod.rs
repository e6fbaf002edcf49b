//! Outbound HTTP: a client per component that reaches what the component was granted, and nothing else.
//!
//! For each request anew: the host and port must match a grant; the name is looked up once; addresses that the grant
//! doesn't cover are thrown away; the connection is made to one of the others *itself*, so nothing can be looked up
//! differently in between (DNS rebinding). A connection that was [kept](kept) for the same host saves the look-up; its address is checked
//! again. Redirects are answers like any other, and proxies of the environment are ignored: following either would reach a host
//! that nobody checked.
//!
//! - [`OutboundPolicy`], [`HostRule`]: what was granted. [`Reach`]: what an address is.
//! - [`OutboundClient`]: sends requests of one component.
//! - [`Resolve`]: where addresses come from. [`Authorities`]: who vouches for servers.

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

/// A response, and the work that moves its bytes: poll it until it ends, or drop it to close the connection.
pub type Outgoing = (http::Response<WasiBody>, BoxFuture<'static, Result<(), Error>>);

/// Bytes of a host's name in a message: as many as a name of DNS may have.
const HOST_BYTES_MAX: usize = 255;

/// Limits of outbound HTTP.
#[derive(Debug, Clone)]
pub struct OutboundLimits {
    /// Connections that one component may have in use.
    pub connections_max: usize,
    /// Connections that are kept for a component's next requests, beside those in use; 0: none.
    pub idle_max: usize,
    /// How long one is kept.
    pub idle_time: Duration,
    /// How long ago one may have been used that is taken for a request that must not be sent twice. Most servers wait longer for a further
    /// request before they close, so the two do not meet on the way.
    pub idle_time_unrepeatable: Duration,
    /// Looking up the name, connecting and TLS together, where the guest doesn't say.
    pub connect_timeout: Duration,
    /// From the request's head to the response's, where the guest doesn't say.
    pub first_byte_timeout: Duration,
    /// Between two pieces of the response's body, where the guest doesn't say.
    pub between_bytes_timeout: Duration,
    /// The longest that a guest may set any of these to.
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

/// Connections of a tenant that are kept for its next requests.
const TENANT_IDLE_MAX: usize = 32;

/// The certificate authorities that Mozilla trusts.
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// What the clients of all components share.
#[derive(Clone)]
pub struct OutboundNetwork {
    authorities: Authorities,
    resolver: Arc<dyn Resolve>,
    limits: OutboundLimits,
    /// By `HOST` or `HOST:PORT`: for tests.
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
    /// With the operating system's resolver and the public certificate authorities.
    pub fn new(limits: OutboundLimits) -> Self {
        Self::with(limits, Arc::new(SystemResolver), public_roots())
    }

    /// With another resolver or other certificate authorities.
    pub fn with(limits: OutboundLimits, resolver: Arc<dyn Resolve>, roots: RootCertStore) -> Self {
        Self { authorities: Authorities::from(roots), resolver, limits, stubs: Arc::default() }
    }

    /// The same network, which trusts `authorities`.
    #[must_use]
    pub fn trusting(self, authorities: Authorities) -> Self {
        Self { authorities, ..self }
    }

    /// The same network, in which requests to these hosts (`HOST` or `HOST:PORT`) go to these addresses instead, without TLS. They are not
    /// looked up, and the addresses are not checked. For tests.
    #[must_use]
    pub fn with_stubs(self, stubs: BTreeMap<String, SocketAddr>) -> Self {
        Self { stubs: Arc::new(stubs), ..self }
    }

    /// Whom it trusts.
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

/// Sends the HTTP requests of one component. Clones share its connections and their limits.
#[derive(Clone)]
pub struct OutboundClient {
    network: OutboundNetwork,
    policy: Arc<OutboundPolicy>,
    tenant: Option<Arc<TenantHosts>>,
    connections: Arc<Semaphore>,
    kept: Arc<IdleConnections>,
    /// Hosts for which further authorities are trusted.
    trusted: Arc<[(HostRule, Authorities)]>,
    denials: Option<Arc<Denials>>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    host: Host,
    port: u16,
    tls: bool,
}

impl OutboundClient {
    /// A client that reaches what `policy` grants.
    pub fn new(network: OutboundNetwork, policy: OutboundPolicy) -> Self {
        let connections = Arc::new(Semaphore::new(network.limits.connections_max));
        let idle = Arc::new(Semaphore::new(network.limits.idle_max));
        Self::limited(network, policy, None, connections, idle)
    }

    /// A client that reaches what `policy` grants and `tenant` allows.
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
        let kept = IdleConnections::new(network.limits.idle_max, network.limits.idle_time, idle);
        Self { network, policy: Arc::new(policy), tenant, connections, kept, trusted: Arc::new([]), denials: None }
    }

    /// The same client, which trusts further certificate authorities for the hosts of these rules.
    #[must_use]
    pub fn trusting(self, trusted: Vec<(HostRule, Authorities)>) -> Self {
        Self { trusted: trusted.into(), ..self }
    }

    /// The same client, which charges `account` for connections that are not in use; what an exchange holds is charged by who sends.
    #[must_use]
    pub fn charging(self, account: Arc<Account>) -> Self {
        self.kept.charge_to(account);
        self
    }

    /// The same client, which tells `denials` what it refuses, if there is one.
    #[must_use]
    pub fn telling(self, denials: Option<Arc<Denials>>) -> Self {
        Self { denials, ..self }
    }

    fn tell(&self, text: &std::fmt::Arguments<'_>) {
        if let Some(denials) = &self.denials {
            denials.tell(self.policy.component(), &text.to_string());
        }
    }

    /// Send `request`; the response once its head has come. A connection that was used before is taken if there is one; where it turns out to be
    /// closed, the request is sent again over a new one if that cannot do anything twice.
    ///
    /// # Errors
    /// `HttpRequestDenied` where the host isn't granted, `DestinationIpProhibited` where it leads to addresses that the grant
    /// doesn't cover; both are told with the line of the manifest that would grant them
    /// ([`OutboundClient::telling`]). Else what failed.
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
        let time = |asked: Option<Duration>, default| asked.unwrap_or(default).min(limits.timeout_max);
        let permit = self.connections.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let permit = Arc::new(permit);
        let timeouts = exchange::Timeouts {
            first_byte: time(options.first_byte_timeout, limits.first_byte_timeout),
            between_bytes: time(options.between_bytes_timeout, limits.between_bytes_timeout),
        };
        let exchange = Exchange { to, timeouts, kept: self.kept.clone() };
        let mut request = sending::prepare(request).await;
        let idle_time = if sending::is_repeatable(&request) { limits.idle_time } else { limits.idle_time_unrepeatable };
        while let Some(line) = self.kept.take(&exchange.to, idle_time, |address| self.may_reach(&exchange.to, address))
        {
            let Some(line) = line.wake(&permit).await else { continue };
            match exchange.run(line, request, true).await {
                Ok(outgoing) => return Ok(outgoing),
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Unsent(again)) => {
                    // Once: the server may have closed because of this request (RFC 9110, section 9.2.2), and would over each of them.
                    request = *again;
                    break;
                }
            }
        }
        let connecting = self.connect(&exchange.to, permit);
        let line = tokio::time::timeout(time(options.connect_timeout, limits.connect_timeout), connecting)
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        exchange.run(line, request, false).await.map_err(|failed| match failed {
            Failed::Finally(error) => error,
            Failed::Unsent(_) => Error::ConnectionTerminated,
        })
    }

    /// Makes a connection.
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

    /// May a connection to `address`, which was made before, go on being used?
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
        self.tell(&format_args!(
            "an HTTP request to `{host}:{port}` was denied; to grant it, {}",
            self.policy.way_to_grant(host, *port, false),
            host = excerpt::cut(host, HOST_BYTES_MAX),
        ));
        Err(Error::HttpRequestDenied)
    }

    /// The addresses of the destination that the grants cover: at least one.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<IpAddr>, Error> {
        let Destination { host, port, .. } = destination;
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolve(name).await.map_err(|error| {
                tracing::debug!(%host, %error, "a name could not be looked up");
                Error::DnsError { rcode: Some("the name could not be looked up".to_owned()), info_code: None }
            })?,
        };
        if found.is_empty() {
            return Err(Error::DestinationNotFound);
        }
        let allowed: Vec<_> = found.into_iter().filter(|address| self.policy.allows(host, *port, *address)).collect();
        if allowed.is_empty() {
            self.tell(&format_args!(
                "an HTTP request to `{host}:{port}` was denied: it leads to loopback or a private network; to grant it, {}",
                self.policy.way_to_grant(host, *port, matches!(host, Host::Name(_))),
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

    /// Looks a name up. The system's resolver holds a thread until it has an answer, also where nobody waits for it any more; so those of a
    /// tenant are bounded until they have ended.
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

    /// Counts and logs what the tenant's quota refuses.
    fn refuse(&self, tenant: &TenantHosts, host: &Host, port: u16) -> Error {
        tenant.refuse();
        self.tell(&format_args!(
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
