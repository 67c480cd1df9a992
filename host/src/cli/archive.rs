//! Packs the uploaded bundle: a `.tar.gz` of the manifest, the component and the assets. The bytes
//! depend only on the input. Never reads bundles; the policy crate does.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use isopod_policy::bundle::ASSETS_FOLDER;

use super::assets::Assets;
use super::failure::Failure;

/// The compression level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For uploads over a network.
    Small,
    /// For a host on the same machine, where compressing takes longer than sending.
    Fast,
}

/// Packs a manifest, a component and the assets of an app.
pub(crate) fn pack(manifest: &str, component: &[u8], assets: &Assets, effort: Effort) -> Result<Vec<u8>, Failure> {
    let level = match effort {
        Effort::Small => Compression::new(6),
        Effort::Fast => Compression::none(),
    };
    let packed = write(manifest, component, assets, level);
    packed.map_err(|error| Failure::new("cannot pack the bundle").why(error))
}

fn write(manifest: &str, component: &[u8], assets: &Assets, level: Compression) -> std::io::Result<Vec<u8>> {
    // The header has no time and no name, so that the bytes depend only on the content.
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), level);
    let mut archive = tar::Builder::new(gzip);
    add(&mut archive, "isopod.toml", manifest.as_bytes())?;
    add(&mut archive, "component.wasm", component)?;
    for (path, content) in assets {
        add(&mut archive, &format!("{ASSETS_FOLDER}/{path}"), content)?;
    }
    archive.into_inner()?.finish()
}

fn add(archive: &mut tar::Builder<impl Write>, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn unpack(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn a_bundle_holds_the_manifest_the_component_and_the_assets() {
        for effort in [Effort::Small, Effort::Fast] {
            let assets = Assets::from([("css/a.css".to_owned(), b"p {}".to_vec())]);
            let bytes = pack("name = \"x\"", b"\0asm", &assets, effort).unwrap();
            let expected = [
                ("isopod.toml".to_owned(), b"name = \"x\"".to_vec()),
                ("component.wasm".to_owned(), b"\0asm".to_vec()),
                ("static/css/a.css".to_owned(), b"p {}".to_vec()),
            ];
            assert_eq!(unpack(&bytes), expected);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let packed = || pack("a", b"b", &Assets::new(), Effort::Small).unwrap();
        assert_eq!(packed(), packed());
    }
}
