//! The rules that decide which callers may call an operation. The default rule accepts only the node's token.

use isomer_api::{ApiProblem, ProblemKind, TokenInfo, TokenRole};

use crate::arguments::PathNames;
use crate::caller::Caller;

/// The callers that may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessRule {
    /// Only the holder of the node's token.
    Node,
    /// The holder of the node's token, and holders of tokens of the tenant in the path. A tenant's token needs this
    /// role or a higher one.
    Tenant(TokenRole),
    /// The holder of the node's token, and holders of tokens of any tenant. A tenant's token needs this role or a
    /// higher one. With a tenant's token, the operation sees only what belongs to that tenant.
    Own(TokenRole),
    /// The holder of the node's token, and each holder of a token of the tenant in the path that permits reading the
    /// content of stores.
    Data,
}

impl AccessRule {
    /// Checks that `caller` may call an operation whose path contains the names `named`. The result is the same whether
    /// or not objects with these names exist, so that a refused caller does not learn which names exist.
    pub(crate) fn check(self, caller: &Caller, named: &PathNames) -> Result<(), ApiProblem> {
        let Caller::Tenant(token @ TokenInfo { tenant, name, role, .. }) = caller else { return Ok(()) };
        let refused = |why: String| ApiProblem::new(ProblemKind::Forbidden, why);
        match self {
            Self::Node => Err(refused("this operation needs the node's own token".to_owned())),
            Self::Tenant(_) | Self::Data if !named.tenant().is_ok_and(|named| named == *tenant) => {
                let why = format!("token `{name}` belongs to tenant `{tenant}`, and gives no access to other tenants");
                Err(refused(why).hint(format!("use --tenant {tenant}")))
            }
            Self::Tenant(needed) | Self::Own(needed) if *role < needed => Err(refused(format!(
                "token `{name}` of tenant `{tenant}` has the role `{role}`, and this operation needs `{needed}`"
            ))),
            Self::Data if !token.may_read_data() => {
                let why = format!("token `{name}` of tenant `{tenant}` does not permit reading the content of stores");
                Err(refused(why).hint(format!(
                    "create another token: isomer tokens create NAME --role {role} --data --tenant {tenant}"
                )))
            }
            Self::Tenant(_) | Self::Own(_) | Self::Data => Ok(()),
        }
    }

    /// Returns a description of the rule for the OpenAPI document.
    pub(crate) fn about(self) -> String {
        match self {
            Self::Node => "Needs the node's token.".to_owned(),
            Self::Tenant(role) => {
                format!("Needs the node's token, or a token of the tenant with the role `{role}`{}.", above(role))
            }
            Self::Data => {
                "Needs the node's token, or a token of the tenant that permits reading data: one with the role `admin`, or one that was created with `data`.".to_owned()
            }
            Self::Own(role) => format!(
                "Needs the node's token, or a token of any tenant with the role `{role}`{}, which gives access only to objects of its tenant.",
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

    #[test]
    fn reading_data_is_a_right_of_its_own() {
        let data = |role, data, tenant: &str| {
            let Caller::Tenant(token) = Caller::with_role(role) else {
                unreachable!("the caller has a tenant's token")
            };
            AccessRule::Data.check(&Caller::Tenant(TokenInfo { data, ..token }), &of(tenant)).is_ok()
        };
        assert!(!data(TokenRole::Read, false, "acme") && !data(TokenRole::Deploy, false, "acme"));
        assert!(data(TokenRole::Read, true, "acme") && data(TokenRole::Admin, false, "acme"));
        assert!(!data(TokenRole::Admin, true, "other"));
        assert!(AccessRule::Data.check(&Caller::Node, &of("other")).is_ok());
    }
}
