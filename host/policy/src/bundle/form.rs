//! Recognises the format of an upload by its first bytes, and suggests the command that turns it
//! into a bundle. Never unpacks and never refuses an upload.

use std::fmt;

use crate::encoding::is_utf16;

/// The bytes of a tar header that identify its format.
pub(super) const TAR_BLOCK_BYTES: usize = 512;

const PACK_AS_TAR_GZ: &str = "Pack it as a gzipped tar: tar czf bundle.tar.gz isopod.toml component.wasm";

/// The format of a file, judged by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A WebAssembly component.
    Component,
    /// A core WebAssembly module.
    CoreModule,
    /// Anything compressed by gzip.
    Gzip,
    Zip,
    Xz,
    Zstd,
    Bzip2,
    Lz4,
    SevenZip,
    /// A tar archive without compression.
    Tar,
    /// WebAssembly in its text format.
    Wat,
    /// An HTML document.
    Html,
    /// A program for an operating system.
    Executable,
    /// Text with a UTF-16 byte order mark, or whose every second byte is 0.
    Utf16,
    /// Any other UTF-8 text.
    Text,
}

impl Form {
    /// Recognises a format. Returns `None` for unknown formats and for no bytes.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        let form = match bytes {
            // A module's version is 1 and its layer 0; a component's layer is 1.
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Self::CoreModule,
            [0, b'a', b's', b'm', ..] => Self::Component,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Self::SevenZip,
            [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', _, 0, ..] | [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => {
                Self::Executable
            }
            _ if is_tar(bytes) => Self::Tar,
            _ => return text_form(bytes),
        };
        Some(form)
    }

    /// Returns advice for such a file, as a sentence without its full stop.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Component => "Upload it unchanged, with content-type: application/wasm",
            Self::CoreModule => {
                "Build for the target wasm32-wasip2, or wrap it: wasm-tools component new module.wasm -o component.wasm"
            }
            Self::Gzip => "Upload it unchanged, with content-type: application/gzip",
            Self::Zip | Self::SevenZip => PACK_AS_TAR_GZ,
            Self::Tar => "Compress it: gzip bundle.tar",
            Self::Xz => "Compress it with gzip instead: xz -dc bundle.tar.xz | gzip > bundle.tar.gz",
            Self::Zstd => "Compress it with gzip instead: zstd -dc bundle.tar.zst | gzip > bundle.tar.gz",
            Self::Bzip2 => "Compress it with gzip instead: bzip2 -dc bundle.tar.bz2 | gzip > bundle.tar.gz",
            Self::Lz4 => "Compress it with gzip instead: lz4 -dc bundle.tar.lz4 | gzip > bundle.tar.gz",
            Self::Wat => {
                "Translate it: wasm-tools parse app.wat -o app.wasm (then wrap a module: wasm-tools component new)"
            }
            Self::Html => "A proxy or a login page may have answered in place of the download: fetch the file again",
            Self::Executable => "Build for the target wasm32-wasip2: cargo build --release --target wasm32-wasip2",
            Self::Utf16 | Self::Text => {
                "Take the component that your build wrote, for Rust the .wasm file below target/wasm32-wasip2/"
            }
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "a WebAssembly component",
            Self::CoreModule => "a core module",
            Self::Gzip => "gzip data",
            Self::Zip => "a zip archive",
            Self::Xz => "xz data",
            Self::Zstd => "zstd data",
            Self::Bzip2 => "bzip2 data",
            Self::Lz4 => "lz4 data",
            Self::SevenZip => "a 7z archive",
            Self::Tar => "a tar archive without compression",
            Self::Wat => "WebAssembly text (WAT)",
            Self::Html => "an HTML page",
            Self::Executable => "a native program",
            Self::Utf16 => "UTF-16 text",
            Self::Text => "plain text",
        })
    }
}

