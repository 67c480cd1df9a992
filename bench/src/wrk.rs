//! Runs wrk, which sends the requests, and parses its report. Never installs it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One thread sends more requests than any of the servers can serve on the rest of the machine.
const THREADS: u32 = 1;
pub(super) const CONNECTIONS: u32 = 32;

/// The report of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Report {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Broken connections and unsuccessful responses.
    pub(super) errors: u64,
}

/// Requests `/` of `host` as fast as it responds.
pub(super) fn run(address: SocketAddr, host: &str, seconds: u32) -> Result<Report> {
    measure(Command::new("wrk").args(["-H", &format!("Host: {host}")]), address, seconds)
}

/// Requests `/` of each of `hosts` in turn, as fast as they respond. Writes a script to `folder`.
pub(super) fn run_in_turn(address: SocketAddr, hosts: &[String], folder: &Path, seconds: u32) -> Result<Report> {
    let file = folder.join("hosts.lua");
    fs::write(&file, script(hosts)).with_context(|| format!("cannot write {}", file.display()))?;
    measure(Command::new("wrk").arg("-s").arg(&file), address, seconds)
}

/// Returns a script of wrk that prepares one request for each host, and sends them in turn.
fn script(hosts: &[String]) -> String {
    let hosts: Vec<String> = hosts.iter().map(|host| format!("{host:?}")).collect();
    let prepare = "init = function()\n  for i, host in ipairs(hosts) do\n    \
                   requests[i] = wrk.format(\"GET\", \"/\", {Host = host})\n  end\nend\n";
    let send = "request = function()\n  turn = turn % #requests + 1\n  return requests[turn]\nend\n";
    format!("local hosts = {{{}}}\nlocal requests, turn = {{}}, 0\n{prepare}{send}", hosts.join(", "))
}

fn measure(command: &mut Command, address: SocketAddr, seconds: u32) -> Result<Report> {
    command.arg(format!("-t{THREADS}")).arg(format!("-c{CONNECTIONS}")).arg(format!("-d{seconds}s"));
    command.arg("--latency").arg(format!("http://{address}/"));
    let output = command.output().context("cannot start wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("wrk exited with {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    parse(&text).with_context(|| format!("cannot parse the report of wrk:\n{text}"))
}

fn parse(report: &str) -> Option<Report> {
    let after = |label: &str| report.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let sockets = after("Socket errors:").map_or(Some(0), sum_of_counts)?;
    let answers = after("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.parse().ok())?;
    let summary = report.lines().find_map(|line| line.split_once(" requests in "));
    Some(Report {
        requests: summary?.0.trim().parse().ok()?,
        requests_per_second: after("Requests/sec:")?.parse().ok()?,
        p50_ms: milliseconds(after("50%")?)?,
        p99_ms: milliseconds(after("99%")?)?,
        errors: sockets + answers,
    })
}

/// Sums `connect 0, read 2, write 0, timeout 1`.
fn sum_of_counts(counts: &str) -> Option<u64> {
    counts.split(", ").map(|count| count.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Reads `289.51us`, `1.20ms`, `2.03s` or `1.10m`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
Running 5s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   289.51us  120.33us   4.12ms   89.01%
    Req/Sec   108.70k     3.10k  112.00k    74.00%
  Latency Distribution
     50%  250.00us
     75%  310.00us
     90%  402.00us
     99%    1.20ms
  543210 requests in 5.00s, 80.10MB read
Requests/sec: 108642.12
Transfer/sec:     16.02MB
";

    #[test]
    fn a_report_is_parsed() {
        let report = parse(GOOD).expect("a report");
        let expected =
            Report { requests: 543_210, requests_per_second: 108_642.12, p50_ms: 0.25, p99_ms: 1.2, errors: 0 };
        assert_eq!(report, expected);
    }

    #[test]
    fn errors_of_all_kinds_are_counted() {
        let bad = GOOD.replace(
            "Requests/sec:",
            "  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 40\nRequests/sec:",
        );
        assert_eq!(parse(&bad).expect("a report").errors, 43);
    }

    #[test]
    fn a_script_sends_to_each_host_in_turn() {
        let script = script(&["a.localhost".to_owned(), "b.localhost".to_owned()]);
        assert!(script.starts_with("local hosts = {\"a.localhost\", \"b.localhost\"}\n"), "{script}");
        assert!(script.contains("turn = turn % #requests + 1"), "{script}");
    }

    #[test]
    fn text_that_is_not_a_report_is_rejected() {
        assert_eq!(parse("unable to connect to 127.0.0.1:1 Connection refused"), None);
        assert_eq!(parse(&GOOD.replace("1.20ms", "1.20 fortnights")), None);
    }

    #[test]
    fn durations_are_parsed_in_every_unit() {
        assert_eq!(milliseconds("2.50s"), Some(2500.0));
        assert_eq!(milliseconds("1.50m"), Some(90_000.0));
        assert_eq!(milliseconds("12"), None);
    }
}
