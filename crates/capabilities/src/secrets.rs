//! Secrets: values that only the components that were granted them can read.
//!
//! All secrets are read once, when the app starts, so that a missing secret is found before the first request. The
//! value has no `Display`, and its `Debug` output does not contain it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isomer_display::size;
use isomer_ids::SECRET_BYTES_MAX;

/// The value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// The source of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretOrigin {
    /// An environment variable.
    Env(String),
    /// A file; one final line break is removed.
    File(PathBuf),
}

/// The source of the values of an app's secrets.
#[derive(Debug, Clone)]
pub enum SecretValues {
    /// The sources that the app's manifest names: the environment of this process, and files.
    FromManifest,
    /// The tenant's secrets, by name. A secret that the tenant does not have may come from one of the app's own files;
    /// the environment and other files of this machine are never read.
    Given(BTreeMap<String, Secret>),
}

/// The secrets of an app, by name.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, Secret>,
}

/// Why a secret cannot be read. The error contains no part of the secret's value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error(
        "the secret `{secret}` comes from the environment variable `{variable}`, which is not set: set it, or use another source in `[secrets]`"
    )]
    Unset {
        /// The secret's name.
        secret: String,
        /// The variable.
        variable: String,
    },
    /// The file cannot be read.
    #[error("the secret `{secret}` comes from the file `{}`, which cannot be read", path.display())]
    Unreadable {
        /// The secret's name.
        secret: String,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The value is not UTF-8.
    #[error("the secret `{secret}` is not UTF-8 text")]
    NotText {
        /// The secret's name.
        secret: String,
    },
    /// The tenant has no such secret.
    #[error("the tenant has no secret `{secret}`: set it")]
    NotGiven {
        /// The secret's name.
        secret: String,
    },
    /// The file is not one of the app's own.
    #[error("the secret `{secret}` comes from the file `{}`, which is not one of the app's own", path.display())]
    Outside {
        /// The secret's name.
        secret: String,
        /// The file.
        path: PathBuf,
    },
    /// The value is too large.
    #[error("the secret `{secret}` is larger than {}", size(SECRET_BYTES_MAX))]
    TooLarge {
        /// The secret's name.
        secret: String,
    },
}

impl Secret {
    /// Creates a secret with this value.
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// Returns the value, for passing it to the component.
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
    /// Reads all of `origins`; paths are relative to `base`, variables are looked up by `variable`.
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

    /// Returns the secrets of an app whose tenant has the secrets `given`. `own` returns the path of a file of the app.
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

    /// Returns the secret `name`.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.values.get(name)
    }
}

fn read_file(secret: &str, path: &Path) -> Result<String, SecretError> {
    use std::io::Read;
    let unreadable = |source| SecretError::Unreadable { secret: secret.to_owned(), path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // A file without an end (such as a device) must not be read completely.
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
