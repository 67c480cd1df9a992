//! Implements `isopod ps` and `isopod restart`: lists an app's running instances, and restarts one.
//! Never changes the formation.

use clap::Args;
use isopod_policy::InstanceId;
use serde_json::Value;

use super::events::stored;
use super::failure::Failure;
use super::limits;
use super::output::{self, field};
use super::target::Target;

const HEADINGS: [&str; 9] = ["PROCESS", "ID", "STATE", "RELEASE", "AGE", "MEMORY", "CPU", "REQUESTS", "RESTARTS"];

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod ps
  isopod ps --app shop --json
  isopod scale                   shows the minimum and maximum number of instances
  isopod restart web-7f3k2       restarts that instance")]
pub(crate) struct PsArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  isopod restart web-7f3k2
  isopod ps                      lists the ids")]
pub(crate) struct RestartArgs {
    /// The instance, such as web-7f3k2
    #[arg(value_name = "ID")]
    instance: InstanceId,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: &PsArgs) -> Result<(), Failure> {
    let app = args.target.look()?;
    // Requests all pages, since a partial list of running instances would mislead.
    let answer = app.all("/instances", limits::LIST_ITEMS_MAX)?;
    app.show(&answer, || {
        let rows: Vec<Vec<String>> = output::items(&answer).iter().map(row).collect();
        if rows.is_empty() {
            output::note(&no_instances(&app.get("")?));
        }
        if let Ok(metrics) = app.get("/metrics") {
            let notes = [waiting(&metrics["pull"]), stored::counts(&metrics["push"])];
            notes.iter().flatten().for_each(|note| output::note(note));
        }
        Ok(output::table(&HEADINGS, &rows))
    })
}

pub(crate) fn restart(args: &RestartArgs) -> Result<(), Failure> {
    let app = args.target.change()?;
    let answer = app.post(&format!("/instances/{}/restart", args.instance), None)?;
    app.show(&answer, || Ok(format!("{}\n", output::done(&format!("restarted {}; it keeps its id", args.instance)))))
}

fn row(instance: &Value) -> Vec<String> {
    vec![
        field(instance, "process"),
        field(instance, "id"),
        field(instance, "state"),
        output::release(instance, "release"),
        output::duration_of(instance, "age_ms"),
        output::size_of(instance, "memory_bytes"),
        output::duration_of(instance, "cpu_ms"),
        field(instance, "requests"),
        field(instance, "restarts"),
    ]
}

/// Formats the number of jobs that wait in the pull queue.
fn waiting(queue: &Value) -> Option<String> {
    let jobs = match queue["buffered"].as_u64()? {
        0 => return None,
        1 => "1 job waits".to_owned(),
        number => format!("{number} jobs wait"),
    };
    let oldest = match output::duration_of(queue, "oldest_ms").as_str() {
        "" => String::new(),
        age => format!("; the oldest is {age} old"),
    };
    Some(format!("pull queue: {jobs}{oldest}"))
}

fn no_instances(app: &Value) -> String {
    let name = field(app, "name");
    match field(app, "state").as_str() {
        _ if app["release"].is_null() => {
            format!("{name} has no code yet; deploy some with `isopod deploy --app {name}`")
        }
        "running" => format!("{name} has no running instance; the next request, event or schedule starts one"),
        state => {
            format!(
                "{name} has no running instance, since the app is {state}; see why with `isopod activity --app {name}`"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_instance_is_one_row_in_units_for_people() {
        let instance = json!({"id": "web-7f3k2", "process": "web", "state": "idle", "release": 3, "age_ms": 61_000,
            "memory_bytes": 3_145_728, "cpu_ms": 1_500, "requests": 42, "restarts": 0});
        let expected = ["web", "web-7f3k2", "idle", "v3", "1m1s", "3.0 MiB", "1.5s", "42", "0"];
        assert_eq!(row(&instance), expected);
        assert_eq!(row(&instance).len(), HEADINGS.len());
    }

    #[test]
    fn waiting_jobs_are_counted_with_the_age_of_the_oldest() {
        assert_eq!(waiting(&json!({"buffered": 0})), None);
        assert_eq!(waiting(&json!({"buffered": 1})).as_deref(), Some("pull queue: 1 job waits"));
        let queue = json!({"buffered": 3, "oldest_ms": 61_000});
        assert_eq!(waiting(&queue).as_deref(), Some("pull queue: 3 jobs wait; the oldest is 1m1s old"));
    }

    #[test]
    fn an_empty_list_is_explained() {
        let app = |state: &str, release: Value| json!({"name": "shop", "state": state, "release": release});
        assert!(no_instances(&app("running", json!(2))).contains("next request"));
        assert!(no_instances(&app("stopped", json!(2))).contains("the app is stopped"));
        assert!(no_instances(&app("stopped", Value::Null)).contains("isopod deploy"));
    }
}
