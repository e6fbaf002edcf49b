//! Key pairs and public keys, as PEM files: PKCS #8 with or without a passphrase (RFC 5958), and SubjectPublicKeyInfo
//! (RFC 5480).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isomer_ids::Digest;
use pkcs8::der::{Document, SecretDocument};
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::pkcs5::scrypt::Params;
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256};

/// The maximum size of a key file in bytes.
pub const PRIVATE_KEY_BYTES_MAX: u64 = 64 << 10;

const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// The labels of the private keys of `cosign`, which are not PKCS #8.
const COSIGN: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// The bytes before the point in the SubjectPublicKeyInfo of a P-256 key.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The size in bytes of a P-256 public key as an uncompressed point.
const POINT_BYTES: usize = 65;

/// The base-2 logarithm of scrypt's cost parameter N. Hashing a passphrase needs 32 MiB of memory and about a tenth of
/// a second.
const SCRYPT_LOG_N: u8 = 15;

/// The reason why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not a PEM file of the expected kind.
    #[error("it is not a PEM file with {expected}")]
    NotPem {
        /// What the file should contain.
        expected: &'static str,
    },
    /// The text is a private key of `cosign`, which is encrypted in another way.
    #[error("it is a private key in the format of `cosign`")]
    Cosign,
    /// The key is of another kind.
    #[error("it is not an ECDSA key of the curve P-256")]
    Algorithm,
    /// The key has a passphrase, and none was given.
    #[error("the key has a passphrase")]
    Encrypted,
    /// The passphrase is wrong, or the file is damaged.
    #[error("the passphrase is wrong, or the file is damaged")]
    Passphrase,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    Random,
}

/// A key pair.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    point: [u8; POINT_BYTES],
}

/// The SHA-256 of a public key, which identifies it in messages and bundles.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub(crate) Digest);

