//! Runs a command to completion and reads its output line by line. Never decides which command
//! runs.

use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::limits;

/// A build command that failed, and its output.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` {reason}")]
pub struct BuildFailed {
    pub command: String,
    /// "exited with 101", or why the command couldn't be started.
    pub reason: String,
    /// The last 256 KiB of the output, both streams interleaved.
    pub output: String,
}

#[cfg(unix)]
pub(crate) fn shell(command_line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(command_line);
    command
}

#[cfg(not(unix))]
pub(crate) fn shell(command_line: &str) -> Command {
    let mut command = Command::new("cmd");
    command.arg("/C").arg(command_line);
    command
}

pub(crate) fn run(mut command: Command, name: &str, mut on_line: impl FnMut(&str)) -> Result<(), BuildFailed> {
    let mut kept = OutputTail::default();
    let result = stream(&mut command, |line| {
        kept.push(line);
        on_line(line);
    });
    // The pipe's write ends are in the command and were closed with it.
    let reason = match result {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => match status.code() {
            Some(code) => format!("exited with {code}"),
            None => format!("was terminated: {status}"),
        },
        Err(error) => format!("can't be run: {error}"),
    };
    Err(BuildFailed { command: name.to_owned(), reason, output: kept.text })
}

fn stream(command: &mut Command, mut on_line: impl FnMut(&str)) -> io::Result<std::process::ExitStatus> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command keeps its write ends until they are replaced; otherwise the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while io::Read::take(&mut reader, limits::LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
        on_line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    child.wait()
}

#[derive(Default)]
struct OutputTail {
    text: String,
}

impl OutputTail {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        // Cut only at twice the limit, so that a long output isn't moved for every line.
        if self.text.len() > 2 * limits::OUTPUT_BYTES_MAX {
            let cut = self.text.ceil_char_boundary(self.text.len() - limits::OUTPUT_BYTES_MAX);
            self.text.drain(..cut);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn lines_of(command_line: &str) -> (Vec<String>, Result<(), BuildFailed>) {
        let mut lines = Vec::new();
        let result = run(shell(command_line), command_line, |line| lines.push(line.to_owned()));
        (lines, result)
    }

    #[test]
    fn both_streams_arrive_in_order() {
        let (lines, result) = lines_of("echo one; echo two >&2; printf three");
        assert_eq!(lines, ["one", "two", "three"]);
        result.expect("success");
    }

    #[test]
    fn an_error_contains_the_output_and_the_exit_code() {
        let (_, result) = lines_of("echo 'error: no such thing' >&2; exit 3");
        let failed = result.expect_err("a failure");
        assert_eq!(failed.output, "error: no such thing\n");
        assert_eq!(failed.reason, "exited with 3");
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let (_, result) = lines_of("yes 0123456789012345678901234567890123456789 | head -n 40000; echo last; exit 1");
        let failed = result.expect_err("a failure");
        assert!(failed.output.len() <= 2 * limits::OUTPUT_BYTES_MAX, "{}", failed.output.len());
        assert!(failed.output.ends_with("\nlast\n"));
    }

    #[test]
    fn an_endless_line_is_split() {
        let (lines, _) = lines_of("head -c 200000 /dev/zero | tr '\\0' x");
        assert!(lines.iter().all(|line| line.len() as u64 <= limits::LINE_BYTES_MAX));
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), 200_000);
    }
}
