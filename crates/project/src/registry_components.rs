//! Components of an app that come from a registry: `wasm = "oci://…"`.
//!
//! The file `isomer.lock` next to the manifest keeps the digests to which tags referred when the components were first
//! used, so that a moved tag does not change the app. The components are kept in the app's folder, so a build needs the
//! registry only once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_ids::{Digest, OciReference};
use isomer_manifest::{App, ComponentSource};
use isomer_parcel::artifact::sha256;
use isomer_registry::{
    BlobCache, CredentialSource, PulledComponent, Registry, RegistryOptions, TransportSecurity, pull_component,
};
use serde::{Deserialize, Serialize};

use crate::own_dir::OWN_DIR;

/// The name of the lock file, next to the manifest.
pub const LOCK_FILE: &str = "isomer.lock";

/// The folder of the components, inside [`OWN_DIR`].
const FOLDER: &str = "registry";

/// The maximum size of the lock file in bytes.
const LOCK_BYTES_MAX: u64 = 4 << 20;

/// The first lines of the lock file.
const LOCK_HEADER: &str =
    "# The components from registries that this app uses. `isomer build` writes this file; commit it.\n\n";

/// The content of the lock file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    components: BTreeMap<String, LockedComponent>,
}

/// A component in the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedComponent {
    /// The reference in the manifest.
    reference: String,
    /// The digest of the artifact's manifest.
    digest: Digest,
    /// The digest of the component.
    wasm: Digest,
}

/// Downloads the components that are missing in `dir`, the app's folder. Returns the app with each reference replaced
/// by the path of the downloaded file; `None` if no component comes from a registry.
///
/// # Errors
/// If a component cannot be downloaded, or if the lock file is not valid or cannot be written.
pub(crate) fn resolve(dir: &Path, app: &App, console: &Console) -> Result<Option<App>, CliError> {
    let named = app.components.iter().filter_map(|(name, component)| match &component.source.value {
        ComponentSource::Registry(reference) => Some((name, reference)),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return Ok(None);
    }
    let path = dir.join(LOCK_FILE);
    let lock = read_lock(&path)?;
    let mut next = Lock::default();
    let mut resolved = app.clone();
    for (name, reference) in named {
        let file = Path::new(OWN_DIR).join(FOLDER).join(format!("{name}.wasm"));
        let locked = lock.components.get(name.as_str());
        let locked = locked.filter(|locked| locked.reference == reference.to_string());
        let whole = dir.join(&file);
        let entry = match locked.filter(|locked| is_current(&whole, &locked.wasm)) {
            Some(locked) => locked.clone(),
            None => {
                let pinned = match (reference.digest(), locked) {
                    (None, Some(locked)) => reference.with_digest(locked.digest.clone()),
                    _ => reference.clone(),
                };
                let progress = console.progress();
                progress.step(format!("pulling component {name} from {pinned}"));
                let pulled = pull(&pinned)?;
                let wasm = sha256(&pulled.wasm);
                write(&whole, &pulled.wasm)?;
                LockedComponent { reference: reference.to_string(), digest: pulled.digest, wasm }
            }
        };
        next.components.insert(name.to_string(), entry);
        if let Some(component) = resolved.components.get_mut(name) {
            component.source.value = ComponentSource::Wasm(file);
        }
    }
    if next != lock {
        let text = toml::to_string(&next).context("cannot write the lock file")?;
        write(&path, format!("{LOCK_HEADER}{text}").as_bytes())?;
    }
    Ok(Some(resolved))
}

/// Pulls a component on a separate thread, because the caller may be a task of an executor.
///
/// # Errors
/// If the component cannot be downloaded.
pub fn pull_registry_component(reference: &OciReference) -> Result<PulledComponent, CliError> {
    pull(reference)
}

fn pull(reference: &OciReference) -> Result<PulledComponent, CliError> {
    let download = || -> Result<PulledComponent, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the executor")?;
        let options = RegistryOptions::from_environment(TransportSecurity::default());
        let pulled = runtime.block_on(async {
            let registry = Registry::open(reference, &options, &CredentialSource::from_environment()).await?;
            pull_component(&registry, reference, &BlobCache::disabled()).await
        });
        pulled.map_err(|error| {
            let hints = error.hints(false);
            CliError::hinted(error, hints)
        })
    };
    std::thread::scope(|scope| {
        let joined = scope.spawn(download).join();
        joined.unwrap_or_else(|_| Err(CliError::failed("the download ended unexpectedly", "run the command again")))
    })
}

/// Returns the components that come from registries, by name, each with its reference and the digest of its artifact in the
/// lock file. Components without an entry in the lock file are left out.
pub(crate) fn locked(dir: &Path, app: &App) -> BTreeMap<String, (OciReference, Digest)> {
    let lock = read_lock(&dir.join(LOCK_FILE)).unwrap_or_default();
    let locked = app.components.iter().filter_map(|(name, component)| {
        let ComponentSource::Registry(reference) = &component.source.value else { return None };
        let entry = lock.components.get(name.as_str()).filter(|entry| entry.reference == reference.to_string())?;
        Some((name.to_string(), (reference.clone(), entry.digest.clone())))
    });
    locked.collect()
}

fn is_current(path: &Path, wasm: &Digest) -> bool {
    std::fs::read(path).is_ok_and(|bytes| sha256(&bytes) == *wasm)
}

fn read_lock(path: &Path) -> Result<Lock, CliError> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::default()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read `{}`", path.display())).into());
        }
    };
    let text = match metadata.len() <= LOCK_BYTES_MAX {
        true => std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?,
        false => return Err(invalid(path, "it is too large")),
    };
    toml::from_str(&text).map_err(|error| invalid(path, error.message()))
}

fn invalid(path: &Path, problem: &str) -> CliError {
    CliError::failed(
        format!("the lock file `{}` is not valid: {problem}", path.display()),
        "restore it from version control, or remove it to resolve the tags again",
    )
}

/// Writes a file under a temporary name and renames it, so that it is complete.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let folder: PathBuf = path.parent().map(Path::to_owned).unwrap_or_default();
    let cannot_write = || format!("cannot write `{}`", path.display());
    std::fs::create_dir_all(&folder).with_context(cannot_write)?;
    let file = tempfile::NamedTempFile::new_in(&folder).with_context(cannot_write)?;
    std::fs::write(file.path(), bytes).with_context(cannot_write)?;
    file.persist(path).with_context(cannot_write)?;
    Ok(())
}
