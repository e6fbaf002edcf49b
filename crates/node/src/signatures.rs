//! Which keys may deploy for which tenant. The rules come from the node file.
//!
//! A signature is about the artifact that follows from a release ([`AppArtifact`]), which a registry and a node compute
//! alike. It is checked before the manifest is parsed and before anything is compiled, and again whenever a request
//! changes the revision of an app or starts a stopped app: a key that is removed from the node file can neither deploy, nor
//! roll back, nor start an app again.

use std::collections::{BTreeMap, BTreeSet};

use isomer_api::deploy::SIGNATURES_MAX;
use isomer_api::{ApiProblem, ProblemKind, Release};
use isomer_ids::{AppName, TenantName};
use isomer_parcel::artifact::AppArtifact;
use isomer_signing::{PublicKey, SIGNATURE_PREDICATE, unverified_key, verify};

/// The maximum number of signatures that an error names.
const SHOWN_MAX: usize = 4;

/// The rules for the signatures of releases. Without rules, no signature is needed.
#[derive(Debug, Clone, Default)]
pub struct SignaturePolicy {
    /// The rule for tenants without a rule of their own.
    pub others: Option<SignatureRule>,
    /// The rules of tenants.
    pub tenants: BTreeMap<TenantName, SignatureRule>,
}

/// The rule for the releases of a tenant.
#[derive(Debug, Clone)]
pub struct SignatureRule {
    /// The keys that may sign. `None` if no signature is needed.
    pub keys: Option<Vec<PublicKey>>,
    /// The place of the rule in the node file, and its text, for errors.
    pub place: String,
}

impl SignaturePolicy {
    /// Checks that a key that may deploy for the tenant has signed the release.
    ///
    /// # Errors
    /// If no such key has signed the release.
    pub(crate) fn check(&self, tenant: &TenantName, app: &AppName, release: &Release) -> Result<(), ApiProblem> {
        let Some(rule) = self.tenants.get(tenant).or(self.others.as_ref()) else { return Ok(()) };
        let Some(keys) = &rule.keys else { return Ok(()) };
        let refused = |why: String| {
            let title = format!("tenant `{tenant}` may deploy only signed apps, and {why}");
            ApiProblem::new(ProblemKind::Refused, title)
                .detail(format!("the rule is in the node file, {}", rule.place))
                .hint(format!("sign the app with a key of this rule: isomer deploy --sign KEY --tenant {tenant}"))
                .hint("let the operator of the node add the public key to the rule")
        };
        if release.signatures.is_empty() {
            return Err(refused(format!("`{app}` has no signature")));
        }
        let artifact = AppArtifact::of(release).map_err(|error| refused(format!("`{app}` cannot be: {error}")))?;
        let verified: Vec<_> = release.signatures.iter().filter_map(|bundle| verify(bundle, keys).ok()).collect();
        let signs = verified.iter().filter(|(statement, _)| statement.predicate_type == SIGNATURE_PREDICATE);
        if signs.clone().any(|(statement, _)| statement.is_about(&artifact.digest)) {
            return Ok(());
        }
        if verified.iter().any(|(statement, _)| statement.is_about(&artifact.digest)) {
            return Err(refused(format!("the key has signed statements about `{app}`, but not the app itself")));
        }
        if !verified.is_empty() {
            let why = format!("the signatures of `{app}` are for other content: it was altered after it was signed");
            return Err(refused(why).hint("sign the app again, and deploy all changes together: `isomer swap`, and `--config` of `isomer deploy`, alter a signed app"));
        }
        let signers = release.signatures.iter().filter_map(|bundle| unverified_key(bundle));
        let signers: Vec<String> = signers.take(SHOWN_MAX).map(|key| format!("`{}`", key.short())).collect();
        let by =
            if signers.is_empty() { String::new() } else { format!(" (it claims the key {})", signers.join(", ")) };
        Err(refused(format!("no key that may deploy for it has signed `{app}`{by}")))
    }

