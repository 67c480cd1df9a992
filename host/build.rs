//! Lists the sources of the Rust SDK so that the program embeds them: `isopod new` copies them into
//! projects, which then build anywhere. Never changes the SDK.

#![expect(clippy::expect_used, reason = "a build script reports a failure by a panic")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The file types that belong to the SDK; others in its folder (build output, lock files) are left
/// out.
const ENDINGS: [&str; 4] = ["rs", "toml", "wit", "md"];
const FOLDERS_LEFT_OUT: [&str; 4] = ["target", "tests", "examples", "benches"];

fn main() {
    let host = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets the package's folder"));
    let sdk = host.join("../sdk/rust");
    let sdk = sdk.canonicalize().expect("the SDK's sources are beside the host's");
    let mut files = Vec::new();
    collect(&sdk, &mut files);
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&sdk).expect("the file was found below the SDK's folder");
        writeln!(list, "    ({:?}, include_bytes!({:?})),", name.display().to_string(), file.display().to_string())
            .expect("writing to a String can't fail");
    }
    list.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("Cargo sets the output folder"));
    std::fs::write(out.join("sdk_files.rs"), list).expect("Cargo's folder is writable");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    // The folder is listed as well as its files, so that a new file triggers a rebuild.
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in std::fs::read_dir(folder).expect("a folder of the SDK can be read") {
        let path = entry.expect("a folder of the SDK can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !FOLDERS_LEFT_OUT.contains(&&*name) && !name.starts_with('.') {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
}
