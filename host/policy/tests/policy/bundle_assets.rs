//! Tests the assets of bundles: the files below `static/`, and hostile ones.

use isopod_policy::bundle::BundleError;
use isopod_policy::limits;
use tar::EntryType;

use crate::bundles::{Archive, WASM, read};

fn with(files: &[(&str, &[u8])]) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
    let archive = Archive::default().file("isopod.toml", b"name = \"site\"").file("component.wasm", WASM);
    let archive = files.iter().fold(archive, |archive, (path, content)| archive.file(path, content));
    read(&archive.gz()).map(|bundle| bundle.assets.into_iter().collect())
}

fn asset(path: &str, content: &[u8]) -> (String, Vec<u8>) {
    (path.to_owned(), content.to_vec())
}

#[test]
fn the_files_below_static_are_assets() {
    let found = with(&[("static/index.html", b"1"), ("./static//css/a.css", b"2"), ("static/._x", b"litter")]);
    assert_eq!(found, Ok(vec![asset("css/a.css", b"2"), asset("index.html", b"1")]));
    assert_eq!(with(&[("other/static/a", b"1"), ("static.txt", b"2")]), Ok(Vec::new()), "they are elsewhere");
}

#[test]
fn assets_below_a_single_top_folder_are_found() {
    let archive = Archive::default().file("site/isopod.toml", b"name = \"site\"").file("site/component.wasm", WASM);
    let bundle = read(&archive.file("site/static/a.txt", b"1").gz()).expect("a valid bundle");
    assert_eq!(bundle.assets.into_iter().collect::<Vec<_>>(), [asset("a.txt", b"1")]);
}

#[test]
fn an_asset_is_neither_the_component_nor_the_manifest() {
    let archive = Archive::default().file("app.wasm", WASM).file("static/other.wasm", b"x");
    let bundle = read(&archive.file("static/isopod.toml", b"name = \"other\"").gz()).expect("a valid bundle");
    assert_eq!((bundle.component.as_slice(), bundle.manifest, bundle.assets.len()), (WASM, None, 2));
}

#[test]
fn a_path_that_leads_out_of_static_is_refused() {
    for path in
        ["static/../../a", "static/..", "/static/a", "static/a\\b", "static/a\nb", "static/C:a", "static/\u{7f}"]
    {
        let refused = with(&[(path, b"x")]);
        assert!(matches!(refused, Err(BundleError::BadPath { .. })), "{path:?}: {refused:?}");
    }
    // A name ends at its first zero byte in the archive, so the name is `a`.
    assert_eq!(with(&[("static/a\0b", b"x")]), Ok(vec![asset("a", b"x")]));
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo] {
        let archive = Archive::default().file("component.wasm", WASM);
        let refused = read(&archive.entry(b"static/a", kind, "/etc/passwd", b"").gz());
        assert!(matches!(refused, Err(BundleError::NotAFile { .. })), "{kind:?}: {refused:?}");
    }
}

#[test]
fn the_same_asset_twice_is_refused_and_names_that_differ_in_case_are_two() {
    let refused = with(&[("static/a", b"1"), ("static/./a", b"2")]);
    assert_eq!(refused, Err(BundleError::Duplicate { path: "static/a".to_owned() }));
    assert_eq!(with(&[("static/a", b"1"), ("static/A", b"2")]), Ok(vec![asset("A", b"2"), asset("a", b"1")]));
}

#[test]
fn assets_are_bounded_in_number_and_size() {
    let folders = |count: usize| {
        let archive = Archive::default().file("component.wasm", WASM);
        let name = |index| format!("static/{index}/");
        (0..count).fold(archive, |archive, index| archive.entry(name(index).as_bytes(), EntryType::Directory, "", b""))
    };
    assert!(read(&folders(limits::ASSET_ENTRIES_MAX).gz()).is_ok());
    let refused = read(&folders(limits::ASSET_ENTRIES_MAX + 1).gz());
    assert_eq!(refused, Err(BundleError::TooManyAssets { max: limits::ASSET_ENTRIES_MAX }));
    let half = vec![0; limits::ASSET_BYTES_MAX / 2];
    assert_eq!(with(&[("static/a", &half), ("static/b", &half)]).map(|assets| assets.len()), Ok(2));
    let refused = with(&[("static/a", &half), ("static/b", &half), ("static/c", b"x")]);
    assert_eq!(refused, Err(BundleError::AssetsTooLarge { bytes_max: limits::ASSET_BYTES_MAX }));
    let large = vec![0; limits::BUNDLE_REST_BYTES_MAX];
    let refused = with(&[("forgotten.bin", &large)]);
    assert_eq!(refused, Err(BundleError::UnpacksTooLarge { bytes_max: limits::BUNDLE_REST_BYTES_MAX }));
}
