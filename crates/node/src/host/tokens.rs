//! Tokens of tenants: kept, listed, revoked.

use isomer_api::{KeptToken, Problem, TenantName, TokenInfo, TokenName};

use super::{Host, problems};

impl Host {
    pub(super) fn tokens_of(&self, tenant: &TenantName) -> Result<Vec<TokenInfo>, Problem> {
        let tokens = self.state.tokens_of(tenant).map_err(problems::of_state)?;
        Ok(tokens.into_iter().map(|token| token.info).collect())
    }

    pub(super) fn keep_token(&self, token: KeptToken) -> Result<TokenInfo, Problem> {
        self.state.add_token(&token).map_err(problems::of_state)?;
        Ok(token.info)
    }

    pub(super) fn forget_token(&self, tenant: &TenantName, name: &TokenName) -> Result<(), Problem> {
        self.state.remove_token(tenant, name).map_err(problems::of_state)
    }
}
