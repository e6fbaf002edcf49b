//! A statement with its signature, as one JSON text (Sigstore bundle, version 0.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isomer_ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::envelope::{Envelope, EnvelopeSignature, PAYLOAD_TYPE, signed_bytes};
use crate::key::{KeyError, KeyId, PublicKey, SigningKey};
use crate::statement::Statement;

/// The media type of a bundle.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The maximum size of a bundle in bytes. A bundle with the list of all components and crates of an app usually has
/// about a hundredth of this size.
pub const BUNDLE_BYTES_MAX: usize = 16 << 20;

/// The number of signatures in the envelope of a bundle, as the specification of the bundle demands.
const SIGNATURES_MAX: usize = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<Envelope>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicKeyHint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tlog_entries: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PublicKeyHint {
    #[serde(default)]
    hint: String,
}

/// The reason why a bundle cannot be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The text is not a bundle, or contains another kind of signature.
    #[error("it is not a signature in the format `{BUNDLE_TYPE}`: {0}")]
    Malformed(String),
    /// None of the trusted keys has signed the statement.
    #[error("no trusted key has signed it")]
    Untrusted,
}

/// Signs a statement. Returns the bundle.
///
/// # Errors
/// If the system has no random numbers.
///
/// # Panics
/// Never, because statements and bundles can be written as JSON.
pub fn sign(statement: &Statement, key: &SigningKey) -> Result<String, KeyError> {
    let payload = serde_json::to_vec(statement).expect("a statement is plain data");
    let signature = key.sign(&signed_bytes(PAYLOAD_TYPE, &payload))?;
    let signature = EnvelopeSignature { sig: STANDARD.encode(signature), keyid: String::new() };
    let bundle = Bundle {
        media_type: BUNDLE_TYPE.to_owned(),
        verification_material: VerificationMaterial {
            public_key: Some(PublicKeyHint { hint: key.public().hint() }),
            tlog_entries: Vec::new(),
        },
        dsse_envelope: Some(Envelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![signature],
        }),
    };
    Ok(serde_json::to_string(&bundle).expect("a bundle is plain data"))
}

/// Verifies a bundle. Returns its statement, and the position in `keys` of the key that has signed it.
///
/// # Errors
/// If the text is not a bundle, or if none of the keys has signed its statement.
pub fn verify(bundle: &str, keys: &[PublicKey]) -> Result<(Statement, usize), BundleError> {
    let (envelope, _) = parse(bundle)?;
    let payload = decode(&envelope.payload)?;
    let bytes = signed_bytes(&envelope.payload_type, &payload);
    let signatures: Vec<_> = envelope.signatures.iter().filter_map(|one| STANDARD.decode(&one.sig).ok()).collect();
    let has_signed = |key: &PublicKey| signatures.iter().any(|signature| key.verifies(&bytes, signature));
    let signer = keys.iter().position(has_signed).ok_or(BundleError::Untrusted)?;
    // The statement is parsed only after its signature is verified.
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(BundleError::Malformed("it does not contain an in-toto statement".to_owned()));
    }
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|error| BundleError::Malformed(error.to_string()))?;
    if !statement.is_valid() {
        return Err(BundleError::Malformed("its statement has another version, or too many subjects".to_owned()));
    }
    Ok((statement, signer))
}

/// Returns the identifier of the key that a bundle names in its hint, for messages about a key that is not trusted. The
/// hint is not signed, so another key may have signed the bundle.
#[must_use]
pub fn unverified_key(bundle: &str) -> Option<KeyId> {
    let (_, hint) = parse(bundle).ok()?;
    let bytes: [u8; 32] = STANDARD.decode(hint?).ok()?.try_into().ok()?;
    Some(KeyId(Digest::from(bytes)))
}

