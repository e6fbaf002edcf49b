//! A container image with a shipped program: an OCI image layout as a tar archive, which Docker, Podman, containerd and
//! `skopeo` load. The same program and settings give the same bytes.
//!
//! The archive also contains the file `manifest.json` of `docker save`, which Docker needs if it does not store images in
//! containerd, as most installations older than Docker 29.
//!
//! The image has one layer and no base image: the program in `/app`, an empty folder for data, and a folder for temporary files. A
//! statically linked program needs nothing else.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::exe::Machine;

/// The id of the user and group that run the program. It has no name in the image, and no rights on the host.
const USER: u64 = 65532;

/// The path of the data directory in the image.
pub const IMAGE_DATA: &str = "/data";

/// The folder of the program in the image.
const PROGRAM_FOLDER: &str = "app";

/// The settings of an image.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// The name of the program in the image, and of the image.
    pub name: String,
    /// The tag of the image.
    pub tag: String,
    /// The architecture of the program.
    pub machine: Machine,
    /// The port that the program listens on, on all addresses.
    pub port: u16,
    /// Labels and annotations.
    pub labels: BTreeMap<String, String>,
}

/// Writes an image with `program` to `out`. Returns the digest of the image's manifest.
///
/// # Errors
/// If writing fails.
///
/// # Panics
/// Never: JSON values are plain data.
pub fn write_image(settings: &ImageSettings, program: &[u8], out: &mut dyn Write) -> io::Result<String> {
    let ImageSettings { name, tag, machine, port, labels } = settings;
    let layer = layer(name, program)?;
    let diff_id = digest(&layer);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&layer)?;
    let layer = gzip.finish()?;
    let architecture = match machine {
        Machine::X86_64 => "amd64",
        Machine::Aarch64 => "arm64",
    };
    let config = to_bytes(&json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "ExposedPorts": { format!("{port}/tcp"): {} },
            "Entrypoint": [format!("/{PROGRAM_FOLDER}/{name}"), "--listen", format!("0.0.0.0:{port}"), "--data", IMAGE_DATA],
            "Volumes": { IMAGE_DATA: {} },
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "isomer ship image" }],
    }));
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len() });
    let manifest = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar+gzip", &layer)],
        "annotations": labels,
    }));
    let mut listed = descriptor("manifest.v1+json", &manifest);
    listed["platform"] = json!({ "architecture": architecture, "os": "linux" });
    listed["annotations"] = json!({
        "org.opencontainers.image.ref.name": tag,
        // The full form, which `docker save` writes too.
        "io.containerd.image.name": format!("docker.io/library/{name}:{tag}"),
    });
    let index = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listed],
    }));
    let path = |blob: &[u8]| format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:"));
    let docker = to_bytes(&json!([
        { "Config": path(&config), "RepoTags": [format!("{name}:{tag}")], "Layers": [path(&layer)] },
    ]));
    let mut archive = tar::Builder::new(out);
    add(&mut archive, "oci-layout", &to_bytes(&json!({ "imageLayoutVersion": "1.0.0" })), 0o644, 0)?;
    add(&mut archive, "index.json", &index, 0o644, 0)?;
    add(&mut archive, "manifest.json", &docker, 0o644, 0)?;
    for folder in ["blobs/", "blobs/sha256/"] {
        add_folder(&mut archive, folder, 0o755, 0)?;
    }
    for blob in [&config, &manifest, &layer] {
        add(&mut archive, &path(blob), blob, 0o644, 0)?;
    }
    archive.finish()?;
    Ok(digest(&manifest))
}

/// Returns the uncompressed layer.
fn layer(name: &str, program: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    // Apps may have any name, also those of the other folders. So the program is in a folder of its own.
    add_folder(&mut archive, &format!("{PROGRAM_FOLDER}/"), 0o755, 0)?;
    add(&mut archive, &format!("{PROGRAM_FOLDER}/{name}"), program, 0o555, 0)?;
    add_folder(&mut archive, "data/", 0o700, USER)?;
    add_folder(&mut archive, "tmp/", 0o1777, 0)?;
    archive.into_inner()
}

fn header(bytes: u64, mode: u32, owner: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(0);
    header
}

fn add(archive: &mut tar::Builder<impl Write>, path: &str, content: &[u8], mode: u32, owner: u64) -> io::Result<()> {
    let mut header = header(content.len() as u64, mode, owner);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, path, content)
}

fn add_folder(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, owner: u64) -> io::Result<()> {
    let mut header = header(0, mode, owner);
    header.set_entry_type(tar::EntryType::Directory);
    archive.append_data(&mut header, path, io::empty())
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value is plain data")
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn written(name: &str) -> (String, BTreeMap<String, Vec<u8>>, Vec<u8>) {
        let settings = ImageSettings {
            name: name.to_owned(),
            tag: "1.2.3".to_owned(),
            machine: Machine::Aarch64,
            port: 8080,
            labels: [("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned())].into(),
        };
        let mut out = Vec::new();
        let digest = write_image(&settings, b"the program", &mut out).unwrap();
        (digest, files(&out), out)
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        read.collect()
    }

    #[test]
    fn every_digest_in_an_image_is_that_of_its_blob() {
        let (manifest, files, bytes) = written("shop");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let blob = &files[&format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))];
            assert_eq!((digest_of(blob), Some(blob.len() as u64)), (digest.to_owned(), descriptor["size"].as_u64()));
            blob.clone()
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&files["index.json"]);
        assert_eq!(index["manifests"][0]["digest"], manifest);
        let manifest = json(&blob(&index["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        assert_eq!(config["architecture"], "arm64");
        let mut layer = Vec::new();
        GzDecoder::new(blob(&manifest["layers"][0]).as_slice()).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest_of(&layer));
        let content = super::tests::files(&layer);
        assert_eq!(content.keys().collect::<Vec<_>>(), ["app/", "app/shop", "data/", "tmp/"]);
        assert_eq!(content["app/shop"], b"the program");
        assert_eq!(config["config"]["Entrypoint"][0], "/app/shop");
        assert_eq!(written("shop").2, bytes, "the same program gives other bytes");
    }

    /// Docker with its own store of images reads only this file.
    #[test]
    fn the_manifest_of_docker_names_the_same_blobs() {
        let (_, files, _) = written("shop");
        let docker: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(docker[0]["RepoTags"], json!(["shop:1.2.3"]));
        let config: Value = serde_json::from_slice(&files[docker[0]["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["architecture"], "arm64");
        let layers: Vec<_> = docker[0]["Layers"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(layers.len(), 1);
        assert!(files[layers[0]].starts_with(&[0x1f, 0x8b]));
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let name = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
        assert_eq!(name, "docker.io/library/shop:1.2.3");
    }

    /// The container's runtime also mounts folders over some of these names.
    #[test]
    fn the_name_of_an_app_never_hides_its_program() {
        for name in ["data", "tmp", "proc", "app"] {
            let (_, files, _) = written(name);
            let docker: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
            let mut layer = Vec::new();
            let compressed = files[docker[0]["Layers"][0].as_str().unwrap()].as_slice();
            GzDecoder::new(compressed).read_to_end(&mut layer).unwrap();
            let program = format!("app/{name}");
            assert_eq!(super::tests::files(&layer)[&program], b"the program");
            let config: Value = serde_json::from_slice(&files[docker[0]["Config"].as_str().unwrap()]).unwrap();
            assert_eq!(config["config"]["Entrypoint"][0], format!("/{program}"));
        }
    }

    fn digest_of(bytes: &[u8]) -> String {
        digest(bytes)
    }
}
