//! Applies a power failure: undoes the writes that no sync has made durable. Owns the choice of the
//! unsynced writes that survive. Never runs while a process writes the files.
//!
//! Each page of a file is treated independently, since a kernel may write pages back at any time:
//! the page gets its content after some number of the writes since the last sync. The same applies
//! to the length.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::UNIX_EPOCH,
};

use crate::{FileKey, Record, next_random};

const PAGE: u64 = 4_096;

/// Which of the unsynced writes are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    All,
    /// A random part of them, which this seed determines.
    Some {
        seed: u64,
    },
}

/// The changes by a power failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    pub pages: u64,
    pub files: u64,
}

/// A part of a page before a change.
#[derive(Debug)]
struct Part {
    seq: u64,
    offset: u64,
    old: Vec<u8>,
    /// Whether a sync failed afterwards.
    is_discarded: bool,
}

/// The unsynced changes of a file.
#[derive(Debug, Default)]
struct Unsynced {
    pages: BTreeMap<u64, Vec<Part>>,
    /// The length before each change, with the number of the change.
    lengths: Vec<(u64, u64)>,
}

impl Unsynced {
    fn add(&mut self, seq: u64, offset: u64, extent: u64, length: u64, old: &[u8]) {
        self.lengths.push((seq, length));
        let (mut at, end) = (offset, offset + extent);
        while at < end {
            let next = ((at / PAGE + 1) * PAGE).min(end);
            let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX).min(old.len());
            let mut content = old[index(at)..index(next)].to_vec();
            // The file ended before this part, which reads as zeros if the file is longer
            // afterwards.
            content.resize(usize::try_from(next - at).unwrap_or(0), 0);
            let part = Part { seq, offset: at, old: content, is_discarded: false };
            self.pages.entry(at / PAGE).or_default().push(part);
            at = next;
        }
    }

    fn sync(&mut self, before: u64) {
        for parts in self.pages.values_mut() {
            // The page was written back as a whole, with all of its earlier changes.
            if let Some(last) = parts.iter().rposition(|part| part.seq < before && !part.is_discarded) {
                parts.drain(..=last);
            }
        }
        self.pages.retain(|_, parts| !parts.is_empty());
        self.lengths.retain(|(seq, _)| *seq >= before);
    }

    fn fail_sync(&mut self, before: u64) {
        let parts = self.pages.values_mut().flatten();
        parts.filter(|part| part.seq < before).for_each(|part| part.is_discarded = true);
    }

    /// Undoes changes, and returns the number of changed pages. `kept` receives a number of changes
    /// and returns how many of them survive.
    fn undo(self, file: &File, mut kept: impl FnMut(usize) -> usize) -> io::Result<u64> {
        let mut pages = 0;
        let length = self.lengths.get(kept(self.lengths.len())).map(|(_, length)| *length);
        let length = length.map_or_else(|| file.metadata().map(|found| found.len()), Ok)?;
        for parts in self.pages.into_values() {
            let kept = kept(parts.len());
            pages += u64::from(kept < parts.len());
            for part in parts[kept..].iter().rev() {
                file.write_all_at(&part.old, part.offset)?;
            }
        }
        file.set_len(length)?;
        Ok(pages)
    }
}

/// Completes a journal after its process was killed without a power failure: removes an incomplete
/// record. A later power failure can still lose the unsynced writes.
pub fn keep_unsynced(journal: &Path) -> io::Result<()> {
    let bytes = fs::read(journal)?;
    let mut rest = &*bytes;
    while let Some((_, after)) = Record::decode(rest) {
        rest = after;
    }
    OpenOptions::new().write(true).open(journal)?.set_len((bytes.len() - rest.len()) as u64)
}

/// Undoes unsynced writes to the files in a folder, as a power failure does. The process that wrote
/// the journal must have ended. Files in the folders with the `spared` names keep their content.
/// Empties the journal.
pub fn lose_unsynced(journal: &Path, folder: &Path, loss: Loss, spared: &[&str]) -> io::Result<Lost> {
    let bytes = fs::read(journal)?;
    let mut files: BTreeMap<FileKey, Unsynced> = BTreeMap::new();
    let mut rest = &*bytes;
    while let Some((record, after)) = Record::decode(rest) {
        rest = after;
        match record {
            Record::Change { file, seq, offset, extent, length, old } => {
                files.entry(file).or_default().add(seq, offset, extent, length, &old);
            }
            Record::Synced { file, seq } => files.entry(file).or_default().sync(seq),
            Record::SyncFailed { file, seq } => files.entry(file).or_default().fail_sync(seq),
        }
    }
    let mut random = match loss {
        Loss::All => 0,
        Loss::Some { seed } => seed,
    };
    let mut kept = |changes: usize| match loss {
        Loss::All => 0,
        Loss::Some { .. } => usize::try_from(next_random(&mut random) % (changes as u64 + 1)).unwrap_or(0),
    };
    let mut lost = Lost::default();
    undo_in(folder, spared, &mut files, &mut |file, unsynced| {
        let pages = unsynced.undo(file, &mut kept)?;
        lost.pages += pages;
        lost.files += u64::from(pages > 0);
        Ok(())
    })?;
    File::create(journal)?;
    Ok(lost)
}

/// Finds the files below a folder that have unsynced changes. Sorts them by name, so that a seed
/// has the same effect each time.
fn undo_in(
    folder: &Path,
    spared: &[&str],
    files: &mut BTreeMap<FileKey, Unsynced>,
    undo: &mut impl FnMut(&File, Unsynced) -> io::Result<()>,
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() && !spared.iter().any(|name| *name == entry.file_name()) {
            undo_in(&entry.path(), spared, files, undo)?;
        } else if kind.is_file()
            && let Some(unsynced) = files.remove(&FileKey::of(&entry.metadata()?))
        {
            undo(&OpenOptions::new().write(true).open(entry.path())?, unsynced)?;
        }
    }
    Ok(())
}

