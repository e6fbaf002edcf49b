//! The app's name, version, health path and grants, in the form in which a package stores them.

use isomer_capabilities::AppGrants;
use isomer_manifest::{App, Sampling};
use isomer_telemetry::AppSampling;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PackedApp {
    pub(super) name: String,
    #[serde(with = "as_text")]
    pub(super) version: semver::Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) sampling: AppSampling,
    #[serde(flatten)]
    pub(super) grants: AppGrants,
}

fn is_default(sampling: &AppSampling) -> bool {
    *sampling == AppSampling::default()
}

/// Returns the sampling settings of a manifest.
pub fn sampling_of(app: &App) -> AppSampling {
    let Sampling { fraction, per_second_max, slow } = app.sampling;
    AppSampling { ratio: fraction, per_second_max, slow }
}

impl PackedApp {
    pub(super) fn new(app: &App) -> Self {
        Self {
            name: app.name.clone(),
            version: app.version.clone(),
            health: app.health.as_ref().map(|path| path.value.clone()),
            sampling: sampling_of(app),
            grants: app.into(),
        }
    }
}

mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(version: &semver::Version, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<semver::Version, D::Error> {
        semver::Version::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
