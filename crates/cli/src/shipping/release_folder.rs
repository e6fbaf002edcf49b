//! Verifying the folder that `isomer ship all` wrote.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use isomer_console::{CliError, Console, print};
use isomer_parcel::artifact::sha256;
use isomer_parcel::index::{INDEX_BYTES_MAX, INDEX_FILE, INDEX_SIGNATURE_FILE, ReleaseIndex, ShippedFile};
use isomer_project::shown;
use isomer_signing::{PublicKey, SIGNATURE_PREDICATE, verify};
use serde_json::json;

/// Verifies that one of `keys` has signed the index in `folder`, and that the files in the folder are those of the index.
/// The index is parsed only after its signature is verified.
///
/// # Errors
/// If no key has signed the index, or if a file is missing or has changed.
pub(crate) fn verify_folder(folder: &Path, keys: &[PublicKey], json: bool, console: &Console) -> Result<(), CliError> {
    let bytes = read(&folder.join(INDEX_FILE))?;
    let signature = folder.join(INDEX_SIGNATURE_FILE);
    if !signature.is_file() {
        let hint = "write the release again with a key: isomer ship all --sign KEY";
        return Err(CliError::failed(format!("the release in `{}` is not signed", folder.display()), hint));
    }
    let bundle = read(&signature)?;
    let digest = sha256(&bytes);
    let signed = std::str::from_utf8(&bundle).ok().and_then(|bundle| verify(bundle, keys).ok());
    let signed =
        signed.filter(|(statement, _)| statement.predicate_type == SIGNATURE_PREDICATE && statement.is_about(&digest));
    let Some((_, signer)) = signed else {
        return Err(CliError::failed(
            format!("none of the keys has signed the release in `{}`", folder.display()),
            "name the public key of the release's author: --key FILE",
        ));
    };
    let index = ReleaseIndex::parse(&bytes).with_context(|| format!("cannot use `{INDEX_FILE}`"))?;
    index.verify(folder).with_context(|| format!("the release in `{}` was altered", folder.display()))?;
    let key = keys[signer].id();
    if json {
        let value = json!({
            "app": index.app,
            "version": index.version,
            "digest": format!("sha256:{}", index.artifact),
            "signed": true,
            "key": key.to_string(),
            "files": index.files,
        });
        return print(&format!("{value:#}\n"));
    }
    for ShippedFile { form, file, digest, .. } in &index.files {
        print(&format!("{:<9}{digest}  {file}\n", form.name()))?;
    }
    let (at, files) = (shown(folder), isomer_display::count(index.files.len() as u64, "file"));
    console.message(&format!("{at}: {} {}, {files}, signed by {}", index.app, index.version, key.short()));
    Ok(())
}

/// Reads a small file.
fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let cannot_read = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot_read)?;
    file.take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(cannot_read)?;
    if bytes.len() as u64 > INDEX_BYTES_MAX {
        return Err(anyhow::anyhow!("`{}` is larger than the index of a release", path.display()).into());
    }
    Ok(bytes)
}
