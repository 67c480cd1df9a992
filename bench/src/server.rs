//! Owns one server process during its measurement, from its start over its first correct response
//! to its stop. Never knows which server it is.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Client;

/// The timeout of the first response: a server may compile its component first.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The timeout of a graceful stop; then the process is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Server {
    child: Child,
    log: PathBuf,
}

/// Returns an address with a free port.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

impl Server {
    /// Starts the server and redirects its output to `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Server> {
        let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Server { child, log: log.to_owned() })
    }

    /// Waits until the server responds to `GET /` with `body`.
    pub(super) fn wait_for(&mut self, address: SocketAddr, host: &str, body: &str) -> Result<()> {
        self.wait_until("gave the expected response", || {
            Client::connect(address, host)
                .and_then(|mut client| client.get())
                .is_ok_and(|answer| answer.status == 200 && answer.body == body)
        })
    }

    /// Waits until the log contains `words`.
    pub(super) fn wait_for_words(&mut self, words: &str) -> Result<()> {
        let log = self.log.clone();
        self.wait_until("reported that it is ready", || {
            std::fs::read_to_string(&log).is_ok_and(|said| said.contains(words))
        })
    }

    fn wait_until(&mut self, what: &str, reached: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !reached() {
            let log = self.log.display();
            if let Some(status) = self.child.try_wait()? {
                bail!("the server exited before it {what} ({status}); its log is {log}");
            }
            if began.elapsed() > ANSWERS_WITHIN {
                bail!("no success within {ANSWERS_WITHIN:?}: waiting until the server {what}; its log is {log}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU time that the server has used.
    pub(super) fn processor_time(&self) -> Option<Duration> {
        super::machine::processor_time(self.child.id())
    }

    /// Terminates the server and waits for its exit.
    pub(super) fn stop(mut self) -> Result<()> {
        super::machine::terminate(&mut self.child)?;
        let asked = Instant::now();
        while self.ended()?.is_none() && asked.elapsed() < ENDS_WITHIN {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

/// Kills the server on every error, so that it never outlives its measurement.
impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
