//! Tokens of the admin API: the node's own token, whose holder may call all operations, and the tokens of tenants.
//!
//! The node's token is created when the node starts for the first time. It consists of 256 random bits from the
//! operating system, and is stored in a file that only its owner can read.
//!
//! A tenant's token also has 256 random bits. Only the response to the request that creates the token contains it. The
//! token also has a public id, by which the node finds the token's stored form: a digest ([`StoredToken`]).
//!
//! Tokens are sent only in the header `Authorization: Bearer …`. No type in this module prints a token.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use isomer_api::StoredToken;
use isomer_ids::{Digest, TokenId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub use isomer_api::TOKEN_FILE;

/// The number of random bytes in a token.
const RANDOM_BYTES: usize = 32;

/// The number of characters of the node's token: two hexadecimal digits per byte.
const CHARS: usize = 2 * RANDOM_BYTES;

/// The prefix of a tenant's token, `isomer_ID_SECRET`, by which people and secret scanners recognize such a token.
const TENANT_PREFIX: &str = "isomer_";

/// The number of characters of the id in a tenant's token.
const ID_CHARS: usize = 16;

/// The number of characters of a tenant's token.
const TENANT_CHARS: usize = TENANT_PREFIX.len() + ID_CHARS + 1 + CHARS;

/// A token of the node or of a tenant. The node's token has 64 hexadecimal digits. A tenant's token has the prefix
/// `isomer_ID_` before these digits.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Token(String);

/// The reason why a token cannot be read or created.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The token file cannot be read or written.
    #[error("cannot use the token file `{}`", path.display())]
    Io {
        /// The path of the token file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Other users can read the token file.
    #[error("other users can read the token file `{}` (mode {mode:o})", path.display())]
    Open {
        /// The path of the token file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The token file belongs to another user.
    #[error("the token file `{}` belongs to another user (id {owner})", path.display())]
    Foreign {
        /// The path of the token file.
        path: PathBuf,
        /// The id of the user who owns the file.
        owner: u32,
    },
    /// The file does not contain a token.
    #[error("`{}` does not contain a token", path.display())]
    Malformed {
        /// The path of the file.
        path: PathBuf,
    },
    /// The operating system provides no random bytes.
    #[error("cannot create a token: the system has no random bytes")]
    Random,
}

impl TokenError {
    /// Returns what the user can do about the error, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::Random => None,
            Self::Open { path, .. } => Some(format!(
                "other users may have read the token: remove the file, so that the node creates a new token; if you cannot remove the file, run: chmod 600 {}",
                path.display()
            )),
            Self::Foreign { .. } => Some("run the node as the user who owns the node's data directory".to_owned()),
            Self::Malformed { path } => {
                Some(format!("remove the file, so that the node creates a new token: rm {}", path.display()))
            }
        }
    }
}

