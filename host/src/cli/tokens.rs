//! Implements `isopod tokens`: lists, creates, rotates and revokes the tokens of a host. Prints a
//! secret only when it is created, and never stores one.

use std::str::FromStr;

use clap::{Args, Subcommand};
use isopod_policy::{AppName, Ceiling, Role};
use jiff::Timestamp;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output::{self, field};
use crate::api::limits::PAGE_ITEMS_MAX;

const EXAMPLES: &str = "\
Roles: `read` reads everything; `send` only sends events; `operate` also starts, stops, restarts and scales apps, and
manages their events; `deploy` also creates apps and releases; `admin` also destroys apps and manages tokens.

Examples:
  isopod tokens                                                    the tokens, without their secrets
  isopod tokens create ci --role deploy --app shop --expires 30d   prints the secret, which is shown once
  isopod tokens rotate ci --grace 1h                               a new secret; the former one ends in an hour
  isopod tokens rotate admin                                       also replaces admin.token on the host
  isopod tokens revoke ci                                          ends the token and its event streams immediately";

const HEADINGS: [&str; 6] = ["NAME", "ROLE", "APPS", "EXPIRES", "LAST USED", "CREATED"];

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    command: Option<TokensCommand>,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum TokensCommand {
    /// List the tokens, with their expiry and their last use
    List,
    /// Create a token and print its secret
    Create {
        /// The token's name, such as ci
        #[arg(value_name = "NAME")]
        name: AppName,
        /// `read`, `send`, `operate`, `deploy` or `admin`
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// An app in the token's scope; repeat it for several. Without it, the token is for all
        /// apps
        #[arg(long = "app", visible_alias = "apps", value_name = "APP", num_args = 1.., value_delimiter = ',')]
        apps: Vec<AppName>,
        /// When the token expires: a duration from now, such as 30d, or an RFC 3339 time
        #[arg(long, value_name = "TIME", value_parser = expiry)]
        expires: Option<Expiry>,
        /// The ceiling on what is requested with the token, as JSON, such as '{"types":["dev"]}'
        #[arg(long, value_name = "JSON", value_parser = policy)]
        policy: Option<Ceiling>,
    },
    /// Replace the secret of a token and print the new one
    Rotate {
        /// The token; `admin` also replaces the file admin.token on the host
        #[arg(value_name = "NAME")]
        name: AppName,
        /// How long the former secret remains valid, such as 1h; by default, it ends immediately
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        grace: Option<std::time::Duration>,
        /// When the token expires: a duration from now, an RFC 3339 time, or `never`
        #[arg(long, value_name = "TIME", value_parser = expiry)]
        expires: Option<Expiry>,
    },
    /// Revoke a token: its event streams, uploads and incomplete bodies end immediately
    Revoke {
        /// The token
        #[arg(value_name = "NAME")]
        name: AppName,
    },
}

/// The expiry of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Never,
    At(Timestamp),
}

impl Expiry {
    fn json(self) -> Value {
        match self {
            Self::Never => Value::Null,
            Self::At(at) => json!(at),
        }
    }
}

fn policy(text: &str) -> Result<Ceiling, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn expiry(text: &str) -> Result<Expiry, String> {
    expiry_from(text, Timestamp::now())
}

fn expiry_from(text: &str, now: Timestamp) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    if let Ok(at) = Timestamp::from_str(text) {
        return Ok(Expiry::At(at));
    }
    let span = humantime::parse_duration(text).map_err(|_| "use a duration, such as 30d, or an RFC 3339 time")?;
    now.checked_add(span).map(Expiry::At).map_err(|_| "that time is too far ahead".to_owned())
}

