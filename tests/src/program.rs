//! Owns the program under test: finds it, runs it, and keeps its output for the message of a failed
//! test. Never parses that output.

use crate::limits::{PATIENCE, STDERR_BYTES_MAX};
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

/// Names another program to test, such as an installed release.
const PROGRAM_VARIABLE: &str = "ISOPOD_TEST_PROGRAM";

/// Returns the path of the program. Cargo builds it together with the tests, into the same folder.
///
/// # Panics
/// If it was not built.
pub fn path() -> PathBuf {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE) {
        return PathBuf::from(path);
    }
    let tests = std::env::current_exe().expect("a running test has a file");
    let profile = tests.parent().and_then(|deps| deps.parent()).expect("tests are in target/<profile>/deps");
    let program = profile.join(format!("isopod{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is missing: `cargo xtask test` builds the program before the tests; to build only the program, run \
         `cargo build --package isopod`",
        program.display()
    );
    program
}

/// Returns the program with these arguments, in an environment without anything of this machine's
/// user.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.args(args).stdin(Stdio::null());
    for name in ["ISOPOD_HOST", "ISOPOD_TOKEN", "ISOPOD_APP", "XDG_DATA_HOME"] {
        command.env_remove(name);
    }
    // Tests share compiled code with each other, but not with this machine's user.
    command.env("XDG_CACHE_HOME", std::env::temp_dir().join("isopod-test-cache"));
    command
}

/// Runs the program to its end.
///
/// # Panics
/// If it can't be run.
pub fn run(args: &[&str]) -> Output {
    command(args).output().unwrap_or_else(|error| panic!("{} cannot be run: {error}", path().display()))
}

/// Starts a host that must refuse to start, and returns its error output.
///
/// # Panics
/// If it starts.
#[track_caller]
pub fn refused_start(data: &Path) -> String {
    let mut command = command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let output = command.arg("--data").arg(data).output().expect("it can be run");
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts a host with a settings file that it must refuse, with an error that contains these words.
///
/// # Panics
/// If it starts, or refuses the file for another reason.
#[track_caller]
pub fn refuses_settings(text: &str, words: &str) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let [file, data] = ["host.toml", "data"].map(|name| folder.path().join(name));
    std::fs::write(&file, text).expect("a file can be written");
    let output = command(&["up"]).arg("--data").arg(data).arg("--config").arg(file).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(words), "{words}: {said}");
}

/// A running program. It is killed on drop.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// The output of a program, line by line.
struct Lines {
    coming: Mutex<mpsc::Receiver<String>>,
    kept: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// Lines that a program may write before a test reads them. Further lines are only kept.
const LINES_WAITING_MAX: usize = 1_000;

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, coming) = mpsc::sync_channel(LINES_WAITING_MAX);
        let kept = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&kept);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&text);
                kept.push('\n');
                if kept.len() > 2 * STDERR_BYTES_MAX {
                    let cut = kept.ceil_char_boundary(kept.len() - STDERR_BYTES_MAX);
                    kept.drain(..cut);
                }
                // A test doesn't have to read the lines.
                let _ = sender.try_send(text);
            }
        });
        Self { coming: Mutex::new(coming), kept, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Running {
    /// # Panics
    /// If it can't be started.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("it was asked for"));
        let stderr = Lines::of(child.stderr.take().expect("it was asked for"));
        Self { child, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output with this beginning, and returns the rest.
    ///
    /// # Panics
    /// If the program ends without that line.
    #[track_caller]
    pub fn line_on_stdout(&mut self, beginning: &str) -> String {
        self.line(beginning, |running| &mut running.stdout)
    }

    /// Waits for a line on standard error with this beginning, and returns the rest.
    ///
    /// # Panics
    /// If the program ends without that line.
    #[track_caller]
    pub fn line_on_stderr(&mut self, beginning: &str) -> String {
        self.line(beginning, |running| &mut running.stderr)
    }

    #[track_caller]
    fn line(&mut self, beginning: &str, lines: fn(&mut Self) -> &mut Lines) -> String {
        loop {
            let next = lines(self).coming.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
            match next {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(beginning) {
                        return rest.trim().to_owned();
                    }
                }
                Err(error) => panic!("no line {beginning:?} arrived ({error}); output:\n{}", self.said()),
            }
        }
    }

    /// Returns the output so far.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout.so_far(), self.stderr.so_far())
    }

    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        // SAFETY: the child was not waited for yet, so the id still belongs to it.
        unsafe { libc::kill(id, signal) };
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it doesn't end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let status = crate::wait_for("the program's end", || self.child.try_wait().expect("a child can be waited for"));
        for lines in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = lines.reader.take() {
                reader.join().expect("reading does not panic");
            }
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- output of the program ---\n{}---", self.said());
        }
    }
}
