//! Uploads in unsupported formats, and archives as other tools write them: each is read, or named
//! in the error.

use isopod_policy::bundle::{BundleError, BundleKind, Form};
use isopod_policy::limits::BUNDLE_GZIP_MEMBERS_MAX;
use tar::{EntryType, Header};

use crate::bundles::{Archive, WASM, gzip, read};

const MANIFEST: &[u8] = b"name = \"greeter\"\n";

fn refused(bytes: &[u8]) -> String {
    read(bytes).expect_err("the upload is not a bundle").to_string()
}

#[test]
fn an_unsupported_format_is_named_with_the_command_that_makes_a_bundle() {
    let cases: [(&[u8], &[&str]); 8] = [
        (b"PK\x03\x04....", &["a zip archive", "tar czf"]),
        (b"\xfd7zXZ\0", &["xz data", "xz -dc"]),
        (b"\x28\xb5\x2f\xfd", &["zstd data", "zstd -dc"]),
        (b"BZh91AY", &["bzip2 data", "bzip2 -dc"]),
        (b"<!doctype html><title>Sign in</title>", &["an HTML page", "proxy"]),
        (b"(component)", &["WebAssembly text", "wasm-tools parse"]),
        (b"hello", &["plain text"]),
        (
            &Archive::default().file("isopod.toml", MANIFEST).tar(),
            &["a tar archive without compression", "gzip bundle.tar"],
        ),
    ];
    for (bytes, words) in cases {
        let error = refused(bytes);
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains("damaged"), "{error}");
    }
    assert_eq!(read(b""), Err(BundleError::Empty));
}

#[test]
fn gzip_data_that_is_not_tar_is_named() {
    assert_eq!(read(&gzip(WASM)), Err(BundleError::NoTarInside { form: Form::Component }));
    assert_eq!(read(&gzip(b"PK\x03\x04....")), Err(BundleError::NoTarInside { form: Form::Zip }));
    assert!(refused(&gzip(b"hello")).contains("gunzip"));
    assert!(matches!(read(&gzip(&[7; 2_000])), Err(BundleError::Damaged { .. })));
}

#[test]
fn a_sparse_file_is_named_in_both_formats() {
    let gnu = Archive::default().entry(b"a.wasm", EntryType::GNUSparse, "", b"");
    assert!(matches!(read(&gnu.gz()), Err(BundleError::Sparse { .. } | BundleError::Damaged { .. })));
    let mut pax = tar::Builder::new(Vec::new());
    let attributes: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"component.wasm"),
        ("GNU.sparse.realsize", b"4096"),
    ];
    pax.append_pax_extensions(attributes).expect("writing to memory can't fail");
    let mut header = Header::new_ustar();
    header.set_size(512);
    pax.append_data(&mut header, "GNUSparseFile.0/component.wasm", &[0; 512][..])
        .expect("writing to memory can't fail");
    let error = refused(&gzip(&pax.into_inner().expect("writing to memory can't fail")));
    assert!(error.contains("\"component.wasm\" as a sparse file") && error.contains("--no-read-sparse"), "{error}");
}

#[test]
fn all_members_of_a_gzip_file_are_read() {
    let tar = Archive::default().file("isopod.toml", MANIFEST).file("a.wasm", WASM).tar();
    for cut in [1, 511, 512, 700, tar.len() - 1] {
        let members = [gzip(&tar[..cut]), gzip(b""), gzip(&tar[cut..]), vec![0; 64]].concat();
        assert_eq!(read(&members).expect("it is whole").component, WASM, "cut at {cut}");
    }
    let garbage = [gzip(&tar), b"garbage".to_vec()].concat();
    assert!(refused(&garbage).contains("7 bytes that are not gzip follow"), "{}", refused(&garbage));
    let members = [gzip(&tar), gzip(b"").repeat(BUNDLE_GZIP_MEMBERS_MAX)].concat();
    assert!(refused(&members).contains("gzip members"));
}

#[test]
fn a_core_module_counts_as_webassembly() {
    assert_eq!(BundleKind::Component.check(b"\0asm\x01\0\0\0"), Ok(()));
    assert!(matches!(read(b"\0asm\x01\0\0\0"), Err(BundleError::OtherForm { .. })));
}

#[test]
fn a_single_top_folder_is_stripped() {
    let archive =
        || Archive::default().entry(b"shop/", EntryType::Directory, "", b"").file("shop/isopod.toml", MANIFEST);
    let bundle = read(&archive().file("shop/dist/a.wasm", WASM).gz()).expect("it is a bundle");
    assert_eq!(bundle.manifest.expect("the manifest is valid").name.as_str(), "greeter");
    let named = b"name = \"x\"\ncomponent = \"dist/b.wasm\"";
    let named =
        Archive::default().file("./shop/isopod.toml", named).file("./shop/dist/b.wasm", WASM).file("shop/a.wasm", b"");
    assert_eq!(read(&named.gz()).expect("it is a bundle").component, WASM);
}

