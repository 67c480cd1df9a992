//! Implements `isopod cores`: shows and changes how many jobs of an app run at the same time, for
//! each of its queues. Never creates a release.

use clap::{Args, Subcommand};
use isopod_policy::limits::CORES;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::output;
use super::target::Target;

pub(crate) const HEADINGS: [&str; 3] = ["QUEUE", "CORES", "SET BY"];

const EXAMPLES: &str = "\
A core is the right to run one job at a time. The host's configuration file sets the number for all apps; an
administrator can set another number for one app. A change takes effect immediately and creates no release.

Examples:
  isopod cores
  isopod cores set --pull 20
  isopod cores set --pull default";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CoresArgs {
    #[command(subcommand)]
    command: Option<CoresCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum CoresCommand {
    /// Set the app's number of cores; a queue that isn't given is unchanged
    #[command(override_usage = "isopod cores set [--pull <N>] [--push <N>] [OPTIONS]")]
    Set(SetArgs),
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct SetArgs {
    /// Cores for the pull queue, whose callers wait; `default` restores the host's number
    #[arg(long, value_name = "N", value_parser = cores)]
    pull: Option<Value>,
    /// Cores for the push queue; `default` restores the host's number
    #[arg(long, value_name = "N", value_parser = cores)]
    push: Option<Value>,
}

fn cores(text: &str) -> Result<Value, String> {
    match text {
        "default" => Ok(Value::Null),
        number => match number.parse::<u32>() {
            Ok(number) if CORES.contains(&number) => Ok(number.into()),
            Ok(_) | Err(_) => Err(format!("use a number from {} to {}, or `default`", CORES.start(), CORES.end())),
        },
    }
}

pub(crate) fn run(args: &CoresArgs) -> Result<(), Failure> {
    match &args.command {
        None => {
            let app = args.target.look()?;
            let cores = app.get("/cores")?;
            app.show(&cores, || Ok(output::table(&HEADINGS, &rows(&cores))))
        }
        Some(CoresCommand::Set(set)) => {
            let app = args.target.change()?;
            let cores = app.patch("/cores", &patch(set))?;
            app.done("changed the cores");
            app.show(&cores, || Ok(output::table(&HEADINGS, &rows(&cores))))
        }
    }
}

fn patch(set: &SetArgs) -> Value {
    let given = [("pull", &set.pull), ("push", &set.push)];
    let given = given.into_iter().filter_map(|(queue, cores)| Some((queue.to_owned(), cores.clone()?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn rows(cores: &Value) -> Vec<Vec<String>> {
    let row = |queue: &str| {
        let by = if cores["override"].get(queue).is_some() { "the administrator" } else { "the host, for all apps" };
        vec![queue.to_owned(), cores[queue].to_string(), by.to_owned()]
    };
    vec![row("pull"), row("push")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_contains_only_the_given_queues() {
        let set = |pull: Option<&str>, push: Option<&str>| {
            let read = |text: Option<&str>| text.map(|text| cores(text).expect("can be read"));
            patch(&SetArgs { pull: read(pull), push: read(push) })
        };
        assert_eq!(set(Some("20"), None), json!({ "pull": 20 }));
        assert_eq!(set(Some("default"), Some("1")), json!({ "pull": null, "push": 1 }));
        assert!(["many", "-1", "0", "1001", "99999999999999999999"].into_iter().all(|text| cores(text).is_err()));
    }

    #[test]
    fn the_table_shows_who_set_the_number() {
        let shown = rows(&json!({ "pull": 20, "push": 4, "override": { "pull": 20 } }));
        assert_eq!(shown[0], ["pull", "20", "the administrator"]);
        assert_eq!(shown[1], ["push", "4", "the host, for all apps"]);
    }
}
