//! Implements `isopod top`: the load of a host's awake apps and their queues, live on a terminal,
//! once as text or JSON elsewhere. `fetch` requests a `sample`, `view` applies samples and keys,
//! `draw` and `detail` show it with the `columns` and the `history`, and `live` is the loop. Never
//! changes anything on the host.

mod columns;
mod detail;
mod draw;
mod fetch;
mod history;
mod live;
mod look;
mod sample;
mod view;

use std::io::IsTerminal as _;

use clap::Args;
use isopod_policy::AppName;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::{limits, output};
use columns::{COLUMNS, Order, count, millis, percent};
use sample::{AppSample, QueueSample, Sample};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod top                     the busiest app first; the last line shows the keys
  isopod top --app shop          one app: its two queues and their last minutes
  isopod top --once              the same table as text
  isopod top --json              the same figures as JSON")]
pub(crate) struct TopArgs {
    /// Start with the details of this app [default: all awake apps]
    #[arg(long, value_name = "NAME")]
    app: Option<AppName>,
    /// Print once and exit; the default if standard output is not a terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON once
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &TopArgs) -> Result<(), Failure> {
    let client = Client::near_project(&args.host)?.with_response_timeout(limits::TOP_RESPONSE_TIMEOUT);
    let is_live = !args.json && !args.once && std::io::stdout().is_terminal();
    match &args.app {
        // Errors of the first requests are reported before the terminal is taken over.
        app if is_live => {
            if let Some(name) = app {
                fetch::app(&client, name)?;
            }
            let looked_at = app.as_ref().map(ToString::to_string);
            let first = fetch::sample(&client, looked_at.as_deref())?;
            live::run(client, first, looked_at)
        }
        None => print_list(&client, args.json),
        Some(name) => print_app(&client, name, args.json),
    }
}

fn print_list(client: &Client, as_json: bool) -> Result<(), Failure> {
    let answer = fetch::list(client)?;
    if as_json {
        output::json(&answer);
        return Ok(());
    }
    let sample: Sample = fetch::decode(answer)?;
    output::emit(&list_text(&sample));
    Ok(())
}

fn print_app(client: &Client, name: &AppName, as_json: bool) -> Result<(), Failure> {
    let answer = fetch::app(client, name)?;
    if as_json {
        output::json(&answer);
    } else {
        output::emit(&app_text(&fetch::decode(answer)?));
    }
    Ok(())
}

/// Formats the host's figures in two lines, and the table of apps.
fn list_text(sample: &Sample) -> String {
    let mut apps: Vec<&AppSample> = sample.apps.iter().collect();
    apps.sort_by(|a, b| Order::Cpu.compare(a, b));
    let rows: Vec<Vec<String>> =
        apps.iter().map(|app| COLUMNS.iter().map(|column| (column.cell)(app).text).collect()).collect();
    let headings = COLUMNS.each_ref().map(|column| column.heading);
    let host = &sample.host;
    let cpu = format!("CPU {} % of {} %", percent(host.cpu_percent), host.cores * 100);
    format!("{cpu}, {}\n\n{}", draw::host_facts(sample).join(", "), output::table(&headings, &rows))
}

/// Formats one app, one fact per line.
fn app_text(app: &AppSample) -> String {
    output::pairs(&[
        ("app", app.name.clone()),
        ("type", app.kind.clone()),
        ("state", app.state.clone()),
        ("instances", app.instances.to_string()),
        ("CPU", format!("{} %, {} total", percent(app.cpu_percent), app.cpu_time())),
        ("memory", output::size(app.memory_bytes)),
        ("pull queue", queue_text(&app.pull, "requests")),
        ("push queue", queue_text(&app.push, "events")),
    ])
}

/// Formats a queue in one line.
fn queue_text(queue: &QueueSample, what: &str) -> String {
    let latency = &queue.latency_ms;
    let latency = match latency.p99 {
        None => "no latency measured".to_owned(),
        Some(_) => {
            let [p50, p95, p99] = [latency.p50, latency.p95, latency.p99].map(millis);
            format!("latency in ms: p50 {p50}, p95 {p95}, p99 {p99}")
        }
    };
    let oldest = queue.oldest_ms.map(|age| format!(" (the oldest for {})", output::duration(age))).unwrap_or_default();
    let dead = match queue.dead_letters {
        0 => String::new(),
        number => format!(", {number} dead letters"),
    };
    format!(
        "{} of {} cores active, {} buffered{oldest}, {} {what}/s, {latency}{dead}",
        queue.active_cores,
        queue.cores,
        queue.buffered,
        count(queue.throughput_per_s)
    )
}

#[cfg(test)]
mod tests {
    use super::sample::fixtures;
    use super::*;

    #[test]
    fn the_list_as_text_is_a_table_of_all_columns() {
        let expected = "\
CPU 87.0 % of 200 %, memory 1.2 GiB, 2 of 12 apps awake, 17 instances, 3 buffered

APP   TYPE        STATE    INST  CPU%  MEM       PULL  BUF  OLDEST  P50  P95  P99  REQ/S  \
PUSH  BUF  P99  EV/S  STORED  OLDEST
shop  production  running  3     40.0  40.0 MiB  2/10  0    -       0.4  2.0  4.0  800.0  \
0/10  4    -    0.0   0       -
blog  production  running  3     5.0   5.0 MiB   2/10  0    -       0.1  0.2  0.5  100.0  \
0/10  4    -    0.0   0       -
";
        assert_eq!(list_text(&fixtures::list(&[("blog", 5), ("shop", 40)])), expected);
    }

    #[test]
    fn an_app_as_text_is_its_facts() {
        let expected = "\
app         shop
type        production
state       running
instances   3
CPU         40.0 %, 12s total
memory      40.0 MiB
pull queue  2 of 10 cores active, 0 buffered, 800.0 requests/s, latency in ms: p50 0.4, p95 2.0, p99 4.0
push queue  0 of 10 cores active, 4 buffered, 0.0 events/s, no latency measured
";
        assert_eq!(app_text(&fixtures::app("shop", 40)), expected);
    }
}