pub(crate) fn run(args: &TokensArgs) -> Result<(), Failure> {
    let client = Client::near_project(&args.host)?;
    match &args.command {
        None | Some(TokensCommand::List) => list(&client, args.json),
        Some(TokensCommand::Create { name, role, apps, expires, policy }) => {
            let mut body = json!({ "name": name, "role": role });
            if !apps.is_empty() {
                body["apps"] = json!(apps);
            }
            if let Some(expires) = expires {
                body["expires_at"] = expires.json();
            }
            if let Some(policy) = policy {
                body["policy"] = json!(policy);
            }
            let answer = client.send(Method::POST, "/v1/tokens", Some(&body))?.success()?;
            show_secret(&answer, args.json, &format!("created the token {name}{}", until(&answer)));
            Ok(())
        }
        Some(TokensCommand::Rotate { name, grace, expires }) => {
            let mut body = json!({ "grace_ms": grace.map_or(0, |grace| grace.as_millis()) as u64 });
            if let Some(expires) = expires {
                body["expires_at"] = expires.json();
            }
            let path = format!("/v1/tokens/{name}/rotate");
            let answer = client.send(Method::POST, &path, Some(&body))?.success()?;
            let former = match field(&answer, "former_secret_until") {
                none if none.is_empty() => "the former secret is no longer valid".to_owned(),
                until => format!("the former secret is valid until {}", output::time(&until)),
            };
            show_secret(&answer, args.json, &format!("rotated the token {name}{}; {former}", until(&answer)));
            Ok(())
        }
        Some(TokensCommand::Revoke { name }) => {
            let answer = client.delete(&format!("/v1/tokens/{name}"))?.success()?;
            match args.json {
                true => output::json(&answer),
                false => output::emit(&format!("{}\n", output::done(&format!("revoked the token {name}")))),
            }
            Ok(())
        }
    }
}

/// Prints a secret on standard output, so that a program can read it, and the rest as a note.
fn show_secret(answer: &Value, as_json: bool, what: &str) {
    if as_json {
        return output::json(answer);
    }
    output::note(&output::done(&format!("{what}; this is the only time that its secret is shown:")));
    output::emit(&format!("{}\n", field(answer, "token")));
}

fn until(token: &Value) -> String {
    match field(token, "expires_at") {
        none if none.is_empty() => String::new(),
        at => format!(", which expires at {}", output::time(&at)),
    }
}

fn list(client: &Client, as_json: bool) -> Result<(), Failure> {
    let answer = client.all("/v1/tokens", PAGE_ITEMS_MAX as usize)?;
    if as_json {
        output::json(&answer);
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = output::items(&answer).iter().map(|token| row(token, now)).collect();
    output::emit(&output::table(&HEADINGS, &rows));
    Ok(())
}

fn row(token: &Value, now: Timestamp) -> Vec<String> {
    let time = |key: &str| Some(field(token, key)).filter(|at| !at.is_empty());
    let apps = match token["apps"].as_array() {
        None => "all".to_owned(),
        Some(apps) => apps.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
    };
    let expires = match time("expires_at") {
        None => "never".to_owned(),
        Some(at) if at.parse::<Timestamp>().is_ok_and(|at| at <= now) => format!("expired {}", output::time(&at)),
        Some(at) => output::time(&at),
    };
    let last_used = time("last_used_at").map_or("never".to_owned(), |at| output::time(&at));
    vec![
        field(token, "name"),
        field(token, "role"),
        apps,
        expires,
        last_used,
        output::time(&field(token, "created_at")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_a_time_or_never() {
        let now: Timestamp = "2026-11-30T00:00:00Z".parse().expect("is a time");
        let at = |text: &str| Ok(Expiry::At(text.parse().expect("is a time")));
        assert_eq!(expiry_from("30d", now), at("2026-12-30T00:00:00Z"));
        assert_eq!(expiry_from("1h", now), at("2026-11-30T01:00:00Z"));
        assert_eq!(expiry_from("2027-01-01T00:00:00+01:00", now), at("2026-12-31T23:00:00Z"));
        assert_eq!(expiry_from("never", now), Ok(Expiry::Never));
        for wrong in ["", "soon", "-1h", "30", "2027-01-01"] {
            assert!(expiry_from(wrong, now).is_err_and(|why| why.contains("30d")), "{wrong}");
        }
        assert!(expiry_from("99999999999d", now).is_err());
    }

    #[test]
    fn a_row_shows_the_scope_and_whether_a_token_has_expired() {
        let now: Timestamp = "2026-11-30T00:00:00Z".parse().expect("is a time");
        let token = |apps: Value, expires_at: Value| {
            let created_at = "2026-11-01T00:00:00Z";
            row(
                &json!({ "name": "ci", "role": "deploy", "apps": apps, "expires_at": expires_at,
                         "last_used_at": null, "created_at": created_at }),
                now,
            )
        };
        let lasting = token(Value::Null, Value::Null);
        assert_eq!(lasting, ["ci", "deploy", "all", "never", "never", "2026-11-01 00:00:00"]);
        let expired = token(json!(["blog", "shop"]), json!("2026-11-29T00:00:00Z"));
        assert_eq!(expired[2..4], ["blog, shop", "expired 2026-11-29 00:00:00"]);
    }
}
