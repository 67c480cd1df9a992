//! The assets of a release: the files below `static/` of its bundle, packed into one blob. Owns the
//! format of a pack and the lookup of an asset by its path. Never reads or sends a file.
//!
//! ```text
//!  magic │ length of the index, u32 LE │ index, JSON │ contents, in the order of the index
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::ASSET_INDEX_BYTES_MAX;

/// The first bytes of a pack. They identify its format.
const MAGIC: &[u8; 8] = b"isoasst1";
/// The bytes of a pack before its index.
pub const HEAD_BYTES: usize = MAGIC.len() + size_of::<u32>();
/// The bytes of a digest in an ETag: enough that two versions of a file never have the same one.
const ETAG_BYTES: usize = 16;

/// The maximum overhead of the two allocations of an asset.
const ALLOCATIONS_BYTES: usize = 32;

/// The assets of a release, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetIndex {
    /// Sorted by path.
    assets: Box<[Asset]>,
}

/// A static file of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    path: Box<str>,
    etag: Box<str>,
    /// The position of its content in the pack.
    pub offset: u64,
    /// The length of its content.
    pub size: u64,
}

/// An asset in the index of a pack.
#[derive(Serialize, Deserialize)]
struct Listed {
    path: Box<str>,
    etag: Box<str>,
    size: u64,
}

/// A pack that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pack of the release's assets is damaged")]
pub struct DamagedPack;

/// How the content of a precompressed asset is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssetEncoding {
    Brotli,
    Zstd,
    Gzip,
}

