//! One certificate with its private key.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_display::size;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::{CertificateFiles, unique};

/// The maximum size of a PEM file in bytes. It is enough for a chain of a dozen certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The reason why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file, or the folder of certificates, cannot be read.
    #[error("cannot read the {what} `{}`", path.display())]
    Read {
        /// The role of the file: for example `certificate` or `key`.
        what: &'static str,
        /// The path of the file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content of a file is not valid.
    #[error("the {what} `{}` cannot be used: {problem}", path.display())]
    Content {
        /// The role of the file: `certificate` or `key`.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the content.
        problem: String,
    },
    /// Every user of the machine can read the file of a private key.
    #[error("the key `{}` can be read by every user of this machine (mode {mode:03o})", path.display())]
    KeyForAll {
        /// The path of the key file.
        path: PathBuf,
        /// The permissions of the key file.
        mode: u32,
    },
    /// There is no certificate: the folder of certificates contains none, and
    /// [`TlsSettings::files`](crate::tls::TlsSettings::files) is empty.
    #[error("there is no certificate in `{}`", path.display())]
    Nothing {
        /// The folder of certificates. If no folder is configured, the name of the section of the node file that can
        /// name one: `[front.tls]`.
        path: PathBuf,
    },
    /// No certificate covers the default host.
    #[error("no certificate covers the default host `{host}`")]
    NoDefault {
        /// The default host.
        host: String,
    },
}

impl TlsError {
    /// Returns advice for the operator, if any.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::KeyForAll { path, .. } => Some(format!("run: chmod 600 {}", path.display())),
            Self::Nothing { .. } => {
                Some("put NAME.crt and NAME.key into the folder that `folder` in [front.tls] names".to_owned())
            }
            _ => None,
        }
    }
}

/// A certificate with its private key.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) files: CertificateFiles,
    pub(super) key: Arc<CertifiedKey>,
    /// The hosts that the certificate covers: names and wildcards, in lower case.
    pub(super) names: Vec<String>,
}

impl Certificate {
    pub(super) fn read(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let unusable = |what, path: &Path, problem: String| TlsError::Content { what, path: path.to_owned(), problem };
        let pem = read("certificate", &files.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain =
            chain.map_err(|_| unusable("certificate", &files.certificate, "it is not a PEM file".to_owned()))?;
        let Some(first) = chain.first() else {
            return Err(unusable("certificate", &files.certificate, "there is no certificate in it".to_owned()));
        };
        let names = match EndEntityCert::try_from(first) {
            Ok(certificate) => unique(certificate.valid_dns_names().map(str::to_ascii_lowercase)),
            Err(error) => return Err(unusable("certificate", &files.certificate, error.to_string())),
        };
        // The file can be replaced between this check and the read. That is acceptable, because only a user who can
        // write to the key's folder can replace it.
        let mode = std::fs::metadata(&files.key).map(|metadata| metadata.permissions().mode() & 0o777).unwrap_or(0);
        if mode & 0o007 != 0 {
            return Err(TlsError::KeyForAll { path: files.key.clone(), mode });
        }
        let pem = read("key", &files.key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            let problem = if matches!(error, PemError::NoItemsFound) {
                "there is no private key in it"
            } else {
                "it is not a PEM file"
            };
            unusable("key", &files.key, problem.to_owned())
        })?;
        let key = CertifiedKey::from_der(chain, private, provider)
            .map_err(|error| unusable("key", &files.key, problem_of_key(&error)))?;
        Ok(Self { files: files.clone(), key: Arc::new(key), names })
    }

    /// Returns whether the certificate covers `host`, which is in normal form.
    pub(super) fn covers(&self, host: &str) -> bool {
        let wildcard = host.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(rest) => wildcard == Some(rest),
            None => name == host,
        })
    }
}

fn problem_of_key(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "it is not the key of that certificate".to_owned(),
        other => other.to_string(),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    use io::Read as _;
    let contents = std::fs::File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match contents {
        Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => {
            let problem = format!("it is larger than {}", size(FILE_BYTES_MAX));
            Err(TlsError::Content { what, path: path.to_owned(), problem })
        }
        Ok(bytes) => Ok(bytes),
        Err(source) => Err(TlsError::Read { what, path: path.to_owned(), source }),
    }
}
