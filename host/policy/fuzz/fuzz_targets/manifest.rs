//! Feeds any text to the reader of manifests. Owns two claims: it never panics, and what it accepts is printed so that it
//! reads back the same, as TOML and as JSON.

#![no_main]

use isopod_policy::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(manifest) = Manifest::parse(text) else { return };
    let json = serde_json::to_string(&manifest).expect("a manifest serialises");
    assert_eq!(serde_json::from_str::<Manifest>(&json).expect("its JSON reads back"), manifest);
    // With all defaults spelled out it may be larger than what people may upload.
    let toml = manifest.to_toml();
    if toml.len() <= isopod_policy::limits::MANIFEST_BYTES_MAX {
        assert_eq!(Manifest::parse(&toml).expect("its TOML reads back"), manifest);
    }
});
