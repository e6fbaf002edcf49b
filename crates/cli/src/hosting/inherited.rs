//! Listening sockets that a service manager passes to this process (sd_listen_fds(3)). The service manager keeps them
//! open before the node starts and after it exits. So connections that arrive while no node runs are not refused: they
//! wait until a node accepts them.
//!
//! The name of a socket gives its purpose: `http`, `https` or `admin` (`FileDescriptorName=` in systemd.socket(5)).

use std::net::TcpListener;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::Context as _;
use isomer_admin::AdminSocket;
use isomer_console::CliError;
use isomer_node::listeners::Encryption;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The sockets that the service manager passed to this process.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// The sockets for the front door, in the order in which they were passed.
    pub(crate) front: Vec<(TcpListener, Encryption)>,
    /// The socket for the admin API.
    pub(crate) admin: Option<AdminSocket>,
}

/// A listening socket, by its type.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Returns the sockets, and removes the environment variables that describe them. Must be called only once, while
    /// the process has only one thread.
    ///
    /// # Errors
    /// If a socket has an unknown name, or does not listen.
    pub(crate) fn take() -> Result<Self, CliError> {
        // SAFETY: changing the environment requires that no other thread reads it at the same time. `isomer node` calls
        // this function first, before it starts its executor, its log or anything else that has a thread.
        #[expect(unsafe_code, reason = "child processes must not inherit the variables")]
        let passed = unsafe { sd_notify::listen_fds_with_names_and_unset_env() };
        let passed = passed.context("cannot use the sockets that the service manager passes on")?;
        let mut inherited = Self::default();
        for (number, name) in passed {
            // SAFETY: the descriptor is open, because otherwise setting its flag (close-on-exec) would have failed.
            // Nothing else owns the descriptor: `LISTEN_PID` says that it was passed to this process, and the process
            // has neither opened nor closed it. It is not taken a second time, because the variables are removed by
            // now.
            #[expect(unsafe_code, reason = "descriptors are passed on as numbers")]
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            inherited.add(&name, descriptor)?;
        }
        Ok(inherited)
    }

    fn add(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), CliError> {
        let hint = "name each socket by its purpose: FileDescriptorName=http, https or admin";
        let refuse = |problem: &str| CliError::failed(format!("the service manager's socket `{name}` {problem}"), hint);
        let socket =
            listening(descriptor).with_context(|| format!("cannot use the service manager's socket `{name}`"))?;
        match (name, socket) {
            (_, None) => return Err(refuse("does not listen for connections")),
            ("http", Some(Listening::Tcp(socket))) => self.front.push((socket, Encryption::Plain)),
            ("https", Some(Listening::Tcp(socket))) => self.front.push((socket, Encryption::Tls)),
            ("http" | "https", Some(Listening::Unix(_))) => return Err(refuse("is not a TCP socket")),
            ("admin", Some(_)) if self.admin.is_some() => return Err(refuse("comes twice")),
            ("admin", Some(Listening::Tcp(socket))) => self.admin = Some(AdminSocket::Tcp(socket)),
            ("admin", Some(Listening::Unix(socket))) => self.admin = Some(AdminSocket::Unix(socket)),
            _ => return Err(refuse("has a name that a node does not know")),
        }
        Ok(())
    }
}

/// Returns the listening socket, or `None` if the descriptor is not a listening TCP or Unix socket.
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
    fn the_name_of_a_socket_decides_its_use() {
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
