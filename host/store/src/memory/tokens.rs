//! Operations on tokens in memory. Never stores a token itself, only its hash.

use isopod_policy::{AppName, Scope};

use super::rows::Rows;
use crate::StoreError;
use crate::limits::TOKENS_MAX;
use crate::model::Token;

impl Rows {
    pub(super) fn insert_token(&mut self, mut token: Token) -> Result<Token, StoreError> {
        if let Scope::Apps(names) = &token.scope {
            token.app_ids =
                names.iter().map(|name| Ok(self.app(name)?.id.clone())).collect::<Result<_, StoreError>>()?;
        }
        if self.tokens.len() >= TOKENS_MAX as usize {
            return Err(StoreError::TooManyTokens);
        }
        if self.tokens.values().any(|known| known.name == token.name || known.hash == token.hash) {
            return Err(StoreError::TokenExists { name: token.name });
        }
        self.tokens.insert(token.name.clone(), token.clone());
        Ok(token)
    }

    /// Removes a destroyed app from all tokens, and removes tokens without a remaining app.
    pub(super) fn forget_app_of_tokens(&mut self, name: &AppName, id: &str) {
        let tokens = std::mem::take(&mut self.tokens).into_values();
        let is_for_it = |token: &Token| token.app_ids.iter().any(|known| known == id);
        let rest = tokens.filter_map(|token| if is_for_it(&token) { token.without(name, id) } else { Some(token) });
        self.tokens = rest.map(|token| (token.name.clone(), token)).collect();
    }

    pub(super) fn delete_token(&mut self, name: &str) -> Result<(), StoreError> {
        match self.tokens.remove(name) {
            Some(_) => Ok(()),
            None => Err(StoreError::UnknownToken { name: name.to_owned() }),
        }
    }
}
