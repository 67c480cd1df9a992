//! The host that `isopod dev` starts for itself: this very program as `isopod up`, its data in the project's
//! `.isopod` folder. It is ended with us, however we end.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;

use crate::cli::client::{Client, DEV_ADDRESS, DEV_DATA_DIR};
use crate::cli::failure::Failure;

use crate::cli::limits;

/// What of the host's own log is shown when it does not start.
const LOG_LINES_SHOWN: usize = 15;

/// A running host of our own.
pub(crate) struct OwnHost {
    child: Child,
    /// Where apps are reached.
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
        // Its own group: Ctrl-C at the terminal is for us, who then end the host in order.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        end_with_us(&mut command);
        let mut child = command.spawn().map_err(cannot_start)?;
        match wait_until_ready(&mut child) {
            Some((listen, admin)) => {
                // Other commands in the project's folder find the host by this; they do without if it is missing.
                let _ = std::fs::write(data_dir.join(DEV_ADDRESS), &admin);
                Ok(OwnHost { child, listen, admin, data_dir })
            }
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let said = tail(&log_path, log_begins);
                let next = if said.iter().any(|line| line.contains("in use by another isopod")) {
                    "stop the other `isopod dev` of this project"
                } else {
                    "if the port is in use, choose another: isopod dev --listen 127.0.0.1:8090"
                };
                let why = "its own words stand above, and in .isopod/host.log";
                Err(Failure::new("the project's host did not start").log(said).why(why).next(next))
            }
        }
    }

    /// A client for this host, which needs no token from the person.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::open(&self.admin, None, Some(&self.data_dir))
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks the host to finish its accepted work and end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        // SAFETY: a signal is sent to our own child, which has not been waited for, so that its id is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let _ = std::fs::remove_file(self.data_dir.join(DEV_ADDRESS));
        // The host bounds its own drain; a second Ctrl-C ends us, and the host with us.
        let _ = self.child.wait();
    }
}

/// Reads the line that says where the host serves; `None` if it ends or stays silent instead.
fn wait_until_ready(child: &mut Child) -> Option<(String, String)> {
    let stdout = child.stdout.take()?;
    let (sender, ready) = sync_channel(1);
    // The thread goes on reading so that the host never waits for us; it ends with the host.
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

/// Opens the host's log at its end, since another host of the project may be writing it, and says where that is.
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

/// Has the kernel end the host when we are killed and cannot do it.
#[cfg(target_os = "linux")]
fn end_with_us(command: &mut Command) {
    // SAFETY: between fork and exec only one system call is made, which touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_us(_command: &mut Command) {}

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
