//! Implements `isopod config`: lists, sets and unsets an app's config vars, plain and secret. Never
//! stores a value locally.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::{self, field, setting};
use super::secret;
use super::target::{RemoteApp, Target};

/// The source shown for a config var of the manifest.
const MANIFEST: &str = "isopod.toml";

const EXAMPLES: &str = "\
Config vars reach the app as environment variables and through wasi:config. They override those under [config] in
isopod.toml. Every change creates a release, which is started and checked before it serves. If a check fails, the
config is unchanged.

Examples:
  isopod config
  isopod config set GREETING=Hello LANG=en
  isopod config set TOKEN --secret              prompts for the value without showing it
  isopod config set KEY --secret < key.pem      reads the value from a file
  isopod config get GREETING
  isopod config unset GREETING LANG";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Option<ConfigCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Set config vars
    Set {
        /// KEY=VALUE; with --secret also KEY alone, with the value prompted for or read from
        /// standard input
        #[arg(value_name = "KEY=VALUE", required = true)]
        vars: Vec<String>,
        /// Keep the values secret: they are stored encrypted and never shown again
        #[arg(long)]
        secret: bool,
    },
    /// Remove config vars
    Unset {
        #[arg(value_name = "KEY", required = true, value_parser = NonEmptyStringValueParser::new())]
        keys: Vec<String>,
    },
    /// Print the value of one config var
    Get {
        #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
        key: String,
    },
}

pub(crate) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    match &args.command {
        None => list(&args.target.look()?),
        Some(ConfigCommand::Get { key }) => get(&args.target.look()?, key),
        Some(ConfigCommand::Set { vars, secret }) => {
            let given = parse(vars, *secret)?;
            let app = args.target.change()?;
            let without_value: Vec<&str> =
                given.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key.as_str()).collect();
            let read = secret::read(&without_value)?;
            change(&app, "set", &patch(&given, read, *secret))
        }
        Some(ConfigCommand::Unset { keys }) => {
            let keys: Vec<String> = keys.iter().map(|key| checked(key)).collect::<Result<_, Failure>>()?;
            unset(&args.target.change()?, &keys)
        }
    }
}

/// Lists every config var of the app, with its source.
fn list(app: &RemoteApp) -> Result<(), Failure> {
    let vars = effective(app)?;
    app.show(&as_map(&vars), || {
        if vars.is_empty() {
            output::note(&format!(
                "{} has no config vars; set one with `isopod config set KEY=VALUE --app {}`",
                app.name, app.name
            ));
        }
        let lines = vars.iter().map(|var| {
            let source = if is_from_manifest(var) { MANIFEST } else { "set on the host" };
            let value = output::flat(&setting(&value_of(var)));
            format!("{}={value}  {}\n", field(var, "key"), output::dim(&format!("({source})")))
        });
        Ok(lines.collect())
    })
}

fn effective(app: &RemoteApp) -> Result<Vec<Value>, Failure> {
    Ok(output::items(&app.get("/config?effective=true")?).to_vec())
}

fn is_from_manifest(var: &Value) -> bool {
    field(var, "source") == "manifest"
}

/// Returns a var's value, or the placeholder of a secret.
fn value_of(var: &Value) -> Value {
    if var["secret"] == true { json!({"secret": true}) } else { var["value"].clone() }
}

fn as_map<'v>(vars: impl IntoIterator<Item = &'v Value>) -> Value {
    Value::Object(vars.into_iter().map(|var| (field(var, "key"), value_of(var))).collect())
}

fn get(app: &RemoteApp, key: &str) -> Result<(), Failure> {
    let config = as_map(&effective(app)?);
    let value = config.get(key).ok_or_else(|| {
        Failure::new(format!("{} has no config var {key}", app.name))
            .why(format!("it {}", those_set(&config)))
            .next(format!("isopod config set {key}=VALUE --app {}", app.name))
    })?;
    app.show_exact(&json!({key: value}), || match value {
        Value::String(text) => Ok(format!("{text}\n")),
        _ => Err(Failure::new(format!("{key} is a secret"))
            .why("secrets are passed to the app and never shown again")
            .next(format!("set another value with `isopod config set {key} --secret --app {}`", app.name))),
    })
}

