//! Owns making new code for the benchmarks that replace code: one component in many variants. Never builds one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::contender::GREETING;

/// The component, in as many variants as are wanted. Each greets differently, so that its answers tell it from the
/// others, and so that none of them was ever compiled before.
pub(super) struct Code {
    bytes: Vec<u8>,
    greeting_at: usize,
    number: u32,
    file: PathBuf,
}

impl Code {
    pub(super) fn new(component: &Path, file: PathBuf) -> Result<Code> {
        let bytes = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
        let places: Vec<usize> = places_of(GREETING.as_bytes(), &bytes);
        let [greeting_at] = places[..] else {
            bail!("{} holds {GREETING:?} {} times instead of once", component.display(), places.len());
        };
        super::make_folder(file.parent().context("the component's file is in a folder")?)?;
        Ok(Code { bytes, greeting_at, number: 0, file })
    }

    /// As long as the original, so that it can stand in its place.
    pub(super) fn greeting(&self) -> String {
        format!("Hello, {:05}!", self.number)
    }

    /// The present variant.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the next variant over the last, as a compiler does.
    pub(super) fn replace(&mut self) -> Result<()> {
        self.number += 1;
        let greeting = self.greeting();
        self.bytes[self.greeting_at..][..greeting.len()].copy_from_slice(greeting.as_bytes());
        fs::write(&self.file, &self.bytes).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

fn places_of(wanted: &[u8], bytes: &[u8]) -> Vec<usize> {
    bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_differs_from_the_original_in_its_greeting_only() {
        let folder = std::env::temp_dir().join(format!("isopod-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let original = folder.join("original");
        fs::write(&original, b"..Hello, world!..").expect("a file");
        let mut code = Code::new(&original, folder.join("built/app.wasm")).expect("one greeting");
        code.replace().expect("a variant");
        assert_eq!(fs::read(folder.join("built/app.wasm")).expect("a file"), b"..Hello, 00001!..");
        fs::write(&original, b"no greeting").expect("a file");
        assert!(Code::new(&original, folder.join("built/app.wasm")).is_err());
        fs::remove_dir_all(&folder).expect("nothing is left behind");
    }
}