#[test]
fn a_manifest_in_another_folder_is_refused_with_its_whole_path() {
    let shop = || Archive::default().file("shop/isopod.toml", MANIFEST).file("shop/a.wasm", WASM);
    let cases = [
        (shop().file("a.wasm", WASM), &["as \"shop/isopod.toml\", and at its top \"a.wasm\", \"shop/\". "][..]),
        (shop().file("docs/a.md", b""), &["as \"shop/isopod.toml\", and at its top \"docs/\", \"shop/\". "]),
        (
            shop().file("other/Isopod.toml", MANIFEST),
            &["2 manifests: \"other/Isopod.toml\", \"shop/isopod.toml\", and at its top \"other/\", \"shop/\""],
        ),
        (
            Archive::default().file("home/shop/isopod.toml", MANIFEST).file("home/shop/a.wasm", WASM),
            &["its manifest as \"home/shop/isopod.toml\". ", "-C FOLDER"],
        ),
    ];
    for (archive, wanted) in cases {
        let error = refused(&archive.gz());
        assert!(wanted.iter().all(|text| error.contains(text)), "{wanted:?} is not in: {error}");
    }
}

#[test]
fn a_refused_component_is_named_with_its_whole_path() {
    let named = Archive::default().file("shop/isopod.toml", b"name = \"x\"\ncomponent = \"b.wasm\"");
    assert!(refused(&named.file("shop/dist/a.wasm", WASM).gz()).contains("it contains shop/dist/a.wasm"));
    let two = Archive::default().file("shop/isopod.toml", MANIFEST).file("shop/a.wasm", WASM).file("shop/b.wasm", WASM);
    assert!(refused(&two.gz()).contains("(shop/a.wasm, shop/b.wasm)"));
    let empty = Archive::default().file("shop/isopod.toml", MANIFEST).file("shop/a.wasm", b"");
    assert!(refused(&empty.gz()).contains("\"shop/a.wasm\" is an empty file"));
}

#[test]
fn a_file_meant_as_the_manifest_is_refused_by_name() {
    for name in ["Isopod.toml", "isopod.toml.txt", "isopod.tml", "isopod.yaml"] {
        for folder in ["", "shop/"] {
            let archive = Archive::default().file(&format!("{folder}{name}"), MANIFEST);
            let error = refused(&archive.file(&format!("{folder}a.wasm"), WASM).gz());
            let path = format!("{folder}{name}");
            assert!(error.contains(&format!("{path:?}")) && error.contains("Name it isopod.toml"), "{error}");
        }
    }
    let beside = Archive::default().file("isopod.toml", MANIFEST).file("isopod.toml.orig", b"").file("a.wasm", WASM);
    assert!(read(&beside.gz()).is_ok(), "the right one is there");
}

#[test]
fn files_that_macos_adds_are_ignored() {
    let archive = Archive::default()
        .file("._shop", b"attributes")
        .file("shop/._isopod.toml", b"attributes")
        .file("shop/isopod.toml", MANIFEST)
        .file("shop/.DS_Store", b"")
        .file("shop/._a.wasm", b"attributes")
        .file("shop/a.wasm", WASM)
        .file("__MACOSX/shop/a.wasm", b"attributes");
    let bundle = read(&archive.gz()).expect("it is a bundle");
    assert_eq!((bundle.component.as_slice(), bundle.manifest.is_some()), (WASM, true));
}

#[test]
fn a_missing_named_component_is_not_replaced_by_another_file() {
    let named = b"name = \"x\"\ncomponent = \"x.wasm\"";
    let error =
        refused(&Archive::default().file("isopod.toml", named).file("dist/other.wasm", WASM).file("README", b"").gz());
    assert!(
        error.contains("names \"x.wasm\", which the archive doesn't contain")
            && error.contains("README, dist/other.wasm"),
        "{error}"
    );
    // The list in a message is limited for any archive.
    let many = (0..40).fold(Archive::default().file("isopod.toml", named), |archive, number| {
        archive.file(&format!("{number:02}{}", "x".repeat(90)), b"")
    });
    let error = refused(&many.gz());
    assert!(error.contains("and 20 more") && error.len() < 6_000, "{}", error.len());
}

#[test]
fn a_manifest_in_utf_16_is_named() {
    let with = |manifest: &[u8]| Archive::default().file("isopod.toml", manifest).file("a.wasm", WASM).gz();
    let text = "name = \"greeter\"\n";
    let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
    for manifest in [[b"\xff\xfe", &little[..]].concat(), [b"\xfe\xff", &big[..]].concat(), little, big] {
        assert!(refused(&with(&manifest)).contains("UTF-16 text; save it as UTF-8"));
    }
    let bundle = read(&with(&[b"\xef\xbb\xbf", text.as_bytes()].concat())).expect("a byte order mark does no harm");
    assert_eq!(bundle.manifest_text.as_deref(), Some(text));
}
