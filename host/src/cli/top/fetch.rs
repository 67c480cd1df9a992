//! Requests one sample from a host: all awake apps, and the selected app if it is not among them.
//! Never repeats a request; the loop does.

use isopod_policy::AppName;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::client::{Answer, Client, escape};
use super::super::failure::Failure;
use super::super::limits;
use super::sample::{Sample, SelectedSample, clean};
use super::view::SampleError;

/// Why a request gave no sample, with the complete error.
#[derive(Debug)]
pub(super) enum FetchError {
    Unreachable(Failure),
    Refused(Failure),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Failure {
        match error {
            FetchError::Unreachable(failure) | FetchError::Refused(failure) => failure,
        }
    }
}

impl From<FetchError> for SampleError {
    fn from(error: FetchError) -> SampleError {
        match error {
            FetchError::Unreachable(failure) => SampleError::Unreachable(clean(failure.reason())),
            FetchError::Refused(failure) => SampleError::Refused(clean(failure.reason())),
        }
    }
}

/// Requests the figures of all awake apps, as unchanged JSON.
pub(super) fn list(client: &Client) -> Result<Value, FetchError> {
    success(get(client, &list_path())?)
}

/// Requests the figures of one app, as unchanged JSON.
pub(super) fn app(client: &Client, name: &AppName) -> Result<Value, FetchError> {
    success(get(client, &app_path(name.as_str()))?)
}

/// Requests one sample that includes the selected app.
pub(super) fn sample(client: &Client, looked_at: Option<&str>) -> Result<Sample, FetchError> {
    let mut sample: Sample = decode(list(client)?)?;
    if let Some(name) = looked_at.filter(|name| sample.app(name).is_none()) {
        let answer = get(client, &app_path(name))?;
        sample.selected = match answer.status() {
            404 => SelectedSample::Unknown(name.to_owned()),
            _ => SelectedSample::App(Box::new(decode(success(answer)?)?)),
        };
    }
    Ok(sample)
}

/// Decodes an answer.
pub(super) fn decode<T: DeserializeOwned>(answer: Value) -> Result<T, FetchError> {
    serde_json::from_value::<T>(answer).map_err(|error| {
        FetchError::Refused(
            Failure::new("can't read the host's figures")
                .why(error)
                .next("the host and this program have different versions: use the `isopod` of the host's version"),
        )
    })
}

fn get(client: &Client, path: &str) -> Result<Answer, FetchError> {
    client.get(path).map_err(FetchError::Unreachable)
}

fn success(answer: Answer) -> Result<Value, FetchError> {
    answer.success().map_err(FetchError::Refused)
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
    use super::super::sample::fixtures;
    use super::*;

    fn requests(host: &FakeHost) -> Vec<String> {
        host.requests().into_iter().map(|request| request.line).collect()
    }

    #[test]
    fn an_app_of_the_list_is_not_requested_again() {
        let host = FakeHost::responding([(200, fixtures::list_value(&[("shop", 4)]))]);
        let sample = sample(&host.app("shop").client, Some("shop")).unwrap();
        assert_eq!(sample, fixtures::list(&[("shop", 4)]));
        assert_eq!(requests(&host), ["GET /v1/metrics?limit=1000"]);
    }

    #[test]
    fn an_app_that_is_not_awake_is_requested_by_its_name() {
        let host = FakeHost::responding([(200, fixtures::list_value(&[])), (200, fixtures::app_value("shop", 0))]);
        let sample = sample(&host.app("shop").client, Some("shop")).unwrap();
        assert_eq!(sample.app("shop"), Some(&fixtures::app("shop", 0)));
        assert_eq!(requests(&host)[1], "GET /v1/apps/shop/metrics");
    }

    #[test]
    fn a_destroyed_app_is_known_as_unknown() {
        let problem = json!({"type": "urn:isopod:problem:unknown-app", "title": "No such app", "status": 404});
        let host = FakeHost::responding([(200, fixtures::list_value(&[])), (404, problem)]);
        let sample = sample(&host.app("shop").client, Some("shop")).unwrap();
        assert!(sample.is_unknown("shop") && sample.app("shop").is_none());
    }

    #[test]
    fn a_refusal_is_distinguished_from_an_unreachable_host() {
        let host =
            FakeHost::responding([(401, json!({"title": "Unknown token\u{1b}[2J"})), (200, json!({"items": 3}))]);
        let client = host.app("shop").client;
        let error = |client: &Client| SampleError::from(sample(client, None).unwrap_err());
        assert_eq!(error(&client), SampleError::Refused("Unknown token\u{fffd}[2J (401)".to_owned()));
        assert!(matches!(error(&client), SampleError::Refused(why) if why.contains("invalid type")));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let unreachable = Client::open(&port.to_string(), None, None).unwrap();
        assert_eq!(
            error(&unreachable),
            SampleError::Unreachable("connection refused: nothing listens at this address".to_owned())
        );
    }

    #[test]
    fn a_host_that_does_not_respond_times_out() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::open(&silent.local_addr().unwrap().to_string(), None, None).unwrap();
        let client = client.with_response_timeout(std::time::Duration::from_millis(50));
        let error = SampleError::from(sample(&client, None).unwrap_err());
        assert_eq!(error, SampleError::Unreachable("timed out".to_owned()));
    }
}
