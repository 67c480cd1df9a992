//! Owns the administrator's token: the file that contains it for the CLI of the same machine, which
//! the first start creates. Never prints the token.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use isopod_policy::{Role, Scope};
use isopod_store::{Store, StoreError, Token};
use jiff::Timestamp;

use super::{
    auth::{Tokens, hash, new_token},
    limits,
};

/// The reserved name of the administrator's token.
pub(super) const NAME: &str = "admin";
const FILE: &str = "admin.token";
/// A shorter file was truncated, or isn't a token of this host.
const BYTES_MIN: usize = 32;

/// Why the administrator's token can't be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("failed to read or create the token file {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("the token file {path} contains no token; remove it, and the next start creates a new token")]
    Empty { path: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the existing tokens, and creates the administrator's token if it is missing.
pub(crate) async fn load(store: &Store) -> Result<Tokens, TokenError> {
    let token = read_or_create(&store.folder().join(FILE))?;
    let hash = hash(&token);
    let mut rows = store.tokens().await?;
    if !rows.iter().any(|row| row.hash == hash) {
        // The file or the database was replaced. The file has precedence, since its owner can read
        // it.
        if rows.iter().any(|row| row.name == NAME) {
            store.delete_token(NAME).await?;
        }
        let (role, scope) = (Role::Admin, Scope::All);
        let row = Token { name: NAME.to_owned(), hash, role, scope, app_ids: Vec::new(), created_at: Timestamp::now() };
        rows = store.insert_token(row).await?;
    }
    Ok(Tokens::new(rows))
}

fn read_or_create(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::File { path: path.display().to_string(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let token = new_token();
            let written = writeln!(file, "{token}").and_then(|()| file.sync_all());
            if let Err(source) = written {
                // The next start would accept a truncated token.
                drop(std::fs::remove_file(path));
                return Err(failed(source));
            }
            Ok(token)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(limits::TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
            let token = text.trim();
            if token.len() < BYTES_MIN {
                return Err(TokenError::Empty { path: path.display().to_string() });
            }
            Ok(token.to_owned())
        }
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_token_is_created_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("creates a folder");
        let path = dir.path().join(FILE);
        let created = read_or_create(&path).expect("creates a token");
        assert_eq!(read_or_create(&path).expect("reads it"), created);
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let dir = tempfile::tempdir().expect("creates a folder");
        std::fs::write(dir.path().join(FILE), "\n").expect("writes");
        assert!(matches!(read_or_create(&dir.path().join(FILE)), Err(TokenError::Empty { .. })));
    }
}
