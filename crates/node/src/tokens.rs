//! Operations on the tokens of tenants.

use std::sync::Arc;

use isomer_api::{ApiProblem, StoredToken, TokenInfo};
use isomer_ids::{TenantName, TokenName};

use crate::intents::ChangeTarget;
use crate::node::Node;
use crate::problems;

impl Node {
    pub(crate) fn tokens_of(&self, tenant: &TenantName) -> Result<Vec<TokenInfo>, ApiProblem> {
        let tokens = self.state.tokens_of(tenant).map_err(problems::of_state)?;
        Ok(tokens.into_iter().map(|token| token.info).collect())
    }

    pub(crate) async fn record_token(self: &Arc<Self>, token: StoredToken) -> Result<TokenInfo, ApiProblem> {
        let info = token.info.clone();
        let lock = Arc::new(self.tenant_locks.take(&info.tenant).await?);
        self.record(&ChangeTarget::tenant(&info.tenant), &lock, move |node| node.state.add_token(&token)).await?;
        Ok(info)
    }

    /// Revokes a token. If it is unknown whether the revocation was recorded, the token may stay valid until the node
    /// can read its state again.
    pub(crate) async fn delete_token(self: &Arc<Self>, tenant: TenantName, name: TokenName) -> Result<(), ApiProblem> {
        let lock = Arc::new(self.tenant_locks.take(&tenant).await?);
        let subject = ChangeTarget::tenant(&tenant);
        self.record(&subject, &lock, move |node| node.state.remove_token(&tenant, &name)).await
    }
}
