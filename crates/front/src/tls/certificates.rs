//! All certificates of a front door: chosen by the host that a client names, read again on request.
//!
//! Reading again never leaves less than there was for no better reason than a mistake in a file: each certificate that cannot be
//! read stays as it was, and this is said. Connections that there are go on with what they were shown.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;
use super::{CertificateFiles, TlsError, TlsSettings, config};

/// The certificates of a front door. Cheap to share; replaced as a whole by [`Certificates::reload`].
pub struct Certificates {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    chooser: Arc<Chooser>,
    pub(crate) config: Arc<ServerConfig>,
    /// Held while files are read: the later of two readings wins.
    reading: Mutex<()>,
}

/// What was read.
#[derive(Debug)]
pub struct Loaded {
    /// How many certificates there are.
    pub certificates: usize,
    /// The hosts that they are for.
    pub names: Vec<String>,
    /// What could not be used: a certificate stays what it was before, or is not there.
    pub problems: Vec<TlsError>,
    /// What a person should know of.
    pub warnings: Vec<String>,
}

/// Asked by rustls at each handshake.
#[derive(Debug)]
pub(super) struct Chooser(ArcSwap<Set>);

#[derive(Debug, Default)]
struct Set {
    pairs: Vec<Arc<Pair>>,
    exact: HashMap<String, Arc<Pair>>,
    /// By what follows `*.`.
    wildcards: HashMap<String, Arc<Pair>>,
    default: Option<Arc<Pair>>,
}

impl Certificates {
    /// Reads all there are. A pair of the folder that cannot be used is left out and told in [`Loaded::problems`].
    ///
    /// # Errors
    /// When one of [`TlsSettings::files`] or the folder cannot be used, there is no certificate at all, or none for the default.
    pub fn load(settings: TlsSettings) -> Result<(Arc<Self>, Loaded), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chooser = Arc::new(Chooser(ArcSwap::from_pointee(Set::default())));
        let config = config(provider.clone(), chooser.clone());
        let certificates = Self { settings, provider, chooser, config, reading: Mutex::new(()) };
        let loaded = certificates.read(true)?;
        Ok((Arc::new(certificates), loaded))
    }

    /// Reads all files again. Blocks while it reads. What cannot be used any more stays as it was.
    ///
    /// # Errors
    /// When nothing can be used; then all stays as it was.
    pub fn reload(&self) -> Result<Loaded, TlsError> {
        self.read(false)
    }

    fn read(&self, first: bool) -> Result<Loaded, TlsError> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.chooser.0.load_full();
        let (mut problems, mut warnings, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut keep = |files: &CertificateFiles, problem: TlsError, pairs: &mut Vec<Arc<Pair>>| {
            pairs.extend(before.pairs.iter().find(|pair| pair.files == *files).cloned());
            problems.push(problem);
        };
        for files in &self.settings.files {
            match Pair::read(files, &self.provider) {
                Ok(pair) => pairs.push(Arc::new(pair)),
                Err(problem) if first => return Err(problem),
                Err(problem) => keep(files, problem, &mut pairs),
            }
        }
        if let Some(folder) = &self.settings.folder {
            match list(folder, &mut warnings) {
                Ok(list) => {
                    for files in list {
                        match Pair::read(&files, &self.provider) {
                            Ok(pair) => pairs.push(Arc::new(pair)),
                            Err(problem) => keep(&files, problem, &mut pairs),
                        }
                    }
                }
                Err(problem) if first => return Err(problem),
                Err(problem) => {
                    let of_folder = |pair: &&Arc<Pair>| !self.settings.files.contains(&pair.files);
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
        Ok(Loaded { certificates, names, problems, warnings })
    }

    pub(super) fn find(&self, named: Option<&str>) -> Option<Arc<Pair>> {
        self.chooser.0.load().find(named).cloned()
    }
}

impl Set {
    fn new(pairs: Vec<Arc<Pair>>, settings: &TlsSettings, warnings: &mut Vec<String>) -> Result<Self, TlsError> {
        let mut set = Self::default();
        for pair in &pairs {
            if pair.names.is_empty() {
                let path = pair.files.certificate.display();
                warnings.push(format!("the certificate `{path}` names no host (it has no subject alternative name)"));
            }
            for name in &pair.names {
                let (map, key) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut set.wildcards, rest),
                    None => (&mut set.exact, name.as_str()),
                };
                let first = map.entry(key.to_owned()).or_insert_with(|| pair.clone());
                if !Arc::ptr_eq(first, pair) {
                    let (first, second) = (first.files.certificate.display(), pair.files.certificate.display());
                    warnings.push(format!("`{first}` and `{second}` are both for `{name}`: the first is shown"));
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

    /// The certificate for a client that names this host, or none.
    fn find(&self, named: Option<&str>) -> Option<&Arc<Pair>> {
        named.and_then(|name| self.by_name(name)).or(self.default.as_ref())
    }

    /// A wildcard stands for one label (RFC 6125, section 6.4.3).
    fn by_name(&self, name: &str) -> Option<&Arc<Pair>> {
        self.exact.get(name).or_else(|| self.wildcards.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).map(|pair| pair.key.clone())
    }
}

/// The pairs of a folder, in the order of their names.
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
            (Some(alone), None) => {
                warnings.push(format!("`{}` is not used: there is no `{name}.key` beside it", alone.display()));
            }
            (None, Some(alone)) => {
                warnings.push(format!("`{}` is not used: there is no `{name}.crt` beside it", alone.display()));
            }
            (None, None) => {}
        }
    }
    Ok(pairs)
}
