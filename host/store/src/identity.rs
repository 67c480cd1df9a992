//! The id of a data folder, stored in `control.db` and in the file `data.id` beside it. Owns the
//! check that the two match. Never changes either before that check.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::Generate;

use crate::StoreError;
use crate::app_folders::Survey;
use crate::files::write_whole;
use crate::limits::NAMES_SHOWN;

/// The number of hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// The identity of a data folder, read before anything in the folder is changed.
pub(crate) struct Evidence<'a> {
    pub(crate) folder: &'a Path,
    /// The id in the database; `None` in a new database, and in a database of a version without
    /// ids.
    pub(crate) in_database: Option<&'a str>,
    /// The id in the file.
    pub(crate) in_file: Option<&'a str>,
    /// The number of apps in the database.
    pub(crate) listed: usize,
    pub(crate) survey: &'a Survey,
}

impl Evidence<'_> {
    /// Refuses a database that doesn't match the folder.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let folder = || self.folder.to_owned();
        let (unknown, missing) = (self.survey.unknown(), self.survey.missing());
        if self.listed == 0 && !unknown.is_empty() {
            return Err(StoreError::AppsWithoutDatabase { folder: folder(), apps: shortened(unknown) });
        }
        match (self.in_database, self.in_file) {
            (None, Some(_)) if self.listed == 0 => {}
            (database, Some(file)) if database != Some(file) => {
                return Err(StoreError::OtherDatabase { folder: folder() });
            }
            (_, _) => {}
        }
        // Versions without ids created an app's folder only when the app first stored something.
        if self.in_database.is_some() && self.listed > 0 && missing.len() == self.listed {
            return Err(StoreError::DatabaseWithoutApps { folder: folder(), apps: shortened(missing) });
        }
        Ok(())
    }
}

/// Lists the first names, for an error.
fn shortened(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns a new id: 128 random bits.
#[expect(clippy::expect_used, reason = "the system gives random numbers")]
pub(crate) fn new_id() -> String {
    let bytes = <[u8; ID_DIGITS / 2]>::try_generate().expect("the system provides random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates the id of a host session.
#[expect(clippy::expect_used, reason = "the system provides random numbers")]
pub(crate) fn new_session() -> i64 {
    i64::from_ne_bytes(<[u8; 8]>::try_generate().expect("the system provides random numbers"))
}

/// Returns the id in the data folder's file, if the file exists.
pub(crate) fn read(folder: &Path) -> Result<Option<String>, StoreError> {
    let path = path(folder);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::file(&path, &error)),
    };
    let id = text.trim();
    if id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(id.to_owned()));
    }
    Err(StoreError::BadFolderId { path })
}

pub(crate) fn write(folder: &Path, id: &str) -> Result<(), StoreError> {
    let path = path(folder);
    write_whole(&path, &path.with_extension("unfinished"), format!("{id}\n").as_bytes())
}

fn path(folder: &Path) -> PathBuf {
    folder.join("data.id")
}
