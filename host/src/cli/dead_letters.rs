//! Implements `isopod dead-letters`: lists, shows, redrives and drops an app's dead letters. Never
//! sends an event.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::events::stored::{self, EVENTS_SHOWN, Filter, OneArgs};
use super::failure::Failure;
use super::limits;
use super::output::{self, field};
use super::progress::Step;
use super::target::{RemoteApp, Target};

const EXAMPLES: &str = "\
Examples:
  isopod dead-letters                              the newest dead letters
  isopod dead-letters show 42                      one of them, with its last error
  isopod dead-letters redrive                      delivers all of them again
  isopod dead-letters redrive --type order --rate 5
  isopod dead-letters drop --subject ann           deletes some of them
  isopod dead-letters drop --yes                   deletes all of them";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
    /// The options of the list, without a subcommand.
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug, PartialEq, Eq)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// The number of dead letters to list, newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = EVENTS_SHOWN)]
    limit: NonZeroU16,
}

impl ListArgs {
    fn is_default(&self) -> bool {
        *self == Self { filter: Filter::default(), limit: EVENTS_SHOWN }
    }
}

#[derive(Subcommand, Debug)]
enum DeadLettersCommand {
    /// List dead letters, newest first
    List(ListArgs),
    /// Show one dead letter with its last error
    Show(OneArgs),
    /// Return dead letters to the queue, with their attempts reset to 0
    Redrive {
        #[command(flatten)]
        filter: Filter,
        /// The number of events to return per second [default: no limit]
        #[arg(long, value_name = "COUNT")]
        rate: Option<NonZeroU32>,
    },
    /// Delete dead letters
    Drop {
        #[command(flatten)]
        filter: Filter,
        /// Don't ask for confirmation; required without a terminal to delete all
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(args: &DeadLettersArgs) -> Result<(), Failure> {
    let target = &args.target;
    match &args.command {
        None => list(&target.look()?, &args.list),
        Some(_) if !args.list.is_default() => Err(stored::misplaced_options("dead-letters")),
        Some(DeadLettersCommand::List(args)) => list(&target.look()?, args),
        Some(DeadLettersCommand::Show(one)) => stored::show(&target.look()?, one),
        Some(DeadLettersCommand::Redrive { filter, rate: None }) => redrive(&target.change()?, filter),
        Some(DeadLettersCommand::Redrive { filter, rate: Some(rate) }) => {
            redrive_slowly(&target.change()?, filter, *rate)
        }
        Some(DeadLettersCommand::Drop { filter, yes }) => {
            let app = target.change()?;
            if !yes && filter.attributes().is_empty() {
                confirm(&app, std::io::stdin().is_terminal())?;
            }
            let answer = app.delete(&format!("/dead-letters{}", filter.query()))?;
            check_found(filter, &answer)?;
            app.show(&answer, || Ok(changed("dropped", &answer)))
        }
    }
}

fn list(app: &RemoteApp, args: &ListArgs) -> Result<(), Failure> {
    let limit = args.limit.get();
    let answer = app.all(&format!("/dead-letters{}", args.filter.query()), limit.into())?;
    app.show(&answer, || Ok(stored::dead_letters(&answer, limit)))
}

fn redrive(app: &RemoteApp, filter: &Filter) -> Result<(), Failure> {
    let wanted: Map<String, Value> =
        filter.attributes().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let answer = app.post("/dead-letters/redrive", Some(&Value::Object(wanted)))?;
    check_found(filter, &answer)?;
    note_missing(answer["missing_processes"].as_array().into_iter().flatten().filter_map(Value::as_str));
    app.show(&answer, || Ok(changed("redrove", &answer)))
}

/// Fails if no dead letter with the selected id was changed, so that a script notices a wrong id.
fn check_found(filter: &Filter, answer: &Value) -> Result<(), Failure> {
    let id = filter.attributes().into_iter().find_map(|(name, value)| (name == "id").then_some(value));
    match id {
        Some(id) if answer["events"] == 0 => {
            Err(Failure::new(format!("no dead letter with the id `{}` was found", output::flat(id)))
                .why("no event was changed")
                .next("check the id and the other filters; `isopod dead-letters` lists the dead letters"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Prints a note about dead letters that can't be redriven.
fn note_missing<'a>(processes: impl IntoIterator<Item = &'a str>) {
    let names = processes.into_iter().map(output::flat).collect::<BTreeSet<_>>();
    if !names.is_empty() {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        output::note(&format!(
            "the app's current release lacks these process types, so their dead letters were not redriven: {names}"
        ));
    }
}

/// Redrives each current dead letter once, at this rate. Doesn't redrive an event again that fails
/// again during the command.
fn redrive_slowly(app: &RemoteApp, filter: &Filter, rate: NonZeroU32) -> Result<(), Failure> {
    let found = app.all(&format!("/dead-letters{}", filter.query()), limits::LIST_ITEMS_MAX)?;
    let (stranded, redrivable): (Vec<&Value>, Vec<&Value>) =
        output::items(&found).iter().partition(|event| event["is_stranded"] == true);
    let step = Step::spinner(&format!("redriving {} events at {rate} per second", redrivable.len()));
    let detail = step.handle();
    let (started, pause) = (Instant::now(), Duration::from_secs(1) / rate.get());
    let mut events = 0;
    // Oldest first, since the list is newest first.
    for (number, event) in (0_u32..).zip(redrivable.into_iter().rev()) {
        std::thread::sleep((started + pause.saturating_mul(number)).saturating_duration_since(Instant::now()));
        let wanted = json!({ "id": event["id"], "source": event["source"] });
        let answer = app.post("/dead-letters/redrive", Some(&wanted)).map_err(|failure| {
            let so_far = format!("{events} events were redriven before; the same command redrives the others");
            failure.log([so_far])
        })?;
        events += answer["events"].as_u64().unwrap_or_default();
        if step.is_interactive() {
            detail.detail(&format!("{events} done"));
        }
    }
    step.finish();
    if !field(&found, "next").is_empty() {
        output::note("there are more dead letters; repeat the command");
    }
    let missing: BTreeSet<&str> = stranded.iter().filter_map(|event| event["process"].as_str()).collect();
    note_missing(missing.iter().copied());
    let answer = json!({ "events": events, "missing_processes": missing });
    if missing.is_empty() {
        check_found(filter, &answer)?;
    }
    app.show(&answer, || Ok(changed("redrove", &answer)))
}

fn changed(what: &str, answer: &Value) -> String {
    let events = output::events(answer["events"].as_u64().unwrap_or_default());
    format!("{}\n", output::done(&format!("{what} {events}")))
}

/// Asks the user to type the app's name, since deleting all dead letters can't be undone. Fails
/// without a terminal.
fn confirm(app: &RemoteApp, at_terminal: bool) -> Result<(), Failure> {
    let name = &app.name;
    if !at_terminal {
        return Err(Failure::usage("nothing was dropped")
            .why("without a filter all dead letters are deleted, and there is no terminal for the confirmation")
            .next(format!("isopod dead-letters drop --yes --app {name}")));
    }
    output::note(&format!("This deletes all dead letters of {name}. Type its name to confirm:"));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_err() || typed.trim() != name.as_ref() as &str {
        return Err(Failure::new("nothing was dropped")
            .why("the typed text is not the app's name")
            .next("try again, or skip the confirmation with --yes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    #[test]
    fn dropping_all_without_a_terminal_needs_yes() {
        let host = FakeHost::responding([]);
        let failure = confirm(&host.app("shop"), false).unwrap_err();
        assert!(failure.text().contains("isopod dead-letters drop --yes --app shop"), "{failure:?}");
    }

    #[test]
    fn dead_letters_are_redriven_one_by_one_at_a_rate() {
        let dead = |id: &str| json!({"id": id, "source": "/shop", "state": "dead"});
        let stranded = json!({"id": "3", "source": "/shop", "process": "old", "is_stranded": true});
        let list = (200, json!({"items": [stranded, dead("2"), dead("1")], "next": null}));
        let one = || (200, json!({"events": 1}));
        let host = FakeHost::responding([list, one(), one()]);
        redrive_slowly(&host.app("shop"), &Filter::default(), NonZeroU32::new(1_000).unwrap()).unwrap();
        let bodies: Vec<Value> = host.requests().into_iter().skip(1).map(|request| request.body).collect();
        assert_eq!(bodies, ["1", "2"].map(|id| json!({"id": id, "source": "/shop"})));
    }
}
