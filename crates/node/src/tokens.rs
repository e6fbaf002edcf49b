//! Tokens of tenants: kept, listed, revoked.

use std::sync::Arc;

use isomer_api::{KeptToken, Problem, TenantName, TokenInfo, TokenName};

use super::{Host, problems};
use crate::notes::Subject;

impl Host {
    pub(super) fn tokens_of(&self, tenant: &TenantName) -> Result<Vec<TokenInfo>, Problem> {
        let tokens = self.state.tokens_of(tenant).map_err(problems::of_state)?;
        Ok(tokens.into_iter().map(|token| token.info).collect())
    }

    pub(super) async fn keep_token(self: &Arc<Self>, token: KeptToken) -> Result<TokenInfo, Problem> {
        let info = token.info.clone();
        let turn = Arc::new(self.turns.take(&info.tenant).await?);
        self.record(&Subject::tenant(&info.tenant), &turn, move |host| host.state.add_token(&token)).await?;
        Ok(info)
    }

    /// Where it is not known whether that was recorded, it is found out as soon as it can be: what is kept may be out of date until then.
    pub(super) async fn forget_token(self: &Arc<Self>, tenant: TenantName, name: TokenName) -> Result<(), Problem> {
        let turn = Arc::new(self.turns.take(&tenant).await?);
        let subject = Subject::tenant(&tenant);
        self.record(&subject, &turn, move |host| host.state.remove_token(&tenant, &name)).await
    }
}
