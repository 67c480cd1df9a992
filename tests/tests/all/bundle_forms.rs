//! Uploads in unsupported formats, and archives written by other tools: each is read, or refused
//! with its format named.

use isopod_tests::{Bundle, Host, guest};
use std::io::Write as _;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory succeeds")
}

fn archive(bytes: Vec<u8>) -> Bundle {
    Bundle { content_type: "application/gzip", bytes }
}

/// Returns a tar archive without compression.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Read as _;
    let mut tar = Vec::new();
    let packed = Bundle::archive_of(files).bytes;
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut tar).expect("it is a gzip file");
    tar
}

/// Returns an archive with a sparse file, as macOS's tar writes it.
fn sparse_tar(component: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let size = component.len().to_string();
    let attributes: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"component.wasm"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    tar.append_pax_extensions(attributes).expect("writing to memory succeeds");
    let mut map = format!("1\n0\n{size}\n").into_bytes();
    map.resize(512, 0);
    let stored = [&map, component].concat();
    let mut header = tar::Header::new_ustar();
    header.set_size(stored.len() as u64);
    tar.append_data(&mut header, "GNUSparseFile.0/component.wasm", stored.as_slice())
        .expect("writing to memory succeeds");
    tar.into_inner().expect("writing to memory succeeds")
}

#[test]
fn an_upload_in_another_format_is_named_and_never_called_damaged() {
    let host = Host::start();
    let hello = guest("hello");
    let tar = tar_of(&[("isopod.toml", b"name = \"x\"\n"), ("component.wasm", &hello)]);
    let html = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>".to_vec();
    let cases: Vec<(Bundle, &str, &[&str])> = vec![
        (archive(b"PK\x03\x04\x14\0".to_vec()), "invalid-bundle", &["a zip archive", "tar czf"]),
        (archive(b"\xfd7zXZ\0\0".to_vec()), "invalid-bundle", &["xz data", "xz -dc"]),
        (archive(b"\x28\xb5\x2f\xfd\x04".to_vec()), "invalid-bundle", &["zstd data", "zstd -dc"]),
        (archive(b"BZh91AY&SY".to_vec()), "invalid-bundle", &["bzip2 data", "bzip2 -dc"]),
        (archive(tar), "invalid-bundle", &["a tar archive without compression", "gzip"]),
        (archive(html.clone()), "invalid-bundle", &["an HTML page"]),
        (archive(gzip(&hello)), "invalid-bundle", &["a WebAssembly component", "gunzip"]),
        (archive(gzip(&sparse_tar(&hello))), "invalid-bundle", &["component.wasm", "sparse file", "isopod build"]),
        (archive(Vec::new()), "invalid-bundle", &["empty"]),
        (Bundle::component(html), "invalid-component", &["not WebAssembly", "an HTML page"]),
        (Bundle::component(&b"PK\x03\x04"[..]), "invalid-component", &["not WebAssembly", "a zip archive"]),
        (Bundle::component(&b"(component)"[..]), "invalid-component", &["WebAssembly text", "wasm-tools parse"]),
        (Bundle::component(&b"\x7fELF\x02\x01"[..]), "invalid-component", &["a native program", "wasm32-wasip2"]),
        (Bundle::component(&b"\0asm\x01\0\0\0"[..]), "invalid-component", &["core module", "wasm-tools component new"]),
    ];
    for (bundle, code, words) in cases {
        let problem = host.upload("victim", &bundle, "").problem(422, code);
        let detail = problem["detail"].as_str().expect("a problem has a detail");
        assert!(words.iter().all(|word| detail.contains(word)), "missing {words:?} in: {detail}");
        assert!(!detail.contains("damaged"), "{detail}");
    }
}

/// RFC 1952, section 2.2: a gzip file is one or more members.
#[test]
fn a_gzip_archive_of_several_members_is_read() {
    let host = Host::start();
    let hello = guest("hello");
    let tar = tar_of(&[("isopod.toml", b"name = \"parts\"\n"), ("component.wasm", &hello)]);
    let (head, tail) = tar.split_at(tar.len() / 2);
    let members = [gzip(head), gzip(tail), vec![0; 512]].concat();
    host.deploy("parts", archive(members.clone()));
    assert_eq!(host.get("parts", "/").expect(200).text(), "Hello, world!");
    let garbage = [members, b"garbage".to_vec()].concat();
    let (code, reason) = host.deploy_failing("parts", &archive(garbage));
    assert!(code == "invalid-bundle" && reason.contains("not gzip follow"), "{reason}");
}

#[test]
fn every_missing_import_is_named_with_the_supported_versions() {
    let host = Host::start();
    let component = wat::parse_str(
        r#"(component
            (import "fermyon:spin/key-value@2.0.0" (instance))
            (import "wasi:http/types@0.9.0" (instance))
            (import "wasi:cli/environment@0.2.0" (instance))
            (import "acme:rockets/launch@1.0.0" (instance)))"#,
    );
    let bundle = Bundle::component(component.expect("it is well-formed"));
    let problem = host.upload("victim", &bundle, "").problem(422, "unknown-import");
    let detail = problem["detail"].as_str().expect("a problem has a detail");
    for name in ["fermyon:spin/key-value@2.0.0", "wasi:http/types@0.9.0", "acme:rockets/launch@1.0.0", "0.2 and 0.3"] {
        assert!(detail.contains(name), "missing {name} in: {detail}");
    }
    assert!(!detail.contains("wasi:cli/environment"), "{detail}");
}