impl SigningKey {
    /// Generates a key pair, and returns it as the text of a PEM file. With a passphrase, the file is encrypted.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate(passphrase: Option<&str>) -> Result<(Self, String), KeyError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let document = document.map_err(|_| KeyError::Random)?;
        let key = Self::from_pkcs8(document.as_ref())?;
        let secret = SecretDocument::try_from(document.as_ref()).map_err(|_| KeyError::Algorithm)?;
        let (secret, label) = match passphrase {
            Some(passphrase) => (encrypt(&secret, passphrase, &random)?, ENCRYPTED),
            None => (secret, PRIVATE),
        };
        let pem = secret.to_pem(label, LineEnding::LF).map_err(|_| KeyError::Algorithm)?;
        Ok((key, pem.to_string()))
    }

    /// Parses the text of a PEM file.
    ///
    /// # Errors
    /// If the text is not a key pair of the curve P-256, or if the passphrase is missing or wrong.
    pub fn parse(pem: &str, passphrase: Option<&str>) -> Result<Self, KeyError> {
        let expected = "a private key: `-----BEGIN PRIVATE KEY-----`";
        if COSIGN.iter().any(|label| pem.contains(&format!("-----BEGIN {label}-----"))) {
            return Err(KeyError::Cosign);
        }
        let (label, document) = SecretDocument::from_pem(pem.trim()).map_err(|_| KeyError::NotPem { expected })?;
        match label {
            PRIVATE => Self::from_pkcs8(document.as_bytes()),
            ENCRYPTED => {
                let passphrase = passphrase.ok_or(KeyError::Encrypted)?;
                let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes());
                let decrypted = encrypted.and_then(|key| key.decrypt(passphrase)).map_err(|_| KeyError::Passphrase)?;
                Self::from_pkcs8(decrypted.as_bytes())
            }
            _ => Err(KeyError::NotPem { expected }),
        }
    }

    fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document, &random);
        Ok(Self { pair: pair.map_err(|_| KeyError::Algorithm)?, random })
    }

    /// Returns the public key of the pair.
    ///
    /// # Panics
    /// Never, because a P-256 key has a point of 65 bytes.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let point = self.pair.public_key().as_ref().try_into().expect("a P-256 key has a point of 65 bytes");
        PublicKey { point }
    }

    /// Signs some bytes.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&self.random, bytes).map_err(|_| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl PublicKey {
    /// Parses the text of a PEM file.
    ///
    /// # Errors
    /// If the text is not a public key of the curve P-256.
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        let expected = "a public key: `-----BEGIN PUBLIC KEY-----`";
        let (label, document) = Document::from_pem(pem.trim()).map_err(|_| KeyError::NotPem { expected })?;
        if label != PUBLIC {
            return Err(KeyError::NotPem { expected });
        }
        let point = document.as_bytes().strip_prefix(&SPKI_PREFIX).ok_or(KeyError::Algorithm)?;
        let point: [u8; POINT_BYTES] = point.try_into().map_err(|_| KeyError::Algorithm)?;
        if point[0] != 4 { Err(KeyError::Algorithm) } else { Ok(Self { point }) }
    }

    /// Returns the key as the text of a PEM file.
    ///
    /// # Panics
    /// Never, because the bytes are valid DER.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let document = Document::try_from(self.spki()).expect("the bytes are valid DER");
        document.to_pem(PUBLIC, LineEnding::LF).expect("the label is valid")
    }

    /// Returns the SHA-256 of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Digest::from(<[u8; 32]>::from(Sha256::digest(self.spki()))))
    }

    /// Returns the hint under which bundles name the key, as `cosign` computes it.
    #[must_use]
    pub(crate) fn hint(&self) -> String {
        STANDARD.encode(Sha256::digest(self.spki()))
    }

    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.point).verify(bytes, signature).is_ok()
    }

    fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.point].concat()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl KeyId {
    /// Returns the first 16 digits, which are enough to tell a user's keys apart.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0.as_str()[..16]
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn encrypt(secret: &SecretDocument, passphrase: &str, random: &SystemRandom) -> Result<SecretDocument, KeyError> {
    let (mut salt, mut vector) = ([0; 16], [0; 16]);
    random.fill(&mut salt).and_then(|()| random.fill(&mut vector)).map_err(|_| KeyError::Random)?;
    let params = Params::new(SCRYPT_LOG_N, 8, 1, 32).map_err(|_| KeyError::Algorithm)?;
    let params = Parameters::scrypt_aes256cbc(params, &salt, &vector).map_err(|_| KeyError::Algorithm)?;
    let key = PrivateKeyInfo::try_from(secret.as_bytes()).map_err(|_| KeyError::Algorithm)?;
    key.encrypt_with_params(params, passphrase).map_err(|_| KeyError::Algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_files() {
        let (key, pem) = SigningKey::generate(None).unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "it has the usual label");
        let again = SigningKey::parse(&pem, None).unwrap();
        assert_eq!(again.public(), key.public());
        let public = key.public().to_pem();
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
        assert_eq!(PublicKey::parse(&format!("\n{public}\n")).unwrap(), key.public());
        let signature = again.sign(b"text").unwrap();
        assert!(key.public().verifies(b"text", &signature));
        assert!(!key.public().verifies(b"other", &signature) && !key.public().verifies(b"text", b""));
    }

    #[test]
    fn a_passphrase_protects_the_file() {
        let (key, pem) = SigningKey::generate(Some("correct horse")).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "it has the usual label");
        assert_eq!(SigningKey::parse(&pem, Some("correct horse")).unwrap().public(), key.public());
        assert_eq!(SigningKey::parse(&pem, Some("wrong")).unwrap_err(), KeyError::Passphrase);
        assert_eq!(SigningKey::parse(&pem, None).unwrap_err(), KeyError::Encrypted);
    }

    #[test]
    fn other_files_are_refused() {
        let (key, private) = SigningKey::generate(None).unwrap();
        let public = key.public().to_pem();
        for text in ["", "text", &private, "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"] {
            assert!(PublicKey::parse(text).is_err(), "{text}");
        }
        for text in ["", "text", &public, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"] {
            assert!(SigningKey::parse(text, None).is_err(), "{text}");
        }
        for label in COSIGN {
            let text = format!("-----BEGIN {label}-----\neyJrZGYiOnt9fQ==\n-----END {label}-----\n");
            assert_eq!(SigningKey::parse(&text, None).unwrap_err(), KeyError::Cosign);
        }
        // An Ed25519 key.
        let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::parse(ed25519).unwrap_err(), KeyError::Algorithm);
        assert!(!format!("{key:?}").contains("PRIVATE"), "the private key is never printed");
    }
}
