//! All certificates of a front door. They are chosen by the host that a client names, and reloaded on request.
//!
//! A mistake in a file never removes a certificate: if a certificate cannot be used at a reload, its previous version
//! stays in use, and the problem is reported. Open connections continue with the certificate from their handshake.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::{CertificateFiles, TlsError, TlsSettings, config};

/// The certificates of a front door. [`Certificates::reload`] replaces all of them.
pub struct Certificates {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    chooser: Arc<Chooser>,
    pub(crate) config: Arc<ServerConfig>,
    /// Locked while files are read, so that of two concurrent reloads, the later one determines the result.
    reading: Mutex<()>,
}

/// The result of loading certificates.
#[derive(Debug)]
pub struct LoadedCertificates {
    /// The number of certificates in use.
    pub certificates: usize,
    /// The hosts that the certificates cover.
    pub names: Vec<String>,
    /// Errors of certificates that could not be used. Their previous versions, if any, stay in use.
    pub problems: Vec<TlsError>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// Chooses a certificate for each handshake.
#[derive(Debug)]
pub(super) struct Chooser(ArcSwap<Set>);

#[derive(Debug, Default)]
struct Set {
    pairs: Vec<Arc<Certificate>>,
    exact: HashMap<String, Arc<Certificate>>,
    /// The certificates for wildcard names, by the part of the name after `*.`.
    wildcards: HashMap<String, Arc<Certificate>>,
    default: Option<Arc<Certificate>>,
}

impl Certificates {
    /// Reads all certificates. Skips certificates of the folder that cannot be used, and reports them in
    /// [`LoadedCertificates::problems`].
    ///
    /// # Errors
    /// If one of [`TlsSettings::files`] cannot be used, if the folder cannot be read, if there is no certificate, or if
    /// no certificate covers the default host.
    pub fn load(settings: TlsSettings) -> Result<(Arc<Self>, LoadedCertificates), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chooser = Arc::new(Chooser(ArcSwap::from_pointee(Set::default())));
        let config = config(provider.clone(), chooser.clone());
        let certificates = Self { settings, provider, chooser, config, reading: Mutex::new(()) };
        let loaded = certificates.read(true)?;
        Ok((Arc::new(certificates), loaded))
    }

    /// Reads all files again. Blocks during this time. If a certificate can no longer be used, its previous version
    /// stays in use.
    ///
    /// # Errors
    /// If no certificate can be used, or if none covers the default host. In both cases, all previous certificates stay
    /// in use.
    pub fn reload(&self) -> Result<LoadedCertificates, TlsError> {
        self.read(false)
    }

    fn read(&self, first: bool) -> Result<LoadedCertificates, TlsError> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.chooser.0.load_full();
        let (mut problems, mut warnings, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut keep = |files: &CertificateFiles, problem: TlsError, pairs: &mut Vec<Arc<Certificate>>| {
            pairs.extend(before.pairs.iter().find(|pair| pair.files == *files).cloned());
            problems.push(problem);
        };
        for files in &self.settings.files {
            match Certificate::read(files, &self.provider) {
                Ok(pair) => pairs.push(Arc::new(pair)),
                Err(problem) if first => return Err(problem),
                Err(problem) => keep(files, problem, &mut pairs),
            }
        }
        if let Some(folder) = &self.settings.folder {
            match list(folder, &mut warnings) {
                Ok(list) => {
                    for files in list {
                        match Certificate::read(&files, &self.provider) {
                            Ok(pair) => pairs.push(Arc::new(pair)),
                            Err(problem) => keep(&files, problem, &mut pairs),
                        }
                    }
                }
                Err(problem) if first => return Err(problem),
                Err(problem) => {
                    let of_folder = |pair: &&Arc<Certificate>| !self.settings.files.contains(&pair.files);
                    pairs.extend(before.pairs.iter().filter(of_folder).cloned());
                    problems.push(problem);
                }
            }
        }
        if pairs.is_empty() {
            let path = self.settings.folder.clone().unwrap_or_else(|| PathBuf::from("[front.tls]"));
            return Err(problems.into_iter().next().unwrap_or(TlsError::Nothing { path }));
        }
        let set = Set::new(pairs, &self.settings, &mut warnings)?;
        let names = set.exact.keys().cloned().chain(set.wildcards.keys().map(|rest| format!("*.{rest}")));
        let mut names: Vec<String> = names.collect();
        names.sort();
        let certificates = set.pairs.len();
        self.chooser.0.store(Arc::new(set));
        Ok(LoadedCertificates { certificates, names, problems, warnings })
    }

