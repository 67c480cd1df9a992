//! Implements `isopod drains`: lists, adds and removes the log drains of an app. Never sends a
//! line.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::escape;
use super::failure::Failure;
use super::output::{self, field, value};
use super::target::Target;

const HEADINGS: [&str; 6] = ["ID", "ENDPOINT", "WAITING", "SENT", "DROPPED", "ERROR"];

const EXAMPLES: &str = "\
A drain sends the lines of an app's log, from now on, to an endpoint:
  https://…  http://…               NDJSON, by POST
  otlp+https://…  otlp+http://…     OTLP/HTTP
  syslog+tls://…  syslog://…        RFC 5424 over TLS or TCP
  syslog+udp://…                    RFC 5424 over UDP

Examples:
  isopod drains --app shop
  isopod drains add https://user:password@logs.example.org/in --app shop
  isopod drains add syslog+tls://logs.example.org:6514 --app shop
  isopod drains remove d-7f3k2m9q0z --app shop";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DrainsArgs {
    #[command(subcommand)]
    command: Option<DrainsCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum DrainsCommand {
    /// List the drains of the app; this is the default
    List,
    /// Add a drain
    Add {
        /// The endpoint
        #[arg(value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
        url: String,
    },
    /// Remove a drain; the lines that it has not sent are dropped
    Remove {
        /// The drain's id
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        id: String,
    },
}

pub(crate) fn run(args: &DrainsArgs) -> Result<(), Failure> {
    match &args.command {
        None | Some(DrainsCommand::List) => {
            let app = args.target.look()?;
            let drains = app.get("/drains")?;
            app.show(&drains, || {
                let rows: Vec<_> = output::items(&drains).iter().map(row).collect();
                if rows.is_empty() {
                    output::note("the app has no drains");
                }
                Ok(output::table(&HEADINGS, &rows))
            })
        }
        Some(DrainsCommand::Add { url }) => {
            let app = args.target.change()?;
            let drain = app.post("/drains", Some(&json!({ "url": url })))?;
            app.show(&drain, || {
                let what = format!("added the drain {} to {}", field(&drain, "id"), value(&drain, "url"));
                Ok(format!("{}\n", output::done(&what)))
            })
        }
        Some(DrainsCommand::Remove { id }) => {
            let app = args.target.change()?;
            app.delete(&format!("/drains/{}", escape(id)))?;
            if !app.is_json() {
                output::note(&output::done(&format!("removed the drain {id}")));
            }
            Ok(())
        }
    }
}

fn row(drain: &Value) -> Vec<String> {
    ["id", "url", "waiting", "sent", "dropped", "error"].map(|key| value(drain, key)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    #[test]
    fn a_row_shows_the_counters_and_the_error() {
        let drain = json!({
            "id": "d-1", "url": "https://logs.example.org/", "waiting": 3, "sent": 10, "dropped": 0, "error": "a\nb",
        });
        assert_eq!(row(&drain), ["d-1", "https://logs.example.org/", "3", "10", "0", "a\\nb"]);
    }

    #[test]
    fn the_id_of_a_drain_is_escaped_in_the_path() {
        let host = FakeHost::responding([(200, json!({}))]);
        host.app("shop").delete(&format!("/drains/{}", escape("a/b"))).expect("it is removed");
        assert!(host.requests()[0].line.contains("/drains/a%2Fb"), "{:?}", host.requests());
    }
}