fn change(app: &RemoteApp, verb: &str, patch: &Value) -> Result<(), Failure> {
    let config = app.rolling_out(|| app.patch("/config", patch))?;
    let keys: Vec<&str> = patch.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    app.done(&format!("{verb} {}", keys.join(", ")));
    app.show(&config, || Ok(text(&config)))
}

/// Removes config vars that are set on the host. Reports names of unknown vars. Fails for a var of
/// the manifest, since only another manifest removes it.
fn unset(app: &RemoteApp, keys: &[String]) -> Result<(), Failure> {
    let vars = effective(app)?;
    let find = |key: &str| vars.iter().find(|var| field(var, "key") == key);
    let from_manifest: Vec<&str> =
        keys.iter().map(String::as_str).filter(|key| find(key).is_some_and(is_from_manifest)).collect();
    if let Some(first) = from_manifest.first() {
        let names = from_manifest.join(", ");
        let them = if from_manifest.len() == 1 { "it" } else { "them" };
        return Err(Failure::new(format!("{names} can't be unset on the host"))
            .why(format!("{MANIFEST} sets {them} under [config]; nothing was changed"))
            .next(format!(
                "remove {names} from {MANIFEST} and deploy, or set another value: isopod config set \
                 {first}=VALUE --app {}",
                app.name
            )));
    }
    let (set, not_set): (Vec<&String>, Vec<&String>) = keys.iter().partition(|key| find(key).is_some());
    for key in not_set {
        output::note(&format!("{key} was not set; {} {}", app.name, those_set(&as_map(&vars))));
    }
    if set.is_empty() {
        let config = as_map(vars.iter().filter(|var| !is_from_manifest(var)));
        return app.show(&config, || Ok(text(&config)));
    }
    change(app, "unset", &set.into_iter().map(|key| (key.clone(), Value::Null)).collect())
}

/// Lists the config vars of an app, as the end of a sentence about it.
fn those_set(config: &Value) -> String {
    let keys: Vec<&str> = config.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    if keys.is_empty() { "has none".to_owned() } else { format!("has {}", keys.join(", ")) }
}

fn text(config: &Value) -> String {
    let vars = config.as_object().into_iter().flatten();
    vars.map(|(key, value)| format!("{key}={}\n", output::flat(&setting(value)))).collect()
}

/// A config var from the command line: its key, and its value if given.
type Given = (String, Option<String>);

fn parse(written: &[String], secret: bool) -> Result<Vec<Given>, Failure> {
    let mut given: Vec<Given> = Vec::with_capacity(written.len());
    for text in written {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (checked(key)?, Some(value.to_owned())),
            None if secret => (checked(text)?, None),
            None => {
                return Err(Failure::usage(format!("{text} has no value"))
                    .why("a config var is written as KEY=VALUE")
                    .next(format!(
                        "write {text}=VALUE, or `isopod config set {text} --secret` to be prompted for a secret value"
                    )));
            }
        };
        if given.iter().any(|(known, _)| *known == key) {
            return Err(Failure::usage(format!("{key} is given twice")).why("a config var has only one value"));
        }
        given.push((key, value));
    }
    Ok(given)
}

/// Refuses a key that is certainly a slip. The host decides which names it accepts.
fn checked(key: &str) -> Result<String, Failure> {
    if !key.is_empty() && !key.contains(|c: char| c == '=' || c.is_whitespace()) {
        return Ok(key.to_owned());
    }
    Err(Failure::usage(format!("invalid name of a config var: {key:?}"))
        .why("a name has letters, digits and '_', and no space around '='")
        .next("write KEY=VALUE, in quotes if the value has spaces: 'GREETING=good morning'"))
}