impl Token {
    /// Parses a token of the node or of a tenant. Ignores white space around the token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_token = is_secret(text) || id_of(text.as_bytes()).is_some();
        is_token.then(|| Self(text.to_owned()))
    }

    /// Parses a token of the node; `None` if the text is a tenant's token or not a token.
    fn parse_of_node(text: &str) -> Option<Self> {
        Self::parse(text).filter(|token| is_secret(&token.0))
    }

    /// Creates a token of a tenant. Returns the token and its id.
    ///
    /// # Errors
    /// If the operating system provides no random bytes.
    pub(crate) fn of_tenant() -> Result<(Self, TokenId), TokenError> {
        let mut id = [0; ID_CHARS / 2];
        getrandom::fill(&mut id).map_err(|_| TokenError::Random)?;
        let id = TokenId::from(id);
        let Self(secret) = Self::random()?;
        Ok((Self(format!("{TENANT_PREFIX}{id}_{secret}")), id))
    }

    /// Returns the digest of the token, which the node stores in place of a tenant's token.
    pub(crate) fn digest(&self) -> Digest {
        digest_of(self.0.as_bytes())
    }

    /// Returns the text of the token, for the response to the request that creates it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the token of the node with the data directory `data`. Creates the token if its file does not exist.
    ///
    /// # Errors
    /// If the token file cannot be read or written, or if another user can read it.
    pub fn of_node(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(TOKEN_FILE);
        match Self::read_own(&path) {
            Err(TokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        let token = Self::random()?;
        match token.write(data, &path) {
            // Another process has created the file at the same time.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read_own(&path),
            Err(source) => Err(TokenError::Io { path, source }),
            Ok(()) => Ok(token),
        }
    }

    /// Creates a token for a process that runs with the data directory `data`, and replaces the token of an earlier
    /// process. The data directory must be locked by this process.
    ///
    /// # Errors
    /// If the token file cannot be written.
    pub fn renew(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(TOKEN_FILE);
        let token = Self::random()?;
        let removed = match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        match removed.and_then(|()| token.write(data, &path)) {
            Ok(()) => Ok(token),
            Err(source) => Err(TokenError::Io { path, source }),
        }
    }

    /// Reads the node's token from a file that belongs to the current user and that no other user can read.
    ///
    /// # Errors
    /// If the file cannot be read, belongs to another user, is readable by other users, or does not contain the node's
    /// token.
    pub fn read_own(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        // Do not follow symbolic links: another user who may write to the folder must not be able to make this function
        // read a file elsewhere.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
        if owner != rustix::process::geteuid().as_raw() {
            return Err(TokenError::Foreign { path: path.to_owned(), owner });
        }
        if mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        Self::from_file(&file, path, Self::parse_of_node)
    }

    /// Reads a token of the node or of a tenant from a file that the user has chosen.
    ///
    /// # Errors
    /// If the file cannot be read, or does not contain a token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let file = File::open(path).map_err(|source| TokenError::Io { path: path.to_owned(), source })?;
        Self::from_file(&file, path, Self::parse)
    }

    /// Reads a token from `source`, for example standard input, which must contain nothing else.
    ///
    /// # Errors
    /// If `source` cannot be read, or does not contain a token.
    pub fn read_from(source: impl io::Read) -> Result<Self, TokenError> {
        Self::from_file(source, Path::new("-"), Self::parse)
    }

    fn from_file(
        file: impl io::Read,
        path: &Path,
        parse: impl FnOnce(&str) -> Option<Self>,
    ) -> Result<Self, TokenError> {
        let mut text = Vec::new();
        let read = file.take(TENANT_CHARS as u64 * 2).read_to_end(&mut text);
        read.map_err(|source| TokenError::Io { path: path.to_owned(), source })?;
        let token = std::str::from_utf8(&text).ok().and_then(parse);
        token.ok_or_else(|| TokenError::Malformed { path: path.to_owned() })
    }

    fn random() -> Result<Self, TokenError> {
        use fmt::Write as _;
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| TokenError::Random)?;
        let mut text = String::with_capacity(CHARS);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        Ok(Self(text))
    }

    /// Writes the token to the file `path`. Fails if the file exists. The file never contains only a part of the token.
    fn write(&self, data: &Path, path: &Path) -> io::Result<()> {
        // An earlier attempt that was interrupted may have left this file.
        let new = data.join(format!("{TOKEN_FILE}.new"));
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{}", self.0)?;
        file.sync_all()?;
        if let Err(error) = isomer_disk::rename_new(&new, path) {
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
        File::open(data)?.sync_all()
    }

    /// Compares the token with a text in constant time.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }

    /// Writes the token to a new file that only its owner can read.
    ///
    /// # Errors
    /// If the file exists already, or cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), TokenError> {
        let failed = |source| TokenError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let written = writeln!(file, "{}", self.0).and_then(|()| file.sync_all());
        // Remove the incomplete file, because the next attempt fails if the file exists.
        written.inspect_err(|_| drop(std::fs::remove_file(path))).map_err(failed)
    }

    /// Returns the token as the value of the header `Authorization`.
    ///
    /// # Panics
    /// Never, because hexadecimal digits are valid in a header.
    #[must_use]
    pub fn header(&self) -> http::HeaderValue {
        let mut value = http::HeaderValue::try_from(format!("Bearer {}", self.0))
            .expect("hexadecimal digits are valid in a header");
        value.set_sensitive(true);
        value
    }
}

/// Returns the id in a tenant's token; `None` if the text does not have the form of a tenant's token.
pub(crate) fn id_of(given: &[u8]) -> Option<TokenId> {
    let rest = std::str::from_utf8(given).ok()?.strip_prefix(TENANT_PREFIX)?;
    let (id, secret) = rest.split_once('_')?;
    is_secret(secret).then(|| id.parse().ok())?
}

/// Compares a text with a stored token, by its digest, in constant time.
pub(crate) fn matches_stored(stored: &StoredToken, given: &[u8]) -> bool {
    digest_of(given).as_str().as_bytes().ct_eq(stored.digest.as_str().as_bytes()).into()
}

