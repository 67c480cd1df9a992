//! Feeds arbitrary bytes to the bundle reader: raw, and gzipped, since the fuzzer can't guess a
//! checksum. Checks two properties: the reader never panics, and its results are within the limits.

#![no_main]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use isopod_policy::bundle::{self, BundleKind};
use isopod_policy::limits::{BUNDLE_COMPONENT_BYTES_MAX, MANIFEST_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(kind) = BundleKind::sniff(bytes) {
        check(kind, bytes);
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(bytes).expect("writing to memory can't fail");
    check(BundleKind::TarGz, &gzip.finish().expect("writing to memory can't fail"));
});

fn check(kind: BundleKind, bytes: &[u8]) {
    let Ok(bundle) = bundle::read(kind, bytes) else { return };
    assert!(!bundle.component.is_empty() && bundle.component.len() <= BUNDLE_COMPONENT_BYTES_MAX);
    assert_eq!(bundle.manifest.is_some(), bundle.manifest_text.is_some());
    assert!(bundle.manifest_text.is_none_or(|text| text.len() <= MANIFEST_BYTES_MAX));
}