impl AssetEncoding {
    /// All encodings, in order of the typical size of their output, smallest first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Returns its name in `content-encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the extension of a file in this encoding: `app.js.br` is the encoded `app.js`.
    fn extension(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

impl fmt::Display for AssetEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Asset {
    /// Returns its path below `static/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the strong validator of its content, without quotes.
    pub fn etag(&self) -> &str {
        &self.etag
    }
}

/// Packs files into one blob. The paths are those below `static/`. Equal files give equal bytes.
#[expect(clippy::expect_used, reason = "an index contains only texts and numbers")]
pub fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let listed: Vec<Listed> = files
        .iter()
        .map(|(path, content)| Listed {
            path: path.as_str().into(),
            etag: etag(content).into(),
            size: content.len() as u64,
        })
        .collect();
    let index = serde_json::to_vec(&listed).expect("an index contains only texts and numbers");
    let length = u32::try_from(index.len()).expect("the number and the paths of assets are limited");
    let bytes = HEAD_BYTES + index.len() + files.values().map(Vec::len).sum::<usize>();
    let mut packed = Vec::with_capacity(bytes);
    packed.extend_from_slice(MAGIC);
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(&index);
    files.values().for_each(|content| packed.extend_from_slice(content));
    packed
}

fn etag(content: &[u8]) -> String {
    Sha256::digest(content)[..ETAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the length of a pack's index, given the bytes before it.
pub fn index_length(head: &[u8; HEAD_BYTES]) -> Result<usize, DamagedPack> {
    let (magic, length) = head.split_at(MAGIC.len());
    let length = length.try_into().map(u32::from_le_bytes).map_err(|_| DamagedPack)?;
    let length = usize::try_from(length).map_err(|_| DamagedPack)?;
    if magic == MAGIC && length <= ASSET_INDEX_BYTES_MAX { Ok(length) } else { Err(DamagedPack) }
}

impl AssetIndex {
    /// Parses the index of a pack.
    pub fn parse(index: &[u8]) -> Result<Self, DamagedPack> {
        let listed: Vec<Listed> = serde_json::from_slice(index).map_err(|_| DamagedPack)?;
        let mut next = (HEAD_BYTES + index.len()) as u64;
        let assets = listed.into_iter().map(|Listed { path, etag, size }| {
            let offset = next;
            next = next.checked_add(size).ok_or(DamagedPack)?;
            Ok(Asset { path, etag, offset, size })
        });
        let assets: Box<[Asset]> = assets.collect::<Result<_, _>>()?;
        if assets.is_sorted_by(|a, b| a.path < b.path) { Ok(Self { assets }) } else { Err(DamagedPack) }
    }

    /// Returns the memory that the index uses, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let texts = self.assets.iter().map(|asset| asset.path.len() + asset.etag.len());
        self.assets.len() * (size_of::<Asset>() + ALLOCATIONS_BYTES) + texts.sum::<usize>()
    }

    /// Returns the asset with exactly this path, such as `css/site.css`. Nothing is resolved: a
    /// path with `..`, a leading slash or another case is that of no asset.
    pub fn get(&self, path: &str) -> Option<&Asset> {
        let found = self.assets.binary_search_by(|asset| asset.path.as_ref().cmp(path));
        found.ok().and_then(|index| self.assets.get(index))
    }

    /// Returns the precompressed forms of an asset: `app.js.br` is one of `app.js`.
    pub fn encoded<'a>(&'a self, asset: &'a Asset) -> impl Iterator<Item = (AssetEncoding, &'a Asset)> {
        AssetEncoding::ALL
            .into_iter()
            .filter_map(|encoding| Some((encoding, self.get(&format!("{}{}", asset.path, encoding.extension()))?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
    }

    fn read(pack: &[u8]) -> Result<AssetIndex, DamagedPack> {
        let head = pack.first_chunk().ok_or(DamagedPack)?;
        let length = index_length(head)?;
        AssetIndex::parse(pack.get(HEAD_BYTES..HEAD_BYTES + length).ok_or(DamagedPack)?)
    }

    #[test]
    fn each_asset_of_a_pack_is_found_with_its_content() {
        let files = files(&[("index.html", "<p>"), ("css/site.css", "p {}"), ("empty", ""), ("ü/ß", "x")]);
        let packed = pack(&files);
        let index = read(&packed).expect("a whole pack");
        for (path, content) in &files {
            let asset = index.get(path).unwrap_or_else(|| panic!("{path} is missing"));
            let (start, size) = (asset.offset as usize, asset.size as usize);
            assert_eq!((asset.path(), &packed[start..start + size]), (path.as_str(), &content[..]));
        }
    }

    #[test]
    fn only_its_exact_path_finds_an_asset() {
        let index = read(&pack(&files(&[("a/b.txt", "x")]))).expect("a whole pack");
        for path in
            ["", "a", "a/", "/a/b.txt", "a//b.txt", "./a/b.txt", "a/../a/b.txt", "A/b.txt", "a/b.txt\0", "b.txt"]
        {
            assert!(index.get(path).is_none(), "{path:?}");
        }
    }

    #[test]
    fn the_etag_changes_with_the_content_only() {
        let etag_of = |path: &str, content: &str| {
            let index = read(&pack(&files(&[(path, content)]))).expect("a whole pack");
            index.get(path).map(|asset| asset.etag().to_owned())
        };
        assert_eq!(etag_of("a", "one"), etag_of("b", "one"));
        assert_ne!(etag_of("a", "one"), etag_of("a", "two"));
        assert_eq!(etag_of("a", "one").map(|etag| etag.len()), Some(2 * ETAG_BYTES));
    }

    #[test]
    fn precompressed_forms_are_found_beside_their_asset() {
        let index = read(&pack(&files(&[("a.js", "1"), ("a.js.br", "2"), ("a.js.gz", "3"), ("b.js.gz", "4")])));
        let index = index.expect("a whole pack");
        let forms = |path| -> Vec<_> {
            let asset = index.get(path).expect("it is packed");
            index.encoded(asset).map(|(encoding, form)| (encoding.as_str(), form.path().to_owned())).collect()
        };
        assert_eq!(forms("a.js"), [("br", "a.js.br".to_owned()), ("gzip", "a.js.gz".to_owned())]);
        assert!(forms("b.js.gz").is_empty());
    }

    #[test]
    fn a_damaged_pack_is_refused() {
        let packed = pack(&files(&[("a", "x")]));
        for (position, byte) in [(0, b'x'), (8, 0xff), (11, 0xff), (12, b'x')] {
            let mut damaged = packed.clone();
            damaged[position] = byte;
            assert_eq!(read(&damaged), Err(DamagedPack), "{position}");
        }
        assert_eq!(read(&packed[..HEAD_BYTES]), Err(DamagedPack));
        let listed = r#"[{"path":"b","etag":"","size":1},{"path":"a","etag":"","size":1}]"#;
        assert_eq!(AssetIndex::parse(listed.as_bytes()), Err(DamagedPack), "the lookup needs sorted paths");
        let listed = format!(r#"[{{"path":"a","etag":"","size":{}}}]"#, u64::MAX);
        assert_eq!(AssetIndex::parse(listed.as_bytes()), Err(DamagedPack), "the sizes overflow");
    }
}
