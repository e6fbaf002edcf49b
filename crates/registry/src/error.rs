//! The errors of the registry client, with hints for the user.

use std::io;
use std::path::PathBuf;

use isomer_parcel::artifact::ArtifactError;

/// The reason why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry cannot be reached.
    #[error("cannot reach `{server}`")]
    Unreachable {
        /// The scheme, host and port.
        server: String,
        /// The error of the connection.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection failed while a response was received.
    #[error("the connection to `{server}` failed")]
    Broken {
        /// The scheme, host and port.
        server: String,
        /// The error of the connection.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A response did not arrive in time.
    #[error("`{server}` did not respond in time")]
    Timeout {
        /// The scheme, host and port.
        server: String,
    },
    /// The registry has no artifact with this name.
    #[error("`{reference}` does not exist")]
    NotFound {
        /// The artifact.
        reference: String,
    },
    /// The registry refuses access.
    #[error("`{registry}` refuses access to `{repository}`")]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
        /// Whether credentials were sent.
        has_credentials: bool,
    },
    /// The registry responded with an error.
    #[error("`{server}` responded with status {status} to {operation}{}", message.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Status {
        /// The scheme, host and port.
        server: String,
        /// What was requested.
        operation: &'static str,
        /// The status of the response.
        status: u16,
        /// The message in the response, with control characters escaped.
        message: Option<String>,
    },
    /// A redirect, an upload or a token service uses a server to which the client must not send the request.
    #[error("`{server}` refers to `{target}`, which is refused: {reason}")]
    Redirect {
        /// The scheme, host and port.
        server: String,
        /// The URL that the server named.
        target: String,
        /// The rule that the URL breaks.
        reason: &'static str,
    },
    /// A response exceeds a size limit.
    #[error("{what} from `{server}` is larger than {max}")]
    TooLarge {
        /// The scheme, host and port.
        server: String,
        /// What was received.
        what: &'static str,
        /// The limit.
        max: String,
    },
    /// The digest of the received bytes differs from the requested digest.
    #[error("{what} from `{server}` has the digest `sha256:{found}`, not `sha256:{expected}`")]
    Digest {
        /// The scheme, host and port.
        server: String,
        /// What was received.
        what: &'static str,
        /// The requested digest.
        expected: String,
        /// The digest of the received bytes.
        found: String,
    },
    /// A response is not valid.
    #[error("the response of `{server}` is not valid: {problem}")]
    Malformed {
        /// The scheme, host and port.
        server: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The artifact is not an app.
    #[error("`{reference}` cannot be used")]
    Artifact {
        /// The artifact.
        reference: String,
        /// The reason.
        source: ArtifactError,
    },
    /// Credentials cannot be read from Docker's configuration or from a credential helper.
    #[error("cannot read the credentials for `{registry}`: {problem}")]
    Credentials {
        /// The registry's host.
        registry: String,
        /// What failed.
        problem: String,
    },
    /// A file of the cache, or a file of certificate authorities, cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A reference cannot be used for this operation.
    #[error("{problem}")]
    Reference {
        /// What is wrong with it.
        problem: String,
    },
}

impl RegistryError {
    /// Returns what the user can do. `has_plain_http` tells whether the command has a flag of this name.
    #[must_use]
    pub fn hints(&self, has_plain_http: bool) -> Vec<String> {
        let hint = match self {
            Self::Unreachable { server, .. } if server.starts_with("https:") && has_plain_http => {
                "check the host and port; for a registry without TLS on a trusted network: --plain-http"
            }
            Self::Unreachable { server, .. } if server.starts_with("https:") => {
                "check the host and port; the registry must use TLS, unless it is on the loopback address of this machine"
            }
            Self::Status { status: 403, .. } => {
                "the registry refuses this: use an account that may do it (docker login)"
            }
            Self::Unreachable { .. } => "check the host and port, and that the registry runs",
            Self::NotFound { .. } => "check the repository and the tag",
            Self::Unauthorized { registry, has_credentials: false, .. } => {
                return vec![format!("log in: docker login {registry} (or write DOCKER_CONFIG/config.json)")];
            }
            Self::Unauthorized { registry, .. } => {
                return vec![format!(
                    "the credentials in Docker's configuration do not allow this: docker login {registry}"
                )];
            }
            Self::Digest { .. } | Self::Artifact { source: ArtifactError::Mismatch, .. } => {
                "the registry, or a proxy in front of it, has altered or damaged the content: do not use it"
            }
            Self::Artifact { source: ArtifactError::Type { .. }, .. } => {
                "name an app that `isomer push` has pushed; if a newer version of Isomer pushed it, use that version"
            }
            Self::Reference { .. } => "write it as `registry.example/team/shop:1.4.0`",
            _ => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}
