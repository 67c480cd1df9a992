//! Owns one server process during its measurement: from its start, over its first right answer, to its end. Never
//! knows which server it is.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client::Client;

/// A server may compile its component first.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to end once asked; then it is killed, since nothing of it is needed any more.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Server {
    child: Child,
    log: PathBuf,
}

/// An address that nobody uses at this moment.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

impl Server {
    /// Starts the server; what it says goes into `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Server> {
        let output = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Server { child, log: log.to_owned() })
    }

    /// Waits until the server gives this answer to a request for its first page.
    pub(super) fn wait_for(&mut self, address: SocketAddr, host: &str, body: &str) -> Result<()> {
        self.wait_until("gave the expected answer", || {
            Client::connect(address, host)
                .and_then(|mut client| client.get())
                .is_ok_and(|answer| answer.status == 200 && answer.body == body)
        })
    }

    /// Waits until the server has said this.
    pub(super) fn wait_for_words(&mut self, words: &str) -> Result<()> {
        let log = self.log.clone();
        self.wait_until("said that it is ready", || {
            std::fs::read_to_string(&log).is_ok_and(|said| said.contains(words))
        })
    }

    fn wait_until(&mut self, what: &str, reached: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        while !reached() {
            let log = self.log.display();
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it {what} ({status}); its own words are in {log}");
            }
            if began.elapsed() > ANSWERS_WITHIN {
                bail!("the server has not {what} within {ANSWERS_WITHIN:?}; its own words are in {log}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The processor time that it has used so far.
    pub(super) fn processor_time(&self) -> Option<Duration> {
        super::machine::processor_time(self.child.id())
    }

    /// Asks the server to end, and waits until it has.
    pub(super) fn stop(mut self) -> Result<()> {
        super::machine::ask_to_end(&mut self.child)?;
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

/// A server never outlives its measurement, whatever went wrong.
impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
