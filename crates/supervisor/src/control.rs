//! The control channel between supervisor and member: a socket pair, one end of which is the member's standard input.
//!
//! The supervisor first sends one byte, together with the front door's listening socket if the member serves the front
//! door (`SCM_RIGHTS`, unix(7)). Then both sides send lines. When the supervisor's end closes, the member exits.

use std::io::{self, BufReader, IoSlice, IoSliceMut, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::messages::{MemberMessage, SupervisorMessage};
use crate::trace_orders::NextTraces;

/// The exit code of a member whose supervisor has exited.
const ABANDONED: i32 = 1;

/// Sends the front door's socket, or a byte that states that the member does not get the socket.
pub(crate) fn send_listener(channel: &UnixStream, listener: Option<&TcpListener>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = listener.map(|listener| [listener.as_fd()]);
    if let Some(descriptors) = &descriptors {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(channel, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn receive_listener(channel: &UnixStream) -> io::Result<Option<TcpListener>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(channel, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().next().map(TcpListener::from))
}

/// What the supervisor wants a member to do: the messages that it has sent, combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberOrders {
    /// Whether the member starts. Until then, it prepares everything that needs no store.
    pub start: bool,
    /// Whether the members of the supervisor had not been ready when the member was ordered to start.
    pub is_first: bool,
    /// Whether the member accepts connections from clients.
    pub accept: bool,
    /// The number of the last pause, which [`MemberMessage::Drained`] repeats.
    pub pause: u64,
    /// Whether the member finishes the running requests and exits.
    pub stop: bool,
}

impl MemberOrders {
    fn add(&mut self, message: &SupervisorMessage) {
        match *message {
            SupervisorMessage::Start { first } => (self.start, self.is_first) = (true, first),
            SupervisorMessage::Accept => self.accept = true,
            SupervisorMessage::Pause { number } => (self.accept, self.pause) = (false, number),
            SupervisorMessage::Stop => self.stop = true,
            SupervisorMessage::Trace(_) => {}
        }
    }
}

/// A member's end of the control channel.
pub struct ControlChannel {
    sender: Mutex<UnixStream>,
    orders: watch::Receiver<MemberOrders>,
    /// The orders to trace requests.
    traces: watch::Receiver<Vec<NextTraces>>,
}

impl ControlChannel {
    /// Opens standard input as the control channel. Returns the channel, the task of the member, and the
    /// front door's socket if the member serves the front door. From this call on, a thread waits for the channel to
    /// close. The thread then removes the supervisor's private folder, whose path `private_dir` reads from the task,
    /// and exits the process.
    ///
    /// # Errors
    /// If standard input is not a control channel.
    pub fn open<O: DeserializeOwned>(
        private_dir: impl FnOnce(&O) -> PathBuf,
    ) -> io::Result<(Arc<Self>, O, Option<TcpListener>)> {
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let listener = receive_listener(&channel)?;
        let sender = Mutex::new(channel.try_clone()?);
        let mut lines = BufReader::new(channel);
        let task: O = read(&mut lines)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (given, orders) = watch::channel(MemberOrders::default());
        let (trace_sender, traces) = watch::channel(Vec::new());
        let private_dir = private_dir(&task);
        // A thread and not a task, because it must notice that the channel is closed even when the executor is busy.
        std::thread::Builder::new().name("isomer-control".into()).spawn(move || {
            while let Ok(Some(message)) = read(&mut lines) {
                match message {
                    SupervisorMessage::Trace(orders) => drop(trace_sender.send_replace(orders)),
                    message => given.send_modify(|orders| orders.add(&message)),
                }
            }
            abandoned(&private_dir)
        })?;
        Ok((Arc::new(Self { sender, orders, traces }), task, listener))
    }

    /// Sends a message to the supervisor. Errors are ignored: without its supervisor, this process exits anyway.
    pub fn send(&self, message: &MemberMessage) {
        let mut line = serde_json::to_vec(message).expect("a message is plain data");
        line.push(b'\n');
        let _ = self.sender.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }

    /// Returns the orders to trace the next requests. When they change, they replace the earlier ones.
    pub fn trace_orders(&self) -> watch::Receiver<Vec<NextTraces>> {
        self.traces.clone()
    }

    /// Returns the orders of the supervisor, which change while the member runs. The sender of this channel lives as
    /// long as the process.
    pub fn orders(&self) -> watch::Receiver<MemberOrders> {
        self.orders.clone()
    }
}

/// Exits this process because its supervisor has exited.
fn abandoned(private_dir: &Path) -> ! {
    // All members try to remove the folder, and any of them may succeed.
    let _ = std::fs::remove_dir_all(private_dir);
    std::process::exit(ABANDONED)
}

/// Reads the next line. Returns `None` at the end of the channel.
fn read<T: DeserializeOwned>(lines: &mut impl io::BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_listening_socket_is_passed_on_and_accepts_connections() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send_listener(&ours, Some(&listener)).unwrap();
        send_listener(&ours, None).unwrap();
        drop(listener);
        let received = receive_listener(&theirs).unwrap().expect("it was sent");
        assert_eq!(received.local_addr().unwrap(), address);
        let mut client = std::net::TcpStream::connect(address).unwrap();
        received.accept().unwrap().0.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert!(receive_listener(&theirs).unwrap().is_none());
        drop(ours);
        assert_eq!(receive_listener(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
