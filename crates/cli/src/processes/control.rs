//! The channel between supervisor and member: a socket pair, whose one end is the member's standard input.
//!
//! First comes one byte, with the front door's listening socket where the member is to have it (`SCM_RIGHTS` of unix(7)); then
//! lines, in both directions. The end of the channel is the end of the member.

use std::io::{self, BufReader, IoSlice, IoSliceMut, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::sync::watch;

use super::order::{Command, Order, Word};

/// The exit code of a member whose supervisor is gone.
const ABANDONED: i32 = 1;

/// Sends the front door's socket, or that there is none.
pub(super) fn send_listener(channel: &UnixStream, listener: Option<&TcpListener>) -> io::Result<()> {
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

/// A member's end of the channel.
pub(super) struct Control {
    answers: Mutex<UnixStream>,
    stop: watch::Receiver<bool>,
}

impl Control {
    /// Takes the channel from standard input and reads what this process is to be. From here on, the process ends when the
    /// channel does.
    pub(super) fn open() -> io::Result<(Arc<Self>, Order, Option<TcpListener>)> {
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let listener = receive_listener(&channel)?;
        let answers = Mutex::new(channel.try_clone()?);
        let mut lines = BufReader::new(channel);
        let order: Order = read(&mut lines)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (sender, stop) = watch::channel(false);
        let home = order.home.clone();
        // A thread and not a task: it must see the end of the channel whatever the executor is busy with.
        std::thread::Builder::new().name("isomer-control".into()).spawn(move || {
            while let Ok(Some(Command::Stop)) = read(&mut lines) {
                let _ = sender.send(true);
            }
            abandoned(&home)
        })?;
        Ok((Arc::new(Self { answers, stop }), order, listener))
    }

    /// Says something to the supervisor. Where it is gone, this process ends by itself.
    pub(super) fn say(&self, word: &Word) {
        let mut line = serde_json::to_vec(word).expect("a word is plain data");
        line.push(b'\n');
        let _ = self.answers.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }

    /// Resolves when the member is to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            if stop.wait_for(|stop| *stop).await.is_err() {
                // The channel's thread ends the process.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The supervisor is gone, and with it all reason to be.
fn abandoned(home: &Path) -> ! {
    // All members try; it does not matter who succeeds.
    let _ = std::fs::remove_dir_all(home);
    std::process::exit(ABANDONED)
}

/// The next line; `None` at the channel's end.
fn read<T: serde::de::DeserializeOwned>(lines: &mut impl io::BufRead) -> io::Result<Option<T>> {
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
    fn a_listening_socket_goes_over_and_takes_connections() {
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
        let mut said = [0; 5];
        client.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        assert!(receive_listener(&theirs).unwrap().is_none());
        drop(ours);
        assert_eq!(receive_listener(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
