//! Owns the demo's host process, from start to a clean stop, and its data folder, which goes with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::step;

/// How long the host may take to say that it serves. It compiles nothing then, so a longer wait means that it hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to finish its requests when it is stopped; a little more than it gives itself.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct RunningHost {
    child: Child,
    data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl RunningHost {
    /// `command` is the host without its arguments. A host that does not start leaves its folder, for the log in it.
    pub(crate) fn start(command: Command) -> Result<RunningHost> {
        RunningHost::start_in(fresh_folder()?, command)
    }

    fn start_in(data: PathBuf, mut command: Command) -> Result<RunningHost> {
        fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
        let (listen, admin) = (free_or_any("app traffic", 8080), free_or_any("the API", 8081));
        step::announce("starting the host");
        command.arg("up").arg("--data").arg(data.join("data"));
        command.args(["--listen", &listen, "--admin", &admin]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(data.join("host.log"))?);
        in_a_group_of_its_own(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut host = RunningHost { child, data, listen: unset, admin: unset };
        (host.listen, host.admin) = host
            .ready_addresses()
            .with_context(|| format!("the host did not start; its own words are in {}", host.log().display()))?;
        Ok(host)
    }

    fn ready_addresses(&mut self) -> Result<(SocketAddr, SocketAddr)> {
        let output = self.child.stdout.take().context("the host's output is piped")?;
        let (sender, lines) = mpsc::sync_channel(1);
        // Read to its end, so that the host never meets a closed or a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let line = match lines.recv_timeout(READY_WITHIN) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("it was silent for {} seconds", READY_WITHIN.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended at once ({})", self.child.wait()?),
        };
        addresses(&line).with_context(|| format!("it said {line:?} instead of its addresses"))
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("host.log")
    }

    pub(crate) fn token(&self) -> Result<String> {
        let file = self.data.join("data/admin.token");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(text.trim().to_owned())
    }

    /// What `isopod` commands need to speak to this host.
    pub(crate) fn environment(&self) -> Result<[(&'static str, String); 2]> {
        Ok([("ISOPOD_HOST", format!("http://{}", self.admin)), ("ISOPOD_TOKEN", self.token()?)])
    }

    pub(crate) fn exports(&self) -> Result<String> {
        // The token stays in its file: what is printed may end up in a log.
        let token = self.data.join("data/admin.token");
        Ok(format!("export ISOPOD_HOST=http://{} ISOPOD_TOKEN=$(cat {})", self.admin, token.display()))
    }

    /// Waits for Ctrl-C, or for the host to end by itself, which is an error.
    pub(crate) fn wait_until(&mut self, stopped: &AtomicBool) -> Result<()> {
        while !stopped.load(Ordering::SeqCst) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the host ended by itself ({status}); its own words are in {}", self.log().display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Asks the host to finish what it has begun and to end, and removes its data.
    pub(crate) fn stop(mut self) -> Result<()> {
        ask_to_end(&mut self.child)?;
        let asked = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if asked.elapsed() > STOPPED_WITHIN => bail!("the host did not end within {STOPPED_WITHIN:?}"),
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        if !status.success() {
            bail!("the host ended with {status}; its own words are in {}", self.log().display());
        }
        fs::remove_dir_all(&self.data).with_context(|| format!("cannot remove {}", self.data.display()))
    }
}

/// A host never outlives its demo, whatever went wrong.
impl Drop for RunningHost {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A folder that is not there yet.
fn fresh_folder() -> Result<PathBuf> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(step::target()?.join("demo").join(since_1970.as_nanos().to_string()))
}

/// The usual port, or any free one where it is taken.
fn free_or_any(purpose: &str, port: u16) -> String {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() {
        return format!("127.0.0.1:{port}");
    }
    step::announce(&format!("port {port} is in use; {purpose} gets a free one instead"));
    "127.0.0.1:0".to_owned()
}

/// Reads `isopod ready listen=ADDR admin=ADDR`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words = line.strip_prefix("isopod ready ")?;
    let value = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok());
    Some((value("listen=")?, value("admin=")?))
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Notes Ctrl-C and SIGTERM from now on instead of dying of them, so that the host is stopped first.
#[cfg(unix)]
pub(crate) fn signals() -> &'static AtomicBool {
    extern "C" fn note(_signal: libc::c_int) {
        STOPPED.store(true, Ordering::SeqCst);
    }
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is allowed in a signal handler.
        unsafe { libc::signal(signal, handler) };
    }
    &STOPPED
}

#[cfg(not(unix))]
pub(crate) fn signals() -> &'static AtomicBool {
    &STOPPED
}

/// Ctrl-C goes to the whole group of the terminal; the host is to hear of it once, from us.
#[cfg(unix)]
fn in_a_group_of_its_own(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn in_a_group_of_its_own(_command: &mut Command) {}

#[cfg(unix)]
fn ask_to_end(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let id = i32::try_from(child.id()).context("a process id is a small number")?;
    // SAFETY: a signal to our own child, which has not been waited for, so the id is still its own.
    unsafe { libc::kill(id, libc::SIGTERM) };
    Ok(())
}

#[cfg(not(unix))]
fn ask_to_end(child: &mut Child) -> Result<()> {
    Ok(child.kill()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_tells_both_addresses() {
        let line = "isopod ready listen=127.0.0.1:8080 admin=127.0.0.1:8081";
        let (listen, admin) = addresses(line).expect("two addresses");
        assert_eq!((listen.port(), admin.port()), (8080, 8081));
        assert_eq!(addresses("isopod is not ready"), None);
        assert_eq!(addresses("isopod ready listen=127.0.0.1:8080"), None);
    }

    #[test]
    fn a_taken_port_is_not_insisted_on() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("an address").port();
        assert_eq!(free_or_any("a test", port), "127.0.0.1:0");
    }

    /// A shell that takes the host's place; `body` is what it does.
    fn stand_in(body: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", body]);
        shell
    }

    #[cfg(unix)]
    #[test]
    fn a_host_is_awaited_and_stopped_in_order_and_leaves_nothing() {
        let ready =
            "trap 'exit 0' TERM; echo isopod ready listen=127.0.0.1:1 admin=127.0.0.1:2; while :; do sleep 0.05; done";
        let host = RunningHost::start(stand_in(ready)).expect("it starts");
        let data = host.data().to_owned();
        assert_eq!((host.listen.port(), host.admin.port()), (1, 2));
        host.stop().expect("it stops");
        assert!(!data.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_host_that_ends_at_once_is_reported_with_its_log() {
        let data = fresh_folder().expect("a name");
        let command = stand_in("echo 'error: no room' >&2; exit 1");
        let error = RunningHost::start_in(data.clone(), command).err().expect("it does not start");
        let log = fs::read_to_string(data.join("host.log")).expect("a log");
        fs::remove_dir_all(&data).expect("the folder goes");
        assert_eq!(log, "error: no room\n");
        assert!(format!("{error:#}").contains("host.log: it ended at once (exit status: 1)"), "{error:#}");
    }
}
