//! The guests' standard library for the Debian toolchain: compiled from Debian's sources once per
//! compiler, stored in the cache folder and shared by all projects. Never changes Debian's files.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::TARGET;
use crate::machine::{DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_WASI_LIBC, output_of};

/// Creates `sysroot` unless it exists. If several processes call it concurrently, one compiles and
/// the others wait.
pub(crate) fn prepare(sysroot: &Path) -> io::Result<()> {
    if sysroot.is_dir() {
        return Ok(());
    }
    let (Some(cache), Some(name)) = (sysroot.parent(), sysroot.file_name()) else {
        return Err(io::Error::other("the folder for the guests' standard library is unknown"));
    };
    fs::create_dir_all(cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    if sysroot.is_dir() {
        return Ok(());
    }
    eprintln!("isopod: compiling Rust's standard library for {TARGET}, once on this machine (a minute or two)");
    let work = cache.join(format!("{}.work", name.display()));
    // Files of an interrupted run aren't trusted.
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    compile(&work)?;
    let staged = work.join("sysroot");
    collect(&work.join("target").join(TARGET).join("release/deps"), &staged)?;
    fs::rename(&staged, sysroot)?;
    fs::remove_dir_all(&work)
}

/// Compiles the standard library with Debian's cargo, as a dependency of an empty crate.
fn compile(work: &Path) -> io::Result<()> {
    let krate = work.join("crate");
    fs::create_dir_all(krate.join("src"))?;
    fs::write(krate.join("Cargo.toml"), "[package]\nname = \"isopod-sysroot\"\nedition = \"2021\"\n[workspace]\n")?;
    fs::write(krate.join("src/lib.rs"), "#![no_std]\n")?;
    let mut command = Command::new(DEBIAN_CARGO);
    command.args(["build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort", "--target-dir"]);
    command.arg(work.join("target")).current_dir(&krate).stdin(Stdio::null());
    // The library may use unstable features and guests may not, so this is set only here.
    command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    // Guests are optimised together with the library (LTO), which requires its bitcode.
    command.env("RUSTFLAGS", "-C embed-bitcode=yes");
    for foreign in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET", "LD_LIBRARY_PATH"] {
        command.env_remove(foreign);
    }
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "can't compile Rust's standard library for {TARGET} ({status}); see the output above"
    )))
}

/// Arranges the libraries in the layout that the compiler expects.
fn collect(libraries: &Path, sysroot: &Path) -> io::Result<()> {
    let rustlib = sysroot.join("lib/rustlib");
    let own = rustlib.join(TARGET).join("lib");
    fs::create_dir_all(&own)?;
    for entry in fs::read_dir(libraries)? {
        let entry = entry?;
        let is_library = entry.path().extension().is_some_and(|extension| extension == "rlib");
        if is_library && !entry.file_name().to_string_lossy().starts_with("libisopod_sysroot") {
            fs::rename(entry.path(), own.join(entry.file_name()))?;
        }
    }
    link_folder(Path::new(DEBIAN_WASI_LIBC), &own.join("self-contained"))?;
    // Build scripts and macros run on this machine and need its library beside the guests'.
    if let Some(host) = output_of(DEBIAN_RUSTC, &["--print", "target-libdir"])
        && let Some(host) = Path::new(&host).parent()
        && let Some(name) = host.file_name()
    {
        link_folder(host, &rustlib.join(name))?;
    }
    Ok(())
}

#[cfg(unix)]
fn link_folder(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn link_folder(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::Error::other("Debian's toolchain exists on Linux only"))
}
