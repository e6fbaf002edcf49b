//! The table `[signatures]` of a node file: which keys may deploy for which tenant.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isomer_diagnostics::{Diagnostic, Span};
use isomer_ids::TenantName;

use super::raw::{RawSignatures, RawTenantSignatures};
use crate::bounds::Findings;
use crate::spanned::Spanned;
use crate::texts::PathText;

/// Which keys must have signed the apps of tenants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SignatureSettings {
    /// The rule for tenants without a rule of their own; `None` if they need no signature.
    pub others: Option<SignatureKeys>,
    /// The rules of tenants.
    pub tenants: BTreeMap<TenantName, SignatureKeys>,
}

/// The keys that may deploy for a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct SignatureKeys {
    /// The paths of PEM files, as written; `None` if no signature is needed.
    pub files: Option<Vec<PathBuf>>,
    /// The place of the rule.
    pub span: Span,
}

pub(super) fn read(raw: RawSignatures, found: &mut Findings) -> SignatureSettings {
    let others = raw.keys.map(|keys| SignatureKeys { span: keys.span, files: Some(files(keys, found)) });
    let mut tenants = BTreeMap::new();
    for (name, table) in raw.tenants {
        match name.value.0.parse::<TenantName>() {
            Ok(tenant) => drop(tenants.insert(tenant, tenant_keys(table, found))),
            Err(error) => {
                let hint = error.hint();
                found.push(Diagnostic::error(error.to_string()).code("bad-name").at(name.span, "").hint(hint));
            }
        }
    }
    SignatureSettings { others, tenants }
}

fn tenant_keys(table: Spanned<RawTenantSignatures>, found: &mut Findings) -> SignatureKeys {
    let Spanned { value: RawTenantSignatures { keys, unsigned }, span } = table;
    match (keys, unsigned) {
        (Some(keys), false) => SignatureKeys { span: keys.span, files: Some(files(keys, found)) },
        (None, true) => SignatureKeys { files: None, span },
        (keys, _) => {
            let problem = if keys.is_some() { "both `keys` and `unsigned`" } else { "neither `keys` nor `unsigned`" };
            let error = Diagnostic::error(format!("the rule of a tenant has {problem}")).code("bad-signatures");
            found.push(error.at(span, "").hint("write either `keys = [\"acme.pub\"]` or `unsigned = true`"));
            SignatureKeys { files: Some(Vec::new()), span }
        }
    }
}

/// Reports an empty list, because no app could ever be deployed.
fn files(keys: Spanned<Vec<PathText>>, found: &mut Findings) -> Vec<PathBuf> {
    if keys.value.is_empty() {
        let error = Diagnostic::error("no key may deploy, because the list is empty").code("bad-signatures");
        found.push(error.at(keys.span, "").hint("name a public key: `isomer keys generate` creates one"));
    }
    keys.value.into_iter().map(|path| PathBuf::from(path.0)).collect()
}
