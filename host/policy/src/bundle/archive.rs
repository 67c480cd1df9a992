//! Unpacks a gzipped tar archive into memory. Owns the defence against hostile archives. Never
//! writes a file and never interprets the archive's files.

use std::collections::BTreeMap;
use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use tar::EntryType;

use super::form::{Form, TAR_BLOCK_BYTES};
use super::{ASSETS_FOLDER, BundleError, damaged};
use crate::limits::{
    ASSET_ENTRIES_MAX, BUNDLE_ENTRIES_MAX, BUNDLE_GZIP_MEMBERS_MAX, BUNDLE_PATH_BYTES_MAX, TEXT_NAME_BYTES_SHOWN,
    UNPACKED_BYTES_MAX,
};
use crate::text::excerpt;

/// The regular files of an archive, by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Unpacks all regular files of the archive. Their total size is limited by `UNPACKED_BYTES_MAX`.
pub(super) fn unpack(bytes: &[u8]) -> Result<Files, BundleError> {
    let mut bounded = Bounded { inner: Members::new(bytes), left: UNPACKED_BYTES_MAX, overrun: false };
    let files = read_archive(&mut bounded);
    // Report an archive bomb as such, not the error that the truncated rest caused.
    if bounded.overrun {
        return Err(BundleError::UnpacksTooLarge { bytes_max: UNPACKED_BYTES_MAX });
    }
    let files = files?;
    // The tar reader stops at the archive's end mark, before the gzip checksum.
    let drained = io::copy(&mut bounded, &mut io::sink());
    if bounded.overrun {
        return Err(BundleError::UnpacksTooLarge { bytes_max: UNPACKED_BYTES_MAX });
    }
    drained.map_err(damaged)?;
    Ok(files)
}

/// Reads the first bytes to recognise the format of the unpacked data.
fn read_archive(unpacked: &mut impl Read) -> Result<Files, BundleError> {
    let mut head = Vec::with_capacity(TAR_BLOCK_BYTES);
    unpacked.take(TAR_BLOCK_BYTES as u64).read_to_end(&mut head).map_err(damaged)?;
    match Form::sniff(&head) {
        None | Some(Form::Tar) => read_entries(head.chain(unpacked)),
        Some(form) => Err(BundleError::NoTarInside { form }),
    }
}

fn read_entries(unpacked: impl Read) -> Result<Files, BundleError> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(unpacked);
    let mut count = Count::default();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        count.add(&entry.path_bytes())?;
        if let Some(path) = sparse_path(&mut entry)? {
            return Err(BundleError::Sparse { path });
        }
        let path = entry_path(&entry.path_bytes())?;
        if is_litter(&path) {
            continue;
        }
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            EntryType::Regular | EntryType::Continuous => {}
            other => return Err(BundleError::NotAFile { path, kind: kind_of(other) }),
        }
        if files.contains_key(&path) {
            return Err(BundleError::Duplicate { path });
        }
        let size = entry.size();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(damaged)?;
        if u64::try_from(content.len()).is_ok_and(|found| found < size) {
            return Err(BundleError::Damaged { detail: format!("{path:?} is shorter than the archive says") });
        }
        files.insert(path, content);
    }
    Ok(files)
}

/// The number of entries so far.
#[derive(Default)]
struct Count {
    assets: usize,
    others: usize,
}

impl Count {
    /// Counts an entry by its path, which is not yet checked. In an archive with a single top
    /// folder, the assets are one level deeper.
    fn add(&mut self, path: &[u8]) -> Result<(), BundleError> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        if parts.by_ref().take(2).any(|part| part == ASSETS_FOLDER.as_bytes()) {
            self.assets += 1;
        } else {
            self.others += 1;
        }
        match (self.assets > ASSET_ENTRIES_MAX, self.others > BUNDLE_ENTRIES_MAX) {
            (_, true) => Err(BundleError::TooManyEntries { max: BUNDLE_ENTRIES_MAX }),
            (true, false) => Err(BundleError::TooManyAssets { max: ASSET_ENTRIES_MAX }),
            (false, false) => Ok(()),
        }
    }
}

/// Returns the path of a sparse file, stored as GNU's own entry type or with PAX attributes.
fn sparse_path(entry: &mut tar::Entry<'_, impl Read>) -> Result<Option<String>, BundleError> {
    let mut is_sparse = entry.header().entry_type() == EntryType::GNUSparse;
    let mut name = None;
    if let Some(attributes) = entry.pax_extensions().map_err(damaged)? {
        for attribute in attributes {
            let attribute = attribute.map_err(damaged)?;
            is_sparse |= attribute.key_bytes().starts_with(b"GNU.sparse.");
            if attribute.key_bytes() == b"GNU.sparse.name" {
                name = Some(attribute.value_bytes().to_vec());
            }
        }
    }
    let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
    Ok(is_sparse.then(|| shown(&name)))
}

/// Returns whether macOS created the file: `._NAME` has the attributes of `NAME`, and Finder writes
/// the others.
fn is_litter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("._") || name == ".DS_Store" || path.split('/').any(|part| part == "__MACOSX")
}

fn shown(path: &[u8]) -> String {
    excerpt(&String::from_utf8_lossy(path), TEXT_NAME_BYTES_SHOWN).into_owned()
}

fn entry_path(bytes: &[u8]) -> Result<String, BundleError> {
    let bad = |why| BundleError::BadPath { path: shown(bytes), why };
    let path = std::str::from_utf8(bytes).map_err(|_| bad("the path is not UTF-8"))?;
    normal_path(path).map_err(bad)
}

/// Normalises a path, without `./`, and refuses one that leads outside the bundle.
pub(super) fn normal_path(path: &str) -> Result<String, &'static str> {
    if path.len() > BUNDLE_PATH_BYTES_MAX {
        return Err("the path is longer than 512 bytes");
    }
    if path.starts_with('/') || path.contains(':') {
        return Err("only relative paths are accepted");
    }
    if path.contains(['\\', '\0']) || path.chars().any(char::is_control) {
        return Err("backslashes and control characters are not accepted");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("the path leads outside the bundle");
    }
    Ok(parts.join("/"))
}

fn kind_of(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        _ => "special file",
    }
}

/// Reads the members of a gzip file one after the other (RFC 1952, section 2.2). The last one may
/// be followed by zero padding; anything else is an error.
struct Members<'b> {
    /// `None` after the last member.
    member: Option<GzDecoder<&'b [u8]>>,
    started: usize,
}

impl<'b> Members<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Self { member: Some(GzDecoder::new(bytes)), started: 1 }
    }

    fn next_member(&mut self, rest: &'b [u8]) -> io::Result<()> {
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if Form::sniff(rest) != Some(Form::Gzip) {
            return Err(io::Error::other(format!("{} bytes that are not gzip follow its end", rest.len())));
        }
        if self.started == BUNDLE_GZIP_MEMBERS_MAX {
            return Err(io::Error::other(format!("it has more than {BUNDLE_GZIP_MEMBERS_MAX} gzip members")));
        }
        self.started += 1;
        self.member = Some(GzDecoder::new(rest));
        Ok(())
    }
}

impl Read for Members<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            let read = member.read(buffer)?;
            if read > 0 {
                self.member = Some(member);
                return Ok(read);
            }
            self.next_member(member.into_inner())?;
        }
        Ok(0)
    }
}

/// A reader that fails once its limit is exceeded, and records that.
struct Bounded<R> {
    inner: R,
    left: usize,
    overrun: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.overrun = true;
                Err(io::Error::other("the unpacked archive exceeds its size limit"))
            }
        }
    }
}
