//! Listeners: taking connections, and letting go of a listener without losing one.
//!
//! A connection is the client's before it is ours: the kernel finishes its handshake and puts it into the listener's queue, and resets
//! what is still there when the listener is closed. So a listener that nobody else holds is closed in three steps: no handshake begins any
//! more ([`refuse_handshakes`]), those that have begun get time to finish, and the queue is emptied. A listener that somebody else holds,
//! as a service manager does, is only let go: what is in its queue waits for the next process.
//!
//! Where the process has no descriptor for a connection, the connection stays in the queue, and is taken when there is one
//! ([`Shortage`]).
//!
//! | rejected | why |
//! | --- | --- |
//! | emptying the queue, then closing | a connection that is made between the two is reset |
//! | `shutdown` of the listener | Linux resets what is in the queue, too |
//! | a second listener on the port (`SO_REUSEPORT`) | there is no process that would serve it |

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::places::Places;
use crate::tls::Certificates;

/// How long handshakes of TCP that have begun may take to finish once the front door stops: a packet to the client and back.
const HANDSHAKES_MAX: Duration = Duration::from_millis(250);

/// The same over the loopback interface, where only the kernel has to come to it.
const LOOPBACK_HANDSHAKES_MAX: Duration = Duration::from_millis(20);

/// A socket that listens.
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
    tls: Option<Arc<Certificates>>,
    /// Somebody else holds it, too, and serves what is in its queue.
    shared: bool,
}

/// Errors of `accept` that are not about one connection: most likely descriptors have run out, which come back when connections end.
pub(crate) struct Shortage<'a> {
    places: &'a Places,
    /// When an idle connection is closed for the sake of those that wait.
    evicts_from: Instant,
}

impl<'a> Shortage<'a> {
    /// Idle connections are closed at once.
    pub(crate) fn while_serving(places: &'a Places) -> Self {
        Self { places, evicts_from: Instant::now() }
    }

    /// Idle connections are closed in order when their clients have been silent for `idle_grace`, which gives their descriptors back.
    /// Only those that do not end so are closed before their time.
    pub(crate) fn while_draining(places: &'a Places, idle_grace: Duration) -> Self {
        Self { places, evicts_from: Instant::now() + idle_grace.saturating_mul(3) }
    }

    /// Waits a moment after `error`.
    pub(crate) async fn pass(&mut self, error: &io::Error) {
        let closed = Instant::now() >= self.evicts_from && self.places.evict_any();
        tracing::warn!(%error, closed, "cannot accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// How long to wait after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A connection that was taken.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: Option<Arc<Certificates>>,
}

/// All listeners of a front door.
#[derive(Default)]
pub(crate) struct Listeners {
    all: Vec<Listener>,
    /// The one that is asked first: a busy one does not keep the others waiting.
    turn: usize,
}

impl Listener {
    pub(crate) fn new(socket: std::net::TcpListener, tls: Option<Arc<Certificates>>, shared: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls, shared })
    }

    fn accepted(&self, (stream, peer): (TcpStream, SocketAddr)) -> Accepted {
        Accepted { stream, peer, tls: self.tls.clone() }
    }

    /// Hands over what is left in the queue, and closes it.
    async fn empty(self, take: &mut impl FnMut(Accepted), shortage: &mut Shortage<'_>) {
        let Self { socket, tls, .. } = self;
        // The kernel is asked itself: tokio only knows what the last look at all sockets has told it.
        let Ok(socket) = socket.into_std() else { return };
        // Asked first, since without a free descriptor `accept` fails even if nothing waits.
        while is_readable(&socket) {
            match socket.accept() {
                Ok((stream, peer)) => {
                    let ready = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    match ready {
                        Ok(stream) => take(Accepted { stream, peer, tls: tls.clone() }),
                        Err(error) => tracing::warn!(%error, "cannot take a connection from the queue"),
                    }
                }
                Err(error) if is_the_connections(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => shortage.pass(&error).await,
            }
        }
    }
}

impl Listeners {
    pub(crate) fn push(&mut self, listener: Listener) {
        self.all.push(listener);
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.all.iter().map(|listener| listener.address)
    }

    /// The next connection of any listener.
    pub(crate) async fn accept(&mut self) -> io::Result<Accepted> {
        self.turn = self.turn.wrapping_add(1);
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        for number in 0..self.all.len() {
            let listener = &self.all[self.turn.wrapping_add(number) % self.all.len()];
            if let Poll::Ready(accepted) = listener.socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|accepted| listener.accepted(accepted)));
            }
        }
        Poll::Pending
    }

    /// Stops listening: `take` gets every connection that this process is the only one to serve. Takes as long as connections wait
    /// for which there is no descriptor.
    pub(crate) async fn close(mut self, mut take: impl FnMut(Accepted), mut shortage: Shortage<'_>) {
        self.all.retain(|listener| !listener.shared);
        let mut wait = Duration::ZERO;
        for listener in &self.all {
            if refuse_handshakes(&listener.socket) {
                let is_loopback = listener.address.ip().to_canonical().is_loopback();
                wait = wait.max(if is_loopback { LOOPBACK_HANDSHAKES_MAX } else { HANDSHAKES_MAX });
            }
        }
        let until = Instant::now() + wait;
        while let Ok(accepted) = tokio::time::timeout_at(until, self.accept()).await {
            match accepted {
                Ok(accepted) => take(accepted),
                Err(error) if is_the_connections(&error) => {}
                Err(error) => shortage.pass(&error).await,
            }
        }
        for listener in self.all {
            listener.empty(&mut take, &mut shortage).await;
        }
    }
}

/// Does a connection wait?
fn is_readable(socket: &std::net::TcpListener) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut asked, Some(&Timespec::default())) {
        Ok(number) => number > 0,
        // `accept` says what is wrong.
        Err(_) => true,
    }
}

/// Is this error of `accept` about the one connection that it would have returned?
pub(crate) fn is_the_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Has the kernel drop the first packet of every further handshake, so that clients try again until the port is closed or another process
/// listens there. `false` where it cannot.
#[cfg(target_os = "linux")]
fn refuse_handshakes(socket: &TcpListener) -> bool {
    use socket2::{SockFilter, SockRef};

    // A filter of classic BPF sees a segment from its TCP header on. Its flags are byte 13; a handshake begins with SYN without ACK.
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    let attached = SockRef::from(socket).attach_filter(&filter);
    if let Err(error) = &attached {
        tracing::debug!(%error, "connections that are made while the listener closes may be reset");
    }
    attached.is_ok()
}

#[cfg(not(target_os = "linux"))]
fn refuse_handshakes(_: &TcpListener) -> bool {
    false
}
