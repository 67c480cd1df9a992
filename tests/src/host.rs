//! Owns a host: `isopod up` on free ports with its own data folder, and the requests that users
//! send to it. Never reads the host's internals.

use crate::{Answer, Ask, Broken, Bundle, Faults, PROBES, Push, Wire, guest, program, program::Running, wait_for};
use isopod_faults::{Loss, Lost};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A running host. It is killed on drop.
pub struct Host {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub token: String,
    running: Running,
    data: PathBuf,
    /// The configuration file, if the host has one.
    settings: Option<PathBuf>,
    /// Removed with the host, unless the caller owns the folder.
    temporary: Option<TempDir>,
    faults: Option<Faults>,
}

/// How a host is started.
#[derive(Default)]
struct Start<'a> {
    /// Its failpoints.
    steps: &'a str,
    settings: Option<&'a Path>,
    flags: &'a [&'a str],
    faults: Option<Faults>,
}

impl Host {
    /// Starts a host with a new data folder.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_pausing("")
    }

    /// Starts a host with each of [`PROBES`] deployed under its own name.
    ///
    /// # Panics
    /// If the host doesn't start or a deploy fails.
    #[track_caller]
    pub fn start_with_probes() -> Self {
        let host = Self::start();
        host.deploy_probes();
        host
    }

    /// Starts a host that pauses at these failpoints, as in `release-built=1*off->pause`, until it
    /// is killed.
    #[track_caller]
    pub fn start_pausing(steps: &str) -> Self {
        Self::start_with(steps, "")
    }

    /// Starts a host with failpoints and the text of a configuration file.
    #[track_caller]
    pub fn start_with(steps: &str, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("isopod-test-").tempdir().expect("a folder can be made");
        let (data, file) = (folder.path().join("data"), folder.path().join("host.toml"));
        std::fs::write(&file, settings).expect("a file can be written");
        let start = Start { steps, settings: Some(&file), ..Start::default() };
        Self { temporary: Some(folder), ..Self::on_with(&data, start) }
    }

    /// Starts a host with a new data folder, into which [`Host::faults`] are injected, and with the
    /// text of a configuration file. Only on Linux.
    ///
    /// # Panics
    /// If no fault can be injected.
    #[track_caller]
    pub fn start_with_faults(settings: &str) -> Self {
        Self::start_pausing_with_faults("", settings)
    }

    /// Starts a host like [`Host::start_with_faults`], with failpoints.
    ///
    /// # Panics
    /// If no fault can be injected.
    #[track_caller]
    pub fn start_pausing_with_faults(steps: &str, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("isopod-test-").tempdir().expect("a folder can be made");
        // The library compares the paths of open files, which contain no links.
        let path = folder.path().canonicalize().expect("the folder exists");
        let (data, file) = (path.join("data"), path.join("host.toml"));
        std::fs::write(&file, settings).expect("a file can be written");
        let start = Start { steps, settings: Some(&file), faults: Some(Faults::new()), ..Start::default() };
        Self { temporary: Some(folder), ..Self::on_with(&data, start) }
    }

    /// Starts a host on this data folder.
    #[track_caller]
    pub fn on(data: &Path) -> Self {
        Self::on_with(data, Start::default())
    }

    /// Starts a host on this data folder with `--adopt`.
    #[track_caller]
    pub fn adopting(data: &Path) -> Self {
        Self::on_with(data, Start { flags: &["--adopt"], ..Start::default() })
    }

    /// # Panics
    /// If the host doesn't become ready.
    #[track_caller]
    fn on_with(data: &Path, start: Start<'_>) -> Self {
        let Start { steps, settings, flags, faults } = start;
        let mut command = program::command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--data").arg(data).args(flags).env("FAILPOINTS", steps);
        if let Some(settings) = settings {
            command.arg("--config").arg(settings);
        }
        if let Some(faults) = &faults {
            faults.preload(&mut command, data);
        }
        let mut running = Running::start(command);
        let ready = running.line_on_stdout("isopod ready ");
        let address = |name: &str| {
            let found = ready.split(' ').find_map(|word| word.strip_prefix(name)).and_then(|text| text.parse().ok());
            found.unwrap_or_else(|| panic!("no {name} in the ready line: {ready}"))
        };
        let (listen, admin) = (address("listen="), address("admin="));
        let token = std::fs::read_to_string(data.join("admin.token")).expect("the host has made its token");
        let (token, data, settings) = (token.trim().to_owned(), data.to_owned(), settings.map(Path::to_owned));
        if let Some(faults) = &faults {
            faults.assert_loaded(running.id());
        }
        Self { listen, admin, token, running, data, settings, temporary: None, faults }
    }

    /// Returns the faults of a host that was started with them.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn faults(&self) -> &Faults {
        self.faults.as_ref().expect("started with faults")
    }

    /// Returns the data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Returns the host's output so far.
    pub fn said(&self) -> String {
        self.running.said()
    }

    /// Stops the host with SIGTERM, and starts it again on the same data.
    ///
    /// # Panics
    /// If it doesn't stop cleanly.
    #[track_caller]
    pub fn restart(self) -> Self {
        self.restart_after(|_| ())
    }

    /// Stops the host, changes its data, and starts it again.
    ///
    /// # Panics
    /// If it doesn't stop cleanly.
    #[track_caller]
    pub fn restart_after(mut self, change: impl FnOnce(&Self)) -> Self {
        self.stop();
        change(&self);
        self.again()
    }

    /// Stops the host, changes its data, and starts it again with failpoints.
    ///
    /// # Panics
    /// If it doesn't stop cleanly.
    #[track_caller]
    pub fn restart_with(mut self, steps: &str, change: impl FnOnce(&Self)) -> Self {
        self.stop();
        change(&self);
        self.again_with(steps)
    }

    /// Stops the host with SIGTERM and waits for its exit.
    ///
    /// # Panics
    /// If it doesn't stop cleanly.
    #[track_caller]
    pub fn stop(&mut self) {
        self.ask_to_stop();
        self.until_stopped();
    }

    /// Waits for the exit of a host that received SIGTERM.
    ///
    /// # Panics
    /// If it doesn't stop cleanly.
    #[track_caller]
    pub fn until_stopped(&mut self) {
        let status = self.running.end();
        assert!(status.success(), "the host ended with {status}: {}", self.said());
    }

    /// Waits until the process exits, with any status.
    #[track_caller]
    pub fn until_ended(&mut self) -> std::process::ExitStatus {
        self.running.end()
    }

    /// Sends SIGTERM without waiting.
    pub fn ask_to_stop(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Sends a signal without waiting.
    pub fn signal(&self, signal: i32) {
        self.running.signal(signal);
    }

    /// Kills the host with SIGKILL and starts it again on the same data.
    #[track_caller]
    pub fn kill_and_restart(mut self) -> Self {
        self.kill();
        self.again()
    }

    /// Kills the host with SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.running.signal(libc::SIGKILL);
        self.running.end();
    }

    /// Starts a stopped or killed host again on the same data.
    #[track_caller]
    pub fn again(self) -> Self {
        self.again_with("")
    }

    #[track_caller]
    fn again_with(mut self, steps: &str) -> Self {
        let (temporary, faults) = (self.temporary.take(), self.faults.take());
        let start = Start { steps, settings: self.settings.as_deref(), faults, ..Start::default() };
        Self { temporary, ..Self::on_with(&self.data, start) }
    }

    /// Stops the host with SIGTERM, and starts it again on the same data without its faults.
    ///
    /// # Panics
    /// If it doesn't stop cleanly.
    #[track_caller]
    pub fn restart_without_faults(mut self) -> Self {
        self.stop();
        self.faults = None;
        self.again()
    }

    /// Takes back writes of a killed host that were not synced, as a power failure does; none
    /// without a loss. Files in the folders with the `spared` names keep their content.
    #[track_caller]
    pub fn lose_unsynced(&self, loss: Option<Loss>, spared: &[&str]) -> Lost {
        self.faults().lose_unsynced(&self.data, loss, spared)
    }

    /// Sends a request to the API with the administrator's token.
    ///
    /// # Panics
    /// If no response arrives.
    #[track_caller]
    pub fn api(&self, ask: Ask) -> Answer {
        self.api_with(&self.token, ask)
    }

    /// Sends a request to the API with another token.
    ///
    /// # Panics
    /// If no response arrives.
    #[track_caller]
    pub fn api_with(&self, token: &str, ask: Ask) -> Answer {
        self.api_raw(&ask.header("authorization", format!("Bearer {token}")))
    }

    /// Sends a request to the API without an added token.
    ///
    /// # Panics
    /// If no response arrives.
    #[track_caller]
    pub fn api_raw(&self, ask: &Ask) -> Answer {
        ask.send(self.admin).unwrap_or_else(|broken| panic!("{} {}: {broken}", ask.method, ask.path))
    }

    /// Sends a request to an app.
    pub fn try_app(&self, app: &str, ask: Ask) -> Result<Answer, Broken> {
        self.to_app(app, ask).send(self.listen)
    }

    /// Sends a request to an app.
    ///
    /// # Panics
    /// If no complete response arrives.
    #[track_caller]
    pub fn app(&self, app: &str, ask: Ask) -> Answer {
        let (method, path) = (ask.method, ask.path.clone());
        self.try_app(app, ask).unwrap_or_else(|broken| panic!("{method} {path} of {app}: {broken}"))
    }

    /// Sends a GET request to an app.
    #[track_caller]
    pub fn get(&self, app: &str, path: &str) -> Answer {
        self.app(app, Ask::get(path))
    }

    /// Adds the app's host name to a request.
    pub fn to_app(&self, app: &str, ask: Ask) -> Ask {
        ask.header("host", format!("{app}.localhost"))
    }

    /// Opens a connection for app traffic.
    ///
    /// # Panics
    /// If the connection can't be opened.
    pub fn wire(&self) -> Wire {
        Wire::open(self.listen).expect("the host accepts connections")
    }

    /// Creates an app.
    #[track_caller]
    pub fn create(&self, app: &str, app_type: &str) -> Value {
        self.api(Ask::post("/v1/apps").json(&json!({ "name": app, "type": app_type }))).expect(201).json()
    }

    /// Returns the app as the API shows it.
    #[track_caller]
    pub fn show(&self, app: &str) -> Value {
        self.api(Ask::get(format!("/v1/apps/{app}"))).expect(200).json()
    }

    /// Returns the app's state.
    #[track_caller]
    pub fn state(&self, app: &str) -> String {
        self.show(app)["state"].as_str().expect("an app has a state").to_owned()
    }

    /// Uploads a bundle, and returns the response unchecked. `query` is as in `?wait=true`.
    #[track_caller]
    pub fn upload(&self, app: &str, bundle: &Bundle, query: &str) -> Answer {
        let ask = Ask::post(format!("/v1/apps/{app}/pushes{query}"));
        self.api(ask.body(bundle.content_type, bundle.bytes.clone()))
    }

    /// Uploads a bundle that the host accepts. Doesn't wait for the push job.
    #[track_caller]
    pub fn push(&self, app: &str, bundle: &Bundle) -> Push {
        Push::from(self.upload(app, bundle, "").expect(202).json())
    }

    /// Returns the current state of the push.
    #[track_caller]
    pub fn push_now(&self, push: &Push) -> Push {
        Push::from(self.api(Ask::get(push.path())).expect(200).json())
    }

    /// Waits until a push has ended.
    #[track_caller]
    pub fn ended(&self, push: &Push) -> Push {
        wait_for("a push's end", || Some(self.push_now(push)).filter(Push::is_final))
    }

    /// Deploys a bundle and waits until it serves.
    #[track_caller]
    pub fn deploy(&self, app: &str, bundle: Bundle) -> Push {
        let push = Push::from(self.upload(app, &bundle, "?wait=true").expect(200).json());
        assert_eq!(push.state, "completed", "{push:?}");
        push
    }

    /// Deploys each of [`PROBES`] under its own name.
    ///
    /// # Panics
    /// If a deploy fails.
    #[track_caller]
    pub fn deploy_probes(&self) {
        for probe in PROBES {
            self.deploy(probe, Bundle::component(guest(probe)));
        }
    }

    /// Returns the newest lines of an app's log, oldest first.
    #[track_caller]
    pub fn log(&self, app: &str) -> Vec<Value> {
        let page = self.api(Ask::get(format!("/v1/apps/{app}/logs?limit=1000"))).expect(200).json();
        page["items"].as_array().expect("a page has items").clone()
    }

    /// Waits for a line of an app's log.
    #[track_caller]
    pub fn log_line(&self, app: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("a line of the log: {what}"), || self.log(app).into_iter().find(|line| is_it(line)))
    }

    /// Returns one value of the Prometheus metrics, by its name with labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.api(Ask::get("/metrics")).expect(200).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }
}