fn digest_of(token: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(token)))
}

fn is_secret(text: &str) -> bool {
    text.len() == CHARS && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Prints the name of the type, without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn it_is_made_once_for_its_owner() {
        let data = tempfile::tempdir().unwrap();
        let first = Token::of_node(data.path()).unwrap();
        let path = data.path().join(TOKEN_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Token::of_node(data.path()).unwrap(), first);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1, "the folder has no other file");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Token::of_node(other.path()).unwrap(), first);
        assert_eq!(format!("{first:?}"), "Token(…)");
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let data = tempfile::tempdir().unwrap();
        Token::of_node(data.path()).unwrap();
        let path = data.path().join(TOKEN_FILE);
        for open in [0o604, 0o640, 0o660, 0o622] {
            mode(&path, open);
            let refused = Token::of_node(data.path()).unwrap_err();
            assert!(matches!(refused, TokenError::Open { mode, .. } if mode == open), "{refused}");
        }
        mode(&path, 0o400);
        Token::of_node(data.path()).unwrap();
    }

    #[test]
    fn nothing_else_is_a_token() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(TOKEN_FILE);
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(65), &"A".repeat(64)] {
            std::fs::write(&path, text).unwrap();
            mode(&path, 0o600);
            assert!(matches!(Token::of_node(data.path()), Err(TokenError::Malformed { .. })), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(Token::of_node(data.path()), Err(TokenError::Io { .. })), "a link is not followed");
    }

    #[test]
    fn an_interrupted_attempt_does_no_harm() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("admin.token.new"), "half of a tok").unwrap();
        Token::of_node(data.path()).unwrap();
        assert!(!data.path().join("admin.token.new").exists());
    }

    #[test]
    fn a_tenants_token_is_found_by_its_id_and_known_by_its_digest() {
        let (token, id) = Token::of_tenant().unwrap();
        let given = token.reveal().as_bytes().to_vec();
        assert_eq!((given.len(), id_of(&given)), (TENANT_CHARS, Some(id.clone())));
        assert_eq!(Token::parse(token.reveal()), Some(token.clone()));
        let info = isomer_api::TokenInfo {
            name: "ci".parse().unwrap(),
            id,
            tenant: "acme".parse().unwrap(),
            role: isomer_api::TokenRole::Read,
            data: false,
            created_at: 1,
            expires_at: None,
        };
        let kept = StoredToken { info, digest: token.digest() };
        assert!(matches_stored(&kept, &given));
        assert!(!serde_json::to_string(&kept).unwrap().contains(&token.reveal()[24..]), "only its digest is stored");
        let (other, _) = Token::of_tenant().unwrap();
        let swapped = [&given[..24], &other.reveal().as_bytes()[24..]].concat();
        for other in [&b""[..], &given[..87], &given[24..], other.reveal().as_bytes(), &swapped] {
            assert!(!matches_stored(&kept, other));
        }
        for text in ["", "isomer_", "isomer_0123456789abcdef", "isomer_0123456789abcde_", &"a".repeat(64)] {
            assert_eq!(id_of(text.as_bytes()), None, "{text}");
        }
        let upper = format!("isomer_0123456789abcdef_{}", "A".repeat(64));
        assert!(id_of(upper.as_bytes()).is_none() && Token::parse(&upper).is_none());
    }

    #[test]
    fn a_tenants_token_is_no_nodes() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(TOKEN_FILE);
        let (token, _) = Token::of_tenant().unwrap();
        token.write_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(token.write_new(&path), Err(TokenError::Io { .. })), "an existing file is not overwritten");
        assert_eq!(Token::read(&path).unwrap(), token);
        assert!(matches!(Token::of_node(data.path()), Err(TokenError::Malformed { .. })));
        assert_eq!(Token::read_from(token.reveal().as_bytes()).unwrap(), token);
    }

    #[test]
    fn a_renewed_token_replaces_the_earlier_one() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(TOKEN_FILE);
        let (first, second) = (Token::renew(data.path()).unwrap(), Token::renew(data.path()).unwrap());
        assert_ne!(first, second);
        assert_eq!(Token::read_own(&path).unwrap(), second);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        assert!(token.is("ab".repeat(32).as_bytes()));
        for other in ["", "ab", &"ab".repeat(31), &"ab".repeat(33), &"ba".repeat(32)] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
    }
}
