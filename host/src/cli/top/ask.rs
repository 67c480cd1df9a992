//! Asks a host for one sample: all awake apps, and the one that is looked at if it is not among them.
//! It asks once; when to ask again is the loop's.

use isopod_policy::AppName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::client::{Answer, Client, escape};
use super::super::failure::Failure;
use super::super::limits;
use super::sample::{Apart, Sample, clean};
use super::view::Trouble;

/// Why there is no sample, with all that an error message needs.
#[derive(Debug)]
pub(super) enum Miss {
    NoAnswer(Failure),
    Refused(Failure),
}

impl From<Miss> for Failure {
    fn from(miss: Miss) -> Failure {
        match miss {
            Miss::NoAnswer(failure) | Miss::Refused(failure) => failure,
        }
    }
}

impl From<Miss> for Trouble {
    fn from(miss: Miss) -> Trouble {
        match miss {
            Miss::NoAnswer(failure) => Trouble::NoAnswer(clean(failure.reason())),
            Miss::Refused(failure) => Trouble::Refused(clean(failure.reason())),
        }
    }
}

/// The answer for all awake apps, as it came.
pub(super) fn list(client: &Client) -> Result<Value, Miss> {
    good(get(client, &list_path())?)
}

/// The answer for one app, as it came.
pub(super) fn app(client: &Client, name: &AppName) -> Result<Value, Miss> {
    good(get(client, &app_path(name.as_str()))?)
}

/// One sample, with the app that is looked at.
pub(super) fn sample(client: &Client, looked_at: Option<&str>) -> Result<Sample, Miss> {
    let mut sample: Sample = decode(list(client)?)?;
    if let Some(name) = looked_at.filter(|name| sample.app(name).is_none()) {
        let answer = get(client, &app_path(name))?;
        sample.apart = match answer.status() {
            404 => Apart::Unknown(name.to_owned()),
            _ => Apart::App(Box::new(decode(good(answer)?)?)),
        };
    }
    Ok(sample)
}

/// What an answer says, in types.
pub(super) fn decode<T: DeserializeOwned>(answer: Value) -> Result<T, Miss> {
    serde_json::from_value::<T>(answer).map_err(|error| {
        Miss::Refused(
            Failure::new("the host's figures cannot be read")
                .why(error)
                .next("the host is of another version than this program: use the `isopod` of its version"),
        )
    })
}

fn get(client: &Client, path: &str) -> Result<Answer, Miss> {
    client.get(path).map_err(Miss::NoAnswer)
}

fn good(answer: Answer) -> Result<Value, Miss> {
    answer.success().map_err(Miss::Refused)
}

fn list_path() -> String {
    format!("/v1/metrics?limit={}", limits::TOP_APPS_MAX)
}

fn app_path(name: &str) -> String {
    format!("/v1/apps/{}/metrics", escape(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::fake::FakeHost;
    use super::super::sample::made;
    use super::*;

    fn asked(host: &FakeHost) -> Vec<String> {
        host.asked().into_iter().map(|asked| asked.line).collect()
    }

    #[test]
    fn an_app_of_the_list_is_not_asked_for_again() {
        let host = FakeHost::answering([(200, made::list_value(&[("shop", 4)]))]);
        let sample = sample(&host.app("shop").client, Some("shop")).unwrap();
        assert_eq!(sample, made::list(&[("shop", 4)]));
        assert_eq!(asked(&host), ["GET /v1/metrics?limit=1000"]);
    }

    #[test]
    fn an_app_that_is_not_awake_is_asked_for_by_its_name() {
        let host = FakeHost::answering([(200, made::list_value(&[])), (200, made::app_value("shop", 0))]);
        let sample = sample(&host.app("shop").client, Some("shop")).unwrap();
        assert_eq!(sample.app("shop"), Some(&made::app("shop", 0)));
        assert_eq!(asked(&host)[1], "GET /v1/apps/shop/metrics");
    }

    #[test]
    fn an_app_that_was_destroyed_is_known_to_be_gone() {
        let problem = json!({"type": "urn:isopod:problem:unknown-app", "title": "No such app", "status": 404});
        let host = FakeHost::answering([(200, made::list_value(&[])), (404, problem)]);
        let sample = sample(&host.app("shop").client, Some("shop")).unwrap();
        assert!(sample.is_unknown("shop") && sample.app("shop").is_none());
    }

    #[test]
    fn a_refusal_is_told_from_silence() {
        let host = FakeHost::answering([(401, json!({"title": "Unknown token\u{1b}[2J"})), (200, json!({"items": 3}))]);
        let client = host.app("shop").client;
        let trouble = |client: &Client| Trouble::from(sample(client, None).unwrap_err());
        assert_eq!(trouble(&client), Trouble::Refused("Unknown token\u{fffd}[2J (401)".to_owned()));
        assert!(matches!(trouble(&client), Trouble::Refused(why) if why.contains("invalid type")));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let nobody = Client::open(&port.to_string(), None, None).unwrap();
        assert_eq!(trouble(&nobody), Trouble::NoAnswer("nothing listens there".to_owned()));
    }

    #[test]
    fn a_host_that_takes_a_call_and_says_nothing_is_given_up_on() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::open(&silent.local_addr().unwrap().to_string(), None, None).unwrap();
        let client = client.answered_within(std::time::Duration::from_millis(50));
        let trouble = Trouble::from(sample(&client, None).unwrap_err());
        assert_eq!(trouble, Trouble::NoAnswer("it gave no answer in time".to_owned()));
    }
}
