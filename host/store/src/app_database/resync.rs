//! Repairs the journal of a database after a failed sync. The system then discards the writes
//! before it: a later sync succeeds, and a power failure still loses them. Frames of commits that
//! were not synced would be missing before those of synced commits. Never changes the content of a
//! file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::journal::journal_of;
use crate::StoreError;

/// Bytes that are written at once.
const PART: usize = 256 << 10;

/// Writes the journal of a database again, with the same content, and syncs it. No call may write
/// the database meanwhile. A missing journal is not an error.
pub(super) fn rewrite_journal(database: &Path) -> Result<(), StoreError> {
    let path = journal_of(database);
    match File::options().read(true).write(true).open(&path).and_then(|file| rewrite(&file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        rewritten => rewritten.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem => StoreError::file(&path, &error),
            _ => StoreError::DiskFailed { detail: format!("{}: {error}", path.display()) },
        }),
    }
}

fn rewrite(file: &File) -> io::Result<()> {
    let (mut part, mut at) = (vec![0; PART], 0);
    loop {
        let read = file.read_at(&mut part, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&part[..read], at)?;
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_keeps_its_content() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let database = folder.path().join("kv.db");
        assert_eq!(rewrite_journal(&database), Ok(()), "there is no journal");
        let content: Vec<u8> = (0..2 * PART + 7).map(|at| (at % 251) as u8).collect();
        std::fs::write(journal_of(&database), &content).expect("it is written");
        assert_eq!(rewrite_journal(&database), Ok(()));
        assert!(std::fs::read(journal_of(&database)).expect("it is read") == content);
    }
}
