//! Asking an instance whether it is well. Never decides what follows from the answer.

use http::Request;
use http_body_util::BodyExt;
use isopod_engine::{After, Fault, Instance, Patience, RequestBody};
use isopod_executor::Class;
use isopod_policy::Process;
use std::time::Duration;

use super::AppResources;
use crate::limits;

/// Asks by the component's own check, then by the path that the process type names. The instance comes back if it is
/// fit to serve.
pub(crate) async fn check(
    resources: &AppResources,
    instance: Box<Instance>,
    process: &Process,
) -> (Result<(), String>, Option<Box<Instance>>) {
    let (process, program) = (process.clone(), instance.program().clone());
    resources.run(Class::Pull, &program, async move { examine(instance, &process).await }).await.0
}

async fn examine(mut instance: Box<Instance>, process: &Process) -> (Result<(), String>, Option<Box<Instance>>) {
    let limit = process.health.as_ref().map_or(limits::HEALTH_TIME, |health| health.timeout);
    match within(limit, instance.health()).await {
        Ok(Ok(())) => {}
        Ok(Err(message)) => return (Err(message), Some(instance)),
        Err(fault) => return (Err(fault.to_string()), None),
    }
    match &process.health {
        Some(health) => ask(instance, &health.path, limit).await,
        None => (Ok(()), Some(instance)),
    }
}

/// One `GET` of the health path. Any 2xx is well; a redirect is not followed, since what it leads to is not this
/// instance.
async fn ask(instance: Box<Instance>, path: &str, limit: Duration) -> (Result<(), String>, Option<Box<Instance>>) {
    let uri = format!("http://localhost{path}");
    let request = Request::builder().uri(uri).header("host", "localhost").header("user-agent", "isopod-health");
    let request = match request.body(RequestBody::empty()) {
        Ok(request) => request,
        Err(e) => return (Err(format!("`{path}` is no path for a request: {e}")), Some(instance)),
    };
    let asked = async {
        let answer = instance.http(request, "health").await;
        let (status, body) = match answer.response {
            Ok(response) => (Ok(response.status()), Some(response.into_body())),
            Err(fault) => (Err(fault), None),
        };
        let left = match (answer.after, body) {
            (After::Free(instance), _) => Some(instance),
            (After::Spent, _) | (After::Working(_), None) => None,
            // The head is what counts: the body is read to its end for the instance's sake, not for what it says.
            (After::Working(rest), Some(body)) => {
                let (_, rest) = tokio::join!(body.collect(), rest.finish(Patience::endless()));
                rest.ok().flatten()
            }
        };
        (status, left)
    };
    match tokio::time::timeout(limit, asked).await.unwrap_or((Err(Fault::Timeout { limit }), None)) {
        (Ok(status), left) if status.is_success() => (Ok(()), left),
        (Ok(status), left) => (Err(format!("GET {path} answered {status}, and a 2xx status is wanted")), left),
        (Err(fault), left) => (Err(format!("GET {path}: {fault}")), left),
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Fault::Timeout { limit }))
}