    pub(super) fn find(&self, named: Option<&str>) -> Option<Arc<Certificate>> {
        self.chooser.0.load().find(named).cloned()
    }
}

impl Set {
    fn new(pairs: Vec<Arc<Certificate>>, settings: &TlsSettings, warnings: &mut Vec<String>) -> Result<Self, TlsError> {
        let mut set = Self::default();
        for pair in &pairs {
            if pair.names.is_empty() {
                let path = pair.files.certificate.display();
                warnings.push(format!("the certificate `{path}` covers no host (it has no subject alternative name)"));
            }
            for name in &pair.names {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut set.wildcards, rest),
                    None => (&mut set.exact, name.as_str()),
                };
                let first = map.entry(key.to_owned()).or_insert_with(|| pair.clone());
                if !Arc::ptr_eq(first, pair) {
                    let (first, second) = (first.files.certificate.display(), pair.files.certificate.display());
                    warnings.push(format!("`{first}` and `{second}` both cover `{name}`: the first is used"));
                }
            }
        }
        set.default = match &settings.default {
            Some(host) => {
                let found = set.by_name(&host.to_ascii_lowercase()).cloned();
                Some(found.ok_or_else(|| TlsError::NoDefault { host: host.clone() })?)
            }
            None => pairs.iter().find(|pair| settings.files.first() == Some(&pair.files)).cloned(),
        };
        set.pairs = pairs;
        Ok(set)
    }

    /// Returns the certificate for the host that a client named in the handshake. If there is none, or if the client
    /// named no host, returns the default certificate.
    fn find(&self, named: Option<&str>) -> Option<&Arc<Certificate>> {
        named.and_then(|name| self.by_name(name)).or(self.default.as_ref())
    }

    /// Returns the certificate that covers `name`. A wildcard matches exactly one label (RFC 6125, section 6.4.3).
    fn by_name(&self, name: &str) -> Option<&Arc<Certificate>> {
        self.exact.get(name).or_else(|| self.wildcards.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).map(|pair| pair.key.clone())
    }
}

/// Returns the certificates in `folder`, in the order of their file names.
fn list(folder: &Path, warnings: &mut Vec<String>) -> Result<Vec<CertificateFiles>, TlsError> {
    let failed = |source| TlsError::Read { what: "folder of certificates", path: folder.to_owned(), source };
    let mut found: BTreeMap<String, (Option<PathBuf>, Option<PathBuf>)> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { continue };
        let (Some(stem), Some(extension)) = (stem.to_str(), extension.to_str()) else { continue };
        if stem.starts_with('.') || !["key", "crt", "pem"].contains(&extension) {
            continue;
        }
        let (certificate, key) = found.entry(stem.to_owned()).or_default();
        match extension {
            "key" => *key = Some(path),
            "crt" => *certificate = Some(path),
            _ => *certificate = certificate.take().or(Some(path)),
        }
    }
    let mut pairs = Vec::new();
    for (name, files) in found {
        match files {
            (Some(certificate), Some(key)) => pairs.push(CertificateFiles { certificate, key }),
            (Some(file), None) => {
                warnings.push(format!("`{}` is not used: there is no `{name}.key` next to it", file.display()));
            }
            (None, Some(file)) => {
                warnings.push(format!("`{}` is not used: there is no `{name}.crt` next to it", file.display()));
            }
            (None, None) => {}
        }
    }
    Ok(pairs)
}
