//! Owns the administrator's token: the file that holds it for the CLI of the same machine, made on the first start.
//! Never prints it.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use isopod_policy::{Role, Scope};
use isopod_store::{Control, Store, StoreError, Token};
use jiff::Timestamp;

use super::auth::{Tokens, hash, new_token};

/// The name of the administrator's token, which can't be taken by another.
pub(super) const NAME: &str = "admin";
const FILE: &str = "admin.token";
/// A file that holds less was cut off or is no token of ours.
const BYTES_MIN: usize = 32;
const BYTES_MAX: u64 = 4096;

/// Why there is no administrator's token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token file {path} can't be used: {source}")]
    File { path: String, source: std::io::Error },
    #[error("the token file {path} holds no token; remove it, and a new one is made at the next start")]
    Empty { path: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the tokens that exist, making the administrator's if need be.
pub(crate) async fn load(store: &Store) -> Result<Tokens, TokenError> {
    let token = read_or_make(&store.folder().join(FILE))?;
    let hash = hash(&token);
    let rows = store.tokens().await?;
    if !rows.iter().any(|row| row.hash == hash) {
        // The file was removed and made anew, or the database was: the file is what its owner can see, so it counts.
        if rows.iter().any(|row| row.name == NAME) {
            store.delete_token(NAME).await?;
        }
        let (role, scope) = (Role::Admin, Scope::All);
        let row = Token { name: NAME.to_owned(), hash, role, scope, app_ids: Vec::new(), created_at: Timestamp::now() };
        store.insert_token(row).await?;
    }
    Ok(Tokens::new(store.tokens().await?))
}

fn read_or_make(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::File { path: path.display().to_string(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let token = new_token();
            let written = writeln!(file, "{token}").and_then(|()| file.sync_all());
            if let Err(source) = written {
                // Half a token would be read as one at the next start.
                drop(std::fs::remove_file(path));
                return Err(failed(source));
            }
            Ok(token)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
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
    fn the_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let path = dir.path().join(FILE);
        let made = read_or_make(&path).expect("makes a token");
        assert_eq!(read_or_make(&path).expect("reads it"), made);
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let dir = tempfile::tempdir().expect("makes a folder");
        std::fs::write(dir.path().join(FILE), "\n").expect("writes");
        assert!(matches!(read_or_make(&dir.path().join(FILE)), Err(TokenError::Empty { .. })));
    }
}
