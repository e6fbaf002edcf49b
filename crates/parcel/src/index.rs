//! The index of a release: the files in which one build of an app was shipped, each with its digest.
//!
//! The index is the last file that is written into the folder of a release, and the only one that is signed. So a folder
//! with an index is complete, and one signature covers all its files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use isomer_ids::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name of the index in the folder of a release.
pub const INDEX_FILE: &str = "release.json";

/// The name of the index's signature: a Sigstore bundle.
pub const INDEX_SIGNATURE_FILE: &str = "release.json.sigstore.json";

/// The maximum size of an index in bytes.
pub const INDEX_BYTES_MAX: u64 = 1 << 20;

/// The version of the format. A program refuses an index of another version.
const FORMAT: u32 = 1;

/// The maximum number of files of a release.
const FILES_MAX: usize = 100;

/// The number of bytes that are read and hashed at once.
const CHUNK_BYTES: usize = 1 << 16;

/// The files in which one build of an app was shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseIndex {
    format: u32,
    /// The name of the app.
    pub app: String,
    /// The version of the app.
    pub version: String,
    /// The version of Isomer that wrote the files.
    pub isomer: String,
    /// The digest of the app's artifact in registries and archives.
    pub artifact: Digest,
    /// The names of the app's shapes.
    pub shapes: Vec<String>,
    /// The files of the release.
    pub files: Vec<ShippedFile>,
    /// The forms that the app does not have.
    pub left_out: Vec<LeftOut>,
}

/// A form in which an app is shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The artifact of the app, with its signatures and the list of its components, as an archive.
    Archive,
    /// The app and its runtime as one program.
    Program,
    /// A systemd unit for the program.
    Unit,
    /// A container image with the program.
    Image,
    /// The app as one component with standard imports.
    Wasm,
}

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippedFile {
    /// The form of the app in this file.
    pub form: Form,
    /// The name of the file, which is in the same folder as the index.
    pub file: String,
    /// The SHA-256 digest of the file.
    pub digest: Digest,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The shape in which the file runs the app; `None` if the shape is chosen when the app is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// The machines on which the file runs; `None` if it runs on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A form that an app does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The form.
    pub form: Form,
    /// The reason why the app does not have it.
    pub reason: String,
}

/// The reason why the folder of a release is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The index is not JSON of this format.
    #[error("the index is not valid")]
    Malformed {
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The index has another format.
    #[error("the index has the format {0}, which this version does not know")]
    Format(u32),
    /// There are too many files, or a file name contains a path.
    #[error("the index names files that a release cannot have")]
    Names,
    /// A file cannot be read.
    #[error("cannot read `{file}`")]
    Read {
        /// The name of the file.
        file: String,
        /// The system's error.
        source: io::Error,
    },
    /// The content of a file differs from the index.
    #[error("`{0}` is not the file that was released: its content has changed")]
    Changed(String),
}

impl Form {
    /// Returns the name of the form in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Program => "program",
            Self::Unit => "unit",
            Self::Image => "image",
            Self::Wasm => "wasm",
        }
    }
}

impl ShippedFile {
    /// Describes the file `file` in `folder`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of(form: Form, folder: &Path, file: &str) -> Result<Self, IndexError> {
        let (digest, bytes) = hashed(folder, file)?;
        Ok(Self { form, file: file.to_owned(), digest, bytes, shape: None, target: None })
    }
}

impl ReleaseIndex {
    /// Creates the index of a release without files.
    #[must_use]
    pub fn new(app: &str, version: &str, isomer: &str, artifact: Digest, shapes: Vec<String>) -> Self {
        let (app, version, isomer) = (app.to_owned(), version.to_owned(), isomer.to_owned());
        Self { format: FORMAT, app, version, isomer, artifact, shapes, files: Vec::new(), left_out: Vec::new() }
    }

    /// Reads an index.
    ///
    /// # Errors
    /// If it is not valid.
    pub fn parse(text: &[u8]) -> Result<Self, IndexError> {
        let index: Self = serde_json::from_slice(text).map_err(|source| IndexError::Malformed { source })?;
        if index.format != FORMAT {
            return Err(IndexError::Format(index.format));
        }
        if index.files.len() > FILES_MAX || !index.files.iter().all(|shipped| is_plain_name(&shipped.file)) {
            return Err(IndexError::Names);
        }
        Ok(index)
    }

    /// Returns the index as a file. The same index always gives the same bytes.
    ///
    /// # Panics
    /// Never, because an index is plain data.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("an index is plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Verifies that the files in `folder` are those of the release.
    ///
    /// # Errors
    /// If a file cannot be read, or its content differs from the index.
    pub fn verify(&self, folder: &Path) -> Result<(), IndexError> {
        for shipped in &self.files {
            let (digest, bytes) = hashed(folder, &shipped.file)?;
            if (&digest, bytes) != (&shipped.digest, shipped.bytes) {
                return Err(IndexError::Changed(shipped.file.clone()));
            }
        }
        Ok(())
    }
}

/// Returns whether `name` names a file in the folder itself.
fn is_plain_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(is_plain)
}

/// Returns the digest and the size of a file.
fn hashed(folder: &Path, file: &str) -> Result<(Digest, u64), IndexError> {
    let read = || -> io::Result<(Digest, u64)> {
        let mut opened = File::open(folder.join(file))?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = opened.read(&mut chunk)?;
            if length == 0 {
                return Ok((Digest::from(<[u8; 32]>::from(hasher.finalize())), bytes));
            }
            hasher.update(&chunk[..length]);
            bytes += length as u64;
        }
    };
    read().map_err(|source| IndexError::Read { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(folder: &Path) -> ReleaseIndex {
        std::fs::write(folder.join("shop.wasm"), "a component").unwrap();
        let mut index = ReleaseIndex::new("shop", "1.0.0", "0.1.0", Digest::from([7; 32]), vec!["monolith".to_owned()]);
        index.files.push(ShippedFile::of(Form::Wasm, folder, "shop.wasm").unwrap());
        index.left_out.push(LeftOut { form: Form::Image, reason: "the program needs shared libraries".to_owned() });
        index
    }

    #[test]
    fn a_changed_file_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path());
        assert_eq!(ReleaseIndex::parse(&index.to_bytes()).unwrap(), index);
        index.verify(folder.path()).unwrap();
        std::fs::write(folder.path().join("shop.wasm"), "b component").unwrap();
        assert!(matches!(index.verify(folder.path()), Err(IndexError::Changed(file)) if file == "shop.wasm"));
        std::fs::remove_file(folder.path().join("shop.wasm")).unwrap();
        assert!(matches!(index.verify(folder.path()), Err(IndexError::Read { .. })));
    }

    #[test]
    fn files_outside_of_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../shop.wasm", "/etc/passwd", "a/b", "", ".", "..", ".hidden", "a\n"] {
            let mut index = index(folder.path());
            index.files[0].file = name.to_owned();
            assert!(matches!(ReleaseIndex::parse(&index.to_bytes()), Err(IndexError::Names)), "{name}");
        }
        let mut long = index(folder.path());
        long.files = vec![long.files[0].clone(); FILES_MAX + 1];
        assert!(matches!(ReleaseIndex::parse(&long.to_bytes()), Err(IndexError::Names)));
        let other =
            String::from_utf8(index(folder.path()).to_bytes()).unwrap().replace("\"format\": 1", "\"format\": 2");
        assert!(matches!(ReleaseIndex::parse(other.as_bytes()), Err(IndexError::Format(2))));
        assert!(matches!(ReleaseIndex::parse(b"{}"), Err(IndexError::Malformed { .. })));
    }
}
