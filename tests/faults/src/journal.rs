//! The format of the journal: a sequence of undo records and sync markers. Never reads or writes a
//! file.

/// Identifies a file independently of its name: the inode, and the time of creation, since the file
/// system reuses the inodes of removed files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    pub inode: u64,
    pub created_ns: u64,
}

/// A record of the journal. `seq` numbers changes in their order, in all processes that write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A write or truncation is about to change `extent` bytes at `offset`.
    Change {
        file: FileKey,
        seq: u64,
        offset: u64,
        extent: u64,
        /// The length of the file before the change.
        length: u64,
        /// The content before the change; shorter than `extent` if the file ended within it.
        old: Vec<u8>,
    },
    /// The changes before `seq` are durable.
    Synced { file: FileKey, seq: u64 },
    /// A sync failed: later syncs don't make the changes before `seq` durable.
    SyncFailed { file: FileKey, seq: u64 },
}

/// The fixed part of a record: a kind and seven numbers, the last the number of bytes that follow.
const HEADER: usize = 1 + 7 * 8;

impl Record {
    /// Returns the bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, file, numbers, old): (u8, _, _, &[u8]) = match self {
            Self::Change { file, seq, offset, extent, length, old } => {
                (1, file, [*seq, *offset, *extent, *length], old)
            }
            Self::Synced { file, seq } => (2, file, [*seq, 0, 0, 0], &[]),
            Self::SyncFailed { file, seq } => (3, file, [*seq, 0, 0, 0], &[]),
        };
        let mut bytes = Vec::with_capacity(HEADER + old.len());
        bytes.push(kind);
        for number in [file.inode, file.created_ns].into_iter().chain(numbers).chain([old.len() as u64]) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(old);
        bytes
    }

    /// Returns the first record, and the rest. `None` if the rest is empty or incomplete: a killed
    /// process may leave a part of a record, whose change was not made.
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (kind, numbers) = header.split_first()?;
        let mut numbers = numbers.chunks_exact(8).filter_map(|part| part.try_into().ok().map(u64::from_le_bytes));
        let mut number = || numbers.next();
        let file = FileKey { inode: number()?, created_ns: number()? };
        let (seq, offset, extent, length) = (number()?, number()?, number()?, number()?);
        let (old, rest) = rest.split_at_checked(usize::try_from(number()?).ok()?)?;
        let record = match kind {
            1 => Self::Change { file, seq, offset, extent, length, old: old.to_vec() },
            2 => Self::Synced { file, seq },
            3 => Self::SyncFailed { file, seq },
            _ => return None,
        };
        Some((record, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_back_until_the_first_incomplete_record() {
        let file = FileKey { inode: 7, created_ns: 9 };
        let old = b"before".to_vec();
        let records = [
            Record::Change { file, seq: 1, offset: 4_096, extent: 8, length: 4_102, old },
            Record::Synced { file, seq: 2 },
            Record::SyncFailed { file, seq: 3 },
        ];
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        let read = |bytes: &[u8]| {
            let (mut rest, mut found) = (bytes.to_vec(), Vec::new());
            while let Some((record, after)) = Record::decode(&rest) {
                found.push(record);
                rest = after.to_vec();
            }
            found
        };
        assert_eq!(read(&bytes), records);
        for cut in 0..bytes.len() {
            assert!(records.starts_with(&read(&bytes[..cut])));
        }
    }
}
