//! The checks of the guest toolchain that `isopod doctor` and `cargo xtask setup` print. Never
//! changes the machine.

use crate::TARGET;
use crate::guest_toolchain::{self, GuestToolchain};
use crate::machine::Machine;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// The result, for people.
    pub detail: String,
    /// The command that fixes it; empty if the check passed.
    pub fix: String,
    /// Whether everyday work requires it; a failed optional check only rules out some languages.
    pub required: bool,
}

/// Returns the checks of everything that building guests requires.
pub fn checks() -> Vec<Check> {
    of(&Machine::detect())
}

fn of(machine: &Machine) -> Vec<Check> {
    let rust = Check {
        name: "Rust compiler".to_owned(),
        ok: machine.rustc.is_some(),
        detail: machine.rustc.clone().unwrap_or_else(|| "no rustc on PATH".to_owned()),
        fix: if machine.rustc.is_some() { String::new() } else { "install Rust from https://rustup.rs".to_owned() },
        required: true,
    };
    let (ok, detail, fix) = match guest_toolchain::choose(machine) {
        Ok(GuestToolchain::OwnRust) => (true, format!("your own Rust has {TARGET}"), String::new()),
        Ok(GuestToolchain::Debian) => (true, "Debian's packages build guests".to_owned(), String::new()),
        Err(missing) => (false, missing.why, missing.fix),
    };
    let guests = Check { name: "guest toolchain".to_owned(), ok, detail, fix, required: true };
    let javascript = language("npm", machine.npm, "JavaScript", "install Node.js, which brings npm");
    let venv = "install Python 3 with venv; on Debian or Ubuntu: apt-get install python3 python3-venv";
    let python = language("python3", machine.python, "Python", venv);
    vec![rust, guests, javascript, python]
}

/// Checks a program that only guests in another language than Rust require.
fn language(program: &str, ok: bool, language: &str, fix: &str) -> Check {
    Check {
        name: program.to_owned(),
        ok,
        detail: format!("{language} guests {} be built", if ok { "can" } else { "can't" }),
        fix: if ok { String::new() } else { fix.to_owned() },
        required: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failed_check_has_a_fix() {
        let checks = of(&Machine::default());
        assert!(checks.iter().all(|check| !check.ok && !check.fix.is_empty()), "{checks:?}");
    }

    #[test]
    fn a_machine_with_the_target_passes_every_check() {
        let rustc = Some("rustc 1.95.0".to_owned());
        let machine = Machine { rustc, has_target: true, npm: true, python: true, ..Machine::default() };
        assert!(of(&machine).iter().all(|check| check.ok && check.fix.is_empty()));
    }
}
