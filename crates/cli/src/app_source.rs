//! Where a command takes an app from: a path on this machine, a registry, or an archive.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_ids::{Digest, OciReference};
use isomer_manifest::MONOLITH;
use isomer_parcel::Contents;
use isomer_project::{AppDir, ValueSources, unpack_app};
use isomer_registry::{Referrer, read_archive};

use crate::remote::registry::RegistryFlags;
use crate::signing::referrers;
use crate::user_dirs;

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
    /// Pulls an app from a registry. Its referrers are pulled only if `with_referrers` is set.
    pub(crate) async fn pull(
        reference: &OciReference,
        flags: &RegistryFlags,
        with_referrers: bool,
        console: &Console,
    ) -> Result<Self, CliError> {
        let pulled = flags.pull(reference, console).await?;
        let referrers = match with_referrers {
            true => referrers(&flags.open(reference).await?, &pulled.digest).await?,
            false => Vec::new(),
        };
        Ok(Self {
            name: reference.with_digest(pulled.digest.clone()).to_string(),
            // Neither hosts nor repositories contain `+`, so every repository has a folder of its own.
            folder: format!("{}+{}", reference.registry(), reference.repository().replace('/', "+")),
            digest: pulled.digest,
            contents: pulled.contents,
            referrers,
        })
    }

    /// Reads an app from an archive.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
        let read = read_archive(BufReader::new(file), MONOLITH);
        let (pulled, referrers) = read.with_context(|| format!("cannot use `{}`", path.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            name: path.display().to_string(),
            // `+` at the start: no repository of a registry has this folder.
            folder: format!("+{stem}"),
            digest: pulled.digest,
            contents: pulled.contents,
            referrers,
        })
    }

    /// Unpacks the app into its folder, so that it can run. Its data stays in this folder when a newer version of the
    /// app is unpacked.
    pub(crate) fn unpack(&self, values: &ValueSources) -> Result<AppDir, CliError> {
        let apps = user_dirs::apps();
        let apps = apps.context("neither XDG_DATA_HOME nor HOME is set, so there is no folder for the app")?;
        unpack_app(&self.contents, &apps.join(&self.folder), &self.name, values)
    }
}
