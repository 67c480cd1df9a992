//! Installs the guest toolchain: rustup's target, or Debian's packages if that can't be downloaded.
//! Never reinstalls an existing toolchain, and never asks for a password.

use crate::build;
use crate::guest_toolchain::{self, Missing};
use crate::machine::{Machine, newest_numbered, output_of};

/// Ensures that guests can be built on this machine. `on_line` receives the installers' output. An
/// error names the command for the user to run instead.
pub fn install(mut on_line: impl FnMut(&str)) -> Result<(), Missing> {
    let machine = Machine::detect();
    let Err(missing) = guest_toolchain::choose(&machine) else { return Ok(()) };
    for step in steps(&machine) {
        let line = match step {
            Step::Rustup => guest_toolchain::rustup_fix(),
            Step::Debian => {
                attempt("apt-get update", &mut on_line);
                debian_packages_line()
            }
        };
        if attempt(&line, &mut on_line) && guest_toolchain::choose(&Machine::detect()).is_ok() {
            return Ok(());
        }
    }
    Err(missing)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rustup,
    Debian,
}

/// Returns the steps that work without user input, the best first.
fn steps(machine: &Machine) -> Vec<Step> {
    let forced = machine.forced.as_deref();
    let rustup = (machine.rustup && forced != Some("debian")).then_some(Step::Rustup);
    let debian = (machine.debian.apt && machine.debian.root && forced != Some("rustup")).then_some(Step::Debian);
    rustup.into_iter().chain(debian).collect()
}

fn attempt(command_line: &str, on_line: &mut impl FnMut(&str)) -> bool {
    on_line(&format!("$ {command_line}"));
    let mut command = build::shell(command_line);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    match build::run(command, command_line, &mut *on_line) {
        Ok(()) => true,
        Err(failed) => {
            on_line(&failed.to_string());
            false
        }
    }
}

/// Returns the install command for Debian's backports of the compiler (`rustc-web`) if the release
/// has them, otherwise for the plain packages.
fn debian_packages_line() -> String {
    let has_backport = output_of("apt-cache", &["show", "rustc-web"]).is_some_and(|text| !text.is_empty());
    let found = output_of("apt-cache", &["search", "--names-only", "^lld-[0-9]+$"]).unwrap_or_default();
    let names: Vec<String> =
        found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    packages_line(has_backport, newest_numbered("lld-", &names))
}

fn packages_line(has_backport: bool, linker: Option<String>) -> String {
    let compiler = if has_backport { "rustc-web cargo-web rust-web-src" } else { "rustc cargo rust-src" };
    let linker = linker.unwrap_or_else(|| "lld".to_owned());
    format!("apt-get install -y --no-install-recommends {compiler} wasi-libc {linker}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(rustup: bool, apt: bool, root: bool) -> Machine {
        let mut machine = Machine { rustup, ..Machine::default() };
        (machine.debian.apt, machine.debian.root) = (apt, root);
        machine
    }

    #[test]
    fn rustup_is_tried_before_debian() {
        assert_eq!(steps(&machine(true, true, true)), [Step::Rustup, Step::Debian]);
        assert_eq!(steps(&machine(true, false, false)), [Step::Rustup]);
    }

    #[test]
    fn no_step_needs_a_password() {
        assert_eq!(steps(&machine(false, true, false)), []);
    }

    #[test]
    fn only_a_forced_toolchain_is_tried() {
        let forced = Machine { forced: Some("debian".to_owned()), ..machine(true, true, true) };
        assert_eq!(steps(&forced), [Step::Debian]);
    }

    #[test]
    fn backports_are_preferred_and_the_linker_is_the_newest() {
        let line = packages_line(true, Some("lld-22".to_owned()));
        assert!(line.ends_with("rustc-web cargo-web rust-web-src wasi-libc lld-22"), "{line}");
        assert!(packages_line(false, None).ends_with("rustc cargo rust-src wasi-libc lld"));
    }
}
