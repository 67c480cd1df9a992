//! The statements for tokens. Never stores a token itself, only its hash.

use isopod_policy::{AppName, Scope};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::apps;
use crate::StoreError;
use crate::limits::TOKENS_MAX;
use crate::model::{FormerSecret, Rotation, Token, TokenUse};
use crate::sql::{Sql, all, first, json, parsed, time, time_if_any, to_json};

const COLUMNS: &str =
    "name, hash, role, scope, app_ids, created_at, ceiling, expires_at, last_used_at, former_hash, former_until";

fn make(row: &Row<'_>) -> Sql<Token> {
    let former_hash: Option<String> = row.get("former_hash")?;
    let former = former_hash.zip(time_if_any(row, "former_until")?);
    Ok(Token {
        name: row.get("name")?,
        hash: row.get("hash")?,
        role: parsed(row, "role")?,
        scope: json(row, "scope")?,
        app_ids: json(row, "app_ids")?,
        created_at: time(row, "created_at")?,
        ceiling: json(row, "ceiling")?,
        expires_at: time_if_any(row, "expires_at")?,
        last_used_at: time_if_any(row, "last_used_at")?,
        former: former.map(|(hash, until)| FormerSecret { hash, until }),
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
        remove_expired(connection, token.created_at)?;
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO tokens (name, hash, role, scope, app_ids, created_at, expires_at, ceiling)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            token.name,
            token.hash,
            token.role.as_str(),
            to_json(&token.scope)?,
            to_json(&token.app_ids)?,
            token.created_at.to_string(),
            token.expires_at.map(|at| at.to_string()),
            to_json(&token.ceiling)?
        ])?;
    if inserted == 0 { Err(StoreError::TokenExists { name: token.name }.into()) } else { Ok(()) }
}

/// Makes room for a token: removes the one that expired first.
fn remove_expired(connection: &Connection, now: Timestamp) -> Sql<()> {
    let expired = list(connection)?.into_iter().filter(|token| token.is_expired(now));
    let first = expired.min_by_key(|token| token.expires_at).ok_or(StoreError::TooManyTokens)?;
    delete(connection, &first.name)
}

/// Replaces the secret of a token.
pub(crate) fn rotate(connection: &Connection, name: &str, rotation: Rotation) -> Sql<()> {
    let token = first(connection, &format!("SELECT {COLUMNS} FROM tokens WHERE name = ?1"), [name], make)?;
    let token = token.ok_or_else(|| StoreError::UnknownToken { name: name.to_owned() })?;
    replace_secret(connection, &token.rotated(rotation)?)
}

/// Stores the secret and the expiry of a token that exists.
pub(crate) fn replace_secret(connection: &Connection, token: &Token) -> Sql<()> {
    connection
        .prepare_cached(
            "UPDATE tokens SET hash = ?2, expires_at = ?3, former_hash = ?4, former_until = ?5 WHERE name = ?1",
        )?
        .execute(params![
            token.name,
            token.hash,
            token.expires_at.map(|at| at.to_string()),
            token.former.as_ref().map(|former| &former.hash),
            token.former.as_ref().map(|former| former.until.to_string())
        ])?;
    Ok(())
}

/// Records the last uses of tokens. A removed token is skipped.
pub(crate) fn record_uses(connection: &Connection, uses: &[TokenUse]) -> Sql<()> {
    let sql = "UPDATE tokens SET last_used_at = ?3 WHERE name = ?1 AND created_at = ?2";
    let mut update = connection.prepare_cached(sql)?;
    for TokenUse { name, created_at, at } in uses {
        update.execute(params![name, created_at.to_string(), at.to_string()])?;
    }
    Ok(())
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
