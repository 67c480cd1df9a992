//! Reads and packs bundles, the uploads of a push: a bare component, or a gzipped tar of
//! `isopod.toml`, the component and the files below `static/`. Owns the formats and errors of
//! bundles. Never writes a file and never parses the component.

mod archive;
mod contents;
mod form;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use flate2::write::GzEncoder;

use self::contents::Contents;
pub use self::contents::is_misnamed_manifest;
pub use self::form::Form;

use crate::limits::{BUNDLE_BYTES_MAX, TEXT_NAME_BYTES_SHOWN};
use crate::manifest::{self, Manifest, ManifestError};
use crate::text::{excerpt, list};

/// The name of the manifest inside a bundle.
pub const MANIFEST_FILE: &str = "isopod.toml";
/// The name that a component has inside a bundle if the manifest names none.
pub const COMPONENT_FILE: &str = "component.wasm";
/// The folder of a bundle whose files are the release's assets.
pub const ASSETS_FOLDER: &str = "static";

/// The format of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleKind {
    /// A bare WebAssembly component.
    Component,
    /// A gzipped tar archive.
    TarGz,
}

impl BundleKind {
    /// Recognises the format by the first bytes.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match Form::sniff(bytes)? {
            Form::Component | Form::CoreModule => Some(Self::Component),
            Form::Gzip => Some(Self::TarGz),
            _ => None,
        }
    }

    /// Refuses bytes of a recognisably different format.
    pub fn check(self, bytes: &[u8]) -> Result<(), BundleError> {
        match (self, Self::sniff(bytes), Form::sniff(bytes)) {
            _ if bytes.is_empty() => Err(BundleError::Empty),
            (declared, Some(found), _) if declared != found => Err(BundleError::OtherForm { declared, found }),
            (_, Some(_), _) => Ok(()),
            // The component's own check reports its format.
            (Self::Component, None, _) => Ok(()),
            (Self::TarGz, None, Some(form)) => Err(BundleError::NotGzip { form }),
            (Self::TarGz, None, None) => Err(BundleError::UnknownForm),
        }
    }

    /// Returns the content type of this format.
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

/// The contents of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The manifest, if the bundle has one.
    pub manifest: Option<Manifest>,
    /// The manifest's text as written, including comments.
    pub manifest_text: Option<String>,
    /// The component, not yet verified.
    pub component: Vec<u8>,
    /// The files below `static/`, by their paths there.
    pub assets: BTreeMap<String, Vec<u8>>,
}

/// Why a bundle can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The upload is empty.
    #[error("the bundle is empty; upload a component (.wasm) or an archive (.tar.gz) made by `isopod build`")]
    Empty,
    /// The upload exceeds the size limit.
    #[error("the bundle has {bytes} bytes; the maximum is {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// The archive unpacks to more than a bundle can have: an archive bomb, or a forgotten build
    /// folder.
    #[error(
        "the archive unpacks to more than {bytes_max} bytes; put only isopod.toml, the component and static/ into it"
    )]
    UnpacksTooLarge { bytes_max: usize },
    /// The assets exceed their size limit.
    #[error("the files below static/ have more than {bytes_max} bytes; keep large files in an object store")]
    AssetsTooLarge { bytes_max: usize },
    /// More assets than a release can have.
    #[error("static/ has more than {max} files and folders")]
    TooManyAssets { max: usize },
    /// Longer paths of assets than a release can have.
    #[error("the paths of the files below static/ have more than {bytes_max} bytes; shorten them")]
    AssetPathsTooLong { bytes_max: usize },
    /// The format of the bytes is unknown.
    #[error("the bundle is neither a WebAssembly binary nor a gzipped tar archive; make one with `isopod build`")]
    UnknownForm,
    /// The bytes have a known format that is not a bundle.
    #[error("the bundle is not a gzipped tar archive: it is {form}. {}", form.advice())]
    NotGzip { form: Form },
    /// The gzip data is not a tar archive.
    #[error(
        "the bundle is gzipped, but contains {form} instead of a tar archive. Unpack it with gunzip first. {}",
        form.advice()
    )]
    NoTarInside { form: Form },
    /// The upload was declared as WebAssembly, but has another format.
    #[error("the bundle was sent as WebAssembly but is {}; is it the right file?", named(*found))]
    NotWasm { found: Option<Form> },
    /// The content type and the first bytes indicate different formats.
    #[error(
        "the content type declares {declared}, but the bundle starts like {found}; send it with content-type: {}",
        found.content_type()
    )]
    OtherForm { declared: BundleKind, found: BundleKind },
    /// The archive ends too early or is damaged.
    #[error("the archive is damaged or truncated: {detail}; build and upload it again")]
    Damaged { detail: String },
    /// More files and folders than a bundle needs.
    #[error("the archive has more than {max} entries; put only isopod.toml, the component and static/ into it")]
    TooManyEntries { max: usize },
    /// A path that is invalid or leads outside the bundle.
    #[error("the archive contains the path {path:?}: {why}")]
    BadPath { path: String, why: &'static str },
    /// A link, a device or another entry that is neither a file nor a folder.
    #[error("the archive contains {path:?}, which is a {kind}; only plain files and folders are accepted")]
    NotAFile { path: String, kind: &'static str },
    /// The same path twice, which makes the bundle ambiguous.
    #[error("the archive contains {:?} twice; remove one", excerpt(path, TEXT_NAME_BYTES_SHOWN))]
    Duplicate { path: String },
    /// A sparse file, which only the tool that wrote it can restore.
    #[error(
        "the archive contains {path:?} as a sparse file, which is not supported. Pack it without holes: \
         `tar --no-read-sparse -czf bundle.tar.gz …` on macOS, GNU tar without --sparse, or `isopod build`"
    )]
    Sparse { path: String },
    /// A file that looks like the manifest, but has another name.
    #[error(
        "the archive contains {:?}, which is not read as the manifest. Name it isopod.toml, or leave it out",
        excerpt(path, TEXT_NAME_BYTES_SHOWN)
    )]
    MisnamedManifest { path: String },
    /// Manifests only in folders that don't contain the whole bundle.
    #[error(
        "the archive contains {}{}. The manifest is read as isopod.toml at the top, or in a single top folder that \
         contains everything: tar czf bundle.tar.gz -C FOLDER .",
        manifests(paths),
        beside(at_top)
    )]
    MisplacedManifest { paths: Vec<String>, at_top: Vec<String> },
    /// The manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The archive contains no component.
    #[error("the archive contains no component: {why}")]
    NoComponent { why: String },
    /// The archive contains several `.wasm` files, and the manifest names none of them.
    #[error("the archive contains {count} .wasm files ({names}); name one as `component` in isopod.toml")]
    SeveralComponents { count: usize, names: String },
    /// The component exceeds the size limit.
    #[error("the component has {bytes} bytes; the maximum is {bytes_max}")]
    ComponentTooLarge { bytes: usize, bytes_max: usize },
}

