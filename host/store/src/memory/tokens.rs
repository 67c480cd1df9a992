//! What is done with tokens.

use super::Rows;
use crate::StoreError;
use crate::limits::TOKENS_MAX;
use crate::model::Token;

impl Rows {
    pub(super) fn insert_token(&mut self, token: Token) -> Result<(), StoreError> {
        if self.tokens.len() >= TOKENS_MAX as usize {
            return Err(StoreError::TooManyTokens);
        }
        if self.tokens.values().any(|known| known.name == token.name || known.hash == token.hash) {
            return Err(StoreError::TokenExists { name: token.name });
        }
        self.tokens.insert(token.name.clone(), token);
        Ok(())
    }

    pub(super) fn delete_token(&mut self, name: &str) -> Result<(), StoreError> {
        match self.tokens.remove(name) {
            Some(_) => Ok(()),
            None => Err(StoreError::UnknownToken { name: name.to_owned() }),
        }
    }
}
