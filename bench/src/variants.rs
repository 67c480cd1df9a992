//! Creates new code for the benchmarks that replace code: one component in many variants. Never
//! compiles one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::contender::GREETING;
use super::folder;

/// A component in any number of variants. Each has another greeting, so that its responses identify
/// it and no variant was compiled before.
pub(super) struct Code {
    bytes: Vec<u8>,
    greeting_at: usize,
    number: u32,
    file: PathBuf,
}

impl Code {
    pub(super) fn new(component: &Path, file: PathBuf) -> Result<Code> {
        let bytes = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
        let offsets: Vec<usize> = offsets_of(GREETING.as_bytes(), &bytes);
        let [greeting_at] = offsets[..] else {
            bail!("{} contains {GREETING:?} {} times instead of once", component.display(), offsets.len());
        };
        folder::make(file.parent().context("the component's file has no parent folder")?)?;
        Ok(Code { bytes, greeting_at, number: 0, file })
    }

    /// Returns the greeting of the current variant. It has the original's length, so that it can be
    /// patched in place.
    pub(super) fn greeting(&self) -> String {
        format!("Hello, {:05}!", self.number)
    }

    /// Returns the current variant.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Overwrites the file with the next variant, like a compiler.
    pub(super) fn replace(&mut self) -> Result<()> {
        self.number += 1;
        let greeting = self.greeting();
        self.bytes[self.greeting_at..][..greeting.len()].copy_from_slice(greeting.as_bytes());
        fs::write(&self.file, &self.bytes).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// Returns where the wanted bytes begin.
pub(super) fn offsets_of(wanted: &[u8], bytes: &[u8]) -> Vec<usize> {
    bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_differs_only_in_its_greeting() {
        let folder = std::env::temp_dir().join(format!("isopod-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let original = folder.join("original");
        fs::write(&original, b"..Hello, world!..").expect("a file");
        let mut code = Code::new(&original, folder.join("built/app.wasm")).expect("one greeting");
        code.replace().expect("a variant");
        assert_eq!(fs::read(folder.join("built/app.wasm")).expect("a file"), b"..Hello, 00001!..");
        fs::write(&original, b"no greeting").expect("a file");
        assert!(Code::new(&original, folder.join("built/app.wasm")).is_err());
        fs::remove_dir_all(&folder).expect("the folder can be removed");
    }
}