fn parse(bundle: &str) -> Result<(Envelope, Option<String>), BundleError> {
    let malformed = |problem: &str| BundleError::Malformed(problem.to_owned());
    if bundle.len() > BUNDLE_BYTES_MAX {
        return Err(malformed("it is too large"));
    }
    let bundle: Bundle = serde_json::from_str(bundle).map_err(|error| BundleError::Malformed(error.to_string()))?;
    if bundle.media_type != BUNDLE_TYPE {
        return Err(malformed("it has another type"));
    }
    let envelope = bundle.dsse_envelope.ok_or_else(|| malformed("it has no `dsseEnvelope`"))?;
    if envelope.signatures.len() > SIGNATURES_MAX {
        return Err(malformed("it has too many signatures"));
    }
    Ok((envelope, bundle.verification_material.public_key.map(|key| key.hint)))
}

/// Decodes base64, of which some programs write the variant for URLs.
fn decode(text: &str) -> Result<Vec<u8>, BundleError> {
    let url = base64::engine::general_purpose::URL_SAFE;
    let decoded = STANDARD.decode(text).or_else(|_| url.decode(text));
    decoded.map_err(|_| BundleError::Malformed("its payload is not base64".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::generate(None).unwrap().0
    }

    #[test]
    fn only_trusted_keys_count() {
        let (own, other) = (key(), key());
        let digest = Digest::from([7; 32]);
        let bundle = sign(&Statement::signature(&digest), &own).unwrap();
        let keys = [other.public(), own.public()];
        let (statement, signer) = verify(&bundle, &keys).unwrap();
        assert!(statement.is_about(&digest) && !statement.is_about(&Digest::from([8; 32])));
        assert_eq!(signer, 1);
        assert_eq!(verify(&bundle, &[other.public()]).unwrap_err(), BundleError::Untrusted);
        assert_eq!(verify(&bundle, &[]).unwrap_err(), BundleError::Untrusted);
        assert_eq!(unverified_key(&bundle).unwrap(), own.public().id());
    }

    #[test]
    fn every_altered_byte_is_detected() {
        let own = key();
        let bundle = sign(&Statement::signature(&Digest::from([7; 32])), &own).unwrap();
        let value: Value = serde_json::from_str(&bundle).unwrap();
        let payload = value["dsseEnvelope"]["payload"].as_str().unwrap();
        let signature = value["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
        for part in [payload, signature] {
            let decoded = STANDARD.decode(part).unwrap();
            for at in 0..decoded.len() {
                let mut altered = decoded.clone();
                altered[at] ^= 1;
                let altered = bundle.replace(part, &STANDARD.encode(&altered));
                assert!(verify(&altered, &[own.public()]).is_err(), "byte {at} of {part}");
            }
        }
        // The type of the payload is signed too.
        let typed = bundle.replace("vnd.in-toto", "vnd.in_toto");
        assert_eq!(verify(&typed, &[own.public()]).unwrap_err(), BundleError::Untrusted);
        for length in 0..bundle.len() {
            assert!(verify(&bundle[..length], &[own.public()]).is_err(), "{length}");
        }
    }

    #[test]
    fn other_texts_are_not_bundles() {
        let own = key();
        for text in ["", "{}", "[]", "null", "{\"mediaType\":\"x\",\"verificationMaterial\":{}}"] {
            assert!(matches!(verify(text, &[own.public()]), Err(BundleError::Malformed(_))), "{text}");
        }
        let bundle = sign(&Statement::signature(&Digest::from([7; 32])), &own).unwrap();
        let value: Value = serde_json::from_str(&bundle).unwrap();
        let mut flooded = value.clone();
        let one = value["dsseEnvelope"]["signatures"][0].clone();
        flooded["dsseEnvelope"]["signatures"] = vec![one; SIGNATURES_MAX + 1].into();
        assert!(matches!(verify(&flooded.to_string(), &[own.public()]), Err(BundleError::Malformed(_))));
        let old = bundle.replace("v0.3+json", "v0.1+json");
        assert!(matches!(verify(&old, &[own.public()]), Err(BundleError::Malformed(_))));
    }
}
