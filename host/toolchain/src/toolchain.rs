//! Owns the handle to this machine's way of building guests: found once, then asked for commands. Never installs.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{self, BuildFailed};
use crate::guest_toolchain::{self, GuestToolchain, Missing};
use crate::machine::Machine;
use crate::shims::{self, SHIMS_VARIABLE, SYSROOT_VARIABLE};

/// How guests are built here. Cheap to clone; finding it runs the compiler a few times, so find it once.
#[derive(Clone, Debug)]
pub struct Toolchain {
    description: String,
    variables: Vec<(&'static str, OsString)>,
}

impl Toolchain {
    /// Finds the toolchain, this program itself being the linker where one is needed: it must call
    /// [`crate::run_as_linker_if_asked`] first thing in `main` and be built with the feature `linker`.
    pub fn detect() -> Result<Toolchain, Missing> {
        Toolchain::detect_with(std::env::current_exe)
    }

    /// Finds the toolchain; `linker` is asked for a program that plays the linker, only where one is needed.
    pub fn detect_with(linker: impl FnOnce() -> io::Result<PathBuf>) -> Result<Toolchain, Missing> {
        let machine = Machine::look();
        match guest_toolchain::choose(&machine)? {
            GuestToolchain::OwnRust => Ok(Toolchain {
                description: machine.rustc.unwrap_or_else(|| "rustc".to_owned()),
                variables: Vec::new(),
            }),
            GuestToolchain::Debian => {
                let key = machine.debian.rustc.unwrap_or_default();
                let cannot = |error: io::Error| Missing {
                    what: "a place for the guest toolchain".to_owned(),
                    why: error.to_string(),
                    fix: "set XDG_CACHE_HOME to a folder that can be written, and try again".to_owned(),
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

    /// Which compiler it is, for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// A shell that will run `command_line` in `folder`. The caller chooses what becomes of its output.
    pub fn command(&self, folder: &Path, command_line: &str) -> Command {
        let mut command = build::shell(command_line);
        command.current_dir(folder);
        // A manifest says where its build leaves the component; these would move it elsewhere.
        command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
        // Where a cargo runs us (`cargo xtask`), it describes our package in variables that some build scripts watch: a
        // guest would be compiled again whenever it is built the other way.
        let describes_us = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| describes_us(name)) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a build command to its end. `on_line` sees each line of its output, both streams in their order.
    pub fn build(&self, folder: &Path, command_line: &str, on_line: impl FnMut(&str)) -> Result<(), BuildFailed> {
        build::run(self.command(folder, command_line), command_line, on_line)
    }
}

fn with_first(folder: &Path) -> Result<OsString, Missing> {
    let present = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&present).filter(|old| old != folder));
    std::env::join_paths(folders).map_err(|error| Missing {
        what: "a usable PATH".to_owned(),
        why: format!("{} cannot stand on it: {error}", folder.display()),
        fix: "set XDG_CACHE_HOME to a folder without a colon in its name".to_owned(),
    })
}

fn cache_folder() -> io::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let folder = caches.ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME is set"))?;
    let folder = folder.join("isopod").join("toolchain");
    std::fs::create_dir_all(&folder)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot create {}: {error}", folder.display())))?;
    Ok(folder)
}
