//! One group of a shape, in a process of its own: its revision, the link by which others call it, the links to those that it
//! calls, and the front door if it has routes.
//!
//! The link listens once the revision has started, so whoever gets through to a member gets an answer; links to peers are made
//! when they are first needed, so the order in which members start does not matter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_capabilities::DataDir;
use isomer_capabilities::outbound::OutboundNetwork;
use isomer_front::{FrontError, Limits};
use isomer_link::{Address, LinkError, Peer, PeerLimits, Server, ServerLimits, Tls};
use isomer_manifest::{App, LinkAddress};
use isomer_observe::Log;
use isomer_plan::Plan;
use isomer_runtime::code::CodeCache;
use isomer_wire::Callee;
use tokio::sync::watch;

use crate::error::RevisionError;
use crate::group_handler::AppFront;
use crate::membership::{PeerGroups, peer_groups};
use crate::package::{NewPackage, PackageOptions};
use crate::progress::Progress;
use crate::single_app::SingleApp;
use crate::tenancy::{TenancyError, TenancyOptions};
use isomer_seam::Components;

/// How long one look for a peer lasts. There is another one after it.
const LINK_WAIT: Duration = Duration::from_secs(60);

/// How a group runs.
pub struct MemberOptions {
    /// The shape of the app.
    pub shape: String,
    /// The group.
    pub group: String,
    /// Where others reach it; it takes no calls without.
    pub listen: Option<LinkAddress>,
    /// Where the groups are that it calls. One that it does not call may be among them, and so may itself.
    pub peers: BTreeMap<String, Vec<LinkAddress>>,
    /// Certificates, for addresses that leave this machine.
    pub tls: Option<TlsFiles>,
    /// The front door's socket, where it has one.
    pub front: Option<std::net::TcpListener>,
    /// What the front door takes on.
    pub limits: Limits,
    /// How long requests and calls may go on when it is told to stop.
    pub grace: Duration,
    /// What outgoing requests are sent through.
    pub network: OutboundNetwork,
    /// Variables for secrets, where the process's environment lacks them.
    pub environment: BTreeMap<String, String>,
    /// For tests; see [`PackageOptions::given_clock_and_random`].
    pub given_clock_and_random: bool,
}

/// PEM files: this node's certificate, its key, the authority of all.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority's certificate.
    pub authority: PathBuf,
}

/// Why a member does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// Its part of the app could not be made.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// It does not start, or a grant could not be made good.
    #[error(transparent)]
    Start(#[from] TenancyError),
    /// A link could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The front door does not open.
    #[error(transparent)]
    Front(#[from] FrontError),
}

/// A group that runs.
pub struct Member {
    /// What was decided for the whole shape.
    pub plan: Plan,
    front: Option<AppFront>,
    /// What the link's calls are answered by.
    _sole: SingleApp,
    server: Option<Server>,
    peers: Vec<Arc<Peer>>,
    grace: Duration,
}

impl Member {
    /// Makes the group's part of the app and begins to listen.
    ///
    /// # Errors
    /// At the first thing that fails.
    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own, and all come from different places")]
    pub async fn make(
        app: &App,
        app_dir: &Path,
        components: &Components,
        options: MemberOptions,
        data: &DataDir,
        cache: &CodeCache,
        log: &Log,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Self, MemberError> {
        let making = PackageOptions {
            shape: options.shape,
            process: Some(options.group.clone()),
            given_clock_and_random: options.given_clock_and_random,
        };
        let running = TenancyOptions { network: options.network, ..TenancyOptions::default() };
        let mut sole = SingleApp::new(cache.clone(), log.clone(), running)?;
        sole.set_environment(options.environment);
        let NewPackage { package, plan, code, .. } = sole.make(app, components, &making, progress)?;
        let tls = options.tls.as_ref().map(|files| Tls::load(&files.certificate, &files.key, &files.authority));
        let tls = tls.transpose()?;
        let peers = peers(&peer_groups(&plan, &options.group), options.peers, tls.as_ref())?;
        let answers = peers.iter().map(|(group, peer)| (group.clone(), peer.clone() as Arc<dyn Callee>));
        let started = sole.start(package, app_dir, data, answers.collect(), progress).await?;
        drop(code);
        let server = match options.listen {
            Some(address) => {
                let limits = ServerLimits::default();
                Some(Server::listen(&to_link(address), tls.as_ref(), limits, started.callee()).await?)
            }
            None => None,
        };
        let front = match options.front {
            Some(listener) => {
                let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
                let front = AppFront::on(listener, options.limits, sole.door(), log.clone());
                Some(front.map_err(|source| FrontError::Listen { address, source })?)
            }
            None => None,
        };
        sole.take_over(started);
        Ok(Self { plan, front, server, _sole: sole, peers: peers.into_values().collect(), grace: options.grace })
    }

    /// Where others reach it, with the port that the system chose if 0 was asked for.
    pub fn link_address(&self) -> Option<String> {
        self.server.as_ref().map(|server| server.address().to_string())
    }

    /// Resolves when each group that this one calls has been reached. Somebody must serve meanwhile: groups may call each other.
    pub fn linked(&self) -> impl Future<Output = ()> + Send + 'static {
        let peers = self.peers.clone();
        async move {
            for peer in peers {
                while peer.wait_ready(Instant::now() + LINK_WAIT).await.is_err() {}
            }
        }
    }

    /// Serves until `stop` resolves: then the front door closes first, and calls are taken until its requests have ended. Returns
    /// how many connections and calls had to be cut off.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> usize {
        let Self { front, server, grace, _sole, .. } = self;
        let (close_link, mut closed) = watch::channel(false);
        let link = async move {
            let closed = async move { drop(closed.wait_for(|closed| *closed).await) };
            match server {
                Some(server) => server.serve(closed, grace).await,
                None => {
                    closed.await;
                    0
                }
            }
        };
        let front = async move {
            let cut_off = match front {
                Some(front) => front.serve(stop, grace).await,
                None => {
                    stop.await;
                    0
                }
            };
            let _ = close_link.send(true);
            cut_off
        };
        let (front, link) = futures::join!(front, link);
        front + link
    }
}

/// Links to the groups that are called, of those whose addresses are known.
fn peers(
    peer_groups: &PeerGroups,
    mut addresses: BTreeMap<String, Vec<LinkAddress>>,
    tls: Option<&Tls>,
) -> Result<BTreeMap<String, Arc<Peer>>, LinkError> {
    let called = peer_groups.calls.keys().filter_map(|group| addresses.remove_entry(group));
    let peer = |(group, addresses): (String, Vec<LinkAddress>)| {
        let addresses: Vec<Address> = addresses.into_iter().map(to_link).collect();
        let peer = Peer::new(&group, addresses, tls.cloned(), PeerLimits::default())?;
        Ok((group, Arc::new(peer)))
    };
    called.map(peer).collect()
}

fn to_link(address: LinkAddress) -> Address {
    match address {
        LinkAddress::Unix(path) => Address::Unix(path),
        LinkAddress::Tcp { host, port } => Address::Tcp { host, port },
    }
}
