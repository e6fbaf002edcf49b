//! The certificate authorities that outgoing HTTPS trusts: those that Mozilla trusts, and those in additional files.
//!
//! The files of an app are chosen by its tenant, and are read again each time the app is loaded. During one load, each
//! file is read only once, even if several grants name it ([`AuthorityFiles`]). The number and sizes of the files are
//! limited, and the memory for their certificates is charged to the tenant.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_display::size;
use isomer_runtime::{Account, HostMemory, OutOfMemory};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::connect;

/// The maximum size in bytes of a file of authorities that the operator of the process chooses. The bundles of
/// operating systems are a tenth of this size.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The maximum size in bytes of a file of authorities that belongs to an app. A file of all public authorities is half
/// of this size.
const APP_FILE_BYTES_MAX: u64 = 512 << 10;

/// The maximum number of files of authorities in the grants of one app.
const APP_FILES_MAX: usize = 8;

/// The number of bytes that are charged for a file of authorities in addition to its size: for the list of all
/// authorities, and for a TLS configuration.
const TRUST_BYTES: usize = 64 << 10;

/// The certificate authorities that outgoing HTTPS trusts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<Trusted>);

#[derive(Debug)]
struct Trusted {
    roots: Arc<RootCertStore>,
    tls: Arc<ClientConfig>,
    _memory: Option<HostMemory>,
}

/// The reason why a file of certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be read.
    #[error("the certificate authorities in `{}` cannot be read", path.display())]
    Unreadable {
        /// The path of the file, as shown to the user.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file contains no usable certificate.
    #[error("there is no certificate in `{}`: use a PEM file with `-----BEGIN CERTIFICATE-----`", path.display())]
    Empty {
        /// The path of the file, as shown to the user.
        path: PathBuf,
    },
    /// The grants of the app name too many files.
    #[error("the app has more than {APP_FILES_MAX} files of certificate authorities, and `{}` is the first one over this maximum: combine some of the files", path.display())]
    TooMany {
        /// The first file that exceeds the maximum.
        path: PathBuf,
    },
    /// The tenant's memory quota does not have enough memory for the certificates of the file.
    #[error("there is no memory left for the certificate authorities in `{}`", path.display())]
    NoMemory {
        /// The path of the file, as shown to the user.
        path: PathBuf,
        /// The error of the tenant's account.
        source: OutOfMemory,
    },
}

impl Authorities {
    /// Returns the authorities that Mozilla trusts.
    #[must_use]
    pub fn public() -> Self {
        Self::from(super::public_roots())
    }

    /// Returns these authorities and those in a PEM file. Errors show the path `shown`.
    ///
    /// # Errors
    /// If the file cannot be read, or contains no certificate.
    pub fn with_file(&self, path: &Path, shown: &Path) -> Result<Self, AuthorityError> {
        let roots = Arc::new(self.and(&read(path, shown, FILE_BYTES_MAX)?, shown)?);
        let tls = Arc::new(connect::tls_config(&roots));
        Ok(Self(Arc::new(Trusted { roots, tls, _memory: None })))
    }

    /// Returns these authorities and those in a file of an app. The memory for the latter is charged to `account`.
    fn with_file_of(&self, account: &Arc<Account>, path: &Path, shown: &Path) -> Result<Self, AuthorityError> {
        let pem = read(path, shown, APP_FILE_BYTES_MAX)?;
        let memory = account
            .charge_host_memory(TRUST_BYTES + pem.len())
            .map_err(|source| AuthorityError::NoMemory { path: shown.to_owned(), source })?;
        let roots = Arc::new(self.and(&pem, shown)?);
        let mut tls = connect::tls_config(&roots);
        // Disables session resumption, because the app chooses the servers, whose sessions could fill the memory.
        tls.resumption = Resumption::disabled();
        Ok(Self(Arc::new(Trusted { roots, tls: Arc::new(tls), _memory: Some(memory) })))
    }

    fn and(&self, pem: &[u8], shown: &Path) -> Result<RootCertStore, AuthorityError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| {
            let error = io::Error::new(io::ErrorKind::InvalidData, format!("the file is damaged: {error}"));
            AuthorityError::Unreadable { path: shown.to_owned(), source: error }
        })?;
        let mut roots = RootCertStore::clone(&self.0.roots);
        // Ignores unusable certificates, because the bundles of operating systems contain a few.
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(AuthorityError::Empty { path: shown.to_owned() });
        }
        Ok(roots)
    }

    /// Returns the TLS configuration of clients that trust these authorities.
    pub(super) fn tls(&self) -> &Arc<ClientConfig> {
        &self.0.tls
    }
}

impl From<RootCertStore> for Authorities {
    fn from(roots: RootCertStore) -> Self {
        let roots = Arc::new(roots);
        let tls = Arc::new(connect::tls_config(&roots));
        Self(Arc::new(Trusted { roots, tls, _memory: None }))
    }
}