fn named(form: Option<Form>) -> String {
    form.map_or_else(|| "of an unknown format: it doesn't start with \\0asm".to_owned(), |form| form.to_string())
}

fn manifests(paths: &[String]) -> String {
    let listed = listed(paths);
    if paths.len() == 1 { format!("its manifest as {listed}") } else { format!("{} manifests: {listed}", paths.len()) }
}

/// Names the entries at the top of an archive if there are several.
fn beside(at_top: &[String]) -> String {
    if at_top.len() == 1 { String::new() } else { format!(", and at its top {}", listed(at_top)) }
}

fn listed(paths: &[String]) -> String {
    let quoted: Vec<String> = paths.iter().map(|path| format!("{:?}", excerpt(path, TEXT_NAME_BYTES_SHOWN))).collect();
    list(quoted.iter().map(String::as_str), usize::MAX)
}

fn damaged(error: io::Error) -> BundleError {
    BundleError::Damaged { detail: excerpt(&error.to_string(), TEXT_NAME_BYTES_SHOWN).into_owned() }
}

/// Reads a bundle from memory.
pub fn read(kind: BundleKind, bytes: &[u8]) -> Result<Bundle, BundleError> {
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
        return Err(BundleError::NotWasm { found: Form::sniff(bytes) });
    }
    Ok(Bundle { manifest: None, manifest_text: None, component: bytes.to_vec(), assets: BTreeMap::new() })
}

fn read_archive(bytes: &[u8]) -> Result<Bundle, BundleError> {
    let mut contents = Contents::of(archive::unpack(bytes)?);
    let assets = contents.take_assets()?;
    let Some(manifest_bytes) = contents.take_manifest()? else {
        return Ok(Bundle { manifest: None, manifest_text: None, component: contents.take_component(None)?, assets });
    };
    let text = manifest::decode(&manifest_bytes)?.to_owned();
    let manifest = Manifest::parse(&text)?;
    let component = contents.take_component(manifest.component.as_deref())?;
    Ok(Bundle { manifest: Some(manifest), manifest_text: Some(text), component, assets })
}

/// Packs a manifest and a component into an archive that [`read`] accepts. No time or owner is
/// recorded, so equal content gives equal bytes.
#[expect(clippy::expect_used, reason = "writing to memory can't fail")]
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
    append(MANIFEST_FILE, manifest_text.as_bytes()).expect("writing to memory can't fail");
    append(COMPONENT_FILE, component).expect("writing to memory can't fail");
    let mut gzip = archive.into_inner().expect("writing to memory can't fail");
    gzip.flush().expect("writing to memory can't fail");
    gzip.finish().expect("writing to memory can't fail")
}
