//! Who asks, once the guard has let them in, and what each may ask.
//!
//! Every operation has a [`Rule`]. One that says nothing else takes the node's token only.

use isomer_api::{Actor, ApiProblem, ProblemKind, TokenInfo, TokenRole};
use isomer_ids::TenantName;

use crate::given::Named;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The holder of the node's own token, who may do everything.
    Node,
    /// The holder of a tenant's token.
    Tenant(TokenInfo),
}

impl Caller {
    /// The tenant whose token it has; none for the node's own.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Node => None,
            Self::Tenant(token) => Some(&token.tenant),
        }
    }

    /// Who is said to have done what it asks for.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Node => Actor::Node,
            Self::Tenant(token) => Actor::Tenant { name: token.name.clone(), id: token.id.clone() },
        }
    }

    /// What it is told of a problem. A failure of the node itself names files and addresses of the node, which no tenant is to learn.
    pub(crate) fn told(&self, problem: ApiProblem) -> ApiProblem {
        match self {
            Self::Tenant(_) if problem.kind == ProblemKind::Failed => ApiProblem::new(
                ProblemKind::Failed,
                "the node failed at this; those who run it find the reason in its log",
            ),
            _ => problem,
        }
    }
}

/// Who may ask for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The holder of the node's own token.
    Node,
    /// Also holders of tokens of the tenant in the path, from this role on.
    Tenant(TokenRole),
    /// Also holders of any tenant's token, from this role on. The operation itself gives them what is their tenant's and no more.
    Own(TokenRole),
}

impl Rule {
    /// Checks that `caller` may ask for an operation with these names in its path. What it may not is refused in the same words
    /// whether it is there or not.
    pub(crate) fn check(self, caller: &Caller, named: &Named) -> Result<(), ApiProblem> {
        let Caller::Tenant(TokenInfo { tenant, name, role, .. }) = caller else { return Ok(()) };
        let refused = |why: String| ApiProblem::new(ProblemKind::Forbidden, why);
        match self {
            Self::Node => Err(refused("this takes the node's own token".to_owned())),
            Self::Tenant(_) if !named.tenant().is_ok_and(|named| named == *tenant) => {
                let why = format!("token `{name}` is tenant `{tenant}`'s, and opens nothing of others");
                Err(refused(why).hint(format!("--tenant {tenant}")))
            }
            Self::Tenant(needed) | Self::Own(needed) if *role < needed => Err(refused(format!(
                "token `{name}` of tenant `{tenant}` has the role `{role}`, and this takes `{needed}`"
            ))),
            Self::Tenant(_) | Self::Own(_) => Ok(()),
        }
    }

    /// Who may ask, for the API's document.
    pub(crate) fn about(self) -> String {
        match self {
            Self::Node => "Takes the node's token.".to_owned(),
            Self::Tenant(role) => {
                format!("Takes the node's token, or one of the tenant with the role `{role}`{}.", above(role))
            }
            Self::Own(role) => format!(
                "Takes the node's token, or any tenant's with the role `{role}`{}, which gets what is its tenant's.",
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

    fn caller(role: TokenRole) -> Caller {
        Caller::Tenant(TokenInfo {
            name: "ci".parse().unwrap(),
            id: [1; 8].into(),
            tenant: "acme".parse().unwrap(),
            role,
            created_at: 1,
            expires_at: None,
        })
    }

    fn of(tenant: &str) -> Named {
        Named { names: vec![("tenant".to_owned(), tenant.to_owned())], ..Named::default() }
    }

    #[test]
    fn a_tenants_token_opens_what_its_role_and_tenant_allow() {
        for role in TokenRole::ALL {
            for needed in TokenRole::ALL {
                let (own, other) = (Rule::Tenant(needed), of("other"));
                assert_eq!(own.check(&caller(role), &of("acme")).is_ok(), role >= needed, "{role} {needed}");
                assert_eq!(Rule::Own(needed).check(&caller(role), &other).is_ok(), role >= needed, "{role} {needed}");
                for foreign in ["other", "ACME", "acme/", "", "../acme"] {
                    assert!(own.check(&caller(role), &of(foreign)).is_err(), "{role} {needed} {foreign}");
                }
                assert!(own.check(&Caller::Node, &other).is_ok());
            }
            assert!(Rule::Node.check(&caller(role), &of("acme")).is_err());
        }
        assert!(
            Rule::Tenant(TokenRole::Read).check(&caller(TokenRole::Admin), &Named::default()).is_err(),
            "no tenant in the path"
        );
        assert!(Rule::Node.check(&Caller::Node, &of("acme")).is_ok());
    }

    #[test]
    fn a_tenant_is_not_told_where_the_node_keeps_things() {
        let problem =
            ApiProblem::new(ProblemKind::Failed, "cannot write `/var/lib/isomer/state.redb`").detail("errno 5");
        let told = caller(TokenRole::Admin).told(problem.clone());
        assert!(!format!("{told:?}").contains("/var") && told.detail.is_none());
        assert_eq!(Caller::Node.told(problem.clone()), problem);
        let refused = ApiProblem::new(ProblemKind::Refused, "no").hint("mend it");
        assert_eq!(caller(TokenRole::Admin).told(refused.clone()), refused);
    }
}
