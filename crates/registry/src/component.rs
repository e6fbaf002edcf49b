//! Single components in registries, in the format that all tools for WebAssembly use (the media types of the Bytecode
//! Alliance's OCI guidance).

use bytes::Bytes;
use isomer_ids::{Digest, OciReference};
use isomer_parcel::artifact::{
    APP_TYPE, ArtifactError, COMPONENT_TYPE, MANIFEST_TYPE, OciManifest, descriptor, sha256,
};
use serde::Serialize;

use crate::app::manifest_of;
use crate::cache::BlobCache;
use crate::error::RegistryError;
use crate::registry::Registry;

/// The media type of the config of a component.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";

/// The maximum size of a component in bytes.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// A component from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledComponent {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The component.
    pub wasm: Bytes,
}

/// The config of a component. It contains no time, so that the same component has the same digest everywhere.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ComponentConfig<'a> {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
    component: ComponentTypes<'a>,
}

#[derive(Serialize)]
struct ComponentTypes<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// Pulls a component.
///
/// # Errors
/// If the registry cannot be reached, or if the artifact is not exactly one component.
pub async fn pull_component(
    registry: &Registry,
    reference: &OciReference,
    cache: &BlobCache,
) -> Result<PulledComponent, RegistryError> {
    let refused = |problem: &str| RegistryError::Artifact {
        reference: reference.to_string(),
        source: ArtifactError::Malformed { part: "manifest", problem: problem.to_owned() },
    };
    let (digest, bytes) = manifest_of(registry, reference, cache).await?;
    let manifest: OciManifest = serde_json::from_slice(&bytes).map_err(|error| refused(&error.to_string()))?;
    if manifest.artifact_type.as_deref() == Some(APP_TYPE) {
        return Err(refused("it is a whole app, not a component; `isomer push --components` pushes its components"));
    }
    let [layer] = manifest.layers.as_slice() else { return Err(refused("a component has exactly one layer")) };
    if layer.media_type != COMPONENT_TYPE {
        return Err(refused("the layer is not a component"));
    }
    if layer.size > COMPONENT_BYTES_MAX {
        return Err(refused("the component is too large"));
    }
    Ok(PulledComponent { digest, wasm: registry.blob(layer, cache).await? })
}

/// Pushes a component under the tag of the reference. `exports` and `imports` are the names of its interfaces.
///
/// # Errors
/// If the registry cannot be reached or refuses the component.
///
/// # Panics
/// Never, because a manifest can be written as JSON.
pub async fn push_component(
    registry: &Registry,
    reference: &OciReference,
    wasm: &Bytes,
    exports: &[String],
    imports: &[String],
) -> Result<Digest, RegistryError> {
    let layer = descriptor(COMPONENT_TYPE, wasm);
    let config = ComponentConfig {
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [layer.digest.clone()],
        component: ComponentTypes { exports, imports },
    };
    let config = Bytes::from(serde_json::to_vec(&config).expect("a config is plain data"));
    let manifest = OciManifest {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        artifact_type: None,
        config: descriptor(CONFIG_TYPE, &config),
        layers: vec![layer],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest = Bytes::from(serde_json::to_vec(&manifest).expect("a manifest is plain data"));
    for bytes in [wasm, &config] {
        registry.put_blob(&sha256(bytes), bytes).await?;
    }
    registry.put_manifest(reference.tag().unwrap_or("latest"), &manifest, MANIFEST_TYPE).await?;
    Ok(sha256(&manifest))
}
