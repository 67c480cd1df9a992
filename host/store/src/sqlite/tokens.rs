//! The statements for tokens. Never stores a token itself, only its hash.

use isopod_policy::{AppName, Scope};
use rusqlite::{Connection, Row, params};

use super::apps;
use crate::StoreError;
use crate::limits::TOKENS_MAX;
use crate::model::Token;
use crate::sql::{Sql, all, first, json, parsed, time, to_json};

const COLUMNS: &str = "name, hash, role, scope, app_ids, created_at";

fn make(row: &Row<'_>) -> Sql<Token> {
    Ok(Token {
        name: row.get("name")?,
        hash: row.get("hash")?,
        role: parsed(row, "role")?,
        scope: json(row, "scope")?,
        app_ids: json(row, "app_ids")?,
        created_at: time(row, "created_at")?,
    })
}

/// Stores a token, bound to the apps that currently have the names in its scope.
pub(crate) fn insert(connection: &Connection, mut token: Token) -> Sql<()> {
    if let Scope::Apps(names) = &token.scope {
        let ids: Sql<Vec<String>> = names.iter().map(|name| Ok(apps::existing(connection, name)?.id)).collect();
        token.app_ids = ids?;
    }
    let count: u32 = connection.prepare_cached("SELECT count(*) FROM tokens")?.query_row([], |row| row.get(0))?;
    if count >= TOKENS_MAX {
        return Err(StoreError::TooManyTokens.into());
    }
    let inserted = connection
        .prepare_cached(&format!(
            "INSERT INTO tokens ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING"
        ))?
        .execute(params![
            token.name,
            token.hash,
            token.role.as_str(),
            to_json(&token.scope)?,
            to_json(&token.app_ids)?,
            token.created_at.to_string()
        ])?;
    if inserted == 0 { Err(StoreError::TokenExists { name: token.name }.into()) } else { Ok(()) }
}

/// Removes a destroyed app from all tokens, and removes tokens without a remaining app.
pub(crate) fn forget_app(connection: &Connection, name: &AppName, id: &str) -> Sql<()> {
    for token in list(connection)? {
        if !token.app_ids.iter().any(|known| known == id) {
            continue;
        }
        let token_name = token.name.clone();
        match token.without(name, id) {
            None => delete(connection, &token_name)?,
            Some(rest) => {
                let values = params![token_name, to_json(&rest.scope)?, to_json(&rest.app_ids)?];
                let sql = "UPDATE tokens SET scope = ?2, app_ids = ?3 WHERE name = ?1";
                connection.prepare_cached(sql)?.execute(values)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn by_hash(connection: &Connection, hash: &str) -> Sql<Option<Token>> {
    first(connection, &format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"), [hash], make)
}

pub(crate) fn list(connection: &Connection) -> Sql<Vec<Token>> {
    all(connection, &format!("SELECT {COLUMNS} FROM tokens ORDER BY name LIMIT ?1"), [TOKENS_MAX], make)
}

pub(crate) fn delete(connection: &Connection, name: &str) -> Sql<()> {
    let deleted = connection.prepare_cached("DELETE FROM tokens WHERE name = ?1")?.execute([name])?;
    if deleted == 0 { Err(StoreError::UnknownToken { name: name.to_owned() }.into()) } else { Ok(()) }
}
