//! The host that `isopod dev` starts: this program as `isopod up`, with its data in the project's
//! `.isopod` folder. It ends with the session, even if the session is killed. Never pushes code.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;

use crate::cli::client::{Client, DEV_ADDRESS, DEV_DATA_DIR};
use crate::cli::failure::Failure;

use crate::cli::limits;

/// The number of lines of the host's log that are shown if it fails to start.
const LOG_LINES_SHOWN: usize = 15;

/// A running host, started by this session.
pub(crate) struct OwnHost {
    child: Child,
    /// The address of app traffic.
    pub(crate) listen: String,
    admin: String,
    data_dir: PathBuf,
}

impl OwnHost {
    /// Starts a host for the project in `folder` and waits until it can serve.
    pub(crate) fn start(folder: &Path, listen: &str) -> Result<OwnHost, Failure> {
        let data_dir = folder.join(DEV_DATA_DIR);
        let log_path = data_dir.join("host.log");
        let cannot_start = |error: std::io::Error| Failure::new("cannot start a host for the project").why(error);
        std::fs::create_dir_all(&data_dir).map_err(cannot_start)?;
        let (log, log_begins) = open_log(&log_path).map_err(cannot_start)?;
        let program = std::env::current_exe().map_err(cannot_start)?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data").arg(&data_dir).args(["--listen", listen, "--admin", "127.0.0.1:0"]);
        // A separate process group: Ctrl-C in the terminal reaches only this process, which then
        // stops the host in order.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        set_parent_death_signal(&mut command);
        let mut child = command.spawn().map_err(cannot_start)?;
        match wait_until_ready(&mut child) {
            Some((listen, admin)) => {
                // Other commands in the project's folder read the host's address from this file, if
                // it exists.
                let _ = std::fs::write(data_dir.join(DEV_ADDRESS), &admin);
                Ok(OwnHost { child, listen, admin, data_dir })
            }
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let lines = tail(&log_path, log_begins);
                let next = if lines.iter().any(|line| line.contains("in use by another isopod")) {
                    "stop the other `isopod dev` of this project"
                } else {
                    "if the port is in use, choose another: isopod dev --listen 127.0.0.1:8090"
                };
                let why = "see its log above and in .isopod/host.log";
                Err(Failure::new("the project's host failed to start").log(lines).why(why).next(next))
            }
        }
    }

    /// Returns a client for this host, with the token from its data folder.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::open(&self.admin, None, Some(&self.data_dir))
    }

    /// Returns the address of the dashboard, and where its token is.
    pub(crate) fn dashboard(&self) -> String {
        let token = self.data_dir.join("admin.token");
        format!("dashboard at http://{}/, with the token in {}", self.admin, token.display())
    }

    /// Returns the exit status if the host has exited.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Stops the host with SIGTERM and waits until it has drained and exited.
    pub(crate) fn stop(&mut self) {
        // SAFETY: the signal goes to a child that has not been waited for, so its id can't belong
        // to another process.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let _ = std::fs::remove_file(self.data_dir.join(DEV_ADDRESS));
        // The host bounds its own drain; a second Ctrl-C ends this process, and the host with it.
        let _ = self.child.wait();
    }
}

/// Reads the ready line and returns the two addresses. Returns `None` if the host exits or the
/// timeout expires first.
fn wait_until_ready(child: &mut Child) -> Option<(String, String)> {
    let stdout = child.stdout.take()?;
    let (sender, ready) = sync_channel(1);
    // The thread keeps reading so that the host never blocks on its output; it ends with the host.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(addresses) = parse_ready(&line) {
                let _ = sender.try_send(addresses);
            }
        }
    });
    ready.recv_timeout(limits::READY_TIMEOUT).ok()
}

fn parse_ready(line: &str) -> Option<(String, String)> {
    let words = line.strip_prefix("isopod ready ")?;
    let word = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)).map(str::to_owned);
    Some((word("listen=")?, word("admin=")?))
}

/// Opens the host's log for appending, since another host of the project may be writing to it, and
/// returns its size.
fn open_log(path: &Path) -> std::io::Result<(File, u64)> {
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size > limits::HOST_LOG_BYTES_MAX {
        std::fs::remove_file(path)?;
    }
    let file = File::options().append(true).create(true).open(path)?;
    let begins = file.metadata()?.len();
    Ok((file, begins))
}

fn tail(path: &Path, begins: u64) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let begins = usize::try_from(begins).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(begins..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Makes the kernel stop the host when this process is killed.
#[cfg(target_os = "linux")]
fn set_parent_death_signal(command: &mut Command) {
    // SAFETY: between fork and exec only one system call is made, which accesses no memory of this
    // process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn set_parent_death_signal(_command: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_both_addresses() {
        let expected = Some(("127.0.0.1:8080".to_owned(), "127.0.0.1:41".to_owned()));
        assert_eq!(parse_ready("isopod ready listen=127.0.0.1:8080 admin=127.0.0.1:41"), expected);
        assert_eq!(parse_ready("isopod is starting"), None);
    }
}
