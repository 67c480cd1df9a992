//! Owns what `isopod doctor` and `cargo xtask setup` say about the guest toolchain. Looks only.

use crate::TARGET;
use crate::guest_toolchain::{self, GuestToolchain};
use crate::machine::Machine;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// The command that mends it; empty where nothing needs mending.
    pub fix: String,
    /// Whether everyday work needs it; without the others only some things can't be built.
    pub required: bool,
}

/// Everything the building of guests depends on.
pub fn checks() -> Vec<Check> {
    of(&Machine::look())
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

/// What only guests in a language other than Rust depend on.
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
    fn each_failed_check_says_how_to_mend_it() {
        let checks = of(&Machine::default());
        assert!(checks.iter().all(|check| !check.ok && !check.fix.is_empty()), "{checks:?}");
    }

    #[test]
    fn a_machine_with_the_target_needs_nothing() {
        let rustc = Some("rustc 1.95.0".to_owned());
        let machine = Machine { rustc, has_target: true, npm: true, python: true, ..Machine::default() };
        assert!(of(&machine).iter().all(|check| check.ok && check.fix.is_empty()));
    }
}
