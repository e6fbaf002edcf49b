//! A member: one group of a shape in its own process. A member has a revision, a link on which other groups call it,
//! links to the groups that it calls, and a front door if the group has routes.
//!
//! The link starts to listen after the revision has started, so that every call that reaches a member gets a reply. A
//! link to a peer is established when it is first needed, so members can start in any order.
//!
//! A member starts in two steps. [`PreparedMember`] has everything that needs no store. It is started when the stores are
//! not open in another process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isomer_capabilities::outbound::OutboundNetwork;
use isomer_capabilities::secrets::SecretValues;
use isomer_capabilities::{AppOrigin, DataDir};
use isomer_front::{Connections, Limits};
use isomer_link::{Address, LinkError, Peer, PeerLimits, Server, ServerLimits, Tls};
use isomer_manifest::{App, LinkAddress};
use isomer_observe::Log;
use isomer_plan::Plan;
use isomer_runtime::code::CodeSource;
use isomer_telemetry::Tracer;
use isomer_telemetry::metrics::Metrics;
use isomer_wire::Callee;
use tokio::sync::watch;

use crate::error::RevisionError;
use crate::front_gate::{FrontGate, GateGoal, GateStop};
use crate::group_handler::AppSite;
use crate::membership::{PeerGroups, peer_groups};
use crate::package::{NewPackage, PackageOptions};
use crate::progress::Progress;
use crate::single_app::SingleApp;
use crate::tenancy::{TenancyError, TenancyOptions};
use isomer_seam::Components;

/// The time limit of one attempt to connect to a peer. Failed attempts are repeated.
const LINK_WAIT: Duration = Duration::from_secs(60);

/// The options of a [`Member`].
pub struct MemberOptions {
    /// The name of the shape that the app runs in.
    pub shape: String,
    /// The name of the group that this process runs.
    pub group: String,
    /// The address at which other groups call this group; `None` if the group accepts no calls.
    pub listen: Option<LinkAddress>,
    /// The addresses of the groups that this group calls, by the groups' names. Entries for other groups are ignored.
    pub peers: BTreeMap<String, Vec<LinkAddress>>,
    /// The certificates for links to other machines; `None` if all addresses are local.
    pub tls: Option<TlsFiles>,
    /// The listening socket of the front door; `None` if the group has no front door.
    pub front: Option<std::net::TcpListener>,
    /// The limits of the front door.
    pub limits: Limits,
    /// The time for which requests and calls in flight may continue after the signal to stop.
    pub grace: Duration,
    /// The resolver, certificate authorities and limits for outgoing requests.
    pub network: OutboundNetwork,
    /// The source of the secrets.
    pub secrets: SecretValues,
    /// Environment variables from which secrets may take their values. A variable is used only if the process's own
    /// environment does not have it.
    pub environment: BTreeMap<String, String>,
    /// Records the spans of the group's requests and calls.
    pub tracer: Tracer,
    /// The registry of the metrics of this process.
    pub metrics: Metrics,
    /// See [`PackageOptions::deterministic`].
    pub deterministic: bool,
    /// Where the app comes from.
    pub origin: AppOrigin,
}

/// The paths of PEM files: the node's certificate, its private key, and the certificate of the authority that signed
/// the certificates of all nodes.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authority's certificate.
    pub authority: PathBuf,
}

