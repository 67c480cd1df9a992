//! The shims of the Debian toolchain: this program under four names, in a folder that is first on
//! PATH. The name under which it is started selects the shim. Never used if the user's own Rust has
//! the target.
//!
//! ```text
//! cargo build --target wasm32-wasip2          the user's command, unchanged
//!   └ cargo             (shim)  compiles the library once, starts Debian's cargo
//!       │                       (for other targets, the user's cargo)
//!       └ isopod-rustc  (shim)  adds our sysroot for the guest's target, starts Debian's rustc
//!           └ wasm-component-ld (shim)  the component linker, inside this program
//!               └ wasm-ld       (shim)  adds a library's start-up code, starts wasm-ld
//! ```

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{self, DEBIAN_CARGO, DEBIAN_RUSTC};
use crate::{TARGET, environment, sysroot};

const CARGO: &str = "cargo";
const RUSTC: &str = "isopod-rustc";
const COMPONENT_LD: &str = "wasm-component-ld";
const WASM_LD: &str = "wasm-ld";

/// Runs as the shim that matches the name of this process, and doesn't return. Returns immediately
/// for any other name. Call it first in `main`.
pub fn run_as_linker_if_asked() {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_owned();
    // Other programs are named `cargo` and `wasm-ld` too: without our variable, the name is a
    // coincidence.
    let Some(shims) = environment::shims() else { return };
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let failure = match name.to_str() {
        Some(CARGO) => run_cargo(&shims, args),
        Some(RUSTC) => run_rustc(args),
        Some(COMPONENT_LD) => run_component_ld(),
        Some(WASM_LD) => run_wasm_ld(args),
        _ => return,
    };
    eprintln!("error: {failure}");
    std::process::exit(1);
}

fn run_cargo(shims: &Path, args: Vec<OsString>) -> io::Error {
    if !builds_a_guest(&args) {
        let Some(cargo) = machine::find_in(&environment::path(), CARGO, Some(shims)) else {
            return io::Error::other("no cargo on PATH; install Rust from https://rustup.rs");
        };
        return become_program(Command::new(cargo).args(args));
    }
    if let Err(error) = sysroot::prepare(&environment::sysroot()) {
        return error;
    }
    let mut command = Command::new(DEBIAN_CARGO);
    command.args(args).env("RUSTC", shims.join(RUSTC));
    // Another cargo (`cargo xtask`) sets this variable to its own libraries, which Debian's
    // compiler mustn't load.
    command.env_remove("LD_LIBRARY_PATH");
    become_program(&mut command)
}

fn run_rustc(args: Vec<OsString>) -> io::Error {
    let mut command = Command::new(DEBIAN_RUSTC);
    if builds_a_guest(&args) {
        command.arg("--sysroot").arg(environment::sysroot());
    }
    become_program(command.args(args))
}

#[cfg(feature = "linker")]
fn run_component_ld() -> io::Error {
    wasm_component_ld::main();
    std::process::exit(0)
}

#[cfg(not(feature = "linker"))]
fn run_component_ld() -> io::Error {
    io::Error::other("this program was built without the component linker; use `isopod` or `isopod-linker`")
}

fn run_wasm_ld(mut args: Vec<OsString>) -> io::Error {
    let Some(linker) = machine::find_wasm_ld() else {
        return io::Error::other("no wasm-ld in /usr/bin; install Debian's newest package lld-N");
    };
    let start_up = environment::sysroot().join("lib/rustlib").join(TARGET).join("lib/self-contained/crt1-reactor.o");
    if wants_reactor(&args) {
        args.push(start_up.into_os_string());
    } else if is_program(&args) {
        args.push(start_up.into_os_string());
        args.push("--export=_initialize".into());
    }
    become_program(Command::new(linker).args(args))
}

/// Returns whether this `cargo` or `rustc` call is for our target. A leading `+toolchain` is the
/// user's own choice of a compiler and is respected.
fn builds_a_guest(args: &[OsString]) -> bool {
    let chooses_toolchain = args.first().is_some_and(|arg| arg.as_encoded_bytes().starts_with(b"+"));
    let with_equals = format!("--target={TARGET}");
    let named = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == OsStr::new(&with_equals));
    let following =
        args.windows(2).take_while(|pair| pair[0] != "--").any(|pair| pair[0] == "--target" && pair[1] == TARGET);
    !chooses_toolchain && (named || following)
}

