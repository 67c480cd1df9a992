//! Why a job did not complete. Never decides whether a failed job is retried.

use super::limits;
use isopod_engine::{Fault, Resource};
use isopod_policy::ProcessName;
use std::time::Duration;

/// Why a job did not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    #[error("the app has no process type that takes {0}")]
    NoProcess(&'static str),
    #[error("the instance no longer exists")]
    NoInstance,
    #[error("the app was destroyed before the job completed")]
    Destroyed,
    #[error("the host is stopping: the job was still queued and was not started")]
    Stopping,
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
    #[error(transparent)]
    QueueTimeout(#[from] QueueTimeout),
    #[error("the app ran out of {what} on a request body of this size; the limit is {limit}")]
    BodyDoesNotFit { what: Resource, limit: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a guest that asks an event handler receives no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(
        "{} handlers wait for one another's replies, which is the limit: send the event with `emit`, which \
        doesn't wait",
        limits::ASK_DEPTH_MAX
    )]
    TooDeep,
    #[error("{} in `{app}` waits for a reply that needs a further instance, so none becomes free: {}, or send the \
        event with `emit`, which doesn't wait",
        all_instances(.process, *.max), allow_more(.app, .process, *.max, *.instances_max))]
    NeverFree {
        app: String,
        process: ProcessName,
        max: u32,
        /// The app's limit of instances per process type.
        instances_max: u32,
    },
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// The error of a job that the queue has no room for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{busy} and {waiting} jobs are queued: the limit is {limit}")]
pub(crate) struct QueueFull {
    pub(super) busy: String,
    pub(super) waiting: u32,
    pub(super) limit: String,
    /// When a client should retry, estimated from the current service rate.
    pub(crate) retry_after: Duration,
}

/// The error of a job that wasn't admitted while enough of its time was left. No guest has received
/// it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("timed out after {} in the queue (request_timeout {}): the job was not started",
    seconds(*.waited), seconds(*.limit))]
pub(crate) struct QueueTimeout {
    pub(crate) waited: Duration,
    pub(crate) limit: Duration,
    /// When a client should retry, estimated from the current service rate.
    pub(crate) retry_after: Duration,
}

fn all_instances(process: &ProcessName, max: u32) -> String {
    if max == 1 {
        format!("the only instance of `{process}`")
    } else {
        format!("each of the {max} instances of `{process}`")
    }
}

fn allow_more(app: &str, process: &ProcessName, max: u32, instances_max: u32) -> String {
    if max < instances_max {
        format!("allow more with `isopod scale --app {app} {process}={}`", max.saturating_add(1))
    } else {
        format!("raise `instances_max = {instances_max}` under [limits] in the app's isopod.toml")
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 1_000.0).round() / 1_000.0)
}

impl InvokeError {
    /// Returns whether a guest has started the job.
    pub(crate) fn has_run(&self) -> bool {
        match self {
            Self::NoProcess(_) | Self::NoInstance | Self::Destroyed => false,
            Self::Stopping | Self::QueueFull(_) | Self::QueueTimeout(_) => false,
            Self::Fault(Fault::NoRoom { .. } | Fault::NoSuchEntry { .. } | Fault::BadRequest { .. }) => false,
            Self::BodyDoesNotFit { .. } => true,
            Self::Fault(
                Fault::Trap { .. }
                | Fault::OutOf { .. }
                | Fault::Exited { .. }
                | Fault::Timeout { .. }
                | Fault::NoResponse
                | Fault::BodyLeftOpen
                | Fault::Stopped
                | Fault::InvalidResponse { .. }
                | Fault::InvalidDecision { .. }
                | Fault::Failed { .. }
                | Fault::ClientGone
                | Fault::Provider { .. },
            ) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_that_no_instance_can_answer_names_the_next_step() {
        let text = |max, instances_max| {
            let process = "worker".parse().expect("it is a name");
            AskError::NeverFree { app: "billing".to_owned(), process, max, instances_max }.to_string()
        };
        assert!(text(1, 10).starts_with("the only instance of `worker` in `billing` waits"), "{}", text(1, 10));
        assert!(text(3, 10).contains("`isopod scale --app billing worker=4`"), "{}", text(3, 10));
        assert!(text(10, 10).contains("raise `instances_max = 10`"), "{}", text(10, 10));
    }

    #[test]
    fn a_queue_timeout_reports_the_time_waited() {
        let limit = Duration::from_secs(2);
        let timeout = |waited| QueueTimeout { waited, limit, retry_after: limit }.to_string();
        assert_eq!(timeout(limit), "timed out after 2 s in the queue (request_timeout 2 s): the job was not started");
        assert_eq!(
            timeout(Duration::from_micros(1_500_400)),
            "timed out after 1.5 s in the queue (request_timeout 2 s): the job was not started"
        );
    }
}
