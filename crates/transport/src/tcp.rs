//! TCP listeners that drain without losing a connection.
//!
//! A client sees a connection as established before this process accepts it: the kernel finishes the handshake and puts
//! the connection into the listener's queue. When the listener is closed, the kernel resets all connections in the
//! queue. So a listener that no other process holds is closed in three steps: the kernel starts no further handshake
//! ([`refuse_handshakes`]), handshakes in progress get time to finish, and all connections in the queue are accepted.
//! If another process also holds the listener, for example a service manager, this process only drops the listener: the
//! connections in the queue wait for the next process that accepts from it.
//!
//! While the process has no free file descriptor, connections stay in the queue ([`ResourceShortage`]).
//!
//! | rejected | why |
//! | --- | --- |
//! | accepting all connections in the queue, then closing | a connection that is made between the two steps is reset |
//! | `shutdown` of the listener | Linux also resets the connections in the queue |
//! | a second listener on the port (`SO_REUSEPORT`) | no process would accept the connections of the second listener |

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::accept::{Acceptor, ResourceShortage, is_of_connection};

/// The maximum time that a drain waits for TCP handshakes in progress: one round trip to the client.
const HANDSHAKES_MAX: Duration = Duration::from_millis(250);

/// The maximum time that a drain waits for handshakes over the loopback interface, which involve only the kernel.
const LOOPBACK_HANDSHAKES_MAX: Duration = Duration::from_millis(20);

/// An accepted connection.
pub struct AcceptedTcp<T> {
    /// The connection.
    pub stream: TcpStream,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The settings with which the connection's listener was added.
    pub settings: T,
}

/// Listeners that are polled in rotation, each with settings for its connections.
pub struct TcpListeners<T> {
    all: Vec<Listener<T>>,
    /// The index of the listener that is polled first. It advances with each connection, so that a busy listener does
    /// not starve the others.
    first: usize,
}

struct Listener<T> {
    socket: TcpListener,
    address: SocketAddr,
    settings: T,
    /// Whether another process also holds the listener and serves the connections in its queue.
    shared: bool,
}

impl<T> Default for TcpListeners<T> {
    fn default() -> Self {
        Self { all: Vec::new(), first: 0 }
    }
}

impl<T: Clone> TcpListeners<T> {
    /// Adds a listening socket. If `shared` is true, another process also holds the socket and accepts from it later.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If `socket` cannot be registered with the tokio runtime.
    pub fn push(&mut self, socket: std::net::TcpListener, settings: T, shared: bool) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        self.all.push(Listener { socket, address, settings, shared });
        Ok(())
    }

    /// Returns the addresses of the listeners, in the order in which they were added.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.all.iter().map(|listener| listener.address)
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<AcceptedTcp<T>>> {
        for number in 0..self.all.len() {
            let listener = &self.all[self.first.wrapping_add(number) % self.all.len()];
            if let Poll::Ready(accepted) = listener.socket.poll_accept(cx) {
                let settings = listener.settings.clone();
                return Poll::Ready(accepted.map(|(stream, peer)| AcceptedTcp { stream, peer, settings }));
            }
        }
        Poll::Pending
    }

    /// Stops listening. Passes to `serve` the queued connections of all listeners that are not shared. If no file
    /// descriptor is free, waits until these connections can be accepted.
    pub async fn drain(
        mut self,
        shortage: &mut ResourceShortage<impl FnMut() -> bool>,
        mut serve: impl FnMut(AcceptedTcp<T>),
    ) where
        T: Send + Sync,
    {
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
                Ok(accepted) => serve(accepted),
                Err(error) if is_of_connection(&error) => {}
                Err(error) => shortage.pause(&error).await,
            }
        }
        for listener in self.all {
            listener.empty(shortage, &mut serve).await;
        }
    }
}

impl<T: Clone + Send + Sync> Acceptor for TcpListeners<T> {
    type Connection = AcceptedTcp<T>;

    async fn accept(&mut self) -> io::Result<AcceptedTcp<T>> {
        self.first = self.first.wrapping_add(1);
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl<T: Clone> Listener<T> {
    /// Passes the connections in the listener's queue to `serve`, and closes the listener.
    async fn empty(
        self,
        shortage: &mut ResourceShortage<impl FnMut() -> bool>,
        serve: &mut impl FnMut(AcceptedTcp<T>),
    ) {
        let Self { socket, settings, .. } = self;
        // Polls the kernel directly, because tokio only knows the result of its last poll of all sockets.
        let Ok(socket) = socket.into_std() else { return };
        // Checks for a connection before `accept`, which fails without a free file descriptor even if the queue is
        // empty.
        while is_readable(&socket) {
            match socket.accept() {
                Ok((stream, peer)) => {
                    let ready = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    match ready {
                        Ok(stream) => serve(AcceptedTcp { stream, peer, settings: settings.clone() }),
                        Err(error) => tracing::warn!(%error, "cannot accept a connection"),
                    }
                }
                Err(error) if is_of_connection(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => shortage.pause(&error).await,
            }
        }
    }
}

/// Returns whether a connection waits in the queue.
fn is_readable(socket: &std::net::TcpListener) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut polled, Some(&Timespec::default())) {
        Ok(number) => number > 0,
        // Returns true so that the caller calls `accept`, which returns the error.
        Err(_) => true,
    }
}

/// Makes the kernel drop the first packet of every further handshake, so that clients retry until the port is closed or
/// another process listens on it. Returns whether the kernel supports this.
#[cfg(target_os = "linux")]
fn refuse_handshakes(socket: &TcpListener) -> bool {
    use socket2::{SockFilter, SockRef};

    // A classic BPF filter sees a segment from its TCP header on. The flags are byte 13. A handshake starts with a
    // segment that has SYN but not ACK.
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
