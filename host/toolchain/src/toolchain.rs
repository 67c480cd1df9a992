//! The handle of this machine's guest toolchain: detected once, then used to create build commands.
//! Never installs.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{self, BuildFailed};
use crate::environment::{self, SHIMS_VARIABLE, SYSROOT_VARIABLE};
use crate::guest_toolchain::{self, GuestToolchain, Missing};
use crate::machine::Machine;
use crate::shims;

/// The detected guest toolchain. Cheap to clone. Detection runs the compiler several times, so
/// detect it once.
#[derive(Clone, Debug)]
pub struct Toolchain {
    description: String,
    variables: Vec<(&'static str, OsString)>,
}

impl Toolchain {
    /// Detects the toolchain. If a linker is needed, this program itself is used: it must call
    /// [`crate::run_as_linker_if_asked`] first in `main` and be built with the feature `linker`.
    pub fn detect() -> Result<Toolchain, Missing> {
        Toolchain::detect_with(std::env::current_exe)
    }

    /// Detects the toolchain; calls `linker` for the path of a program that serves as the linker,
    /// only if one is needed.
    pub fn detect_with(linker: impl FnOnce() -> io::Result<PathBuf>) -> Result<Toolchain, Missing> {
        let machine = Machine::detect();
        match guest_toolchain::choose(&machine)? {
            GuestToolchain::OwnRust => Ok(Toolchain {
                description: machine.rustc.unwrap_or_else(|| "rustc".to_owned()),
                variables: Vec::new(),
            }),
            GuestToolchain::Debian => {
                let key = machine.debian.rustc.unwrap_or_default();
                let cannot = |error: io::Error| Missing {
                    what: "a folder for the guest toolchain".to_owned(),
                    why: error.to_string(),
                    fix: "set XDG_CACHE_HOME to a writable folder, and try again".to_owned(),
                };
                let cache = cache_folder().map_err(cannot)?;
                let shims = linker().and_then(|program| shims::create(&cache, &program)).map_err(cannot)?;
                let sysroot = cache.join(format!("library-{key}"));
                Ok(Toolchain {
                    description: format!("Debian's rustc {key}"),
                    variables: vec![
                        ("PATH", with_first(&shims)?),
                        (SHIMS_VARIABLE, shims.into_os_string()),
                        (SYSROOT_VARIABLE, sysroot.into_os_string()),
                    ],
                })
            }
        }
    }

    /// Returns the compiler's name and version, for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns a shell command that runs `command_line` in `folder`. The caller configures its
    /// output.
    pub fn command(&self, folder: &Path, command_line: &str) -> Command {
        let mut command = build::shell(command_line);
        command.current_dir(folder);
        // The manifest names the component's path after the build; these variables would change it.
        command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
        // If cargo started this process (`cargo xtask`), it describes our package in variables that
        // some build scripts watch. A guest would be recompiled whenever it is built from
        // elsewhere.
        let describes_us = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        for name in environment::names().filter(describes_us) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a build command to completion. `on_line` receives each line of its output, both streams
    /// interleaved.
    pub fn build(&self, folder: &Path, command_line: &str, on_line: impl FnMut(&str)) -> Result<(), BuildFailed> {
        build::run(self.command(folder, command_line), command_line, on_line)
    }
}

fn with_first(folder: &Path) -> Result<OsString, Missing> {
    let present = environment::path();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&present).filter(|old| old != folder));
    std::env::join_paths(folders).map_err(|error| Missing {
        what: "a usable PATH".to_owned(),
        why: format!("it can't contain {}: {error}", folder.display()),
        fix: "set XDG_CACHE_HOME to a folder without a colon in its name".to_owned(),
    })
}

fn cache_folder() -> io::Result<PathBuf> {
    let folder = environment::caches().ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME is set"))?;
    let folder = folder.join("isopod").join("toolchain");
    std::fs::create_dir_all(&folder)
        .map_err(|error| io::Error::new(error.kind(), format!("can't create {}: {error}", folder.display())))?;
    Ok(folder)
}
