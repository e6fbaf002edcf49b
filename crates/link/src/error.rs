//! Why a side of a link cannot be set up, with the way out as data. What goes wrong later is an answer to a call
//! ([`isomer_wire::CallFailure`]).

use std::io;
use std::path::PathBuf;

use isomer_transport::SocketFileError;

use crate::address::Address;

/// Why a side of a link cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The text is no address.
    #[error("`{text}` is no address: {problem}")]
    Address {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Without TLS, beyond this machine.
    #[error("`{address}` leaves this machine, and there is no TLS")]
    Cleartext {
        /// The address.
        address: Address,
    },
    /// A group without an address.
    #[error("group `{group}` has no address")]
    NoAddress {
        /// The group.
        group: String,
    },
    /// More addresses than a peer has.
    #[error("group `{group}` has {found} addresses, at most {max} are taken")]
    TooManyAddresses {
        /// The group.
        group: String,
        /// How many there are.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The name cannot be resolved.
    #[error("cannot find the host of `{address}`")]
    Resolve {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Someone else listens there.
    #[error("cannot listen on `{address}`: another process does")]
    InUse {
        /// The address.
        address: Address,
    },
    /// The system does not allow it.
    #[error("cannot listen on `{address}`: it is not allowed")]
    NotAllowed {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that others may enter or read is no place for a socket that takes whoever reaches it.
    #[error("others can reach into `{folder}` (mode {mode:03o}), and whoever reaches a socket may call")]
    OpenFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another user's folder, who could put a socket of their own there.
    #[error("`{folder}` belongs to user {owner}, and this process's is {user}")]
    ForeignFolder {
        /// The socket's folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user of this process.
        user: u32,
    },
    /// Something that is no socket lies there.
    #[error("`{path}` is there already, and is no socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A file of the TLS settings cannot be read.
    #[error("cannot read the {what} `{path}`")]
    TlsFile {
        /// `certificate`, `key` or `authority`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the TLS settings does not have what it is for.
    #[error("the {what} `{path}` is not usable: {problem}")]
    TlsContent {
        /// `certificate`, `key` or `authority`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never its content.
        problem: String,
    },
}

impl LinkError {
    /// Reads why the socket at `address` cannot be listened on.
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

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address { .. } => {
                "write `unix:/path/to.sock`, `127.0.0.1:7000`, `[::1]:7000` or `host:7000`".to_owned()
            }
            Self::Cleartext { .. } => {
                "give certificate, key and authority for TLS, or use `unix:/path` or 127.0.0.1".to_owned()
            }
            Self::NoAddress { group } => format!("say where `{group}` is reached"),
            Self::TooManyAddresses { max, .. } => {
                format!("name at most {max} replicas, or put an address in front of them")
            }
            Self::Resolve { .. } => "check the name, or write the host's number".to_owned(),
            Self::InUse { address: Address::Unix(path) } => {
                format!("stop the process that holds `{}`, or take another path", path.display())
            }
            Self::InUse { .. } => "stop the process that has the port, or take another port (0 for any)".to_owned(),
            Self::NotAllowed { address: Address::Unix(_), .. } => {
                "take a folder that belongs to the user that runs this".to_owned()
            }
            Self::NotAllowed { .. } => "take a port above 1023".to_owned(),
            Self::Listen { .. } => return None,
            Self::OpenFolder { folder, .. } => format!("chmod 700 {}", folder.display()),
            Self::ForeignFolder { .. } => "take a folder that belongs to the user that runs this".to_owned(),
            Self::NotASocket { .. } => "move it away, or take another path".to_owned(),
            Self::TlsFile { .. } => "check the path and who may read it".to_owned(),
            Self::TlsContent { what: "key", .. } => {
                "give the PEM file of the certificate's private key (PKCS#8, PKCS#1 or SEC1)".to_owned()
            }
            Self::TlsContent { what: "authority", .. } => {
                "give a PEM file with the certificate of the authority that signs the peers' certificates".to_owned()
            }
            Self::TlsContent { .. } => {
                "give a PEM file with this process's certificate, and its chain behind it".to_owned()
            }
        };
        Some(hint)
    }
}