/// The reason why a member cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The package of the group could not be made.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// The revision does not start, or a granted capability could not be opened.
    #[error(transparent)]
    Start(#[from] TenancyError),
    /// A link could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// A group of a shape that is ready to start, and has opened no store.
pub struct PreparedMember {
    options: StartedOptions,
    single_app: SingleApp,
    made: NewPackage,
    peers: BTreeMap<String, Arc<Peer>>,
    tls: Option<Tls>,
    log: Log,
}

/// The options that are used when a member starts.
struct StartedOptions {
    listen: Option<LinkAddress>,
    front: Option<std::net::TcpListener>,
    limits: Limits,
    grace: Duration,
}

/// A running group of a shape.
pub struct Member {
    /// The plan of the whole shape.
    pub plan: Plan,
    front: Option<FrontGate>,
    /// The routes of the group.
    site: Arc<AppSite>,
    /// The app with the revision that handles calls on the link.
    _single_app: SingleApp,
    server: Option<Server>,
    peers: Vec<Arc<Peer>>,
    grace: Duration,
}

impl PreparedMember {
    /// Makes the package of the group, and the links to the groups that it calls.
    ///
    /// # Errors
    /// If one of these steps fails. The later steps are then not run.
    pub fn new(
        app: &App,
        components: &Components,
        options: MemberOptions,
        cache: &CodeSource,
        log: &Log,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Self, MemberError> {
        let making = PackageOptions {
            shape: options.shape,
            process: Some(options.group.clone()),
            deterministic: options.deterministic,
        };
        let running =
            TenancyOptions { metrics: options.metrics, network: options.network, ..TenancyOptions::default() };
        let mut single_app = SingleApp::new(cache.clone(), log.clone(), running)?.traced_by(options.tracer);
        single_app.set_origin(options.origin);
        single_app.set_secrets(options.secrets);
        single_app.set_environment(options.environment);
        let made = single_app.make(app, components, &making, progress)?;
        let tls = options.tls.as_ref().map(|files| Tls::load(&files.certificate, &files.key, &files.authority));
        let tls = tls.transpose()?;
        let peers = peers(&peer_groups(&made.plan, &options.group), options.peers, tls.as_ref())?;
        let MemberOptions { listen, front, limits, grace, .. } = options;
        let options = StartedOptions { listen, front, limits, grace };
        Ok(Self { options, single_app, made, peers, tls, log: log.clone() })
    }

    /// Opens the stores, starts the package, and starts to listen for calls.
    ///
    /// # Errors
    /// If one of these steps fails. The later steps are then not run.
    pub async fn start(
        self,
        app_dir: &Path,
        data: &DataDir,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Member, MemberError> {
        let Self { options, single_app, made, peers, tls, log } = self;
        let NewPackage { package, plan, code, .. } = made;
        let answers = peers.iter().map(|(group, peer)| (group.clone(), peer.clone() as Arc<dyn Callee>));
        let started = single_app.start(package, app_dir, data, answers.collect(), progress).await?;
        drop(code);
        let server = match options.listen {
            Some(address) => {
                let limits = ServerLimits::default();
                Some(Server::listen(&to_link(address), tls.as_ref(), limits, started.callee()).await?)
            }
            None => None,
        };
        let front = options.front.map(|listener| {
            let resolver = single_app.resolver();
            let connections = Connections::new(&options.limits, Some(resolver.metrics()));
            FrontGate::new(listener, options.limits, resolver, connections, log)
        });
        let site = started.site().clone();
        single_app.take_over(started);
        let peers = peers.into_values().collect();
        Ok(Member { plan, front, site, server, _single_app: single_app, peers, grace: options.grace })
    }
}

impl Member {
    /// Prepares the group and starts it.
    ///
    /// # Errors
    /// If one of these steps fails. The later steps are then not run.
    #[expect(clippy::too_many_arguments, reason = "callers have the arguments from different places")]
    pub async fn make(
        app: &App,
        app_dir: &Path,
        components: &Components,
        options: MemberOptions,
        data: &DataDir,
        cache: &CodeSource,
        log: &Log,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Self, MemberError> {
        PreparedMember::new(app, components, options, cache, log, progress)?.start(app_dir, data, progress).await
    }

    /// Returns the routes of the group.
    pub fn site(&self) -> Arc<AppSite> {
        self.site.clone()
    }

    /// Returns the address at which other groups call this group. If the configured port is 0, the address contains the
    /// port that the system chose.
    pub fn link_address(&self) -> Option<String> {
        self.server.as_ref().map(|server| server.address().to_string())
    }

    /// Resolves when links to all groups that this group calls are established. [`Member::serve`] must run meanwhile,
    /// because groups may call each other.
    pub fn linked(&self) -> impl Future<Output = ()> + Send + 'static {
        let peers = self.peers.clone();
        async move {
            for peer in peers {
                while peer.wait_ready(Instant::now() + LINK_WAIT).await.is_err() {}
            }
        }
    }

    /// Serves until `stop` resolves. Then closes the front door, accepts calls until the front door's requests have
    /// finished, and stops. Returns the number of connections and calls that were aborted.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> usize {
        let goal = GateGoal { open: true, ..GateGoal::default() };
        let (goals, followed) = watch::channel(goal);
        let stop = async move {
            stop.await;
            goals.send_replace(GateGoal { stop: Some(GateStop::AcceptQueue), ..goal });
            // Keeps the sender, because the gate also stops without a sender.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            cut_off = self.serve_as_ordered(followed, |_| ()) => cut_off,
            () = stop => 0,
        }
    }

    /// Serves like [`Member::serve`], and opens and closes the front door as `goals` require. Calls `drained` with the
    /// number of a pause when all connections of the front door have ended.
    pub async fn serve_as_ordered(self, mut goals: watch::Receiver<GateGoal>, drained: impl FnMut(u64)) -> usize {
        let Self { front, server, grace, _single_app, .. } = self;
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
                Some(front) => front.follow(goals, drained, grace).await,
                None => {
                    let _ = goals.wait_for(|goal| goal.stop.is_some()).await;
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

/// Creates links to the groups that this group calls, except for groups without a known address.
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
