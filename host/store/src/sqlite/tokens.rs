//! The statements for tokens, of which only hashes are kept.

use rusqlite::{Connection, Row, params};

use super::rows::{Sql, all, first, json, parsed, time, to_json};
use crate::StoreError;
use crate::limits::TOKENS_MAX;
use crate::model::Token;

const COLUMNS: &str = "name, hash, role, scope, created_at";

fn make(row: &Row<'_>) -> Sql<Token> {
    Ok(Token {
        name: row.get("name")?,
        hash: row.get("hash")?,
        role: parsed(row, "role")?,
        scope: json(row, "scope")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) fn insert(connection: &Connection, token: &Token) -> Sql<()> {
    let count: u32 = connection.prepare_cached("SELECT count(*) FROM tokens")?.query_row([], |row| row.get(0))?;
    if count >= TOKENS_MAX {
        return Err(StoreError::TooManyTokens.into());
    }
    let inserted = connection
        .prepare_cached(&format!("INSERT INTO tokens ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING"))?
        .execute(params![
            token.name,
            token.hash,
            token.role.as_str(),
            to_json(&token.scope)?,
            token.created_at.to_string()
        ])?;
    if inserted == 0 { Err(StoreError::TokenExists { name: token.name.clone() }.into()) } else { Ok(()) }
}

pub(super) fn by_hash(connection: &Connection, hash: &str) -> Sql<Option<Token>> {
    first(connection, &format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"), [hash], make)
}

pub(super) fn list(connection: &Connection) -> Sql<Vec<Token>> {
    all(connection, &format!("SELECT {COLUMNS} FROM tokens ORDER BY name LIMIT ?1"), [TOKENS_MAX], make)
}

pub(super) fn delete(connection: &Connection, name: &str) -> Sql<()> {
    let deleted = connection.prepare_cached("DELETE FROM tokens WHERE name = ?1")?.execute([name])?;
    if deleted == 0 { Err(StoreError::UnknownToken { name: name.to_owned() }.into()) } else { Ok(()) }
}
