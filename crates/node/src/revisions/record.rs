//! The record of a revision in the node's state. It contains the package, from which the revision is started, and the
//! release, from which the package was made.
//!
//! The package precedes the release in the record, so that loading an app need not read the release. The release is
//! used to make the package again (after an upgrade of the program, or after the compiled code was lost), and to make
//! the next revision when a component is swapped. The plan is only shown to clients of the admin API.

use std::collections::BTreeSet;

use isomer_api::{ApiProblem, ProblemKind, Release};
use isomer_runtime::code::Key;
use isomer_state::Contents;
use serde_json::value::RawValue;

/// The number of bytes of the field `maker`, with which a record begins: see [`RevisionRecord::maker`].
const MAKER_BYTES: usize = 64;

/// The number of bytes of the package's length. The length precedes the package and is a little-endian integer.
const LENGTH_BYTES: usize = 4;

/// The byte between the release and the plan. JSON without white space does not contain it.
const PLAN_SEPARATOR: u8 = b'\n';

/// The parsed record of a revision.
pub(crate) struct RevisionRecord<'a> {
    /// A hash of the version of the program that made the package, and of its engine's settings. A program with another
    /// hash cannot run the package's code.
    pub(crate) maker: &'a [u8],
    /// The package as bytes: see [`isomer_apps::Package::from_bytes`].
    pub(crate) package: &'a [u8],
    release: &'a [u8],
    /// The plan as JSON, which is `null` if the plan was too large. `None` in records of earlier versions.
    plan: Option<&'a [u8]>,
}

impl<'a> RevisionRecord<'a> {
    /// Splits a record into its fields.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, ApiProblem> {
        let (maker, rest) = bytes.split_at_checked(MAKER_BYTES).ok_or_else(damaged)?;
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(damaged)?;
        let (package, release) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
        let separator = release.iter().position(|byte| *byte == PLAN_SEPARATOR);
        let (release, plan) = match separator {
            Some(position) => (&release[..position], Some(&release[position + 1..])),
            None => (release, None),
        };
        Ok(Self { maker, package, release, plan })
    }

    /// Returns whether the version that wrote the record stored plans.
    pub(crate) fn has_plan(&self) -> bool {
        self.plan.is_some()
    }

    /// Returns the plan; `None` if the record has none, because the plan was too large or because an earlier version
    /// wrote the record.
    pub(crate) fn plan(&self) -> Result<Option<serde_json::Value>, ApiProblem> {
        let parsed = self.plan.map(serde_json::from_slice).transpose();
        let parsed: Option<Option<_>> = parsed.map_err(|error| damaged().detail(error.to_string()))?;
        Ok(parsed.flatten())
    }

    /// Returns the release from which the package was made.
    pub(crate) fn release(&self) -> Result<Release, ApiProblem> {
        serde_json::from_slice(self.release).map_err(|error| damaged().detail(error.to_string()))
    }
}

/// Returns the record `bytes` with `release` in place of its release.
///
/// # Errors
/// If the record is damaged.
pub(crate) fn with_release(bytes: &[u8], release: &Release) -> Result<Vec<u8>, ApiProblem> {
    let record = RevisionRecord::read(bytes)?;
    let before = MAKER_BYTES + LENGTH_BYTES + record.package.len();
    let mut changed = bytes[..before].to_vec();
    changed.extend(serde_json::to_vec(release).expect("a release is plain data"));
    if let Some(plan) = record.plan {
        changed.push(PLAN_SEPARATOR);
        changed.extend_from_slice(plan);
    }
    Ok(changed)
}

/// Returns the contents of a revision's record, to be stored in the node's state.
///
/// # Panics
/// Never, because a package is smaller than 4 GiB.
pub(crate) fn contents(
    maker: &Key,
    release: &Release,
    package: &[u8],
    plan: Option<&RawValue>,
    code: BTreeSet<String>,
) -> Contents {
    let length = u32::try_from(package.len()).expect("a package is smaller than 4 GiB");
    let release = Release { hosts: None, message: None, ..release.clone() };
    let mut bytes = maker.as_str().as_bytes().to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(package);
    bytes.extend(serde_json::to_vec(&release).expect("a release is plain data"));
    bytes.push(PLAN_SEPARATOR);
    bytes.extend_from_slice(plan.map_or("null", RawValue::get).as_bytes());
    let parts = release.components.values().chain(release.files.values());
    Contents { package: bytes, blobs: parts.map(|part| part.digest.clone()).collect(), code }
}

fn damaged() -> ApiProblem {
    ApiProblem::new(ProblemKind::Failed, "the node's record of the revision is damaged").hint("deploy the app again")
}

#[cfg(test)]
mod tests {
    use isomer_api::ReleasePart;
    use isomer_ids::Digest;

    use super::*;

    #[test]
    fn records_round_trip_and_damage_is_detected() {
        let part = ReleasePart { digest: Digest::from([1; 32]), bytes: 3 };
        let release = Release {
            manifest: "text".to_owned(),
            shape: "monolith".to_owned(),
            components: [("c".to_owned(), part.clone())].into(),
            files: [("f".parse().unwrap(), part)].into(),
            folders: ["empty".parse().unwrap()].into(),
            hosts: Some(vec!["a.example".parse().unwrap()]),
            message: Some("First".parse().unwrap()),
            signatures: vec!["{}".to_owned()],
        };
        let maker = Key::try_from("a".repeat(64)).unwrap();
        let plan = RawValue::from_string("{\"shape\":\"monolith\"}".to_owned()).unwrap();
        let no_plan = contents(&maker, &release, b"{}", None, ["key".to_owned()].into());
        let contents = contents(&maker, &release, b"{}", Some(&plan), ["key".to_owned()].into());
        let kept = RevisionRecord::read(&contents.package).unwrap();
        assert_eq!((kept.maker, kept.package), (maker.as_str().as_bytes(), &b"{}"[..]));
        assert_eq!(kept.release().unwrap(), Release { hosts: None, message: None, ..release });
        assert_eq!((contents.blobs.len(), contents.code.len()), (1, 1));
        assert_eq!(kept.plan().unwrap().unwrap()["shape"], "monolith");
        let kept = RevisionRecord::read(&no_plan.package).unwrap();
        assert!(kept.has_plan() && kept.plan().unwrap().is_none());
        let signed = Release { signatures: vec!["{ }".to_owned()], ..kept.release().unwrap() };
        let renewed = with_release(&contents.package, &signed).unwrap();
        let kept = RevisionRecord::read(&renewed).unwrap();
        assert_eq!((kept.maker, kept.package), (maker.as_str().as_bytes(), &b"{}"[..]));
        assert_eq!(
            (kept.release().unwrap(), kept.plan().unwrap().unwrap()["shape"].as_str()),
            (signed, Some("monolith"))
        );
        let of_earlier_version = contents.package.iter().position(|byte| *byte == PLAN_SEPARATOR).unwrap();
        for length in 0..contents.package.len() {
            let read = RevisionRecord::read(&contents.package[..length]);
            let (release, plan) = (read.as_ref().map(RevisionRecord::release), read.as_ref().map(RevisionRecord::plan));
            let is_complete = length == of_earlier_version;
            assert_eq!(matches!(release, Ok(Ok(_))), length >= of_earlier_version, "{length}");
            assert_eq!(matches!(plan, Ok(Ok(None))) && matches!(release, Ok(Ok(_))), is_complete, "{length}");
        }
    }
}
