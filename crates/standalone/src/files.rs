//! Finds the compiled providers.

use std::path::{Path, PathBuf};

use isomer_plan::StandalonePlan;
use isomer_toolchain::{ProgressReporter, cache_dir};

use crate::build::{self, ProviderError};
use crate::provider::Provider;

/// The folder next to the program in which a release tarball has the compiled providers.
const FOLDER: &str = "providers";

/// The compiled providers that an app needs.
#[derive(Debug, Clone, Default)]
pub struct ProviderFiles {
    /// The provider of stores.
    pub stores: Option<Vec<u8>>,
    /// The provider of configuration, secrets, logging and telemetry.
    pub platform: Option<Vec<u8>>,
}

impl ProviderFiles {
    /// Finds the providers that `plan` needs: next to the program, or in the cache folder, or compiles them.
    ///
    /// # Errors
    /// If a provider cannot be compiled.
    pub fn find(plan: &StandalonePlan, report: ProgressReporter<'_>) -> Result<Self, ProviderError> {
        let cache = cache_dir().ok_or(ProviderError::NoCacheDir)?.join(FOLDER);
        let shipped = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(FOLDER)));
        Self::find_in(plan, shipped.as_deref(), &cache, report)
    }

    /// Finds the providers that `plan` needs in one of two folders, or compiles them in the folder `cache`.
    ///
    /// # Errors
    /// If a provider cannot be compiled.
    pub fn find_in(
        plan: &StandalonePlan,
        shipped: Option<&Path>,
        cache: &Path,
        report: ProgressReporter<'_>,
    ) -> Result<Self, ProviderError> {
        let mut find = |provider| get(provider, shipped, cache, report);
        Ok(Self {
            stores: plan.needs_stores().then(|| find(Provider::Stores)).transpose()?,
            platform: plan.needs_platform().then(|| find(Provider::Platform)).transpose()?,
        })
    }

    /// Compiles all providers into `folder`, for a release tarball. Returns the paths of the files.
    ///
    /// # Errors
    /// If a provider cannot be compiled.
    pub fn build_into(folder: &Path, report: ProgressReporter<'_>) -> Result<Vec<PathBuf>, ProviderError> {
        Provider::ALL
            .into_iter()
            .map(|provider| {
                get(provider, None, folder, report)?;
                Ok(folder.join(provider.file()))
            })
            .collect::<Result<_, _>>()
            .and_then(|files| build::unlock(folder).map(|()| files))
    }
}

fn get(
    provider: Provider,
    shipped: Option<&Path>,
    cache: &Path,
    report: ProgressReporter<'_>,
) -> Result<Vec<u8>, ProviderError> {
    for folder in shipped.into_iter().chain([cache]) {
        let path = folder.join(provider.file());
        match std::fs::read(&path) {
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(ProviderError::File { path, source }),
        }
    }
    build::build(provider, cache, report)
}
