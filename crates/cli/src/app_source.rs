//! Where a command takes an app from: a path on this machine, a registry, or an archive.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_ids::{Digest, OciReference};
use isomer_manifest::MONOLITH;
use isomer_parcel::Contents;
use isomer_parcel::artifact::sha256;
use isomer_project::{AppDir, ValueSources, unpack_app};
use isomer_registry::{PulledApp, Referrer, ReferrerFilter, RegistryError, fetch_referrers, read_archive};
use isomer_signing::PublicKey;

use crate::app_consent;
use crate::key_files::read_public;
use crate::remote::registry::{RegistryFlags, blob_cache, pull, registry_error};
use crate::signing::{SIGNATURES, complete, is_signed, referrers};
use crate::user_dirs;

/// The number of hexadecimal digits in the name of the folder of an app from an archive: 128 bits.
const FOLDER_DIGITS: usize = 32;

/// An app as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppSource {
    /// The app's folder, its manifest, or the file of a component.
    Path(PathBuf),
    /// An app in a registry.
    Registry(OciReference),
    /// An app in an archive of `isomer pull --output`.
    Archive(PathBuf),
}

impl AppSource {
    /// Parses the argument `APP`. A text with `oci://` is a reference, a file that ends with `.tar` is an archive, and any
    /// other text is a path.
    pub(crate) fn parse(path: &Path) -> Result<Self, CliError> {
        let Some(text) = path.to_str().filter(|text| OciReference::is_marked(text)) else {
            let is_archive = path.extension().is_some_and(|extension| extension == "tar") && !path.is_dir();
            return Ok(if is_archive { Self::Archive(path.to_owned()) } else { Self::Path(path.to_owned()) });
        };
        text.parse().map(Self::Registry).map_err(|error: isomer_ids::InvalidText| {
            let hint = error.hint();
            CliError::usage(error.to_string(), hint)
        })
    }
}

/// An app that was built elsewhere.
pub(crate) struct ShippedApp {
    /// The name under which messages and paths show it.
    pub(crate) name: String,
    /// The name of the folder in which it runs.
    folder: String,
    pub(crate) digest: Digest,
    pub(crate) contents: Contents,
    /// What refers to the app, such as its signatures. Nothing has verified them yet.
    pub(crate) referrers: Vec<Referrer>,
}

impl ShippedApp {
    /// Pulls an app from a registry, with those referrers that `filter` selects.
    pub(crate) async fn pull(
        reference: &OciReference,
        flags: &RegistryFlags,
        filter: Option<ReferrerFilter<'_>>,
        console: &Console,
    ) -> Result<Self, CliError> {
        let registry = flags.open(reference).await?;
        let pulled = pull(&registry, reference, console).await?;
        let referrers = match filter {
            Some(filter) => referrers(&registry, &pulled.digest, filter, console).await?,
            None => Vec::new(),
        };
        Ok(Self::of_registry(reference, pulled, referrers))
    }

    /// Pulls an app from a registry to deploy it. If the app is in the cache and the registry cannot be reached, the app has
    /// no signatures: only the node knows whether it needs them.
    pub(crate) async fn pull_to_deploy(
        reference: &OciReference,
        flags: &RegistryFlags,
        console: &Console,
    ) -> Result<Self, CliError> {
        let registry = flags.open(reference).await?;
        let pulled = pull(&registry, reference, console).await?;
        let referrers = match fetch_referrers(&registry, &pulled.digest, &blob_cache(), SIGNATURES).await {
            Err(error @ (RegistryError::Unreachable { .. } | RegistryError::Timeout { .. }))
                if reference.digest().is_some() =>
            {
                console.message(&format!("{error}, so the app's signatures are not sent to the node"));
                Vec::new()
            }
            found => complete(found.map_err(registry_error)?, console),
        };
        Ok(Self::of_registry(reference, pulled, referrers))
    }

    fn of_registry(reference: &OciReference, pulled: PulledApp, referrers: Vec<Referrer>) -> Self {
        Self {
            name: reference.with_digest(pulled.digest.clone()).to_string(),
            // Neither hosts nor repositories contain `+`, so every repository has a folder of its own.
            folder: format!("{}+{}", reference.registry(), reference.repository().replace('/', "+")),
            digest: pulled.digest,
            contents: pulled.contents,
            referrers,
        }
    }

    /// Reads an app from an archive.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        let read = read_archive(BufReader::new(file), MONOLITH);
        let (pulled, referrers) = read.with_context(|| format!("cannot use `{}`", path.display()))?;
        // The name of a file says nothing about who wrote it. An archive has the data of the archive that was at the same
        // path before.
        let place = path.canonicalize().with_context(|| format!("cannot open `{}`", path.display()))?;
        let place = sha256(place.as_os_str().as_encoded_bytes());
        Ok(Self {
            name: path.display().to_string(),
            // `+` at the start: no repository of a registry has this folder.
            folder: format!("+{}", &place.as_str()[..FOLDER_DIGITS]),
            digest: pulled.digest,
            contents: pulled.contents,
            referrers,
        })
    }

    /// Checks that one of the keys has signed the app. Does nothing without keys.
    pub(crate) fn check(&self, keys: &[PublicKey]) -> Result<(), CliError> {
        if keys.is_empty() || is_signed(&self.referrers, &self.digest, keys) {
            return Ok(());
        }
        Err(CliError::failed(
            format!("none of the keys has signed `{}`", self.name),
            "sign the app: isomer push --sign KEY REFERENCE",
        ))
    }

    /// Unpacks the app into its folder, so that it can run. Its data stays in this folder when a newer version of the
    /// app is unpacked. Asks the user to accept what the app reaches outside its folder, unless `yes` is set.
    pub(crate) fn unpack(&self, values: &ValueSources, yes: bool, console: &Console) -> Result<AppDir, CliError> {
        let apps = user_dirs::apps();
        let apps = apps.context("neither XDG_DATA_HOME nor HOME is set, so there is no folder for the app")?;
        let folder = apps.join(&self.folder);
        let app = unpack_app(&self.contents, &folder, &self.name, values)?;
        app_consent::confirm(&app.app, &folder, &self.name, yes, console)?;
        Ok(app)
    }
}

/// The flag of commands that may demand a signature of an app that was built elsewhere.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct KeyFlag {
    /// Use an app from a registry or an archive only if the owner of this public key has signed it. May be repeated: one
    /// of the keys is enough.
    #[arg(long = "key", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl KeyFlag {
    /// Reads the keys.
    pub(crate) fn keys(&self) -> Result<Vec<PublicKey>, CliError> {
        self.files.iter().map(|path| read_public(path)).collect()
    }

    /// Refuses the flag for an app that is built from its sources, which have no signature.
    pub(crate) fn refuse_for_sources(&self) -> Result<(), CliError> {
        match self.files.is_empty() {
            true => Ok(()),
            false => Err(CliError::usage(
                "`--key` works only for an app from a registry or an archive",
                "remove `--key`: an app in a folder has no signatures",
            )),
        }
    }
}