/// Returns the patch for the host. `read` contains the values that were not on the command line, in
/// order.
fn patch(given: &[Given], read: Vec<String>, secret: bool) -> Value {
    let mut read = read.into_iter();
    let vars = given.iter().filter_map(|(key, value)| {
        let value = value.clone().or_else(|| read.next())?;
        Some((key.clone(), if secret { json!({"secret": value}) } else { json!(value) }))
    });
    Value::Object(vars.collect())
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    fn parsed(words: &[&str], secret: bool) -> Result<Vec<Given>, Failure> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), secret)
    }

    #[test]
    fn a_value_starts_after_the_first_equals_sign_and_may_be_empty() {
        let given = parsed(&["URL=postgres://a?b=c", "EMPTY=", "TEXT=good morning"], false).unwrap();
        let expected = json!({"EMPTY": "", "TEXT": "good morning", "URL": "postgres://a?b=c"});
        assert_eq!(patch(&given, Vec::new(), false), expected);
    }

    #[test]
    fn secrets_are_sent_as_secrets_and_may_be_read_separately() {
        let given = parsed(&["B", "Z=there", "A"], true).unwrap();
        let expected = json!({"B": {"secret": "first"}, "A": {"secret": "second"}, "Z": {"secret": "there"}});
        assert_eq!(patch(&given, vec!["first".into(), "second".into()], true), expected);
    }

    #[test]
    fn a_bare_key_needs_secret_and_a_key_is_given_once() {
        assert!(parsed(&["TOKEN"], false).unwrap_err().text().contains("--secret"));
        assert!(parsed(&["A=1", "A=2"], false).unwrap_err().text().contains("twice"));
        for slip in ["=x", "A =x", ""] {
            assert!(parsed(&[slip], true).is_err(), "{slip:?}");
        }
    }

    #[test]
    fn secrets_are_hidden_and_line_breaks_escaped() {
        assert_eq!(text(&json!({"A": "x\ny\n", "B": {"secret": true}})), "A=x\\ny\nB=(secret)\n");
    }

    #[test]
    fn setting_patches_and_names_the_keys_only() {
        let host =
            FakeHost::responding([(200, json!({"A": {"secret": true}})), (200, json!({"name": "shop", "release": 2}))]);
        change(&host.app("shop"), "set", &json!({"A": {"secret": "s3"}})).unwrap();
        let requests = host.requests();
        assert_eq!(
            (requests[0].line.as_str(), &requests[0].body["A"]["secret"]),
            ("PATCH /v1/apps/shop/config", &json!("s3"))
        );
    }

    #[test]
    fn a_var_that_is_not_set_is_not_unset() {
        let vars = json!({"items": [{"key": "GREETING", "value": "hi", "secret": false, "source": "host"}]});
        let app = json!({"name": "shop", "release": 2});
        let host = FakeHost::responding([(200, vars.clone()), (200, json!({})), (200, app), (200, vars)]);
        let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        unset(&host.app("shop"), &keys(&["GREETING", "NOPE"])).unwrap();
        let requests = host.requests();
        assert_eq!(
            (requests[1].line.as_str(), &requests[1].body),
            ("PATCH /v1/apps/shop/config", &json!({"GREETING": null}))
        );
        unset(&host.app("shop"), &keys(&["NOPE"])).unwrap();
        assert_eq!(host.requests().len(), 1, "nothing is changed");
        assert_eq!(those_set(&json!({"A": "1", "B": "2"})), "has A, B");
    }

    #[test]
    fn a_var_of_the_manifest_is_not_unset() {
        let var = |key: &str, source: &str| json!({"key": key, "value": "hi", "secret": false, "source": source});
        let vars = json!({"items": [var("GREETING", "manifest"), var("LANG", "host")]});
        let host = FakeHost::responding([(200, vars)]);
        let refused = unset(&host.app("shop"), &["LANG".to_owned(), "GREETING".to_owned()]).unwrap_err().text();
        assert!(
            refused.contains("isopod.toml sets it") && refused.contains("isopod config set GREETING="),
            "{refused}"
        );
        assert_eq!(host.requests().len(), 1, "nothing is changed");
    }

    #[test]
    fn a_secret_is_not_shown_and_an_unknown_key_lists_the_known_keys() {
        let config = json!({"items": [
            {"key": "GREETING", "value": "hi", "secret": false, "source": "manifest"},
            {"key": "TOKEN", "secret": true, "source": "host"},
        ]});
        let host = FakeHost::responding([(200, config.clone()), (200, config.clone()), (200, config)]);
        let app = host.app("shop");
        assert!(get(&app, "GREETING").is_ok());
        assert!(get(&app, "TOKEN").unwrap_err().text().contains("never shown"));
        assert!(get(&app, "GRETING").unwrap_err().text().contains("GREETING, TOKEN"));
    }
}
