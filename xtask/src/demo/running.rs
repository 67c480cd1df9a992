//! Owns the demo's host process, from start to a clean stop, and deletes its data folder. Never
//! restarts it.

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

/// The timeout for the host's ready line. The host compiles nothing at start, so a longer wait
/// means that it hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The timeout for a stop; a little longer than the host's own deadline for requests.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct RunningHost {
    child: Child,
    program: PathBuf,
    data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl RunningHost {
    /// Starts a host with these settings (TOML); `command` is the program without arguments. If the
    /// host fails to start, its folder with the log remains.
    pub(crate) fn start(command: Command, settings: &str) -> Result<RunningHost> {
        RunningHost::start_in(fresh_folder()?, command, settings)
    }

    fn start_in(data: PathBuf, mut command: Command, settings: &str) -> Result<RunningHost> {
        fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
        let config = data.join("config.toml");
        fs::write(&config, settings).with_context(|| format!("cannot write {}", config.display()))?;
        let (listen, admin) = (free_or_any("app traffic", 8080), free_or_any("the API", 8081));
        step::announce("starting the host");
        let program = PathBuf::from(command.get_program());
        command.arg("up").arg("--data").arg(data.join("data")).arg("--config").arg(config);
        command.args(["--listen", &listen, "--admin", &admin]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(data.join("host.log"))?);
        separate_group(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut host = RunningHost { child, program, data, listen: unset, admin: unset };
        (host.listen, host.admin) = host
            .ready_addresses()
            .with_context(|| format!("the host did not start; its log is {}", host.log().display()))?;
        Ok(host)
    }

    fn ready_addresses(&mut self) -> Result<(SocketAddr, SocketAddr)> {
        let output = self.child.stdout.take().context("the host's output is not piped")?;
        let (sender, lines) = mpsc::sync_channel(1);
        // Read to the end, so that the host never writes to a closed or full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let line = match lines.recv_timeout(READY_WITHIN) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("no ready line within {} seconds", READY_WITHIN.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it exited immediately ({})", self.child.wait()?),
        };
        addresses(&line).with_context(|| format!("unexpected ready line {line:?}"))
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

    /// Returns an `isopod` command that uses this host.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::null());
        command.env("ISOPOD_HOST", format!("http://{}", self.admin)).env("ISOPOD_TOKEN", self.token()?);
        Ok(command)
    }

    pub(crate) fn exports(&self) -> Result<String> {
        // The token stays in its file, since printed text may be logged.
        let token = self.data.join("data/admin.token");
        Ok(format!("export ISOPOD_HOST=http://{} ISOPOD_TOKEN=$(cat {})", self.admin, token.display()))
    }

    /// Waits for Ctrl-C. An exit of the host is an error.
    pub(crate) fn wait_until(&mut self, stopped: &AtomicBool) -> Result<()> {
        while !stopped.load(Ordering::SeqCst) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the host exited unexpectedly ({status}); its log is {}", self.log().display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Stops the host gracefully and deletes its data.
    pub(crate) fn stop(mut self) -> Result<()> {
        terminate(&mut self.child)?;
        let asked = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if asked.elapsed() > STOPPED_WITHIN => bail!("the host did not stop within {STOPPED_WITHIN:?}"),
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        if !status.success() {
            bail!("the host exited with {status}; its log is {}", self.log().display());
        }
        fs::remove_dir_all(&self.data).with_context(|| format!("cannot remove {}", self.data.display()))
    }
}

/// Kills the host on every error, so that it never outlives its demo.
impl Drop for RunningHost {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns the path of a folder that doesn't exist yet.
fn fresh_folder() -> Result<PathBuf> {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(step::target()?.join("demo").join(since_1970.as_nanos().to_string()))
}

/// Returns the usual port, or any free port if it is in use.
fn free_or_any(purpose: &str, port: u16) -> String {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() {
        return format!("127.0.0.1:{port}");
    }
    step::announce(&format!("port {port} is in use; {purpose} uses a free port instead"));
    "127.0.0.1:0".to_owned()
}

/// Reads `isopod ready listen=ADDR admin=ADDR`.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let words = line.strip_prefix("isopod ready ")?;
    let value = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok());
    Some((value("listen=")?, value("admin=")?))
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Records Ctrl-C and SIGTERM instead of exiting, so that the host is stopped first.
#[cfg(unix)]
pub(crate) fn signals() -> &'static AtomicBool {
    extern "C" fn note(_signal: libc::c_int) {
        STOPPED.store(true, Ordering::SeqCst);
    }
    let handler = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is permitted in a signal handler.
        unsafe { libc::signal(signal, handler) };
    }
    &STOPPED
}

#[cfg(not(unix))]
pub(crate) fn signals() -> &'static AtomicBool {
    &STOPPED
}

/// Moves the host to its own process group. Ctrl-C signals the whole group of the terminal, and the
/// host must receive it only once, from this program.
#[cfg(unix)]
fn separate_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn separate_group(_command: &mut Command) {}

#[cfg(unix)]
fn terminate(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let id = i32::try_from(child.id()).context("the process id is out of range")?;
    // SAFETY: the child has not been waited for, so its id has not been reused.
    unsafe { libc::kill(id, libc::SIGTERM) };
    Ok(())
}

#[cfg(not(unix))]
fn terminate(child: &mut Child) -> Result<()> {
    Ok(child.kill()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_contains_both_addresses() {
        let line = "isopod ready listen=127.0.0.1:8080 admin=127.0.0.1:8081";
        let (listen, admin) = addresses(line).expect("two addresses");
        assert_eq!((listen.port(), admin.port()), (8080, 8081));
        assert_eq!(addresses("isopod is not ready"), None);
        assert_eq!(addresses("isopod ready listen=127.0.0.1:8080"), None);
    }

    #[test]
    fn a_port_in_use_is_replaced_by_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("an address").port();
        assert_eq!(free_or_any("a test", port), "127.0.0.1:0");
    }

    /// A shell in place of the host, with its script.
    fn fake_host(body: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", body]);
        shell
    }

    #[cfg(unix)]
    #[test]
    fn a_stopped_host_leaves_no_files() {
        let ready =
            "trap 'exit 0' TERM; echo isopod ready listen=127.0.0.1:1 admin=127.0.0.1:2; while :; do sleep 0.05; done";
        let host = RunningHost::start(fake_host(ready), "").expect("it starts");
        let data = host.data().to_owned();
        assert_eq!((host.listen.port(), host.admin.port()), (1, 2));
        host.stop().expect("it stops");
        assert!(!data.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_host_that_exits_immediately_is_reported_with_its_log() {
        let data = fresh_folder().expect("a name");
        let command = fake_host("echo 'error: no room' >&2; exit 1");
        let error = RunningHost::start_in(data.clone(), command, "").err().expect("it does not start");
        let log = fs::read_to_string(data.join("host.log")).expect("a log");
        fs::remove_dir_all(&data).expect("the folder goes");
        assert_eq!(log, "error: no room\n");
        assert!(format!("{error:#}").contains("host.log: it exited immediately (exit status: 1)"), "{error:#}");
    }
}
