//! Builds the bundles that tests upload: a bare component, or a `.tar.gz` of a manifest and a
//! component.

use crate::guest;
use flate2::{Compression, write::GzEncoder};

/// A process type with a quick health check: no grace period and a short timeout.
pub const QUICK_WEB: &str =
    "[processes.web]\nentry = \"http\"\nhealth = { path = \"/healthz\", grace = \"0ms\", timeout = \"500ms\" }\n";

/// A body to upload, with its content type.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Bundle {
    /// Returns a bare component, or bytes that claim to be a component.
    pub fn component(bytes: impl Into<Vec<u8>>) -> Self {
        Self { content_type: "application/wasm", bytes: bytes.into() }
    }

    /// Returns an archive of a manifest and a component.
    pub fn archive(manifest: &str, component: &[u8]) -> Self {
        Self::archive_of(&[("isopod.toml", manifest.as_bytes()), ("component.wasm", component)])
    }

    /// Returns the example `shapes` with these config vars in its manifest, and a health check
    /// without grace.
    pub fn shape(config: &[(&str, &str)]) -> Self {
        let vars: String = config.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
        Self::shapes(&format!("{QUICK_WEB}[config]\n{vars}"))
    }

    /// Returns the example `shapes` with this manifest. Adds the name and the grants.
    pub fn shapes(manifest: &str) -> Self {
        Self::archive(&format!("name = \"shapes\"\n{manifest}[grants]\nkeyvalue = true\n"), &guest("shapes"))
    }

    /// Returns an archive of any files.
    pub fn archive_of(files: &[(&str, &[u8])]) -> Self {
        // Components hardly shrink, and stronger compression would only slow the tests down.
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // Written without validation: hostile names must reach the host.
            header.as_gnu_mut().expect("it is a GNU header").name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            archive.append(&header, *bytes).expect("writing to memory succeeds");
        }
        let bytes = archive.into_inner().and_then(GzEncoder::finish).expect("writing to memory succeeds");
        Self { content_type: "application/gzip", bytes }
    }
}
