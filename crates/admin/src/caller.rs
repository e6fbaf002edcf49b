//! The authenticated caller of an operation.

use isomer_api::{Actor, ApiProblem, ProblemKind, TokenInfo};
use isomer_ids::TenantName;

/// The authenticated caller of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The holder of the node's token, who may call every operation.
    Node,
    /// The holder of a tenant's token.
    Tenant(TokenInfo),
}

impl Caller {
    /// Returns the tenant of the caller's token; `None` for the node's token.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Node => None,
            Self::Tenant(token) => Some(&token.tenant),
        }
    }

    /// Returns the actor that a revision is recorded with.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Node => Actor::Node,
            Self::Tenant(token) => Actor::Tenant { name: token.name.clone(), id: token.id.clone() },
        }
    }

    /// Returns a problem as this caller sees it. A failure of the node itself contains files and addresses of the node,
    /// which tenants must not see.
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

#[cfg(test)]
mod tests {
    use isomer_api::TokenRole;

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
