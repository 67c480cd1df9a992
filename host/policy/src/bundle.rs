//! Reads and packs bundles, which is what is uploaded: a bare component, or a gzipped tar of `isopod.toml` and the
//! component. Owns the defence against hostile archives. Never writes a file and never looks into the component.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use tar::EntryType;

use crate::limits::{
    BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX, BUNDLE_PATH_BYTES_MAX, COMPONENT_BYTES_MAX, MANIFEST_BYTES_MAX,
    UNPACKED_BYTES_MAX,
};
use crate::manifest::{Manifest, ManifestError};

/// The name of the manifest inside a bundle.
pub const MANIFEST_FILE: &str = "isopod.toml";
/// The name that a component has inside a bundle if the manifest names none.
pub const COMPONENT_FILE: &str = "component.wasm";

/// The form of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleKind {
    /// A bare WebAssembly component.
    Component,
    /// A gzipped tar archive.
    TarGz,
}

impl BundleKind {
    /// Tells the form by the first bytes.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0, b'a', b's', b'm', ..] => Some(Self::Component),
            [0x1f, 0x8b, ..] => Some(Self::TarGz),
            _ => None,
        }
    }

    /// Refuses bytes that are plainly of the other form.
    pub fn check(self, bytes: &[u8]) -> Result<(), BundleError> {
        match Self::sniff(bytes) {
            Some(found) if found != self => Err(BundleError::OtherForm { said: self, found }),
            Some(_) | None => Ok(()),
        }
    }

    /// The content type that this form is sent with.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Component => "application/wasm",
            Self::TarGz => "application/gzip",
        }
    }
}

impl fmt::Display for BundleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "a bare component (\\0asm)",
            Self::TarGz => "a gzipped tar archive (1f 8b)",
        })
    }
}

/// What a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The manifest, if the bundle has one.
    pub manifest: Option<Manifest>,
    /// The manifest as it was written, comments and all.
    pub manifest_text: Option<String>,
    /// The component, not yet verified.
    pub component: Vec<u8>,
}

/// Why a bundle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Nothing was uploaded.
    #[error("the bundle is empty; upload a component (.wasm) or an archive (.tar.gz) made by `isopod build`")]
    Empty,
    /// More was uploaded than is read.
    #[error("the bundle has {bytes} bytes, and at most {bytes_max} are accepted")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The archive unpacks to more than a component can have: an archive bomb, or a forgotten build folder.
    #[error("the archive unpacks to more than {bytes_max} bytes; put only isopod.toml and the component into it")]
    UnpacksTooLarge { bytes_max: usize },
    /// The bytes are neither form of a bundle.
    #[error("the bundle is neither a WebAssembly binary nor a gzipped tar archive")]
    UnknownForm,
    /// The bytes are no WebAssembly although they were said to be.
    #[error("the bundle was sent as WebAssembly but does not begin with \\0asm; is it the right file?")]
    NotWasm,
    /// The bytes are of the one form, and were said to be of the other.
    #[error(
        "the content type says that the bundle is {said}, but it begins like {found}; send it with content-type: {}",
        found.content_type()
    )]
    OtherForm { said: BundleKind, found: BundleKind },
    /// The archive ends too early or is damaged.
    #[error("the archive is damaged or was cut off: {detail}; build and upload it again")]
    Damaged { detail: String },
    /// More files and folders than a bundle needs.
    #[error("the archive has more than {max} entries; put only isopod.toml and the component into it")]
    TooManyEntries { max: usize },
    /// A path that leads out of the bundle, or none at all.
    #[error("the archive holds the path {path:?}: {why}")]
    BadPath { path: String, why: &'static str },
    /// A link, a device or another thing that is neither file nor folder.
    #[error("the archive holds {path:?}, which is a {kind}; only plain files and folders are accepted")]
    NotAFile { path: String, kind: &'static str },
    /// The same path twice, so that it is unclear which of the two is meant.
    #[error("the archive holds {path:?} twice; remove one")]
    Duplicate { path: String },
    /// A manifest that is no text.
    #[error("isopod.toml in the archive is not UTF-8 text")]
    ManifestNotText,
    /// A manifest that cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is nothing to run.
    #[error("the archive holds no component: {why}")]
    NoComponent { why: String },
    /// A component that is larger than accepted.
    #[error("the component has {bytes} bytes, and at most {bytes_max} are accepted")]
    ComponentTooLarge { bytes: usize, bytes_max: usize },
}

/// Reads a bundle that is wholly in memory.
pub fn read(kind: BundleKind, bytes: &[u8]) -> Result<Bundle, BundleError> {
    if bytes.is_empty() {
        return Err(BundleError::Empty);
    }
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(BundleError::TooLarge { bytes: bytes.len(), bytes_max: BUNDLE_BYTES_MAX });
    }
    kind.check(bytes)?;
    match kind {
        BundleKind::Component => read_component(bytes),
        BundleKind::TarGz => read_archive(bytes),
    }
}

fn read_component(bytes: &[u8]) -> Result<Bundle, BundleError> {
    if BundleKind::sniff(bytes) != Some(BundleKind::Component) {
        return Err(BundleError::NotWasm);
    }
    Ok(Bundle { manifest: None, manifest_text: None, component: bytes.to_vec() })
}

