//! Owns the guests' standard library of the Debian road: compiled from Debian's sources once for each compiler, kept in
//! the cache folder and shared by all projects. Never touches what Debian installed.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::TARGET;
use crate::machine::{DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_WASI_LIBC, output_of};

/// Makes `sysroot` unless it is there. Of several processes that come at once, one works and the others wait.
pub(crate) fn prepare(sysroot: &Path) -> io::Result<()> {
    if sysroot.is_dir() {
        return Ok(());
    }
    let (Some(cache), Some(name)) = (sysroot.parent(), sysroot.file_name()) else {
        return Err(io::Error::other("the folder for the guests' standard library is not known"));
    };
    fs::create_dir_all(cache)?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    if sysroot.is_dir() {
        return Ok(());
    }
    eprintln!("isopod: compiling Rust's standard library for {TARGET}, once on this machine (a minute or two)");
    let work = cache.join(format!("{}.work", name.display()));
    // What an interrupted run left is not trusted.
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    compile(&work)?;
    let staged = work.join("sysroot");
    collect(&work.join("target").join(TARGET).join("release/deps"), &staged)?;
    fs::rename(&staged, sysroot)?;
    fs::remove_dir_all(&work)
}

/// Has Debian's cargo build the standard library beneath a crate that is empty.
fn compile(work: &Path) -> io::Result<()> {
    let krate = work.join("crate");
    fs::create_dir_all(krate.join("src"))?;
    fs::write(krate.join("Cargo.toml"), "[package]\nname = \"isopod-sysroot\"\nedition = \"2021\"\n[workspace]\n")?;
    fs::write(krate.join("src/lib.rs"), "#![no_std]\n")?;
    let mut command = Command::new(DEBIAN_CARGO);
    command.args(["build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort", "--target-dir"]);
    command.arg(work.join("target")).current_dir(&krate).stdin(Stdio::null());
    // The library may use what is not stable yet; guests may not, so this is set here and nowhere else.
    command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    // Guests optimise the library together with themselves (LTO), for which it must carry its own bitcode.
    command.env("RUSTFLAGS", "-C embed-bitcode=yes");
    for foreign in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET", "LD_LIBRARY_PATH"] {
        command.env_remove(foreign);
    }
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("Rust's standard library could not be compiled for {TARGET} ({status}), see above")))
}

/// Lays the libraries out as the compiler looks for them.
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
    // Build scripts and macros run on this machine and need its own library beside the guests'.
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