/// Returns whether the start-up code for a library is needed. A library has no entry point, so the
/// compiler links no start-up code; every call from outside would then initialise and tear down the
/// C library again. A program has its own (`crt1-command.o`, from the sysroot).
fn wants_reactor(args: &[OsString]) -> bool {
    let has = |wanted: &str| args.iter().any(|arg| arg == wanted);
    has("--no-entry") && !has("-shared") && !has("--shared")
}

/// Returns whether a program is linked. Debian's start-up code of programs doesn't initialise the C
/// library; the linker then wraps every export with the initialisation, including `cabi_realloc`,
/// which the host calls when a guest mustn't call imports. With the library's start-up code added,
/// everything is initialised once, before the program starts.
fn is_program(args: &[OsString]) -> bool {
    args.iter().any(|arg| Path::new(arg).file_name().is_some_and(|name| name == "crt1-command.o"))
}

#[cfg(unix)]
fn become_program(command: &mut Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    io::Error::new(error.kind(), format!("can't start {}: {error}", command.get_program().display()))
}

#[cfg(not(unix))]
fn become_program(_command: &mut Command) -> io::Error {
    io::Error::other("Debian's toolchain is available on Linux only")
}

/// Creates the folder of shims that link to `program`. Each program has a separate folder, so that
/// rebuilding or deleting one doesn't break another's builds.
pub(crate) fn create(cache: &Path, program: &Path) -> io::Result<PathBuf> {
    let folder = cache.join("shims").join(format!("{:016x}", fingerprint(program.as_os_str().as_encoded_bytes())));
    std::fs::create_dir_all(&folder)?;
    for name in [CARGO, RUSTC, COMPONENT_LD, WASM_LD] {
        let link = folder.join(name);
        if std::fs::read_link(&link).is_ok_and(|target| target == program) {
            continue;
        }
        // Created beside and renamed, so that a concurrent build always finds a link.
        let fresh = folder.join(format!(".{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        symlink(program, &fresh)?;
        std::fs::rename(&fresh, &link)?;
    }
    Ok(folder)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::Error::other("Debian's toolchain is available on Linux only"))
}

/// FNV-1a: names a folder, with no security purpose.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_builds_for_our_target_are_intercepted() {
        assert!(builds_a_guest(&args("build --release --target wasm32-wasip2")));
        assert!(builds_a_guest(&args("build --target=wasm32-wasip2 --release")));
        assert!(!builds_a_guest(&args("test")));
        assert!(!builds_a_guest(&args("build --target wasm32-unknown-unknown")));
        assert!(!builds_a_guest(&args("build --target-dir wasm32-wasip2")));
    }

    #[test]
    fn a_programs_own_target_argument_is_ignored() {
        assert!(!builds_a_guest(&args("run -- --target wasm32-wasip2")));
        assert!(!builds_a_guest(&args("run -- --target=wasm32-wasip2")));
    }

    #[test]
    fn a_toolchain_named_by_the_user_is_respected() {
        assert!(!builds_a_guest(&args("+nightly build --target wasm32-wasip2")));
    }

    #[test]
    fn a_library_gets_start_up_code_and_a_program_does_not() {
        assert!(wants_reactor(&args("--export hello g.o -o g.wasm --gc-sections --no-entry -O3")));
        assert!(!wants_reactor(&args("crt1-command.o b.o -o b.wasm --gc-sections -O3")));
        assert!(!wants_reactor(&args("-shared --no-entry g.o")));
        assert!(is_program(&args("/lib/crt1-command.o b.o -o b.wasm")));
        assert!(!is_program(&args("--export hello g.o -o g.wasm --no-entry")));
    }

    #[cfg(unix)]
    #[test]
    fn shims_link_to_the_program_and_are_created_once() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let program = Path::new("/opt/isopod");
        let folder = create(cache.path(), program).expect("shims");
        assert_eq!(create(cache.path(), program).expect("shims again"), folder);
        assert_ne!(create(cache.path(), Path::new("/opt/other")).expect("other shims"), folder);
        for name in [CARGO, RUSTC, COMPONENT_LD, WASM_LD] {
            assert_eq!(std::fs::read_link(folder.join(name)).expect("a link"), program);
        }
        assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 4);
    }
}
