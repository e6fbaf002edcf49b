//! Which certificate authorities outgoing HTTPS trusts: those that Mozilla trusts, and files of further ones.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Bytes of a file of authorities: a system's bundle has a tenth of that.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The certificate authorities that outgoing HTTPS trusts. Clones share them.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<RootCertStore>);

/// A file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be read.
    #[error("the certificate authorities in `{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no certificate that could be an authority's.
    #[error("there is no certificate in `{}`: it must be a PEM file with `-----BEGIN CERTIFICATE-----`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Authorities {
    /// Those that Mozilla trusts.
    #[must_use]
    pub fn public() -> Self {
        Self::from(super::public_roots())
    }

    /// These, and those in a PEM file. `shown` is how an error names the file.
    ///
    /// # Errors
    /// When it cannot be read, or has no certificate.
    pub fn with_file(&self, path: &Path, shown: &Path) -> Result<Self, AuthorityError> {
        let unreadable = |source| AuthorityError::Unreadable { path: shown.to_owned(), source };
        let mut pem = Vec::new();
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut pem)).map_err(unreadable)?;
        if pem.len() as u64 > FILE_BYTES_MAX {
            let error = format!("it has more than {} MiB", FILE_BYTES_MAX >> 20);
            return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, error)));
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| {
            unreadable(io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged: {error}")))
        })?;
        let mut roots = RootCertStore::clone(&self.0);
        // System bundles have a few that no one can use.
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(AuthorityError::Empty { path: shown.to_owned() });
        }
        Ok(Self(Arc::new(roots)))
    }

    pub(super) fn roots(&self) -> &Arc<RootCertStore> {
        &self.0
    }
}

impl From<RootCertStore> for Authorities {
    fn from(roots: RootCertStore) -> Self {
        Self(Arc::new(roots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_certificates_is_refused_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let authority = include_str!("../../tests/outbound/tls/ca.pem");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Authorities::public().with_file(&path, Path::new("ca.pem")).map(|found| found.roots().len())
        };
        let public = Authorities::public().roots().len();
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
}
