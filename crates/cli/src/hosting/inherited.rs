//! Sockets that a service manager listens on and hands over (sd_listen_fds(3)): they are there before the node starts and after it ends, so
//! connections that are made meanwhile wait for the next process instead of being refused.
//!
//! Names say what each is for: `http`, `https`, `admin` (`FileDescriptorName=` of systemd.socket(5)).

use std::net::TcpListener;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::Context as _;
use isomer_admin::AdminSocket;
use isomer_console::CommandError;
use isomer_node::listeners::Encryption;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// What a service manager has handed over.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// For the front door, in their order.
    pub(crate) front: Vec<(TcpListener, Encryption)>,
    /// For admins.
    pub(crate) admin: Option<AdminSocket>,
}

/// A socket that listens.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Takes what there is, and removes the variables that say so. To be called once, while the process has no thread but this one.
    ///
    /// # Errors
    /// When there is something that is not known what for, or that does not listen.
    pub(crate) fn take() -> Result<Self, CommandError> {
        // SAFETY: the environment is changed, which no other thread may look at meanwhile. `isomer node` calls this first of all, before
        // it starts its executor, its log or anything else that has a thread.
        #[expect(unsafe_code, reason = "children must not take the sockets for theirs")]
        let described = unsafe { sd_notify::listen_fds_with_names_and_unset_env() };
        let described = described.context("cannot use the sockets that the service manager hands over")?;
        let mut inherited = Self::default();
        for (number, name) in described {
            // SAFETY: the descriptor is open, or setting its flag (close-on-exec) would have failed. Nobody else owns it: `LISTEN_PID` says
            // that it was handed to this very process, which has neither made nor closed it, and as the variables are gone now, it
            // is not taken a second time.
            #[expect(unsafe_code, reason = "descriptors are handed over as numbers")]
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            inherited.add(&name, descriptor)?;
        }
        Ok(inherited)
    }

    fn add(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), CommandError> {
        let hint = "name each socket by what it is for: FileDescriptorName=http, https or admin";
        let refuse =
            |problem: &str| CommandError::failed(format!("the service manager's socket `{name}` {problem}"), hint);
        let socket =
            listening(descriptor).with_context(|| format!("cannot use the service manager's socket `{name}`"))?;
        match (name, socket) {
            (_, None) => return Err(refuse("does not listen for connections")),
            ("http", Some(Listening::Tcp(socket))) => self.front.push((socket, Encryption::Plain)),
            ("https", Some(Listening::Tcp(socket))) => self.front.push((socket, Encryption::Tls)),
            ("http" | "https", Some(Listening::Unix(_))) => return Err(refuse("is no TCP socket")),
            ("admin", Some(_)) if self.admin.is_some() => return Err(refuse("comes twice")),
            ("admin", Some(Listening::Tcp(socket))) => self.admin = Some(AdminSocket::Tcp(socket)),
            ("admin", Some(Listening::Unix(socket))) => self.admin = Some(AdminSocket::Unix(socket)),
            _ => return Err(refuse("is for nothing that a node has")),
        }
        Ok(())
    }
}

/// What listens there; `None` if it is something else.
fn listening(descriptor: OwnedFd) -> rustix::io::Result<Option<Listening>> {
    let socket = descriptor.as_fd();
    if socket_type(socket)? != SocketType::STREAM || !socket_acceptconn(socket)? {
        return Ok(None);
    }
    Ok(match socket_domain(socket)? {
        AddressFamily::INET | AddressFamily::INET6 => Some(Listening::Tcp(descriptor.into())),
        AddressFamily::UNIX => Some(Listening::Unix(descriptor.into())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_is_for_what_its_name_says() {
        let dir = tempfile::tempdir().unwrap();
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let unix = || OwnedFd::from(UnixListener::bind(dir.path().join("admin.sock")).unwrap());
        let mut inherited = Inherited::default();
        assert!(inherited.add("https", tcp()).is_ok());
        assert!(inherited.add("http", tcp()).is_ok());
        assert!(inherited.add("admin", unix()).is_ok());
        let kinds: Vec<Encryption> = inherited.front.iter().map(|(_, secured)| *secured).collect();
        assert_eq!(kinds, [Encryption::Tls, Encryption::Plain]);
        assert!(matches!(inherited.admin, Some(AdminSocket::Unix(_))));
        std::fs::remove_file(dir.path().join("admin.sock")).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for (name, descriptor) in [
            ("isomer.socket", tcp()),
            ("http", unix()),
            ("admin", tcp()),
            ("http", udp.into()),
            ("http", connection.into()),
            ("http", std::fs::File::open("/dev/null").unwrap().into()),
        ] {
            assert!(inherited.add(name, descriptor).is_err(), "{name}");
        }
    }
}
