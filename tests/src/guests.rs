//! Finds the components that are built from `examples/` and `plugins/`. Never builds one.

use std::path::{Path, PathBuf};

/// Returns the repository that this harness was built from.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Returns the path of an example's component.
///
/// # Panics
/// If it was not built.
pub fn guest_path(name: &str) -> PathBuf {
    let file = isopod_toolchain::guest_file(&repository(), name);
    assert!(
        file.is_file(),
        "the component {} is missing: build it with `cargo xtask guests {name}` (`cargo xtask test` does this)",
        file.display()
    );
    file
}

/// Returns an example's component.
///
/// # Panics
/// If it was not built.
pub fn guest(name: &str) -> Vec<u8> {
    let file = guest_path(name);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{} cannot be read: {error}", file.display()))
}

/// Returns an example's component with a note that no guest reads: the same code with another
/// digest.
pub fn guest_noted(name: &str, note: u8) -> Vec<u8> {
    let mut component = guest(name);
    // A custom section: its id, its length, the length of its name, its name and the note.
    component.extend_from_slice(&[0, 6, 4, b'n', b'o', b't', b'e', note]);
    component
}

/// Returns an example's component if it was built on this machine: JavaScript needs npm.
pub fn guest_if_built(name: &str) -> Option<Vec<u8>> {
    let file = isopod_toolchain::guest_file(&repository(), name);
    if !file.is_file() {
        println!("note: skipped {name}: it was not built here; `cargo xtask guests {name}` prints the reason");
        return None;
    }
    Some(guest(name))
}
