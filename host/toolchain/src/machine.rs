//! Detects the facts about this machine that decide how guests are built. Never installs and never
//! decides.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{TARGET, environment};

/// The detected facts. Plain data, so that decisions can be tested with machines that don't exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// `rustc --version` of the user's own compiler.
    pub(crate) rustc: Option<String>,
    /// The user's own compiler has the library for [`TARGET`].
    pub(crate) has_target: bool,
    pub(crate) rustup: bool,
    pub(crate) debian: Debian,
    pub(crate) npm: bool,
    /// `python3` exists and can create virtual environments, for which Debian has a separate
    /// package.
    pub(crate) python: bool,
    pub(crate) forced: Option<String>,
}

/// The files installed by Debian's packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Debian {
    pub(crate) apt: bool,
    pub(crate) root: bool,
    /// `release-commit` of `/usr/bin/rustc`; identifies the libraries that it compiled.
    pub(crate) rustc: Option<String>,
    pub(crate) cargo: bool,
    pub(crate) library_sources: bool,
    pub(crate) wasi_libc: bool,
    pub(crate) wasm_ld: Option<PathBuf>,
}

pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub(crate) const DEBIAN_CARGO: &str = "/usr/bin/cargo";
pub(crate) const DEBIAN_WASI_LIBC: &str = "/usr/lib/wasm32-wasi";

impl Machine {
    pub(crate) fn detect() -> Machine {
        Machine {
            rustc: output_of("rustc", &["--version"]),
            has_target: output_of("rustc", &["--print", "target-libdir", "--target", TARGET])
                .is_some_and(|folder| Path::new(&folder).is_dir()),
            rustup: find_on_path("rustup").is_some(),
            debian: Debian::detect(),
            npm: find_on_path("npm").is_some(),
            python: output_of("python3", &["-c", "import ensurepip, venv"]).is_some(),
            forced: environment::forced_toolchain(),
        }
    }
}

impl Debian {
    fn detect() -> Debian {
        let sysroot = output_of(DEBIAN_RUSTC, &["--print", "sysroot"]);
        let sources = sysroot.map(|folder| Path::new(&folder).join("lib/rustlib/src/rust/library/Cargo.lock"));
        Debian {
            apt: find_on_path("apt-get").is_some(),
            root: output_of("id", &["-u"]).as_deref() == Some("0"),
            rustc: output_of(DEBIAN_RUSTC, &["-vV"]).as_deref().and_then(compiler_key),
            cargo: Path::new(DEBIAN_CARGO).is_file(),
            library_sources: sources.is_some_and(|file| file.is_file()),
            wasi_libc: Path::new(DEBIAN_WASI_LIBC).join("crt1-reactor.o").is_file(),
            wasm_ld: find_wasm_ld(),
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.rustc.is_some() && self.cargo && self.library_sources && self.wasi_libc && self.wasm_ld.is_some()
    }
}

/// Derives a key for the compiler's output from `rustc -vV`: libraries compiled by another version
/// are unusable.
fn compiler_key(verbose_version: &str) -> Option<String> {
    let field = |name: &str| verbose_version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let commit: String = field("commit-hash:").unwrap_or("unknown").chars().take(9).collect();
    Some(format!("{}-{commit}", field("release:")?))
}

/// Returns the newest `wasm-ld-N` of the system, or a plain `wasm-ld`. The linker must be able to
/// read the compiler's output, and Debian's updates move both.
pub(crate) fn find_wasm_ld() -> Option<PathBuf> {
    let names: Vec<String> = std::fs::read_dir("/usr/bin")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    let newest = newest_numbered("wasm-ld-", &names);
    newest
        .map(|name| Path::new("/usr/bin").join(name))
        .or_else(|| Some(PathBuf::from("/usr/bin/wasm-ld")).filter(|file| file.is_file()))
}

/// Returns the name with the highest number after `prefix`; skips names without a number.
pub(crate) fn newest_numbered(prefix: &str, names: &[String]) -> Option<String> {
    let numbered = names.iter().filter_map(|name| Some((name.strip_prefix(prefix)?.parse::<u32>().ok()?, name)));
    numbered.max().map(|(_, name)| name.clone())
}

pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    find_in(&environment::path(), program, None)
}

/// Returns the first `program` in the folders of `path`, except for the folder `without`.
pub(crate) fn find_in(path: &OsString, program: &str, without: Option<&Path>) -> Option<PathBuf> {
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(path)
        .filter(|folder| Some(folder.as_path()) != without)
        .map(|folder| folder.join(&name))
        .find(|file| file.is_file())
}

/// Returns the trimmed output of a program if it succeeds.
pub(crate) fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_linker_is_chosen_by_number() {
        let names = ["wasm-ld-9", "wasm-ld-22", "wasm-ld-19", "wasm-ld-old", "ld"].map(String::from);
        assert_eq!(newest_numbered("wasm-ld-", &names).as_deref(), Some("wasm-ld-22"));
        assert_eq!(newest_numbered("lld-", &names), None);
    }

    #[test]
    fn a_compiler_key_has_its_release_and_commit() {
        let text =
            "rustc 1.96.0 (x)\nbinary: rustc\ncommit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\nrelease: 1.96.0";
        assert_eq!(compiler_key(text).as_deref(), Some("1.96.0-ac68faa20"));
        assert_eq!(compiler_key("release: 2.0.0").as_deref(), Some("2.0.0-unknown"));
        assert_eq!(compiler_key("nonsense"), None);
    }

    #[test]
    fn a_folder_can_be_excluded_from_the_search() {
        let folders = tempfile::tempdir().expect("a temporary folder");
        let (first, second) = (folders.path().join("a"), folders.path().join("b"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("cargo"), "").expect("a file");
        }
        let path = std::env::join_paths([&first, &second]).expect("a search path");
        assert_eq!(find_in(&path, "cargo", None), Some(first.join("cargo")));
        assert_eq!(find_in(&path, "cargo", Some(&first)), Some(second.join("cargo")));
    }
}
