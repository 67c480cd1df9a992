//! Tests how valid and hostile bundles are read.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use isopod_policy::bundle::{self, BundleError, BundleKind};
use isopod_policy::limits;
use proptest::prelude::*;
use tar::{EntryType, Header};

pub(crate) const WASM: &[u8] = b"\0asm\x0d\0\x01\0";
const MANIFEST: &str = "name = \"greeter\"\ncomponent = \"target/greeter.wasm\"\n";

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writing to memory can't fail");
    encoder.finish().expect("writing to memory can't fail")
}

/// A tar archive with raw paths, including hostile paths that `tar` itself would refuse.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    pub(crate) fn entry(mut self, path: &[u8], kind: EntryType, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(path.as_bytes(), EntryType::Regular, "", content)
    }

    pub(crate) fn tar(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub(crate) fn gz(self) -> Vec<u8> {
        gzip(&self.tar())
    }
}

pub(crate) fn read(bytes: &[u8]) -> Result<bundle::Bundle, BundleError> {
    bundle::read(BundleKind::TarGz, bytes)
}

#[test]
fn a_bare_component_is_a_bundle_without_a_manifest() {
    let bundle = bundle::read(BundleKind::Component, WASM).expect("it is a component");
    assert_eq!((bundle.component.as_slice(), bundle.manifest), (WASM, None));
}

#[test]
fn a_packed_bundle_is_read_back() {
    let packed = bundle::pack(MANIFEST, WASM);
    assert_eq!(packed, bundle::pack(MANIFEST, WASM), "the same content gives the same bytes");
    let bundle = read(&packed).expect("a packed bundle is valid");
    assert_eq!(bundle.manifest.expect("it has one").name.as_str(), "greeter");
    assert_eq!((bundle.manifest_text.as_deref(), bundle.component.as_slice()), (Some(MANIFEST), WASM));
}

#[test]
fn the_component_is_found_at_each_usual_path() {
    let named = Archive::default().file("isopod.toml", MANIFEST.as_bytes());
    let by_path = Archive(named.0.clone()).file("other.wasm", b"no").file("target/greeter.wasm", WASM);
    let by_file_name = Archive(named.0.clone()).file("other.wasm", b"no").file("greeter.wasm", WASM);
    let by_default_name = Archive(named.0).file("other.wasm", b"no").file("component.wasm", WASM);
    let only_one =
        Archive::default().file("isopod.toml", b"name = \"a\"").file("README", b"no").file("dist/a.wasm", WASM);
    let without_manifest = Archive::default().file("./app.wasm", WASM);
    let with_folders = Archive::default()
        .entry(b"./", EntryType::Directory, "", b"")
        .file("./isopod.toml", MANIFEST.as_bytes())
        .entry(b"./target/", EntryType::Directory, "", b"")
        .file("./target//./greeter.wasm", WASM);
    for archive in [by_path, by_file_name, by_default_name, only_one, without_manifest, with_folders] {
        assert_eq!(read(&archive.gz()).expect("the component is there").component, WASM);
    }
}

#[test]
fn the_format_is_recognised_by_the_first_bytes() {
    assert_eq!(BundleKind::sniff(WASM), Some(BundleKind::Component));
    assert_eq!(BundleKind::sniff(&gzip(b"")), Some(BundleKind::TarGz));
    assert_eq!(BundleKind::sniff(b"\0as"), None);
    let error = bundle::read(BundleKind::Component, b"hello").expect_err("it is text");
    assert!(error.to_string().contains("is it the right file?"), "{error}");
}

#[test]
fn an_error_for_a_wrong_content_type_names_the_right_one() {
    let error = bundle::read(BundleKind::Component, &bundle::pack(MANIFEST, WASM)).expect_err("it is gzipped");
    let words = "declares a bare component (\\0asm), but the bundle starts like a gzipped tar archive (1f 8b); \
        send it with content-type: application/gzip";
    assert!(error.to_string().contains(words), "{error}");
    let error = read(WASM).expect_err("it is a component");
    assert!(error.to_string().ends_with("send it with content-type: application/wasm"), "{error}");
}

#[test]
fn an_error_for_a_missing_component_names_the_files() {
    let error = read(&Archive::default().file("isopod.toml", MANIFEST.as_bytes()).gz()).expect_err("no component");
    assert!(error.to_string().contains("names \"target/greeter.wasm\", which the archive doesn't contain"), "{error}");
    let error = read(&Archive::default().file("a.wasm", WASM).file("b.wasm", WASM).gz()).expect_err("which?");
    assert!(error.to_string().contains("contains 2 .wasm files (a.wasm, b.wasm)"), "{error}");
    let error = read(&Archive::default().file("a.wasm", b"").gz()).expect_err("it is empty");
    assert!(error.to_string().contains("empty file"), "{error}");
    assert!(matches!(read(&Archive::default().gz()), Err(BundleError::NoComponent { .. })));
    assert_eq!(read(b""), Err(BundleError::Empty));
}

#[test]
fn a_bad_manifest_is_named_with_its_line() {
    let error = read(&bundle::pack("name = \"a\"\nbuidl = \"x\"", WASM)).expect_err("buidl is not a key");
    assert!(error.to_string().starts_with("isopod.toml, line 2, column 1"), "{error}");
    let not_text = Archive::default().file("isopod.toml", b"name = \"a\"\n# \xff\n").file("a.wasm", WASM);
    let error = read(&not_text.gz()).expect_err("it is not UTF-8");
    assert_eq!(error.to_string(), "isopod.toml, line 2: the line is not UTF-8 text; save the file as UTF-8");
    let large = vec![b' '; limits::MANIFEST_BYTES_MAX + 1];
    let error = read(&Archive::default().file("isopod.toml", &large).file("a.wasm", WASM).gz()).expect_err("too large");
    assert!(error.to_string().contains("the maximum is 65536"), "{error}");
}

