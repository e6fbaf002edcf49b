//! A network that fails on request: a proxy between a peer and a server. It can delay, change and lose bytes, and cut
//! connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isomer_link::Address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// The direction in which bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The direction from the peer to the server.
    There,
    /// The direction from the server to the peer.
    Back,
}

/// What the proxy does with the bytes that it has received.
pub enum Deed {
    /// Forward these bytes, which may differ from the received ones.
    Send(Vec<u8>),
    /// Forward the received bytes after this pause. Bytes that arrive during the pause wait behind them.
    Delay(Duration),
    /// Forward the received bytes when the test sends `()` over this channel. Bytes that arrive in the meantime wait
    /// behind them.
    Hold(oneshot::Receiver<()>),
    /// Forward these bytes, then cut the connection on both sides.
    SendAndCut(Vec<u8>),
}

type Rule = Box<dyn FnMut(Way, &[u8]) -> Deed + Send>;

struct Control {
    rule: Mutex<Option<Rule>>,
    /// A number whose change cuts all connections.
    cuts: watch::Sender<u64>,
    is_stalled: watch::Sender<bool>,
    is_closed: AtomicBool,
    recorded: Mutex<Vec<u8>>,
}

/// A running proxy. Dropping this value stops the proxy.
pub struct Proxy {
    pub address: Address,
    control: Arc<Control>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy in front of `server`. The server may restart at the same address.
    pub async fn new(server: &Address) -> Self {
        let Address::Tcp { port, .. } = server else { panic!("the proxy is for TCP") };
        let target = SocketAddr::from(([127, 0, 0, 1], *port));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control {
            rule: Mutex::default(),
            cuts: watch::Sender::new(0),
            is_stalled: watch::Sender::new(false),
            is_closed: AtomicBool::new(false),
            recorded: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, control.clone()));
        Self { address: Address::Tcp { host: "127.0.0.1".into(), port }, control, _tasks: tasks }
    }

    /// Sets the rule that decides what the proxy does with bytes.
    pub fn rule(&self, rule: impl FnMut(Way, &[u8]) -> Deed + Send + 'static) {
        *self.control.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.control.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts all connections, and refuses new ones.
    pub fn close(&self) {
        self.control.is_closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Stops forwarding without closing any connection, so that all connections are half-open.
    pub fn stall(&self) {
        self.control.is_stalled.send_replace(true);
    }

    /// Forwards all bytes unchanged again.
    pub fn heal(&self) {
        *self.control.rule.lock().unwrap() = None;
        self.control.is_closed.store(false, Ordering::SeqCst);
        self.control.is_stalled.send_replace(false);
    }

    /// Returns all bytes that were sent to the server.
    pub fn recorded(&self) -> Vec<u8> {
        self.control.recorded.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, control: Arc<Control>) {
    let mut pairs = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if control.is_closed.load(Ordering::SeqCst) {
            continue;
        }
        let mut cuts = control.cuts.subscribe();
        let control = control.clone();
        pairs.spawn(async move {
            // If the server cannot be reached, the client's connection is closed.
            let Ok(server) = TcpStream::connect(target).await else { return };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = pump(from_client, to_server, Way::There, &control) => {}
                () = pump(from_server, to_client, Way::Back, &control) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

/// Forwards bytes in one direction until the connection ends.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, control: &Control) {
    let mut buffer = vec![0; 64 << 10];
    let mut stalled = control.is_stalled.subscribe();
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let bytes = &buffer[..count];
        stalled.wait_for(|is_stalled| !is_stalled).await.unwrap();
        if way == Way::There {
            control.recorded.lock().unwrap().extend_from_slice(bytes);
        }
        let deed = control.rule.lock().unwrap().as_mut().map(|rule| rule(way, bytes));
        let (sent, is_last) = match deed {
            None => (to.write_all(bytes).await, false),
            Some(Deed::Send(bytes)) => (to.write_all(&bytes).await, false),
            Some(Deed::SendAndCut(bytes)) => (to.write_all(&bytes).await, true),
            Some(Deed::Delay(pause)) => {
                tokio::time::sleep(pause).await;
                (to.write_all(bytes).await, false)
            }
            Some(Deed::Hold(released)) => {
                let _ = released.await;
                (to.write_all(bytes).await, false)
            }
        };
        if sent.is_err() || is_last {
            return;
        }
    }
}
