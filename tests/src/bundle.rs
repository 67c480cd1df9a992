//! Owns making what is uploaded: a bare component, or a `.tar.gz` of a manifest and a component.

use crate::guest;
use flate2::{Compression, write::GzEncoder};

/// A process type whose health is known soon: no grace, and a short wait for an answer.
pub const QUICK_WEB: &str =
    "[processes.web]\nentry = \"http\"\nhealth = { path = \"/healthz\", grace = \"0ms\", timeout = \"500ms\" }\n";

/// Something to upload, with its content type.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Bundle {
    /// A bare component, or what pretends to be one.
    pub fn component(bytes: impl Into<Vec<u8>>) -> Self {
        Self { content_type: "application/wasm", bytes: bytes.into() }
    }

    /// An archive of a manifest and a component.
    pub fn archive(manifest: &str, component: &[u8]) -> Self {
        Self::archive_of(&[("isopod.toml", manifest.as_bytes()), ("component.wasm", component)])
    }

    /// The example `shapes` with these config vars in its manifest, and a health check without grace.
    pub fn shape(config: &[(&str, &str)]) -> Self {
        let vars: String = config.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
        Self::shapes(&format!("{QUICK_WEB}[config]\n{vars}"))
    }

    /// The example `shapes` with this manifest, the name and grants aside.
    pub fn shapes(manifest: &str) -> Self {
        Self::archive(&format!("name = \"shapes\"\n{manifest}[grants]\nkeyvalue = true\n"), &guest("shapes"))
    }

    /// An archive of any files.
    pub fn archive_of(files: &[(&str, &[u8])]) -> Self {
        // Components hardly shrink, and tests should not wait for it.
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // The name is written as it is: hostile ones are to get through to the host.
            header.as_gnu_mut().expect("it was made so").name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            archive.append(&header, *bytes).expect("memory takes all");
        }
        let bytes = archive.into_inner().and_then(GzEncoder::finish).expect("memory takes all");
        Self { content_type: "application/gzip", bytes }
    }
}
