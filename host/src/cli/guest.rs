//! Runs a project's build command with the tools that a component needs. Cancelling kills the
//! command and all processes that it started. Never reads the built component.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use isopod_toolchain::Toolchain;

use super::failure::Failure;
use super::limits;
use super::project::Project;

/// A successful build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Built {
    pub(crate) took: Duration,
}

/// A failed build.
#[derive(Debug, Clone)]
pub(crate) struct BuildFailed {
    /// The command's output.
    pub(crate) output: String,
    /// How the command ended.
    pub(crate) how: String,
    /// Whether the command ran: a program that doesn't exist has compiled nothing.
    pub(crate) has_started: bool,
}

/// The exit statuses of a shell that doesn't find the program, or may not execute it.
const NOT_FOUND: [i32; 2] = [127, 126];

impl BuildFailed {
    /// Returns what the user can do next.
    pub(crate) fn next(&self) -> &'static str {
        if self.has_started {
            "fix the compiler's errors above; check the compiler itself with `isopod doctor`"
        } else {
            "add the program that `build` in isopod.toml names to PATH; for cargo, see `isopod doctor`"
        }
    }
}

/// Stops a build from another thread.
#[derive(Clone, Default)]
pub(crate) struct Cancel {
    stage: Arc<Mutex<Stage>>,
}

/// The stage of a build, as far as cancelling needs it.
#[derive(Default, Clone, Copy)]
enum Stage {
    #[default]
    Waiting,
    /// The process group that runs.
    Running(u32),
    Over,
    Cancelled,
}

impl Cancel {
    /// Kills the build command and every process it started. A build that has not started yet is
    /// killed as it starts.
    pub(crate) fn cancel(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Stage::Running(group) = *stage {
            kill_group(group);
        }
        *stage = Stage::Cancelled;
    }

    fn started(&self, group: u32) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match *stage {
            Stage::Cancelled => kill_group(group),
            _ => *stage = Stage::Running(group),
        }
    }

    /// Must be called before waiting for the command, since its id may be reused afterwards.
    fn over(&self) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Over;
    }
}

fn kill_group(group: u32) {
    // SAFETY: the signal goes to the build's own process group. The caller holds the lock under
    // which the stage becomes `Over` before the wait, so the id can't belong to another group yet.
    unsafe { libc::killpg(group.cast_signed(), libc::SIGKILL) };
}

/// The tools for a project's build, detected once.
#[derive(Clone)]
pub(crate) struct Builder {
    toolchain: Option<Toolchain>,
    colour: bool,
}

impl Builder {
    /// Detects the toolchain if the build command uses Rust; other commands bring their own tools.
    pub(crate) fn new(command: &str) -> Result<Builder, Failure> {
        let rust = command.split_whitespace().any(|word| word.ends_with("cargo") || word.ends_with("rustc"));
        let toolchain = if rust { Some(Toolchain::detect().map_err(missing)?) } else { None };
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        Ok(Builder { toolchain, colour })
    }

    /// Runs the build command to its end and passes its output to `on_line` line by line.
    pub(crate) fn run(
        &self,
        project: &Project,
        command: &str,
        cancel: &Cancel,
        mut on_line: impl FnMut(&str),
    ) -> Result<Built, BuildFailed> {
        let start = Instant::now();
        let not_run = |error: std::io::Error| BuildFailed {
            output: String::new(),
            how: format!("can't run `{command}`: {error}"),
            has_started: false,
        };
        let (mut child, lines) = self.spawn(project, command).map_err(not_run)?;
        cancel.started(child.id());
        let output = read_output(lines, &mut on_line);
        cancel.over();
        let status = child.wait().map_err(not_run)?;
        if status.success() {
            return Ok(Built { took: start.elapsed() });
        }
        let has_started = !status.code().is_some_and(|code| NOT_FOUND.contains(&code));
        Err(BuildFailed { output, how: format!("`{command}` ended with {status}"), has_started })
    }

    fn spawn(&self, project: &Project, line: &str) -> std::io::Result<(Child, PipeReader)> {
        let mut command = match &self.toolchain {
            Some(toolchain) => toolchain.command(&project.folder, line),
            None => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(line).current_dir(&project.folder);
                shell
            }
        };
        // One pipe for both streams keeps their lines in order.
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // A separate process group, so that cancelling reaches the compilers that the command has
        // started.
        command.process_group(0);
        if self.colour {
            command.env("CARGO_TERM_COLOR", "always");
        }
        // Cargo's configuration may set one build folder for many projects.
        if project.manifest.component.as_deref().is_some_and(|path| path.starts_with("target/")) {
            command.env("CARGO_TARGET_DIR", project.folder.join("target"));
        }
        // The command holds the pipe's other end until it is dropped here; only then can the pipe
        // end.
        Ok((command.spawn()?, reader))
    }
}

fn read_output(pipe: PipeReader, on_line: &mut impl FnMut(&str)) -> String {
    let mut reader = BufReader::new(pipe);
    let mut output = String::new();
    let mut line = Vec::new();
    while (&mut reader).take(limits::BUILD_LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        on_line(text);
        output.push_str(text);
        output.push('\n');
        line.clear();
        // Truncated only at twice the limit, so that a long output is not moved for every line.
        if output.len() > 2 * limits::BUILD_OUTPUT_BYTES_MAX {
            let cut = output.ceil_char_boundary(output.len() - limits::BUILD_OUTPUT_BYTES_MAX);
            output.drain(..cut);
        }
    }
    output
}

fn missing(missing: isopod_toolchain::Missing) -> Failure {
    Failure::new(format!("cannot build components: {}", missing.what)).why(missing.why).next(missing.fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("isopod.toml"), "name = \"x\"\n").unwrap();
        let project = Project::open(folder.path()).unwrap();
        (folder, project)
    }

    fn run(command: &str, cancel: &Cancel, on_line: impl FnMut(&str)) -> Result<Built, BuildFailed> {
        let (_folder, project) = project();
        Builder::new(command).unwrap().run(&project, command, cancel, on_line)
    }

    #[test]
    fn a_build_passes_on_its_lines() {
        let mut lines = Vec::new();
        run("echo one; echo two >&2", &Cancel::default(), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_failed_build_keeps_its_output() {
        let failed = run("echo 'error: no' >&2; exit 3", &Cancel::default(), |_| {}).unwrap_err();
        assert_eq!(failed.output, "error: no\n");
        assert!(failed.how.contains('3'), "{}", failed.how);
    }

    #[test]
    fn a_missing_program_is_distinguished_from_a_compile_error() {
        let missing = run("no-such-compiler --release", &Cancel::default(), |_| {}).unwrap_err();
        assert!(missing.next().contains("to PATH"), "{missing:?}");
        let failed = run("exit 101", &Cancel::default(), |_| {}).unwrap_err();
        assert!(failed.next().contains("the compiler's errors"), "{failed:?}");
    }

    #[test]
    fn a_cancelled_build_ends_with_all_its_processes() {
        let cancel = Cancel::default();
        let stopper = cancel.clone();
        // The build prints a line before it is cancelled; without the cancellation it would run for
        // an hour.
        let ended = run("sleep 3600 & echo started; wait", &cancel, move |_| stopper.cancel());
        assert!(ended.is_err());
    }
}