#[test]
fn paths_that_lead_outside_the_bundle_are_refused() {
    for path in ["../a.wasm", "/a.wasm", "a/../../b.wasm", "a\\b.wasm", "C:a.wasm", "a\nb.wasm", "a/..", ".."] {
        let refused = read(&Archive::default().file(path, WASM).gz());
        assert!(matches!(refused, Err(BundleError::BadPath { .. })), "{path:?}: {refused:?}");
    }
    let refused = read(&Archive::default().entry(b"\xff.wasm", EntryType::Regular, "", WASM).gz());
    assert!(matches!(refused, Err(BundleError::BadPath { .. })), "{refused:?}");
}

#[test]
fn links_devices_and_other_specials_are_refused() {
    let kinds = [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "pipe"),
        (EntryType::new(b'V'), "special file"),
    ];
    for (kind, word) in kinds {
        let refused = read(&Archive::default().entry(b"a.wasm", kind, "/etc/passwd", b"").gz());
        let Err(BundleError::NotAFile { kind, .. }) = refused else { panic!("{word}: {refused:?}") };
        assert_eq!(kind, word);
    }
}

#[test]
fn the_same_path_twice_is_refused() {
    let refused = read(&Archive::default().file("a.wasm", WASM).file("./a.wasm", b"other").gz());
    assert_eq!(refused, Err(BundleError::Duplicate { path: "a.wasm".to_owned() }));
}

#[test]
fn too_many_entries_are_refused() {
    let filled = (0..limits::BUNDLE_ENTRIES_MAX).fold(Archive::default(), |archive, number| {
        archive.entry(format!("d{number}/").as_bytes(), EntryType::Directory, "", b"")
    });
    let refused = read(&filled.file("a.wasm", WASM).gz());
    assert_eq!(refused, Err(BundleError::TooManyEntries { max: limits::BUNDLE_ENTRIES_MAX }));
}

#[test]
fn an_archive_bomb_is_refused() {
    let zeros = vec![0; limits::UNPACKED_BYTES_MAX];
    let bomb = Archive::default().file("a.wasm", &zeros).gz();
    assert!(bomb.len() < 1 << 20, "the archive is too large for a bomb: {} bytes", bomb.len());
    let expected = Err(BundleError::UnpacksTooLarge { bytes_max: limits::UNPACKED_BYTES_MAX });
    assert_eq!(read(&bomb), expected);
    // The same after the end of the archive, where no reader looks for files.
    let mut behind = Archive::default().file("a.wasm", WASM).tar();
    behind.extend_from_slice(&zeros);
    assert_eq!(read(&gzip(&behind)), expected);
    // Entries that declare a huge size without content are refused.
    let mut liar = Archive::default().file("a.wasm", WASM);
    let mut header = Header::new_gnu();
    header.set_size(u64::MAX / 2);
    header.as_old_mut().name[0] = b'b';
    header.set_cksum();
    liar.0.extend_from_slice(header.as_bytes());
    assert!(matches!(read(&liar.gz()), Err(BundleError::Damaged { .. } | BundleError::BadPath { .. })));
}

#[test]
fn a_component_above_the_size_limit_is_refused() {
    let large = vec![0; limits::BUNDLE_COMPONENT_BYTES_MAX + 1];
    let refused = read(&Archive::default().file("a.wasm", &large).gz());
    let expected = BundleError::ComponentTooLarge { bytes: large.len(), bytes_max: limits::BUNDLE_COMPONENT_BYTES_MAX };
    assert_eq!(refused, Err(expected));
    let refused = bundle::read(BundleKind::Component, &large);
    assert!(matches!(refused, Err(BundleError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn a_truncated_or_modified_archive_is_damaged() {
    let whole = Archive::default().file("isopod.toml", MANIFEST.as_bytes()).file("component.wasm", &[7; 3_000]).gz();
    for kept in 1..whole.len() {
        assert!(read(&whole[..kept]).is_err(), "{kept} of {} bytes", whole.len());
    }
    let mut wrong_sum = whole.clone();
    let last = wrong_sum.len() - 5;
    wrong_sum[last] ^= 1;
    assert!(matches!(read(&wrong_sum), Err(BundleError::Damaged { .. })));
    let mut more = whole.clone();
    more.extend_from_slice(b"and more");
    assert!(matches!(read(&more), Err(BundleError::Damaged { .. })));
    let mut padded = whole;
    padded.extend_from_slice(&[0; 512]);
    assert_eq!(read(&padded).err(), None, "tapes are padded with zeros");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = bundle::read(BundleKind::Component, &bytes);
        let _ = read(&bytes);
        let _ = read(&gzip(&bytes));
    }

    #[test]
    fn no_change_of_a_valid_archive_makes_the_reader_panic(
        changes in proptest::collection::vec((0..3_072usize, any::<u8>()), 1..12),
    ) {
        let mut tar = Archive::default().file("isopod.toml", MANIFEST.as_bytes()).file("a.wasm", WASM).tar();
        for (at, byte) in changes {
            let at = at % tar.len();
            tar[at] = byte;
        }
        if let Ok(bundle) = read(&gzip(&tar)) {
            prop_assert!(!bundle.component.is_empty() && bundle.component.len() <= limits::BUNDLE_COMPONENT_BYTES_MAX);
        }
    }
}