    /// Returns the signatures to record for a release: those in the release and those in `recorded`. All tenants that
    /// deploy the same release share its record, so only signatures by keys of the rules are recorded, one per key: a
    /// tenant cannot displace the signatures of another one. Without such keys, returns the signatures of the release, or
    /// those in `recorded` if it has none.
    pub(crate) fn to_record(&self, release: &Release, recorded: &[String]) -> Vec<String> {
        let rules = self.others.iter().chain(self.tenants.values());
        let keys: Vec<_> = rules.filter_map(|rule| rule.keys.as_deref()).flatten().cloned().collect();
        let Some(artifact) = AppArtifact::of(release).ok().filter(|_| !keys.is_empty()) else {
            return if release.signatures.is_empty() { recorded.to_vec() } else { release.signatures.clone() };
        };
        let mut signers = BTreeSet::new();
        let bundles = release.signatures.iter().chain(recorded);
        let kept = bundles.filter(|bundle| match verify(bundle, &keys) {
            Ok((statement, signer)) => {
                statement.predicate_type == SIGNATURE_PREDICATE
                    && statement.is_about(&artifact.digest)
                    && signers.insert(signer)
            }
            Err(_) => false,
        });
        kept.take(SIGNATURES_MAX).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use isomer_api::ReleasePart;
    use isomer_ids::Digest;
    use isomer_signing::{SigningKey, Statement, sign};

    use super::*;

    fn release() -> Release {
        let part = ReleasePart { digest: Digest::from([1; 32]), bytes: 3 };
        Release {
            // The manifest is not parsed, so it may be anything.
            manifest: "not TOML".to_owned(),
            shape: "monolith".to_owned(),
            components: [("c".to_owned(), part)].into(),
            files: BTreeMap::new(),
            folders: std::collections::BTreeSet::new(),
            hosts: None,
            message: None,
            signatures: Vec::new(),
        }
    }

    fn signed(release: &Release, key: &SigningKey) -> Release {
        let digest = AppArtifact::of(release).unwrap().digest;
        let bundle = sign(&Statement::signature(&digest), key).unwrap();
        Release { signatures: vec![bundle], ..release.clone() }
    }

    #[test]
    fn each_tenant_has_its_own_keys() {
        let [acme, others] = [(); 2].map(|()| SigningKey::generate(None).unwrap().0);
        let rule = |keys: Option<Vec<PublicKey>>| SignatureRule { keys, place: "line 3: `keys = …`".to_owned() };
        let policy = SignaturePolicy {
            others: Some(rule(Some(vec![others.public()]))),
            tenants: [
                ("acme".parse().unwrap(), rule(Some(vec![acme.public()]))),
                ("free".parse().unwrap(), rule(None)),
            ]
            .into(),
        };
        let check = |policy: &SignaturePolicy, tenant: &str, release: &Release| {
            policy.check(&tenant.parse().unwrap(), &"shop".parse().unwrap(), release).map_err(|problem| problem.title)
        };
        let plain = release();
        assert_eq!(check(&SignaturePolicy::default(), "acme", &plain), Ok(()));
        assert_eq!(check(&policy, "free", &plain), Ok(()));
        assert_eq!(check(&policy, "acme", &signed(&plain, &acme)), Ok(()));
        assert_eq!(check(&policy, "rival", &signed(&plain, &others)), Ok(()));
        for (tenant, release, why) in [
            ("acme", plain.clone(), "has no signature"),
            ("acme", signed(&plain, &others), "no key that may deploy for it has signed"),
            ("rival", signed(&plain, &acme), "no key that may deploy for it has signed"),
            ("acme", Release { signatures: vec!["{}".to_owned(); 3], ..plain.clone() }, "no key that may deploy"),
        ] {
            let title = check(&policy, tenant, &release).unwrap_err();
            assert!(title.contains(why) && title.contains(&format!("tenant `{tenant}`")), "{title}");
        }
        let other_shape = Release { shape: "split".to_owned(), ..signed(&plain, &acme) };
        assert_eq!(check(&policy, "acme", &other_shape), Ok(()), "the shape is not signed");
    }

    #[test]
    fn signatures_of_all_tenants_are_recorded_and_no_others() {
        let [acme, others, unknown] = [(); 3].map(|()| SigningKey::generate(None).unwrap().0);
        let rule = |key: &SigningKey| SignatureRule { keys: Some(vec![key.public()]), place: String::new() };
        let tenants = [("acme".parse().unwrap(), rule(&acme))].into();
        let policy = SignaturePolicy { others: Some(rule(&others)), tenants };
        let plain = release();
        let by = |key: &SigningKey| signed(&plain, key).signatures.remove(0);
        let recorded =
            policy.to_record(&signed(&plain, &acme), &[by(&others), by(&acme), by(&unknown), "{}".to_owned()]);
        assert_eq!(recorded.len(), 2, "one for each key of the rules");
        for tenant in ["acme", "rival"] {
            let release = Release { signatures: policy.to_record(&plain, &recorded), ..plain.clone() };
            policy.check(&tenant.parse().unwrap(), &"shop".parse().unwrap(), &release).unwrap();
        }
        // Another statement by the same key, such as the provenance, does not take the place of the signature.
        let digest = AppArtifact::of(&plain).unwrap().digest;
        let provenance = Statement::new("", &digest, "https://slsa.dev/provenance/v1", serde_json::json!({}));
        let signature = by(&acme);
        let signatures = vec![sign(&provenance, &acme).unwrap(), signature.clone()];
        assert_eq!(policy.to_record(&Release { signatures, ..plain.clone() }, &[]), [signature]);
        let altered = Release { manifest: "other".to_owned(), ..plain.clone() };
        assert!(policy.to_record(&altered, &recorded).is_empty(), "they are for other content");
        let no_rules = SignaturePolicy::default();
        assert_eq!(no_rules.to_record(&plain, &recorded), recorded);
    }

    #[test]
    fn a_signature_is_for_one_release_and_for_deploying() {
        let key = SigningKey::generate(None).unwrap().0;
        let rule = SignatureRule { keys: Some(vec![key.public()]), place: "line 3: `keys = …`".to_owned() };
        let policy = SignaturePolicy { others: Some(rule), ..SignaturePolicy::default() };
        let check = |release: &Release| policy.check(&"acme".parse().unwrap(), &"shop".parse().unwrap(), release);
        let signed = signed(&release(), &key);
        let changes: [fn(&mut Release); 3] = [
            |release| release.manifest.push(' '),
            |release| release.components.get_mut("c").unwrap().digest = Digest::from([2; 32]),
            |release| release.folders.extend(["more".parse().unwrap()]),
        ];
        for change in changes {
            let mut altered = signed.clone();
            change(&mut altered);
            let problem = check(&altered).unwrap_err();
            assert!(problem.title.contains("altered after it was signed"), "{problem:?}");
            assert!(problem.detail.unwrap().contains("line 3: `keys = …`"));
        }
        // A statement of another type about the same artifact, such as its provenance, does not allow deploying it.
        let digest = AppArtifact::of(&release()).unwrap().digest;
        let provenance = Statement::new("", &digest, "https://slsa.dev/provenance/v1", serde_json::json!({}));
        let other = Release { signatures: vec![sign(&provenance, &key).unwrap()], ..release() };
        let problem = check(&other).unwrap_err();
        assert!(problem.title.contains("has signed statements about `shop`, but not the app itself"), "{problem:?}");
    }
}