impl FileKey {
    /// Returns the key of a file. The time of creation is 0 on file systems without it.
    pub fn of(file: &fs::Metadata) -> Self {
        let created = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let created_ns = created.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Self { inode: file.ino(), created_ns }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// A file that is changed as the preloaded library changes it.
    struct Simulated {
        folder: tempfile::TempDir,
        file: File,
        journal: File,
        seq: u64,
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write { offset: u64, length: usize, byte: u8 },
        Truncate(u64),
        Sync,
    }

    impl Simulated {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder is created");
            fs::create_dir(folder.path().join("data")).expect("a folder is created");
            let open = |name: &str| {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false).open(folder.path().join(name))
            };
            let file = open("data/file").expect("a file is created");
            let journal = open("journal").expect("a file is created");
            Self { folder, file, journal, seq: 0 }
        }

        fn content(&self) -> Vec<u8> {
            fs::read(self.folder.path().join("data/file")).expect("it is read")
        }

        fn key(&self) -> FileKey {
            FileKey::of(&self.file.metadata().expect("it exists"))
        }

        fn note(&mut self, record: &Record) {
            self.journal.write_all(&record.encode()).expect("it is written");
        }

        fn record(&mut self, offset: u64, extent: u64) {
            let content = self.content();
            let within = |at: u64| usize::try_from(at).expect("a small file").min(content.len());
            let old = content[within(offset)..within(offset + extent)].to_vec();
            let (file, seq, length) = (self.key(), self.seq, content.len() as u64);
            self.note(&Record::Change { file, seq, offset, extent, length, old });
            self.seq += 1;
        }

        fn run(&mut self, step: &Step) {
            match *step {
                Step::Write { offset, length, byte } => {
                    self.record(offset, length as u64);
                    self.file.write_all_at(&vec![byte; length], offset).expect("it is written");
                }
                Step::Truncate(to) => {
                    let length = self.content().len() as u64;
                    self.record(to, length.saturating_sub(to));
                    self.file.set_len(to).expect("it is truncated");
                }
                Step::Sync => {
                    let (file, seq) = (self.key(), self.seq);
                    self.note(&Record::Synced { file, seq });
                }
            }
        }

        fn lose(&self, loss: Loss) -> Lost {
            let (journal, data) = (self.folder.path().join("journal"), self.folder.path().join("data"));
            lose_unsynced(&journal, &data, loss, &[]).expect("the writes are taken back")
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u64..20_000, 1_usize..9_000, 1_u8..).prop_map(|(offset, length, byte)| Step::Write {
                offset,
                length,
                byte
            }),
            1 => (0_u64..20_000).prop_map(Step::Truncate),
            1 => Just(Step::Sync),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_power_failure_restores_the_content_of_the_last_sync(steps in prop::collection::vec(step(), 1..20)) {
            let mut file = Simulated::new();
            let mut synced = Vec::new();
            for step in &steps {
                file.run(step);
                if matches!(step, Step::Sync) {
                    synced = file.content();
                }
            }
            file.lose(Loss::All);
            prop_assert!(file.content() == synced);
            prop_assert_eq!(file.lose(Loss::All), Lost::default());
        }

        #[test]
        fn each_page_has_its_content_after_one_of_the_writes(
            steps in prop::collection::vec(step(), 1..20), seed: u64
        ) {
            let mut file = Simulated::new();
            let mut contents = vec![Vec::new()];
            for step in &steps {
                file.run(step);
                if matches!(step, Step::Sync) {
                    contents.clear();
                }
                contents.push(file.content());
            }
            file.lose(Loss::Some { seed });
            let found = file.content();
            prop_assert!(contents.iter().any(|content| content.len() == found.len()));
            for start in (0..found.len()).step_by(4_096) {
                let end = (start + 4_096).min(found.len());
                let page = |content: &[u8]| {
                    let part = content.get(start..end.min(content.len())).unwrap_or_default();
                    [part, &vec![0; end - start - part.len()]].concat()
                };
                // Another length than that of the page's content cuts the page, or adds zeros.
                let is_cut = |content: &[u8]| {
                    page(content).iter().zip(&found[start..end]).all(|(old, new)| old == new || *new == 0)
                };
                prop_assert!(contents.iter().any(|content| is_cut(content)));
            }
        }
    }

    #[test]
    fn writes_before_a_failed_sync_are_lost_unless_they_are_repeated() {
        let mut file = Simulated::new();
        let write = |offset, byte| Step::Write { offset, length: 4_096, byte };
        file.run(&write(0, 1));
        file.run(&write(4_096, 1));
        file.run(&Step::Sync);
        file.run(&write(0, 2));
        file.run(&write(4_096, 2));
        let (key, seq) = (file.key(), file.seq);
        file.note(&Record::SyncFailed { file: key, seq });
        file.run(&write(0, 3));
        file.run(&Step::Sync);
        assert_eq!(file.lose(Loss::All), Lost { pages: 1, files: 1 });
        assert_eq!(file.content(), [vec![3; 4_096], vec![1; 4_096]].concat());
    }

    #[test]
    fn another_file_with_the_number_of_a_removed_file_is_not_changed() {
        let mut file = Simulated::new();
        file.run(&Step::Write { offset: 0, length: 10, byte: 1 });
        let key = FileKey { created_ns: 1, ..file.key() };
        file.note(&Record::Change { file: key, seq: 1, offset: 0, extent: 5, length: 5, old: vec![9; 5] });
        file.run(&Step::Sync);
        assert_eq!(file.lose(Loss::All), Lost::default());
        assert_eq!(file.content(), [1; 10]);
    }
}