/// Returns whether the first block is a tar header: of the `ustar` family, or an older one with a
/// valid checksum.
fn is_tar(bytes: &[u8]) -> bool {
    let Some(block) = bytes.get(..TAR_BLOCK_BYTES) else { return false };
    if block[257..262] == *b"ustar" {
        return true;
    }
    let (sum_begins, sum_ends) = (148, 156);
    let written = std::str::from_utf8(&block[sum_begins..sum_ends]).unwrap_or_default();
    let written = u32::from_str_radix(written.trim_matches([' ', '\0']), 8);
    let outside = block[..sum_begins].iter().chain(&block[sum_ends..]);
    let sum = outside.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
    block[0] != 0 && written == Ok(sum)
}

fn text_form(bytes: &[u8]) -> Option<Form> {
    let head = &bytes[..bytes.len().min(TAR_BLOCK_BYTES)];
    if is_utf16(head) {
        return Some(Form::Utf16);
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The first bytes may end within a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.is_empty() || text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace() && c != '\x1b') {
        return None;
    }
    Some(if is_html(text) {
        Form::Html
    } else if is_wat(text) {
        Form::Wat
    } else {
        Form::Text
    })
}

fn is_html(text: &str) -> bool {
    let text = text.trim_start().as_bytes();
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag.as_bytes()));
    ["<!doctype html", "<html", "<head", "<body", "<title"].into_iter().any(begins)
}

/// Returns whether text starts with `(module` or `(component`, after comments.
fn is_wat(text: &str) -> bool {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix(";;") {
        rest = comment.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    if rest.starts_with("(;") {
        return true;
    }
    let Some(word) = rest.strip_prefix('(') else { return false };
    ["module", "component", "core"].iter().any(|known| word.trim_start().starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_recognised_by_its_first_bytes() {
        let cases: [(&[u8], Option<Form>); 20] = [
            (b"\0asm\x0d\0\x01\0", Some(Form::Component)),
            (b"\0asm\x01\0\0\0", Some(Form::CoreModule)),
            (&[0x1f, 0x8b, 8], Some(Form::Gzip)),
            (b"PK\x03\x04", Some(Form::Zip)),
            (b"\xfd7zXZ\0", Some(Form::Xz)),
            (b"\x28\xb5\x2f\xfd", Some(Form::Zstd)),
            (b"BZh91AY", Some(Form::Bzip2)),
            (b"\x04\x22\x4d\x18", Some(Form::Lz4)),
            (b"7z\xbc\xaf\x27\x1c", Some(Form::SevenZip)),
            (b"\x7fELF\x02", Some(Form::Executable)),
            (b"\n <!DOCTYPE HTML><title>", Some(Form::Html)),
            (b"<html lang=en>", Some(Form::Html)),
            (b";; hello\n(module)", Some(Form::Wat)),
            (b"( component)", Some(Form::Wat)),
            (b"(; a comment ;) (module)", Some(Form::Wat)),
            (b"\xff\xfen\0a\0", Some(Form::Utf16)),
            (b"n\0a\0m\0e\0", Some(Form::Utf16)),
            ("grüße".as_bytes(), Some(Form::Text)),
            (b"\x01\x02\x03", None),
            (b"", None),
        ];
        for (bytes, form) in cases {
            assert_eq!(Form::sniff(bytes), form, "{bytes:?}");
        }
    }

    #[test]
    fn a_tar_archive_is_recognised_with_and_without_its_magic() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        assert_eq!(Form::sniff(header.as_bytes()), Some(Form::Tar));
        let mut old = tar::Header::new_old();
        old.set_path("a").unwrap();
        old.set_size(0);
        old.set_cksum();
        assert_eq!(Form::sniff(old.as_bytes()), Some(Form::Tar));
        assert_eq!(Form::sniff(&[0; TAR_BLOCK_BYTES]), None);
    }

    #[test]
    fn text_that_is_cut_inside_a_character_is_still_text() {
        let long = "ä".repeat(TAR_BLOCK_BYTES);
        assert_eq!(Form::sniff(&[b"a", long.as_bytes()].concat()), Some(Form::Text));
    }
}
