//! Signing apps: the flag `--sign`, and what is stored in a registry or an archive next to an app.

use std::path::PathBuf;

use isomer_api::deploy::{SIGNATURE_BYTES_MAX, SIGNATURES_MAX};
use isomer_console::{CliError, Console};
use isomer_ids::Digest;
use isomer_parcel::Contents;
use isomer_parcel::artifact::{AppArtifact, Descriptor};
use isomer_parcel::sbom::SBOM_TYPE;
use isomer_project::{AppDir, PROVENANCE_PREDICATE, SBOM_PREDICATE, provenance, sbom};
use isomer_registry::{FoundReferrers, Referrer, ReferrerFilter, Registry, fetch_referrers};
use isomer_signing::{BUNDLE_TYPE, PublicKey, SIGNATURE_PREDICATE, SigningKey, Statement, sign, verify};

use crate::key_files::read_private;
use crate::remote::registry::{blob_cache, registry_error};

/// The flag of commands that can sign an app.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SignFlag {
    /// Sign the app with the private key in this file: `isomer keys generate` creates one.
    #[arg(long = "sign", value_name = "KEY")]
    key: Option<PathBuf>,
}

impl SignFlag {
    /// Reads the key, if there is one.
    pub(crate) fn key(&self, console: &Console) -> Result<Option<SigningKey>, CliError> {
        self.key.as_ref().map(|path| read_private(path, console)).transpose()
    }
}

/// What is known about an app besides its content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachments {
    /// The list of the app's components and crates; `None` if the app was built elsewhere.
    sbom: Option<String>,
    /// The statements that the owner of the key signs.
    statements: Vec<Statement>,
}

impl Attachments {
    /// Collects what is known about an app that was built in its folder.
    pub(crate) fn of_built(app: &AppDir, contents: &Contents) -> Result<Self, CliError> {
        let digest = AppArtifact::of(&contents.release)?.digest;
        let name = &app.app.name;
        let sbom = sbom(app, contents)?;
        let list: serde_json::Value = serde_json::from_str(&sbom)?;
        let statements = vec![
            Statement::signature(&digest),
            Statement::new(name, &digest, PROVENANCE_PREDICATE, provenance(app, contents)),
            Statement::new(name, &digest, SBOM_PREDICATE, list),
        ];
        Ok(Self { sbom: Some(sbom), statements })
    }

    /// Collects what can be said about an app that was built elsewhere: only the signature.
    pub(crate) fn of_shipped(contents: &Contents) -> Result<Self, CliError> {
        let digest = AppArtifact::of(&contents.release)?.digest;
        Ok(Self { sbom: None, statements: vec![Statement::signature(&digest)] })
    }

    /// Returns what is stored next to the app. Without a key, nothing is signed. A statement that `existing` already
    /// contains with a signature by the same key is not signed again.
    pub(crate) fn referrers(self, key: Option<&SigningKey>, existing: &[Referrer]) -> Result<Vec<Referrer>, CliError> {
        let plain =
            |text: String| Referrer { artifact_type: SBOM_TYPE.to_owned(), predicate_type: None, content: text.into() };
        let mut referrers: Vec<_> = self.sbom.map(plain).into_iter().collect();
        let Some(key) = key else { return Ok(referrers) };
        let own = [key.public()];
        let signed: Vec<_> = existing.iter().filter_map(|one| Some(verify(bundle_of(one)?, &own).ok()?.0)).collect();
        for statement in self.statements.into_iter().filter(|statement| !signed.contains(statement)) {
            referrers.push(Referrer {
                artifact_type: BUNDLE_TYPE.to_owned(),
                predicate_type: Some(statement.predicate_type.clone()),
                content: sign(&statement, key)?.into(),
            });
        }
        Ok(referrers)
    }
}

/// Returns the signature of an app.
pub(crate) fn signature(contents: &Contents, key: &SigningKey) -> Result<String, CliError> {
    let artifact = AppArtifact::of(&contents.release)?;
    Ok(sign(&Statement::signature(&artifact.digest), key)?)
}

/// Stores artifacts that refer to an app in the app's registry.
pub(crate) async fn attach(registry: &Registry, subject: &Descriptor, referrers: &[Referrer]) -> Result<(), CliError> {
    for referrer in referrers {
        registry.attach(subject, referrer).await.map_err(registry_error)?;
    }
    Ok(())
}

/// The signed statements about an app: its signatures, and others such as its provenance.
pub(crate) const STATEMENTS: ReferrerFilter<'static> =
    ReferrerFilter { artifact_type: Some(BUNDLE_TYPE), predicate_type: None };

/// The signatures of an app.
pub(crate) const SIGNATURES: ReferrerFilter<'static> =
    ReferrerFilter { artifact_type: Some(BUNDLE_TYPE), predicate_type: Some(SIGNATURE_PREDICATE) };

/// Returns the artifacts in a registry that refer to an app. Nothing has verified them yet.
pub(crate) async fn referrers(
    registry: &Registry,
    digest: &Digest,
    filter: ReferrerFilter<'_>,
    console: &Console,
) -> Result<Vec<Referrer>, CliError> {
    let found = fetch_referrers(registry, digest, &blob_cache(), filter).await.map_err(registry_error)?;
    Ok(complete(found, console))
}

/// Returns the artifacts that were found. Prints a message if there are more.
pub(crate) fn complete(found: FoundReferrers, console: &Console) -> Vec<Referrer> {
    if !found.is_complete {
        console.message("the registry lists more artifacts about this app than are read; signatures may be missing");
    }
    found.referrers
}

/// Returns whether one of the keys has signed the app with this digest.
pub(crate) fn is_signed(referrers: &[Referrer], digest: &Digest, keys: &[PublicKey]) -> bool {
    referrers
        .iter()
        .filter_map(bundle_of)
        .filter_map(|bundle| verify(bundle, keys).ok())
        .any(|(statement, _)| statement.predicate_type == SIGNATURE_PREDICATE && statement.is_about(digest))
}

/// Returns the text of a signed statement; `None` if the referrer is something else.
pub(crate) fn bundle_of(referrer: &Referrer) -> Option<&str> {
    std::str::from_utf8(&referrer.content).ok().filter(|_| referrer.artifact_type == BUNDLE_TYPE)
}

/// Returns the signatures that a node may need, among the artifacts that refer to an app.
pub(crate) fn signatures(referrers: &[Referrer]) -> Vec<String> {
    let is_signature = |referrer: &&Referrer| {
        referrer.predicate_type.as_ref().is_none_or(|found| found == SIGNATURE_PREDICATE)
            && referrer.content.len() <= SIGNATURE_BYTES_MAX
    };
    let bundles = referrers.iter().filter(is_signature).filter_map(bundle_of);
    // One place is left for a signature that `--sign` adds.
    bundles.map(ToOwned::to_owned).take(SIGNATURES_MAX - 1).collect()
}
