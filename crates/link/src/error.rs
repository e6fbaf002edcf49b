//! Errors of setting up the client or the server of a link, with hints. Once both are set up, failures are results of
//! calls ([`isomer_wire::CallFailure`]).

use std::io;
use std::path::PathBuf;

use isomer_transport::SocketFileError;

use crate::address::{Address, InvalidLinkAddress};

/// The reason why the client or the server of a link cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A text is not a valid address.
    #[error(transparent)]
    Address(#[from] InvalidLinkAddress),
    /// The address is on another machine, and TLS is not configured.
    #[error("`{address}` is on another machine, and TLS is not configured")]
    Cleartext {
        /// The address.
        address: Address,
    },
    /// The group has no address.
    #[error("group `{group}` has no address")]
    NoAddress {
        /// The group's name.
        group: String,
    },
    /// The group has too many addresses.
    #[error("group `{group}` has {found} addresses; the maximum is {max}")]
    TooManyAddresses {
        /// The group's name.
        group: String,
        /// The number of addresses.
        found: usize,
        /// The maximum number of addresses.
        max: usize,
    },
    /// The host name cannot be resolved.
    #[error("cannot resolve the host name of `{address}`")]
    Resolve {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// Another process listens on the address.
    #[error("cannot listen on `{address}`: the address is already in use")]
    InUse {
        /// The address.
        address: Address,
    },
    /// The operating system does not permit this process to listen on the address.
    #[error("cannot listen on `{address}`: permission denied")]
    NotAllowed {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// Listening on the address failed, although the address is free and this process may listen on it.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// Other users can enter the socket's folder, so their processes could open the socket and call the group.
    #[error("other users can enter `{folder}` (mode {mode:03o}), so they can call the functions of the group")]
    OpenFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// The permissions of the folder.
        mode: u32,
    },
    /// The socket's folder belongs to another user, who could replace the socket.
    #[error("`{folder}` belongs to user {owner}, and this process runs as user {user}")]
    ForeignFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// The owner of the folder.
        owner: u32,
        /// The effective user of this process.
        user: u32,
    },
    /// A file that is not a socket exists at the path of the socket.
    #[error("`{path}` exists, and is not a socket")]
    NotASocket {
        /// The path of the file.
        path: PathBuf,
    },
    /// A certificate, key or authority file cannot be read.
    #[error("cannot read the {what} `{path}`")]
    TlsFile {
        /// The role of the file: `certificate`, `key` or `authority`.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content of a certificate, key or authority file is not valid.
    #[error("the {what} `{path}` cannot be used: {problem}")]
    TlsContent {
        /// The role of the file: `certificate`, `key` or `authority`.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the file. Never contains the file's content.
        problem: String,
    },
}

impl LinkError {
    /// Converts a [`SocketFileError`] for the socket at `address` into a [`LinkError`].
    pub(crate) fn from_socket(error: SocketFileError, address: &Address) -> Self {
        let address = address.clone();
        match error {
            SocketFileError::InUse => Self::InUse { address },
            SocketFileError::NotASocket => match address {
                Address::Unix(path) => Self::NotASocket { path },
                address => Self::InUse { address },
            },
            SocketFileError::OpenFolder { folder, mode } => Self::OpenFolder { folder, mode },
            SocketFileError::ForeignFolder { folder, owner, user } => Self::ForeignFolder { folder, owner, user },
            SocketFileError::Io(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::NotAllowed { address, source }
            }
            SocketFileError::Io(source) => Self::Listen { address, source },
        }
    }

    /// Returns advice for the user, if any.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address(_) => "write `unix:/path/to.sock`, `127.0.0.1:7000`, `[::1]:7000` or `host:7000`".to_owned(),
            Self::Cleartext { .. } => {
                "give a certificate, a key and an authority for TLS, or use `unix:/path` or 127.0.0.1".to_owned()
            }
            Self::NoAddress { group } => format!("give an address of `{group}`"),
            Self::TooManyAddresses { max, .. } => {
                format!("list at most {max} replicas, or put a load balancer in front of them")
            }
            Self::Resolve { .. } => "check the host name, or use an IP address".to_owned(),
            Self::InUse { address: Address::Unix(path) } => {
                format!("stop the process that listens on `{}`, or use another path", path.display())
            }
            Self::InUse { .. } => "stop the process that uses the port, or use another port (0 for any)".to_owned(),
            Self::NotAllowed { address: Address::Unix(_), .. } => {
                "use a folder that belongs to the user that runs this process".to_owned()
            }
            Self::NotAllowed { .. } => "use a port above 1023".to_owned(),
            Self::Listen { .. } => return None,
            Self::OpenFolder { folder, .. } => format!("chmod 700 {}", folder.display()),
            Self::ForeignFolder { .. } => "use a folder that belongs to the user that runs this process".to_owned(),
            Self::NotASocket { .. } => "move the file, or use another path".to_owned(),
            Self::TlsFile { .. } => "check the path and the permissions of the file".to_owned(),
            Self::TlsContent { what: "key", .. } => {
                "give the PEM file of the certificate's private key (PKCS#8, PKCS#1 or SEC1)".to_owned()
            }
            Self::TlsContent { what: "authority", .. } => {
                "give a PEM file with the certificate of the authority that signs the peers' certificates".to_owned()
            }
            Self::TlsContent { .. } => {
                "give a PEM file with this process's certificate, followed by its chain".to_owned()
            }
        };
        Some(hint)
    }
}
