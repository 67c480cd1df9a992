//! Owns finding the components that are built from `examples/`. Never builds one.

use std::path::{Path, PathBuf};

/// The repository that this harness was built from.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The file of an example's component.
///
/// # Panics
/// Where it was not built.
pub fn guest_path(name: &str) -> PathBuf {
    let file = isopod_toolchain::guest_file(&repository(), name);
    assert!(
        file.is_file(),
        "the component {} is not there. Build it with `cargo xtask guests {name}`; `cargo xtask test` does so by itself",
        file.display()
    );
    file
}

/// An example's component.
///
/// # Panics
/// Where it was not built.
pub fn guest(name: &str) -> Vec<u8> {
    let file = guest_path(name);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{} cannot be read: {error}", file.display()))
}

/// An example's component with a note in it that no guest reads: the same code, and another digest.
pub fn guest_noted(name: &str, note: u8) -> Vec<u8> {
    let mut component = guest(name);
    // A custom section: its id, its length, the length of its name, its name and the note.
    component.extend_from_slice(&[0, 6, 4, b'n', b'o', b't', b'e', note]);
    component
}

/// An example's component, if it could be built on this machine: JavaScript needs npm.
pub fn guest_if_built(name: &str) -> Option<Vec<u8>> {
    let file = isopod_toolchain::guest_file(&repository(), name);
    if !file.is_file() {
        println!("note: {name} is passed over, since it was not built here. `cargo xtask guests {name}` says why");
        return None;
    }
    Some(guest(name))
}
