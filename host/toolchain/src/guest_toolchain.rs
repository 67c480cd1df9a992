//! Chooses between the two guest toolchains, and describes the missing parts of both. Pure: reads a
//! [`Machine`] only, never the machine itself.

use crate::machine::Machine;
use crate::{FORCE_VARIABLE, TARGET};

/// The toolchain that builds guests on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestToolchain {
    /// The user's own Rust, which has the target; a build command runs unchanged.
    OwnRust,
    /// Debian's compiler with the shims.
    Debian,
}

/// A missing requirement for building guests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is missing: {why}\n  to fix it: {fix}")]
pub struct Missing {
    pub what: String,
    pub why: String,
    /// The command that installs it.
    pub fix: String,
}

pub(crate) fn choose(machine: &Machine) -> Result<GuestToolchain, Missing> {
    match machine.forced.as_deref() {
        Some("rustup") if machine.has_target => Ok(GuestToolchain::OwnRust),
        Some("debian") if machine.debian.is_complete() => Ok(GuestToolchain::Debian),
        Some(forced @ ("rustup" | "debian")) => Err(Missing {
            what: format!("the {forced} guest toolchain"),
            why: format!("{FORCE_VARIABLE} requires it, but it is not completely installed"),
            fix: if forced == "rustup" { rustup_fix() } else { debian_fix(machine) },
        }),
        Some(other) => Err(Missing {
            what: "a known guest toolchain".to_owned(),
            why: format!("{FORCE_VARIABLE} is {other:?}; it can be \"rustup\" or \"debian\""),
            fix: format!("unset {FORCE_VARIABLE}"),
        }),
        None if machine.has_target => Ok(GuestToolchain::OwnRust),
        None if machine.debian.is_complete() => Ok(GuestToolchain::Debian),
        None => Err(nothing_installed(machine)),
    }
}

fn nothing_installed(machine: &Machine) -> Missing {
    let fix = match (machine.rustup, machine.debian.apt) {
        (true, true) => format!("{}\n  or, if that can't be downloaded: {}", rustup_fix(), debian_fix(machine)),
        (true, false) => rustup_fix(),
        (false, true) => debian_fix(machine),
        (false, false) => format!("install Rust from https://rustup.rs, then: {}", rustup_fix()),
    };
    let why = match &machine.rustc {
        Some(version) => format!("{version} has no library for that target"),
        None => "there is no Rust compiler on PATH".to_owned(),
    };
    Missing { what: format!("Rust's target {TARGET}, which guests are compiled for,"), why, fix }
}

pub(crate) fn rustup_fix() -> String {
    format!("rustup target add {TARGET}")
}

pub(crate) fn debian_fix(machine: &Machine) -> String {
    let sudo = if machine.debian.root { "" } else { "sudo " };
    // The shell finds the newest linker itself, so that the command stays correct when Debian's
    // versions change.
    format!(
        "{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends rustc-web cargo-web rust-web-src \
         wasi-libc $(apt-cache search --names-only '^lld-[0-9]+$' | cut -d' ' -f1 | sort -V | tail -1)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Debian;

    fn debian_machine() -> Machine {
        let debian = Debian {
            apt: true,
            root: true,
            rustc: Some("1.96.0-ac68faa20".to_owned()),
            cargo: true,
            library_sources: true,
            wasi_libc: true,
            wasm_ld: Some("/usr/bin/wasm-ld-22".into()),
        };
        Machine { rustc: Some("rustc 1.95.0".to_owned()), rustup: true, debian, ..Machine::default() }
    }

    #[test]
    fn the_users_own_target_comes_first() {
        let machine = Machine { has_target: true, ..debian_machine() };
        assert_eq!(choose(&machine), Ok(GuestToolchain::OwnRust));
    }

    #[test]
    fn debians_packages_are_used_without_the_target() {
        assert_eq!(choose(&debian_machine()), Ok(GuestToolchain::Debian));
    }

    #[test]
    fn an_incomplete_set_of_debians_packages_is_not_used() {
        let mut machine = debian_machine();
        machine.debian.library_sources = false;
        let missing = choose(&machine).expect_err("no library sources");
        assert!(missing.fix.starts_with("rustup target add wasm32-wasip2"), "{missing}");
        assert!(missing.fix.contains("apt-get install"), "{missing}");
    }

    #[test]
    fn the_fix_for_a_bare_machine_is_to_install_rust() {
        let missing = choose(&Machine::default()).expect_err("nothing there");
        assert!(missing.to_string().contains("https://rustup.rs"), "{missing}");
        assert!(missing.to_string().contains("no Rust compiler"), "{missing}");
    }

    #[test]
    fn only_root_needs_no_sudo() {
        let mut machine = debian_machine();
        assert!(!debian_fix(&machine).contains("sudo"));
        machine.debian.root = false;
        assert!(debian_fix(&machine).contains("sudo apt-get install"));
    }

    #[test]
    fn an_installed_toolchain_can_be_forced_and_an_unknown_one_can_not() {
        let forced = |guest_toolchain: &str| Machine {
            has_target: true,
            forced: Some(guest_toolchain.to_owned()),
            ..debian_machine()
        };
        assert_eq!(choose(&forced("debian")), Ok(GuestToolchain::Debian));
        assert_eq!(choose(&forced("rustup")), Ok(GuestToolchain::OwnRust));
        assert!(choose(&forced("nix")).expect_err("unknown").why.contains("\"nix\""));
        let unable = Machine { has_target: false, ..forced("rustup") };
        assert!(choose(&unable).is_err());
    }
}
