//! Who may call an operation. Operations without an explicit rule accept only the node's token.

use isomer_api::{ApiProblem, ProblemKind, TokenInfo, TokenRole};

use crate::arguments::PathNames;
use crate::caller::Caller;

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessRule {
    /// The holder of the node's token.
    Node,
    /// The holder of the node's token, and holders of a token of the tenant in the path, with at least this role.
    Tenant(TokenRole),
    /// The holder of the node's token, and holders of any tenant's token with at least this role. For a tenant, the
    /// operation returns only what belongs to that tenant.
    Own(TokenRole),
}

impl AccessRule {
    /// Checks that `caller` may call an operation with these names in its path. The refusal is the same whether or not
    /// the object exists.
    pub(crate) fn check(self, caller: &Caller, named: &PathNames) -> Result<(), ApiProblem> {
        let Caller::Tenant(TokenInfo { tenant, name, role, .. }) = caller else { return Ok(()) };
        let refused = |why: String| ApiProblem::new(ProblemKind::Forbidden, why);
        match self {
            Self::Node => Err(refused("this takes the node's own token".to_owned())),
            Self::Tenant(_) if !named.tenant().is_ok_and(|named| named == *tenant) => {
                let why = format!("token `{name}` is of tenant `{tenant}`, and gives no access to other tenants");
                Err(refused(why).hint(format!("--tenant {tenant}")))
            }
            Self::Tenant(needed) | Self::Own(needed) if *role < needed => Err(refused(format!(
                "token `{name}` of tenant `{tenant}` has the role `{role}`, and this takes `{needed}`"
            ))),
            Self::Tenant(_) | Self::Own(_) => Ok(()),
        }
    }

    /// Describes the rule, for the API's document.
    pub(crate) fn about(self) -> String {
        match self {
            Self::Node => "Takes the node's token.".to_owned(),
            Self::Tenant(role) => {
                format!("Takes the node's token, or one of the tenant with the role `{role}`{}.", above(role))
            }
            Self::Own(role) => format!(
                "Takes the node's token, or any tenant's with the role `{role}`{}, which gets what belongs to its tenant.",
                above(role)
            ),
        }
    }
}

fn above(role: TokenRole) -> &'static str {
    if role == TokenRole::Admin { "" } else { " or above" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tenant: &str) -> PathNames {
        PathNames { names: vec![("tenant".to_owned(), tenant.to_owned())], ..PathNames::default() }
    }

    #[test]
    fn a_tenants_token_opens_what_its_role_and_tenant_allow() {
        for role in TokenRole::ALL {
            for needed in TokenRole::ALL {
                let (own, other) = (AccessRule::Tenant(needed), of("other"));
                assert_eq!(own.check(&Caller::with_role(role), &of("acme")).is_ok(), role >= needed, "{role} {needed}");
                assert_eq!(
                    AccessRule::Own(needed).check(&Caller::with_role(role), &other).is_ok(),
                    role >= needed,
                    "{role} {needed}"
                );
                for foreign in ["other", "ACME", "acme/", "", "../acme"] {
                    assert!(own.check(&Caller::with_role(role), &of(foreign)).is_err(), "{role} {needed} {foreign}");
                }
                assert!(own.check(&Caller::Node, &other).is_ok());
            }
            assert!(AccessRule::Node.check(&Caller::with_role(role), &of("acme")).is_err());
        }
        assert!(
            AccessRule::Tenant(TokenRole::Read)
                .check(&Caller::with_role(TokenRole::Admin), &PathNames::default())
                .is_err(),
            "no tenant in the path"
        );
        assert!(AccessRule::Node.check(&Caller::Node, &of("acme")).is_ok());
    }
}
