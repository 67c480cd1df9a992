//! Owns the administrator's token: the file that contains it for the CLI of the same machine, which
//! the first start creates and a rotation replaces. Never prints the token.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use isopod_policy::{Role, Scope};
use isopod_store::{Rotation, Store, StoreError, Token};
use jiff::Timestamp;
use tempfile::NamedTempFile;

use super::{
    auth::{Tokens, hash, new_token},
    limits,
};
use crate::control::{DeployError, failpoint::reached};

/// The reserved name of the administrator's token.
pub(super) const NAME: &str = "admin";
const FILE: &str = "admin.token";
/// The beginning of the names of files that a rotation writes beside the token's file.
const PREFIX: &str = ".admin.token-";
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
    remove_interrupted(store.folder());
    let token = read_or_create(&store.folder().join(FILE))?;
    let hash = hash(&token);
    let mut rows = store.tokens().await?;
    if !rows.iter().any(|row| row.hash == hash) {
        // The file or the database was replaced. The file has precedence, since its owner can read
        // it.
        if rows.iter().any(|row| row.name == NAME) {
            store.delete_token(NAME).await?;
        }
        rows = store.insert_token(Token::new(NAME, hash, Role::Admin, Scope::All, Timestamp::now())).await?;
    }
    Ok(Tokens::new(rows))
}

/// Returns whether the file is a symbolic link, for example to a mounted secret. A rotation would
/// replace the link, and leave the former secret in the file that it points to.
pub(super) fn is_link(store: &Store) -> bool {
    store.folder().join(FILE).is_symlink()
}

/// Rotates the administrator's token in the store and in its file, and returns all tokens after the
/// change. The file is replaced atomically: a crash leaves one of the two secrets in it, and the
/// next start accepts that one.
pub(super) async fn rotate(store: &Store, secret: &str, rotation: Rotation) -> Result<Vec<Token>, DeployError> {
    let (folder, text) = (store.folder().to_owned(), format!("{secret}\n"));
    let written = blocking(move || written_beside(&folder, &text)).await?;
    let before = store.tokens().await?.into_iter().find(|token| token.name == NAME);
    let rows = store.rotate_token(NAME, rotation).await?;
    reached("admin-token-rotated").await;
    let path = store.folder().join(FILE);
    let replaced = blocking(move || {
        written.persist(&path).map_err(|e| e.error)?;
        // The file is replaced. Without the sync, a power failure may restore the former file.
        let synced = std::fs::File::open(path.parent().unwrap_or(&path)).and_then(|folder| folder.sync_all());
        if let Err(error) = synced {
            tracing::warn!(%error, "failed to sync the folder of the administrator's token");
        }
        Ok(())
    });
    if let Err(error) = replaced.await {
        // Without this, no secret would be both accepted and readable by the owner.
        if let Some(Err(error)) = futures::future::OptionFuture::from(before.map(|row| store.restore_token(row))).await
        {
            tracing::error!(%error, "failed to restore the administrator's former token; it is accepted until the host \
                             stops");
        }
        return Err(error);
    }
    Ok(rows)
}

/// Writes a file beside the token's file. Only its owner can read it.
fn written_beside(folder: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let permissions = std::fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(PREFIX).permissions(permissions).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Removes the files of rotations that a crash interrupted. Their secrets were never accepted, or
/// no longer are.
fn remove_interrupted(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "failed to remove a file left by a rotation");
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, DeployError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    done.map_err(|source| DeployError::Disk { doing: "the file admin.token can't be replaced", source })
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
    fn files_of_interrupted_rotations_are_removed() {
        let dir = tempfile::tempdir().expect("creates a folder");
        let left = written_beside(dir.path(), "iso_x").expect("it is written").keep().expect("it is kept").1;
        std::fs::write(dir.path().join(FILE), "iso_y").expect("writes");
        remove_interrupted(dir.path());
        assert!(!left.exists() && dir.path().join(FILE).exists());
    }

    #[test]
    fn an_empty_token_file_is_refused() {
        let dir = tempfile::tempdir().expect("creates a folder");
        std::fs::write(dir.path().join(FILE), "\n").expect("writes");
        assert!(matches!(read_or_create(&dir.path().join(FILE)), Err(TokenError::Empty { .. })));
    }
}