fn read(path: &Path, shown: &Path, bytes_max: u64) -> Result<Vec<u8>, AuthorityError> {
    let unreadable = |source| AuthorityError::Unreadable { path: shown.to_owned(), source };
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut pem)).map_err(unreadable)?;
    if pem.len() as u64 > bytes_max {
        let error = format!("the file has more than {}", size(bytes_max));
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, error)));
    }
    Ok(pem)
}

/// The files of certificate authorities in the grants of one app.
pub(crate) struct AuthorityFiles<'a> {
    /// The authorities that are trusted in addition to those in the app's files.
    base: &'a Authorities,
    account: &'a Arc<Account>,
    read: BTreeMap<PathBuf, Authorities>,
}

impl<'a> AuthorityFiles<'a> {
    /// Creates an empty set of files. The memory for files that are read later is charged to `account`.
    pub(crate) fn new(base: &'a Authorities, account: &'a Arc<Account>) -> Self {
        Self { base, account, read: BTreeMap::new() }
    }

    /// Returns the certificate authorities in `base` and those in the file `path`. The file is read only in the first
    /// call for this path. Errors contain the path `shown`.
    ///
    /// # Errors
    /// If the file cannot be read, contains no certificate or is too large, if the app names too many files, or if the
    /// tenant's memory quota does not have enough memory for the certificates.
    pub(crate) fn get(&mut self, path: PathBuf, shown: &Path) -> Result<Authorities, AuthorityError> {
        if let Some(known) = self.read.get(&path) {
            return Ok(known.clone());
        }
        if self.read.len() >= APP_FILES_MAX {
            return Err(AuthorityError::TooMany { path: shown.to_owned() });
        }
        let authorities = self.base.with_file_of(self.account, &path, shown)?;
        self.read.insert(path, authorities.clone());
        Ok(authorities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let authority = include_str!("../../tests/outbound/tls/ca.pem");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Authorities::public().with_file(&path, Path::new("ca.pem")).map(|found| found.0.roots.len())
        };
        let public = Authorities::public().0.roots.len();
        assert_eq!(read(authority).unwrap(), public + 1);
        assert_eq!(read(&format!("# ours\n{authority}\n{authority}")).unwrap(), public + 2);
        for (text, why) in [
            ("", "there is no certificate in `ca.pem`"),
            ("not PEM", "there is no certificate in `ca.pem`"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "there is no certificate in `ca.pem`"),
            ("-----BEGIN CERTIFICATE-----\nAAAA", "the certificate authorities in `ca.pem` cannot be read"),
        ] {
            assert!(read(text).unwrap_err().to_string().starts_with(why), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        let missing = Authorities::public().with_file(&path, Path::new("ca.pem")).unwrap_err();
        assert!(missing.to_string().contains("`ca.pem`"), "{missing}");
    }

    #[test]
    fn a_file_of_an_app_is_read_once_and_charged_while_it_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let authority = include_str!("../../tests/outbound/tls/ca.pem");
        let path = |name: &str| folder.path().join(name);
        for number in 0..=APP_FILES_MAX {
            std::fs::write(path(&number.to_string()), authority).unwrap();
        }
        let limits =
            isomer_runtime::AccountLimits { memory_bytes: 1 << 20, ..isomer_runtime::AccountLimits::UNLIMITED };
        let (public, account) = (Authorities::public(), Account::new("t".into(), limits));
        let mut files = AuthorityFiles::new(&public, &account);
        let shown = Path::new("ca.pem");
        let first = files.get(path("0"), shown).unwrap();
        let each = account.used().host_bytes;
        assert!(each > authority.len() as u64, "{each}");
        for _ in 0..1000 {
            assert!(Arc::ptr_eq(&files.get(path("0"), shown).unwrap().0, &first.0));
        }
        assert_eq!(account.used().host_bytes, each);
        for number in 1..APP_FILES_MAX {
            files.get(path(&number.to_string()), shown).unwrap();
        }
        let refused = files.get(path(&APP_FILES_MAX.to_string()), shown).unwrap_err();
        assert!(matches!(refused, AuthorityError::TooMany { .. }), "{refused}");
        drop(files);
        assert_eq!(account.used().host_bytes, each);
        drop(first);
        assert_eq!(account.used().host_bytes, 0);
        let poor = isomer_runtime::AccountLimits { memory_bytes: each - 1, ..limits };
        let poor = Account::new("poor".into(), poor);
        let refused = AuthorityFiles::new(&public, &poor).get(path("0"), shown).unwrap_err();
        assert!(matches!(refused, AuthorityError::NoMemory { .. }), "{refused}");
        std::fs::write(path("0"), authority.repeat((512 << 10) / authority.len() + 1)).unwrap();
        let refused = AuthorityFiles::new(&public, &account).get(path("0"), shown).unwrap_err();
        assert!(matches!(refused, AuthorityError::Unreadable { .. }), "{refused}");
    }
}
