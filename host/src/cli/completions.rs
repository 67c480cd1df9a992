//! Implements `isopod completions`: prints a completion script for a shell. Never installs it.

use clap::{Args, Command};
use clap_complete::Shell;

use super::output;

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script that completes `command`.
pub(crate) fn run(args: &CompletionsArgs, command: Command) {
    output::emit(&script(args.shell, command));
}

fn script(shell: Shell, mut command: Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "isopod", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // By default, Bash splits `ps:create` at the colon.
        Shell::Bash => format!("COMP_WORDBREAKS=${{COMP_WORDBREAKS//:}}\n{script}"),
        // In Zsh's format, a colon separates the word from its description.
        Shell::Zsh => {
            let names = command.get_subcommands().map(|command| command.get_name()).filter(|name| name.contains(':'));
            names.fold(script, |script, name| {
                script.replace(&format!("'{name}:"), &format!("'{}:", name.replace(':', "\\:")))
            })
        }
        _ => script,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn every_shell_knows_the_commands_and_their_options() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let script = script(shell, Cli::command());
            for word in ["rollback", "ps:create", "no-schedule", "grants", "secret", "advise", "top"] {
                let escaped = word.replace(':', "\\:");
                assert!(script.contains(word) || script.contains(&escaped), "{shell} does not know {word}");
            }
        }
    }

    #[test]
    fn a_colon_in_a_name_is_part_of_the_name() {
        assert!(script(Shell::Zsh, Cli::command()).contains(r"'ps\:create:"));
        assert!(script(Shell::Bash, Cli::command()).starts_with("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n"));
    }
}
