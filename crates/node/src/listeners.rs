//! The listeners of a node's front door, with and without TLS. The node file and the command line configure them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use isomer_apps::{AppFront, AppResolver};
use isomer_front::{
    CertificateFiles, Certificates, FrontError, IpNetwork, Limits, LoadedCertificates, Proxies, TlsError, TlsSettings,
    bind,
};
use isomer_manifest::{FrontTls, NodeLimits, NodeSettings};
use isomer_observe::Log;

/// The addresses at which a node serves apps, and the limits of its front door.
#[derive(Debug, Default)]
pub struct ListenerOptions {
    /// The addresses at which the node accepts connections without TLS.
    pub plain: Vec<SocketAddr>,
    /// The addresses at which the node accepts connections with TLS.
    pub secured: Vec<SocketAddr>,
    /// The certificates for all listeners with TLS.
    pub tls: Option<TlsSettings>,
    /// Listening sockets from a service manager. The service manager keeps them open when the node stops.
    pub inherited: Vec<(std::net::TcpListener, Encryption)>,
    /// The trusted proxies in front of the node. The node uses the client addresses that they report.
    pub proxies: Proxies,
    /// The front door's limits on connections, requests and times.
    pub limits: Limits,
}

/// Whether a listener uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// The listener accepts only connections with TLS.
    Tls,
    /// The listener accepts only connections without TLS.
    Plain,
}

/// A front door whose listeners are open, with its certificates.
pub struct OpenListeners {
    /// The front door, ready to serve.
    pub front: AppFront,
    /// The certificates, which can be reloaded, and the result of the first load; `None` without TLS.
    pub certificates: Option<(Arc<Certificates>, LoadedCertificates)>,
}

/// The reason why a node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// An address cannot be bound, or its socket cannot be used.
    #[error(transparent)]
    Front(#[from] FrontError),
    /// The certificates cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address is configured for TLS, but no certificates are configured.
    #[error("cannot listen with TLS on `{address}`: no certificates are configured")]
    NoCertificates {
        /// The address that is configured for TLS.
        address: SocketAddr,
    },
}

impl ListenerOptions {
    /// Returns the options in a node file. Relative paths in the file are resolved against `folder`.
    #[must_use]
    pub fn of(file: &NodeSettings, folder: &Path) -> Self {
        Self {
            plain: file.listen.iter().map(|at| at.value).collect(),
            secured: file.listen_tls.iter().map(|at| at.value).collect(),
            tls: file.tls.as_ref().map(|tls| settings(tls, folder)),
            inherited: Vec::new(),
            proxies: proxies(file),
            limits: limits(&file.limits),
        }
    }

    /// Replaces all configured addresses with the given sockets from a service manager. Changes no address if `sockets`
    /// is empty.
    pub fn inherit(&mut self, sockets: Vec<(std::net::TcpListener, Encryption)>) {
        if !sockets.is_empty() {
            self.plain.clear();
            self.secured.clear();
        }
        self.inherited = sockets;
    }

    /// Returns whether each listener uses TLS. The order is that of [`AppFront`]'s addresses after
    /// [`ListenerOptions::open`].
    pub fn speaks_tls(&self) -> Vec<bool> {
        let inherited = self.inherited.iter().map(|(_, secured)| *secured == Encryption::Tls);
        inherited.chain(self.plain.iter().map(|_| false)).chain(self.secured.iter().map(|_| true)).collect()
    }

    /// Opens all listeners, or none if one of them fails. `resolver` finds the app for each request. Loading the
    /// certificates blocks the thread.
    ///
    /// # Errors
    /// If the node cannot listen on an address, or cannot load the certificates.
    pub async fn open(self, resolver: Arc<AppResolver>, log: Log) -> Result<OpenListeners, ListenerError> {
        let certificates = match self.tls {
            Some(settings) => Some(Certificates::load(settings)?),
            None => None,
        };
        let shown = certificates.as_ref().map(|(certificates, _)| certificates.clone());
        if let (Some(&address), None) = (self.secured.first(), &shown) {
            return Err(ListenerError::NoCertificates { address });
        }
        let mut front = AppFront::new(self.limits, resolver, log).with_proxies(self.proxies);
        for (listener, secured) in self.inherited {
            let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
            let tls = match (secured, &shown) {
                (Encryption::Plain, _) => None,
                (Encryption::Tls, Some(shown)) => Some(shown.clone()),
                (Encryption::Tls, None) => return Err(ListenerError::NoCertificates { address }),
            };
            front =
                front.with_shared_listener(listener, tls).map_err(|source| FrontError::Listen { address, source })?;
        }
        let plain = self.plain.into_iter().map(|address| (address, None));
        let secured = self.secured.into_iter().map(|address| (address, shown.clone()));
        for (address, tls) in plain.chain(secured) {
            let listener = bind(address).await?;
            front = front.with_listener(listener, tls).map_err(|source| FrontError::Listen { address, source })?;
        }
        Ok(OpenListeners { front, certificates })
    }
}

fn settings(tls: &FrontTls, folder: &Path) -> TlsSettings {
    let files = tls.certificates.iter().map(|(certificate, key)| CertificateFiles {
        certificate: folder.join(&certificate.value),
        key: folder.join(&key.value),
    });
    TlsSettings {
        files: files.collect(),
        folder: tls.folder.as_ref().map(|path| folder.join(&path.value)),
        default: tls.default.as_ref().map(|host| host.value.clone()),
    }
}

fn proxies(file: &NodeSettings) -> Proxies {
    let network =
        |written: &isomer_manifest::AddressRange| IpNetwork { address: written.address, prefix: written.prefix };
    let trusted = file.trusted_proxies.iter().map(|written| network(&written.value)).collect();
    Proxies { trusted, proxy_protocol: file.proxy_protocol }
}

fn limits(configured: &NodeLimits) -> Limits {
    let defaults = Limits::default();
    let count = |configured: Option<u32>, default: usize| configured.map_or(default, |count| count as usize);
    let connections_max = count(configured.connections, defaults.connections_max);
    Limits {
        connections_max,
        connections_per_source_max: count(configured.connections_per_address, Limits::per_source(connections_max)),
        requests_max: count(configured.requests, defaults.requests_max),
        headers_max: count(configured.headers, defaults.headers_max),
        head_bytes_max: configured
            .head_bytes
            .map_or(defaults.head_bytes_max, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        streams_max: configured.streams.unwrap_or(defaults.streams_max),
        handshake_timeout: configured.handshake_timeout.unwrap_or(defaults.handshake_timeout),
        head_timeout: configured.head_timeout.unwrap_or(defaults.head_timeout),
        idle_grace: configured.idle_grace.unwrap_or(defaults.idle_grace),
        body_timeout: configured.body_timeout.unwrap_or(defaults.body_timeout),
        write_timeout: configured.write_timeout.unwrap_or(defaults.write_timeout),
        load_timeout: configured.load_timeout.unwrap_or(defaults.load_timeout),
    }
}
