//! Checks the health of an instance. Never acts on the result.

use http::Request;
use http_body_util::BodyExt;
use isopod_engine::{Fault, Instance, InstanceState, RequestBody, StallTimeout};
use isopod_executor::Class;
use isopod_policy::Process;
use std::time::Duration;

use super::resources::AppResources;
use crate::runtime::limits;

/// Runs the component's own check, then requests the process type's health path. Returns the
/// instance if it can still serve.
pub(crate) async fn check(
    resources: &AppResources,
    instance: Box<Instance>,
    process: &Process,
) -> (Result<(), String>, Option<Box<Instance>>) {
    let (process, program) = (process.clone(), instance.program().clone());
    resources.run(Class::Pull, &program, Box::pin(async move { examine(instance, &process).await })).await.0
}

async fn examine(mut instance: Box<Instance>, process: &Process) -> (Result<(), String>, Option<Box<Instance>>) {
    let limit = process.health.as_ref().map_or(limits::HEALTH_TIME, |health| health.timeout);
    match within(limit, instance.health()).await {
        Ok(Ok(())) => {}
        Ok(Err(message)) => return (Err(message), Some(instance)),
        Err(fault) => return (Err(fault.to_string()), None),
    }
    match &process.health {
        Some(health) => get_health_path(instance, &health.path, limit).await,
        None => (Ok(()), Some(instance)),
    }
}

/// Sends one `GET` to the health path. Any 2xx status is healthy. A redirect isn't followed,
/// because its target isn't this instance.
async fn get_health_path(
    instance: Box<Instance>,
    path: &str,
    limit: Duration,
) -> (Result<(), String>, Option<Box<Instance>>) {
    let uri = format!("http://localhost{path}");
    let request = Request::builder().uri(uri).header("host", "localhost").header("user-agent", "isopod-health");
    let request = match request.body(RequestBody::empty()) {
        Ok(request) => request,
        Err(e) => return (Err(format!("invalid health path `{path}`: {e}")), Some(instance)),
    };
    let probe = async {
        let outcome = instance.http(request, "health").await;
        let (status, body) = match outcome.response {
            Ok(response) => (Ok(response.status()), Some(response.into_body())),
            Err(fault) => (Err(fault), None),
        };
        let returned = match (outcome.after, body) {
            (InstanceState::Free(instance), _) => Some(instance),
            (InstanceState::Ended, _) | (InstanceState::Working(_), None) => None,
            // Only the status matters. The body is read to its end so that the guest can finish.
            (InstanceState::Working(rest), Some(body)) => {
                let (_, rest) = tokio::join!(body.collect(), rest.finish(StallTimeout::endless()));
                rest.ok().flatten()
            }
        };
        (status, returned)
    };
    match tokio::time::timeout(limit, probe).await.unwrap_or((Err(Fault::Timeout { limit }), None)) {
        (Ok(status), returned) if status.is_success() => (Ok(()), returned),
        (Ok(status), returned) => (Err(format!("GET {path} returned {status}, expected a 2xx status")), returned),
        (Err(fault), returned) => (Err(format!("GET {path}: {fault}")), returned),
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Fault::Timeout { limit }))
}