fn read_archive(bytes: &[u8]) -> Result<Bundle, BundleError> {
    let mut files = unpack(bytes)?;
    let Some(manifest_bytes) = files.remove(MANIFEST_FILE) else {
        let component = take_component(&mut files, None)?;
        return Ok(Bundle { manifest: None, manifest_text: None, component });
    };
    if manifest_bytes.len() > MANIFEST_BYTES_MAX {
        let problem =
            crate::manifest::ManifestProblem::TooLarge { bytes: manifest_bytes.len(), bytes_max: MANIFEST_BYTES_MAX };
        return Err(ManifestError { line: None, column: None, problem }.into());
    }
    let text = String::from_utf8(manifest_bytes).map_err(|_| BundleError::ManifestNotText)?;
    let manifest = Manifest::parse(&text)?;
    let component = take_component(&mut files, manifest.component.as_deref())?;
    Ok(Bundle { manifest: Some(manifest), manifest_text: Some(text), component })
}

/// Finds the component: by the manifest's path, by that path's file name, by the usual name, or as the only `.wasm`.
fn take_component(files: &mut BTreeMap<String, Vec<u8>>, named: Option<&str>) -> Result<Vec<u8>, BundleError> {
    let by_name = named.and_then(|path| {
        let path = normal_path(path).ok()?;
        let file = path.rsplit('/').next().unwrap_or(&path).to_owned();
        [path, file].into_iter().find(|candidate| files.contains_key(candidate))
    });
    let wasm: Vec<&String> = files.keys().filter(|path| path.ends_with(".wasm")).collect();
    let path = match (by_name, wasm.as_slice()) {
        (Some(path), _) => path,
        (None, _) if files.contains_key(COMPONENT_FILE) => COMPONENT_FILE.to_owned(),
        (None, [only]) => (*only).clone(),
        (None, []) => {
            let expected = named.unwrap_or(COMPONENT_FILE);
            let why = format!("neither {expected:?} nor any other .wasm file is in it; did the build run?");
            return Err(BundleError::NoComponent { why });
        }
        (None, several) => {
            let count = several.len();
            let why = format!("it has {count} .wasm files; name one as `component` in isopod.toml");
            return Err(BundleError::NoComponent { why });
        }
    };
    let component = files.remove(&path).unwrap_or_default();
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(BundleError::ComponentTooLarge { bytes: component.len(), bytes_max: COMPONENT_BYTES_MAX });
    }
    if component.is_empty() {
        return Err(BundleError::NoComponent { why: format!("{path:?} is an empty file") });
    }
    Ok(component)
}

/// Unpacks all plain files of the archive into memory; together they never take more than `UNPACKED_BYTES_MAX`.
fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let mut gzip = GzDecoder::new(bytes);
    let mut bounded = Bounded { inner: &mut gzip, left: UNPACKED_BYTES_MAX, overrun: false };
    let files = read_entries(&mut bounded);
    // A bomb is called one, whatever the unpacker made of the missing rest.
    if bounded.overrun {
        return Err(BundleError::UnpacksTooLarge { bytes_max: UNPACKED_BYTES_MAX });
    }
    let files = files?;
    // The checksum stands at the end, after what the archive's own end mark makes one read.
    let drained = io::copy(&mut bounded, &mut io::sink());
    if bounded.overrun {
        return Err(BundleError::UnpacksTooLarge { bytes_max: UNPACKED_BYTES_MAX });
    }
    drained.map_err(damaged)?;
    if gzip.into_inner().iter().any(|byte| *byte != 0) {
        return Err(BundleError::Damaged { detail: "more bytes follow after its end".to_owned() });
    }
    Ok(files)
}

fn damaged(error: io::Error) -> BundleError {
    BundleError::Damaged { detail: error.to_string().chars().take(200).collect() }
}

fn read_entries(unpacked: &mut impl Read) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(unpacked);
    for (index, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if index >= BUNDLE_ENTRIES_MAX {
            return Err(BundleError::TooManyEntries { max: BUNDLE_ENTRIES_MAX });
        }
        let path = entry_path(&entry.path_bytes())?;
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

fn entry_path(bytes: &[u8]) -> Result<String, BundleError> {
    let shown = || String::from_utf8_lossy(bytes).chars().take(80).collect::<String>();
    let path =
        std::str::from_utf8(bytes).map_err(|_| BundleError::BadPath { path: shown(), why: "it is not UTF-8" })?;
    normal_path(path).map_err(|why| BundleError::BadPath { path: shown(), why })
}

/// Brings a path into one form, without `./`, and refuses what leads out of the bundle.
fn normal_path(path: &str) -> Result<String, &'static str> {
    if path.len() > BUNDLE_PATH_BYTES_MAX {
        return Err("it is longer than 512 bytes");
    }
    if path.starts_with('/') || path.contains(':') {
        return Err("only relative paths are accepted");
    }
    if path.contains(['\\', '\0']) || path.chars().any(char::is_control) {
        return Err("backslashes and control characters are not accepted");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("it leads out of the bundle");
    }
    Ok(parts.join("/"))
}

fn kind_of(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "special file",
    }
}

/// A reader that ends with an error once more has been read than allowed, and remembers it.
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
                Err(io::Error::other("the archive unpacks to too much"))
            }
        }
    }
}

/// Packs a manifest and a component into an archive that [`read`] reads. The same content gives the same bytes, since
/// no time and no owner is recorded.
pub fn pack(manifest_text: &str, component: &[u8]) -> Vec<u8> {
    let gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let mut append = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        archive.append_data(&mut header, path, content)
    };
    append(MANIFEST_FILE, manifest_text.as_bytes()).expect("writing into memory cannot fail");
    append(COMPONENT_FILE, component).expect("writing into memory cannot fail");
    let mut gzip = archive.into_inner().expect("writing into memory cannot fail");
    gzip.flush().expect("writing into memory cannot fail");
    gzip.finish().expect("writing into memory cannot fail")
}
