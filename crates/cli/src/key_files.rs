//! Files of keys: reading and writing private and public keys.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use isomer_console::{CliError, Console};
use isomer_diagnostics::Hinted;
use isomer_signing::{KeyError, PRIVATE_KEY_BYTES_MAX, PublicKey, SigningKey};

/// The environment variable that contains the passphrase of a private key.
const PASSPHRASE_VARIABLE: &str = "ISOMER_KEY_PASSPHRASE";

/// Reads a private key. If it has a passphrase, takes it from the environment, or asks for it on the terminal.
pub(crate) fn read_private(path: &Path, console: &Console) -> Result<SigningKey, CliError> {
    let file = File::open(path).with_context(|| format!("cannot read the key `{}`", path.display()))?;
    let metadata = file.metadata().with_context(|| format!("cannot read the key `{}`", path.display()))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CliError::failed(
            format!("other users may read the private key `{}` (mode {mode:o})", path.display()),
            format!("chmod 600 {}", path.display()),
        ));
    }
    let text = read_text(file, path)?;
    let passphrase = passphrase_of_environment();
    match SigningKey::parse(&text, passphrase.as_deref()) {
        Err(KeyError::Encrypted) => {
            let question = format!("passphrase of {}: ", path.display());
            let Some(passphrase) = console.ask_secret(&question) else {
                return Err(key_error(path, KeyError::Encrypted));
            };
            SigningKey::parse(&text, Some(&passphrase)).map_err(|error| key_error(path, error))
        }
        other => other.map_err(|error| key_error(path, error)),
    }
}

/// Reads a public key.
pub(crate) fn read_public(path: &Path) -> Result<PublicKey, CliError> {
    let file = File::open(path).with_context(|| format!("cannot read the key `{}`", path.display()))?;
    PublicKey::parse(&read_text(file, path)?).map_err(|error| key_error(path, error))
}

/// Writes a key pair to `NAME.key`, which only this user may read, and `NAME.pub`. Never replaces a file.
pub(crate) fn write_pair(name: &Path, pem: &str, public: &PublicKey) -> Result<(PathBuf, PathBuf), CliError> {
    let with = |extension: &str| PathBuf::from(format!("{}.{extension}", name.display()));
    let (private_path, public_path) = (with("key"), with("pub"));
    write_new(&public_path, &public.to_pem(), 0o644)?;
    if let Err(error) = write_new(&private_path, pem, 0o600) {
        // Without its private key, the public key is of no use.
        let _left_over = std::fs::remove_file(&public_path);
        return Err(error);
    }
    Ok((private_path, public_path))
}

/// Returns the passphrase in the environment.
pub(crate) fn passphrase_of_environment() -> Option<String> {
    std::env::var("ISOMER_KEY_PASSPHRASE").ok().filter(|text| !text.is_empty())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let write = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    write.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::failed(
            format!("`{}` already exists", path.display()),
            "keys are never replaced: choose another name",
        ),
        _ => anyhow::Error::new(error).context(format!("cannot write `{}`", path.display())).into(),
    })
}

fn read_text(file: File, path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = file.take(PRIVATE_KEY_BYTES_MAX).read_to_string(&mut text);
    read.with_context(|| format!("cannot read the key `{}`", path.display()))?;
    Ok(text)
}

fn key_error(path: &Path, error: KeyError) -> CliError {
    let hint = match error {
        KeyError::Encrypted => format!("set {PASSPHRASE_VARIABLE}"),
        KeyError::Cosign => {
            "keys of `cosign generate-key-pair` cannot be read: create one with `isomer keys generate NAME`, which cosign \
             can import (cosign import-key-pair --key NAME.key)"
                .to_owned()
        }
        KeyError::NotPem { .. } | KeyError::Algorithm => "create a key pair: isomer keys generate NAME".to_owned(),
        KeyError::Passphrase | KeyError::Random => {
            return anyhow::Error::new(error).context(format!("cannot use the key `{}`", path.display())).into();
        }
    };
    let error = anyhow::Error::new(error).context(format!("cannot use the key `{}`", path.display()));
    CliError::Failed(Hinted::new(error.into_boxed_dyn_error(), hint).into())
}
