//! The host as a measured server: an app whose event handler only reads each event. Never measures.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::queue::{Due, Progress, Queue, Sender, data};
use crate::api::Api;
use crate::client::{Client, Request};
use crate::flood::Caller;
use crate::host::{Host, name_of};
use crate::machine;

/// The component of the app.
pub(super) const COMPONENT: &str = "outbox";

const APP: &str = "queue";

const MANIFEST: &str = "type = \"production\"\n\
                        [processes.web]\nentry = \"http\"\nmin = 1\n\
                        [processes.worker]\nentry = \"events\"\nmin = 1\n\
                        [grants]\nkeyvalue = true\n";

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The number of events of all connections, which gives each a unique id.
static EVENTS: AtomicU64 = AtomicU64::new(1);

pub(super) struct Isopod {
    host: Host,
    folder: PathBuf,
    has_broadcasts: bool,
}

impl Isopod {
    pub(super) fn start(program: &Path, component: &Path, folder: &Path) -> Result<Isopod> {
        let mut host = Host::start(program, folder, "")?;
        host.api().create(APP, "production")?;
        host.deploy(APP, MANIFEST, component)?;
        host.wait_for(APP, "[]")?;
        let mut isopod = Isopod { host, folder: folder.to_owned(), has_broadcasts: false };
        isopod.has_broadcasts = isopod.connect(Due::Now)?.send(2).is_ok();
        Ok(isopod)
    }

    /// Stops the host, and starts it again on its data.
    pub(super) fn restart(self, program: &Path) -> Result<Isopod> {
        self.host.stop()?;
        let host = Host::start(program, &self.folder, "")?;
        Ok(Isopod { host, folder: self.folder, has_broadcasts: self.has_broadcasts })
    }

    /// Returns the caller of a plain request to the app.
    pub(super) fn caller(&self) -> Caller {
        Caller::of(self.host.listen(), Request::get(&name_of(APP), "/"))
    }

    pub(super) fn process(&self) -> u32 {
        self.host.server().process()
    }

    fn connect(&self, due: Due) -> Result<Connection> {
        let api = self.host.api();
        let client = Client::open(api.address(), Request::get("localhost", "/v1/status"))?;
        Ok(Connection { client, api, due, data: data() })
    }

    /// Writes events that become due at the same time to a file, one per line, and syncs it: its
    /// write-back must not disturb a measurement.
    pub(super) fn write_events(&self, events: u64, due: SystemTime) -> Result<PathBuf> {
        let path = self.folder.join("events.ndjson");
        let written = || -> Result<()> {
            let mut file = BufWriter::new(File::create(&path)?);
            let (due, data) = (machine::rfc3339(due)?, data());
            for _ in 0..events {
                file.write_all(line(Some(&due), &data).as_bytes())?;
            }
            Ok(file.into_inner()?.sync_all()?)
        };
        written().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Returns the command that sends the events of a file to the app.
    pub(super) fn broadcast(&self, file: &Path) -> Command {
        let mut command = self.host.command();
        command.arg("broadcast").arg(file).args(["--app", APP, "--json"]);
        command
    }

    /// Returns whether an event waits in one of these states.
    pub(super) fn has_events(&self, states: &[&str]) -> Result<bool> {
        for state in states {
            let path = format!("/v1/apps/{APP}/events?state={state}&limit=1");
            let mut page = self.host.api().get(&path)?;
            loop {
                if page["items"] != json!([]) {
                    return Ok(true);
                }
                // A page without an event may have a next page.
                let Some(next) = page["next"].as_str() else { break };
                page = self.host.api().get(&format!("{path}&cursor={next}"))?;
            }
        }
        Ok(false)
    }

    /// Waits until all events have ended, and calls `look` repeatedly meanwhile.
    pub(super) fn until_handled(&self, mut look: impl FnMut() -> Result<()>) -> Result<()> {
        while self.has_events(&["ready", "leased", "delayed"])? {
            look()?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Queue for Isopod {
    fn sender(&self, due: Due) -> Result<Box<dyn Sender>> {
        Ok(Box::new(self.connect(due)?))
    }

    fn has_batches(&self) -> bool {
        self.has_broadcasts
    }

    fn handle(&self, progress: &Progress) -> Result<()> {
        while !progress.is_over() {
            std::thread::sleep(LOOK_EVERY);
        }
        self.until_handled(|| Ok(()))?;
        if self.has_events(&["dead"])? {
            bail!("an event became a dead letter");
        }
        Ok(())
    }
}

struct Connection {
    client: Client,
    api: Api,
    due: Due,
    data: String,
}

impl Connection {
    fn one(&self) -> Request {
        let (id, authorization) = (next_id(), format!("Bearer {}", self.api.token()));
        let mut headers = vec![
            ("authorization", &*authorization),
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", &id),
            ("ce-source", "/bench"),
            ("ce-type", "steps"),
        ];
        let delay = self.due.delay_s().map(|seconds| format!("{seconds}s"));
        headers.extend(delay.as_deref().map(|delay| ("isopod-delay", delay)));
        let path = format!("/v1/apps/{APP}/events?queue=push");
        Request::post(&self.api.address().to_string(), &path, &headers, &self.data)
    }

    fn several(&self, events: usize) -> Request {
        let delay = self.due.delay_s().map(|seconds| format!("{seconds}s"));
        let lines: String = (0..events).map(|_| line(delay.as_deref(), &self.data)).collect();
        let authorization = format!("Bearer {}", self.api.token());
        let headers = [("authorization", &*authorization), ("content-type", "application/x-ndjson")];
        let path = format!("/v1/apps/{APP}/broadcasts");
        Request::post(&self.api.address().to_string(), &path, &headers, &lines)
    }
}

impl Sender for Connection {
    fn send(&mut self, events: usize) -> Result<()> {
        let request = if events == 1 { self.one() } else { self.several(events) };
        let answer = self.client.send(&request).context("an event got no response")?;
        if answer.status != 202 {
            bail!("an event got the status {}: {}", answer.status, answer.body);
        }
        Ok(())
    }
}

/// Returns an event with a new id as one line of JSON.
fn line(delay: Option<&str>, data: &str) -> String {
    let id = next_id();
    let delay = delay.map(|delay| format!("\"isopoddelay\":\"{delay}\",")).unwrap_or_default();
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/bench\",\"type\":\"steps\",{delay}\
         \"datacontenttype\":\"application/json\",\"data\":{data}}}\n"
    )
}

fn next_id() -> String {
    EVENTS.fetch_add(1, Ordering::Relaxed).to_string()
}
