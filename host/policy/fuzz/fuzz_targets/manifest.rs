//! Feeds arbitrary text to the manifest parser. Checks two properties: the parser never panics, and
//! an accepted manifest is printed so that it parses to the same manifest, as TOML and as JSON.

#![no_main]

use isopod_policy::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(manifest) = Manifest::parse(text) else { return };
    let json = serde_json::to_string(&manifest).expect("a manifest serialises");
    assert_eq!(serde_json::from_str::<Manifest>(&json).expect("its JSON reads back"), manifest);
    // With all defaults it may be larger than the upload limit.
    let toml = manifest.to_toml();
    if toml.len() <= isopod_policy::limits::MANIFEST_BYTES_MAX {
        assert_eq!(Manifest::parse(&toml).expect("its TOML reads back"), manifest);
    }
});
