//! Owns a Prometheus that scrapes a host once per second. Never installs it; `cargo xtask setup`
//! does.

use crate::{
    Ask, Host,
    optional::{on_path, skip},
    program::Running,
    wait_for,
};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
};
use tempfile::TempDir;

/// The environment variable that makes a missing Prometheus an error, for machines that must run
/// these tests.
const REQUIRED: &str = "ISOPOD_REQUIRE_PROMETHEUS";

/// A running Prometheus. It is killed on drop.
pub struct Prometheus {
    address: SocketAddr,
    running: Running,
    _folder: TempDir,
}

/// Returns a program of Debian's package `prometheus`. Prints a note if it is missing.
///
/// # Panics
/// If it is missing, and `ISOPOD_REQUIRE_PROMETHEUS` is set.
#[track_caller]
pub fn installed(program: &str) -> Option<Command> {
    if on_path(program).is_none() {
        skip(program, REQUIRED);
        return None;
    }
    Some(Command::new(program))
}

impl Prometheus {
    /// Starts a Prometheus with these flags. Returns `None` if it isn't installed.
    ///
    /// # Panics
    /// If it doesn't start.
    #[track_caller]
    pub fn scraping(host: &Host, flags: &[&str]) -> Option<Self> {
        let mut command = installed("prometheus")?;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("prometheus.yml");
        let settings = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: isopod\n  \
             authorization: {{credentials: {:?}}}\n  static_configs: [{{targets: [{:?}]}}]\n",
            host.token,
            host.admin.to_string()
        );
        std::fs::write(&file, settings).expect("a file can be written");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).args(flags);
        let prometheus = Self { address, running: Running::start(command), _folder: folder };
        wait_for("Prometheus to be ready", || {
            Ask::get("/-/ready").send(address).ok().filter(|answer| answer.status == 200)
        });
        Some(prometheus)
    }

    /// Returns the series that a query selects now.
    ///
    /// # Panics
    /// If Prometheus refuses the query.
    #[track_caller]
    pub fn series(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let answer =
            Ask::get(path).send(self.address).unwrap_or_else(|error| panic!("{error}\n{}", self.running.said()));
        let body = answer.json();
        assert_eq!(body["status"], "success", "{query}: {body}");
        body["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// Returns the value of the only series that a query selects now.
    #[track_caller]
    pub fn value(&self, query: &str) -> Option<f64> {
        let series = self.series(query);
        assert!(series.len() < 2, "{query}: {series:?}");
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Waits until the only series that a query selects has this value.
    #[track_caller]
    pub fn until(&self, query: &str, value: f64) {
        let mut last = None;
        wait_for(&format!("{query} to be {value}"), || {
            let now = self.value(query);
            if now != last {
                println!("{query} is {now:?}");
                last = now;
            }
            (now == Some(value)).then_some(())
        });
    }
}

/// Encodes a query for a URL.
fn encoded(query: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    query.bytes().map(byte).collect()
}
