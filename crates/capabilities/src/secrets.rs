//! Secrets: values that can be read only by the components that were granted them.
//!
//! All secrets are read once, when the app starts, so that a missing secret is found before the first request. The type
//! of the value has no `Display`, and its `Debug` does not print the value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_display::size;
use isomer_ids::SECRET_BYTES_MAX;

/// The value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// The place from which the value of a secret is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretOrigin {
    /// An environment variable with this name.
    Env(String),
    /// A file at this path. One line break at the end of the file is removed.
    File(PathBuf),
}

/// The source of the values of an app's secrets.
#[derive(Debug, Clone)]
pub enum SecretValues {
    /// Each secret is read from the source that the app's manifest names for it: an environment variable of this
    /// process, or a file.
    FromManifest,
    /// Values by name: the tenant's secrets, or the values that were read when the app started. A secret without a value
    /// can be read from one of the app's own files. The environment and other files of this machine are never read.
    Given(BTreeMap<String, Secret>),
}

/// The values of an app's secrets, by name.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, Secret>,
}

/// The reason why a secret cannot be read. Contains no part of the secret's value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment variable of the secret is not set.
    #[error(
        "the secret `{secret}` comes from the environment variable `{variable}`, which is not set: set the variable, or use another source in `[secrets]`"
    )]
    Unset {
        /// The secret's name.
        secret: String,
        /// The name of the environment variable.
        variable: String,
    },
    /// The file of the secret cannot be read.
    #[error("the secret `{secret}` comes from the file `{}`, which cannot be read", path.display())]
    Unreadable {
        /// The secret's name.
        secret: String,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The secret's value is not UTF-8.
    #[error("the secret `{secret}` is not UTF-8 text")]
    NotText {
        /// The secret's name.
        secret: String,
    },
    /// The tenant has no secret with this name.
    #[error("the tenant has no secret `{secret}`: set the secret")]
    NotGiven {
        /// The secret's name.
        secret: String,
    },
    /// The file of the secret is not one of the app's own files.
    #[error("the secret `{secret}` comes from the file `{}`, which is not one of the app's own files", path.display())]
    Outside {
        /// The secret's name.
        secret: String,
        /// The path of the file, as written in the manifest.
        path: PathBuf,
    },
    /// The secret's value is larger than [`SECRET_BYTES_MAX`].
    #[error("the secret `{secret}` is larger than {}", size(SECRET_BYTES_MAX))]
    TooLarge {
        /// The secret's name.
        secret: String,
    },
}

impl Secret {
    /// Creates a secret from its value.
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// Returns the value, to pass it to the component.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secrets {
    /// Reads the secrets in `origins`. File paths are relative to `base`; `variable` returns the value of an
    /// environment variable.
    pub fn read(
        origins: impl IntoIterator<Item = (String, SecretOrigin)>,
        base: &Path,
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, SecretError> {
        let mut values = BTreeMap::new();
        for (secret, origin) in origins {
            let value = match origin {
                SecretOrigin::Env(name) => {
                    let Some(value) = variable(&name) else {
                        return Err(SecretError::Unset { secret, variable: name });
                    };
                    let Ok(value) = value.into_string() else {
                        return Err(SecretError::NotText { secret });
                    };
                    value
                }
                SecretOrigin::File(path) => read_file(&secret, &base.join(path))?,
            };
            if value.len() as u64 > SECRET_BYTES_MAX {
                return Err(SecretError::TooLarge { secret });
            }
            values.insert(secret, Secret::new(value));
        }
        Ok(Self { values })
    }

    /// Returns the secrets in `origins` for a tenant's app. `given` contains the tenant's secrets. `own` converts a
    /// path of the manifest to the path of one of the app's own files, and returns `None` if the path leads to any
    /// other file.
    pub(crate) fn of_tenant(
        origins: impl IntoIterator<Item = (String, SecretOrigin)>,
        given: &BTreeMap<String, Secret>,
        own: impl Fn(&Path) -> Option<PathBuf>,
    ) -> Result<Self, SecretError> {
        let mut values = BTreeMap::new();
        for (secret, origin) in origins {
            let value = match (given.get(&secret), origin) {
                (Some(value), _) => value.clone(),
                (None, SecretOrigin::File(path)) => match own(&path) {
                    Some(path) => Secret::new(read_file(&secret, &path)?),
                    None => return Err(SecretError::Outside { secret, path }),
                },
                (None, SecretOrigin::Env(_)) => return Err(SecretError::NotGiven { secret }),
            };
            if value.reveal().len() as u64 > SECRET_BYTES_MAX {
                return Err(SecretError::TooLarge { secret });
            }
            values.insert(secret, value);
        }
        Ok(Self { values })
    }

    /// Returns the values by the secrets' names, for revisions that start later with the same values.
    pub fn into_values(self) -> BTreeMap<String, Secret> {
        self.values
    }

    /// Returns the secret `name`; `None` if the app has no such secret.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.values.get(name)
    }
}

fn read_file(secret: &str, path: &Path) -> Result<String, SecretError> {
    use std::io::Read;
    let unreadable = |source| SecretError::Unreadable { secret: secret.to_owned(), path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // Limits the read, because a device file, for example, has no end.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(SECRET_BYTES_MAX + 3).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    String::from_utf8(bytes).map_err(|_| SecretError::NotText { secret: secret.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_the_environment_and_are_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "from a file\r\n").unwrap();
        let origins = [
            ("file".to_owned(), SecretOrigin::File("key".into())),
            ("env".to_owned(), SecretOrigin::Env("KEY".to_owned())),
        ];
        let secrets = Secrets::read(origins, dir.path(), |name| (name == "KEY").then(|| "from env".into())).unwrap();
        assert_eq!(secrets.get("file").unwrap().reveal(), "from a file");
        assert_eq!(secrets.get("env").unwrap().reveal(), "from env");
        assert!(secrets.get("other").is_none());
        let shown = format!("{secrets:?} {:?}", secrets.get("env"));
        assert!(!shown.contains("from"), "{shown}");
    }

    #[test]
    fn a_missing_or_invalid_secret_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("large"), vec![b'x'; SECRET_BYTES_MAX as usize + 1]).unwrap();
        std::fs::write(dir.path().join("binary"), [0xff, 0xfe]).unwrap();
        let read = |origin| {
            let error = Secrets::read([("api-key".to_owned(), origin)], dir.path(), |_| None).unwrap_err().to_string();
            assert!(error.contains("`api-key`"), "{error}");
            error
        };
        assert!(read(SecretOrigin::Env("NOPE".to_owned())).contains("`NOPE`"));
        assert!(read(SecretOrigin::File("nope".into())).contains("nope"));
        assert!(read(SecretOrigin::File("large".into())).contains("larger"));
        assert!(read(SecretOrigin::File("binary".into())).contains("UTF-8"));
    }
}
