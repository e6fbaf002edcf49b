//! The authenticated caller of an operation.

use isomer_api::{Actor, ApiProblem, ProblemKind, TokenInfo};
use isomer_ids::TenantName;

/// The authenticated caller of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The holder of the node's token, who may call all operations.
    Node,
    /// The holder of a tenant's token, with information about this token.
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

    /// Returns the caller as an [`Actor`], which a node stores with each revision.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Node => Actor::Node,
            Self::Tenant(token) => Actor::Tenant { name: token.name.clone(), id: token.id.clone() },
        }
    }

    /// Returns a problem in the form that this caller may see. A failure of the node itself can contain paths and
    /// addresses of the node, which tenants must not see.
    pub(crate) fn redacted(&self, problem: ApiProblem) -> ApiProblem {
        match self {
            Self::Tenant(_) if problem.kind == ProblemKind::Failed => ApiProblem::new(
                ProblemKind::Failed,
                "the node failed; its operators can find the reason in the node's log",
            ),
            _ => problem,
        }
    }
}

#[cfg(test)]
impl Caller {
    /// Returns a caller with a token of the tenant `acme` that has this role.
    pub(crate) fn with_role(role: isomer_api::TokenRole) -> Self {
        Self::Tenant(TokenInfo {
            name: "ci".parse().unwrap(),
            id: [1; 8].into(),
            tenant: "acme".parse().unwrap(),
            role,
            data: false,
            created_at: 1,
            expires_at: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use isomer_api::TokenRole;

    use super::*;

    #[test]
    fn failures_of_the_node_are_redacted_for_tenants() {
        let problem =
            ApiProblem::new(ProblemKind::Failed, "cannot write `/var/lib/isomer/state.redb`").detail("errno 5");
        let redacted = Caller::with_role(TokenRole::Admin).redacted(problem.clone());
        assert!(!format!("{redacted:?}").contains("/var") && redacted.detail.is_none());
        assert_eq!(Caller::Node.redacted(problem.clone()), problem);
        let refused = ApiProblem::new(ProblemKind::Refused, "no").hint("mend it");
        assert_eq!(Caller::with_role(TokenRole::Admin).redacted(refused.clone()), refused);
    }
}
