//! Outbound HTTP: a client per component that reaches what the component was granted, and nothing else.
//!
//! For each request anew: the host and port must match a grant; the name is looked up once; addresses that the grant
//! doesn't cover are thrown away; the connection is made to one of the others *itself*, so nothing can be looked up
//! differently in between (DNS rebinding). Redirects are answers like any other, and proxies of the environment are ignored:
//! following either would reach a host that nobody checked.
//!
//! - [`OutboundPolicy`], [`HostRule`]: what was granted. [`Reach`]: what an address is.
//! - [`OutboundClient`]: sends requests of one component.
//! - [`Resolve`]: where addresses come from.

mod address;
mod connect;
mod exchange;
mod policy;
mod resolve;
mod tenant;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use isomer_runtime::{Denials, foreign};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use policy::Host;

pub use address::Reach;
pub use connect::public_roots;
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
    /// Connections that one component may have open.
    pub connections_max: usize,
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
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            between_bytes_timeout: Duration::from_secs(60),
            timeout_max: Duration::from_secs(600),
        }
    }
}

/// What the clients of all components share.
#[derive(Clone)]
pub struct OutboundNetwork {
    tls: Arc<ClientConfig>,
    resolver: Arc<dyn Resolve>,
    limits: OutboundLimits,
}

impl OutboundNetwork {
    /// With the operating system's resolver and the public certificate authorities.
    pub fn new(limits: OutboundLimits) -> Self {
        Self::with(limits, Arc::new(SystemResolver), public_roots())
    }

    /// With another resolver or other certificate authorities.
    pub fn with(limits: OutboundLimits, resolver: Arc<dyn Resolve>, roots: RootCertStore) -> Self {
        Self { tls: connect::tls_config(roots), resolver, limits }
    }
}

/// Sends the HTTP requests of one component. Clones share its limit of connections.
#[derive(Clone)]
pub struct OutboundClient {
    network: OutboundNetwork,
    policy: Arc<OutboundPolicy>,
    tenant: Option<Arc<TenantHosts>>,
    connections: Arc<Semaphore>,
    denials: Option<Arc<Denials>>,
}

/// Where a request goes.
struct Destination {
    host: Host,
    port: u16,
    tls: bool,
}

impl OutboundClient {
    /// A client that reaches what `policy` grants.
    pub fn new(network: OutboundNetwork, policy: OutboundPolicy) -> Self {
        let connections = Arc::new(Semaphore::new(network.limits.connections_max));
        Self { network, policy: Arc::new(policy), tenant: None, connections, denials: None }
    }

    /// A client that reaches what `policy` grants and `tenant` allows.
    pub fn of_tenant(network: OutboundNetwork, policy: OutboundPolicy, tenant: Arc<TenantHosts>) -> Self {
        let connections = tenant.connections(network.limits.connections_max);
        Self { network, policy: Arc::new(policy), tenant: Some(tenant), connections, denials: None }
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

    /// Send `request`; the response once its head has come.
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
        let destination = Destination::of(request.uri())?;
        self.check_host(&destination)?;
        let limits = &self.network.limits;
        let options = options.unwrap_or_default();
        let time = |asked: Option<Duration>, default| asked.unwrap_or(default).min(limits.timeout_max);
        let permit = self.connections.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let connecting = async {
            let addresses = self.addresses(&destination).await?;
            let stream = connect::tcp(&addresses, destination.port).await?;
            if destination.tls {
                connect::tls(self.network.tls.clone(), &destination.host, stream).await
            } else {
                Ok(connect::Connection::Plain(stream))
            }
        };
        let connection = tokio::time::timeout(time(options.connect_timeout, limits.connect_timeout), connecting)
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        let timeouts = exchange::Timeouts {
            first_byte: time(options.first_byte_timeout, limits.first_byte_timeout),
            between_bytes: time(options.between_bytes_timeout, limits.between_bytes_timeout),
        };
        exchange::run(connection, request, timeouts, permit).await
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
            "an HTTP request to `{host}:{port}` was denied; to grant it, write {}",
            self.policy.line_to_paste(host, *port, false),
            host = foreign::cut(host, HOST_BYTES_MAX),
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
                "an HTTP request to `{host}:{port}` was denied: it leads to loopback or a private network; to grant it, write {}",
                self.policy.line_to_paste(host, *port, matches!(host, Host::Name(_))),
                host = foreign::cut(host, HOST_BYTES_MAX),
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
            host = foreign::cut(host, HOST_BYTES_MAX),
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
