//! Tests where the host looks for the manifest and the component of an archive. It ignores neither
//! silently.

use isopod_tests::{Bundle, Host, guest};

type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A manifest with an effect that the API shows.
const MANIFEST: &[u8] = b"name = \"shop\"\n[config]\nGREETING = \"hi\"\n";

#[test]
fn an_archive_of_one_folder_deploys_with_its_manifest() {
    let host = Host::start();
    let hello = guest("hello");
    let files: [(&str, &[u8]); 5] = [
        ("._shop", b"attributes"),
        ("shop/isopod.toml", MANIFEST),
        ("shop/._component.wasm", b"attributes"),
        ("shop/component.wasm", &hello),
        ("shop/.DS_Store", b""),
    ];
    host.deploy("shop", Bundle::archive_of(&files));
    assert_eq!(host.release("shop", 1)["manifest"]["config"]["GREETING"], "hi");
}

#[test]
fn a_manifest_with_a_byte_order_mark_is_read() {
    let host = Host::start();
    let manifest = [b"\xef\xbb\xbf", MANIFEST].concat();
    host.deploy("shop", Bundle::archive_of(&[("isopod.toml", &manifest), ("component.wasm", &guest("hello"))]));
    assert_eq!(host.release("shop", 1)["manifest"]["config"]["GREETING"], "hi");
}

#[test]
fn a_misnamed_manifest_or_component_is_rejected_by_name() {
    let host = Host::start();
    let hello = guest("hello");
    let names_other = b"name = \"shop\"\ncomponent = \"x.wasm\"\n";
    let utf16: Vec<u8> = "\u{feff}name = \"shop\"\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(Files<'_>, &[&str]); 8] = [
        (&[("Isopod.toml", MANIFEST), ("component.wasm", &hello)], &["Isopod.toml", "Name it isopod.toml"]),
        (&[("isopod.toml.txt", MANIFEST), ("component.wasm", &hello)], &["isopod.toml.txt"]),
        (&[("shop/Isopod.toml", MANIFEST), ("shop/component.wasm", &hello)], &["\"shop/Isopod.toml\""]),
        (&[("home/shop/isopod.toml", MANIFEST), ("home/a.wasm", &hello)], &["\"home/shop/isopod.toml\""]),
        (&[("a/isopod.toml", MANIFEST), ("b/component.wasm", &hello)], &["\"a/isopod.toml\"", "\"a/\", \"b/\""]),
        (&[("shop/isopod.toml", MANIFEST), ("component.wasm", &hello)], &["shop/isopod.toml", "at the top"]),
        (&[("isopod.toml", names_other), ("other.wasm", &hello)], &["\"x.wasm\"", "other.wasm"]),
        (&[("isopod.toml", &utf16), ("component.wasm", &hello)], &["UTF-16", "UTF-8"]),
    ];
    for (files, words) in cases {
        let problem = host.upload("shop", &Bundle::archive_of(files), "").problem(422, "invalid-bundle");
        let detail = problem["detail"].as_str().expect("a problem has a detail");
        assert!(words.iter().all(|word| detail.contains(word)), "missing {words:?} in: {detail}");
    }
}
