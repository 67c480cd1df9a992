//! The messages about alerts: queues them, posts them to the webhook one at a time and in order,
//! and stores the alerts and messages, so that a restart continues. A message is posted again until
//! the webhook accepts or permanently refuses it. Never makes the sampling wait: the queues are
//! bounded, and a full queue drops its oldest message.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_policy::{RequestId, back_off, limits::TEXT_DETAIL_BYTES_SHOWN, text::line_excerpt};
use isopod_store::{AlertMessage, AlertRecord, Store, limits::ALERT_MESSAGES_MAX};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use ureq::{
    Agent,
    http::{StatusCode, Uri},
    tls::{RootCerts, TlsConfig},
};

use super::alert::Alert;
use crate::{
    control::{
        limits,
        storing::{self, retry_until_stored},
    },
    http::{refusal, retry_after::retry_after},
};

/// The URL of the webhook. It may contain a secret, so it is never shown.
#[derive(Clone)]
pub(crate) struct WebhookUrl(String);

/// The state of the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookStatus {
    /// The messages that the webhook has not accepted yet.
    pub(crate) waiting: usize,
    /// The messages that were dropped since the host's start.
    pub(crate) dropped: u64,
    /// Why the last attempt failed; `None` if it succeeded.
    pub(crate) error: Option<String>,
}

/// The queue of messages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: Arc<Mutex<Queue>>,
    added: Arc<Notify>,
    recorder: Recorder,
}

#[derive(Default)]
struct Queue {
    /// Oldest first.
    messages: VecDeque<AlertMessage>,
    dropped: u64,
    error: Option<String>,
}

/// Posts the messages.
pub(in crate::control) struct Sender {
    outbox: Outbox,
    agent: Agent,
    url: WebhookUrl,
}

/// Why the webhook did not accept a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PostError {
    /// A later attempt may succeed, after the pause that the webhook requests.
    Temporary { why: String, retry_after: Option<Duration> },
    /// The webhook will never accept this message.
    Permanent { why: String },
}

/// Passes the changes to the task that stores them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder(mpsc::Sender<Record>);

enum Record {
    Change(AlertRecord),
    /// The webhook has accepted this message, or it was dropped.
    Done(String),
}

/// Stores the changes.
pub(in crate::control) struct Storing {
    store: Store,
    received: mpsc::Receiver<Record>,
}

impl WebhookUrl {
    /// Checks the URL of a webhook.
    pub(crate) fn new(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it is not a URL")?;
        match uri.scheme_str() {
            Some("https" | "http") => {}
            _ => return Err("it must begin with https:// or http://"),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err("it names no host");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookUrl")
    }
}

impl Outbox {
    pub(super) fn new(url: WebhookUrl, roots: RootCerts, recorder: Recorder) -> (Self, Sender) {
        let outbox = Self { queue: Arc::default(), added: Arc::default(), recorder };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(limits::ALERT_POST_TIME))
            .user_agent(concat!("isopod/", env!("CARGO_PKG_VERSION")))
            .build();
        (outbox.clone(), Sender { outbox, agent: agent.into(), url })
    }

    /// Queues the message about a change, and returns it.
    pub(super) fn add(&self, alert: &Alert, is_resolved: bool) -> AlertMessage {
        let (id, at) = (RequestId::from_random(rand::random()).to_string(), Timestamp::now());
        let message = AlertMessage { body: body(&id, alert, is_resolved, at), id, at };
        self.extend([message.clone()]);
        message
    }

    /// Queues the stored messages of an earlier run of the host.
    pub(super) fn restore(&self, messages: Vec<AlertMessage>) {
        self.extend(messages);
    }

    pub(super) fn status(&self) -> WebhookStatus {
        let queue = self.lock();
        WebhookStatus { waiting: queue.messages.len(), dropped: queue.dropped, error: queue.error.clone() }
    }

    fn extend(&self, messages: impl IntoIterator<Item = AlertMessage>) {
        let mut queue = self.lock();
        queue.messages.extend(messages);
        while queue.messages.len() > usize::try_from(ALERT_MESSAGES_MAX).unwrap_or(usize::MAX) {
            // The store drops it too.
            queue.messages.pop_front();
            queue.dropped += 1;
        }
        drop(queue);
        self.added.notify_one();
    }

    /// Waits for a message, and returns the oldest without removing it.
    async fn oldest(&self) -> AlertMessage {
        loop {
            // Registered before the check, so that no message is missed.
            let added = self.added.notified();
            if let Some(message) = self.oldest_now() {
                return message;
            }
            added.await;
        }
    }

    fn oldest_now(&self) -> Option<AlertMessage> {
        self.lock().messages.front().cloned()
    }

    /// Removes a message that the webhook has accepted.
    fn accepted(&self, id: &str) {
        let mut queue = self.lock();
        queue.messages.retain(|message| message.id != id);
        queue.error = None;
        drop(queue);
        self.recorder.done(id.to_owned());
    }

    /// Drops a message that the webhook refuses, so that it doesn't delay the others.
    fn refused(&self, id: &str, why: String) {
        tracing::warn!(error = %why, "a message about an alert is dropped: the webhook refuses it");
        let mut queue = self.lock();
        let before = queue.messages.len();
        queue.messages.retain(|message| message.id != id);
        queue.dropped += (before - queue.messages.len()) as u64;
        queue.error = Some(why);
        drop(queue);
        self.recorder.done(id.to_owned());
    }

    /// Records a failed attempt, and drops the messages that are too old. Without a failed attempt,
    /// none is dropped: messages that became old while the host didn't run, or because the clock
    /// changed, are sent once more.
    fn failed(&self, why: String, now: Timestamp) {
        let mut queue = self.lock();
        let is_old = |message: &AlertMessage| {
            Duration::try_from(now.duration_since(message.at)).is_ok_and(|age| age > limits::ALERT_MESSAGE_AGE_MAX)
        };
        while let Some(old) = queue.messages.pop_front_if(|message| is_old(message)) {
            tracing::warn!(error = %why, "a message about an alert is dropped: the webhook didn't accept it");
            self.recorder.done(old.id);
            queue.dropped += 1;
        }
        queue.error = Some(why);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Posts the messages until the host shuts down. After a failure, waits before the next
    /// attempt.
    pub(in crate::control) async fn run(self) {
        let mut failures = 0;
        loop {
            let message = self.outbox.oldest().await;
            match self.post(message.clone()).await {
                Ok(()) => {
                    self.outbox.accepted(&message.id);
                    failures = 0;
                }
                Err(PostError::Permanent { why }) => {
                    self.outbox.refused(&message.id, why);
                    failures = 0;
                }
                Err(PostError::Temporary { why, retry_after }) => {
                    let why = line_excerpt(&why, TEXT_DETAIL_BYTES_SHOWN);
                    if failures == 0 {
                        tracing::warn!(error = %why, "the webhook of alerts failed; retrying");
                    }
                    self.outbox.failed(why, Timestamp::now());
                    failures += 1;
                    let retry = limits::ALERT_RETRY_AFTER;
                    let pause = back_off(*retry.start(), *retry.end(), failures, rand::random());
                    tokio::time::sleep(pause.max(retry_after.unwrap_or_default())).await;
                }
            }
        }
    }

    /// Posts a message, with a timeout, on a thread that may block. At most one request runs.
    async fn post(&self, message: AlertMessage) -> Result<(), PostError> {
        let (agent, WebhookUrl(url)) = (self.agent.clone(), self.url.clone());
        let posting = tokio::task::spawn_blocking(move || {
            let request = agent.post(&url).content_type("application/json").header("idempotency-key", &message.id);
            let response = request.send(&message.body).map_err(PostError::temporary)?;
            outcome(response.status(), retry_after(response.headers(), limits::ALERT_RETRY_AFTER_MAX))
        });
        posting.await.unwrap_or_else(|error| Err(PostError::temporary(error)))
    }
}

impl PostError {
    fn temporary(why: impl ToString) -> Self {
        Self::Temporary { why: why.to_string(), retry_after: None }
    }
}

/// Decides by the status of a response whether a message is accepted.
fn outcome(status: StatusCode, retry_after: Option<Duration>) -> Result<(), PostError> {
    let why = format!("the webhook responded with status {status}");
    match status {
        _ if status.is_success() => Ok(()),
        _ if refusal::is_permanent(status) => Err(PostError::Permanent { why }),
        _ => Err(PostError::Temporary { why, retry_after }),
    }
}

/// Returns the body of a message. Chat services show the member `text`.
fn body(id: &str, alert: &Alert, is_resolved: bool, at: Timestamp) -> String {
    let Alert { rule, app, since, value, threshold, text, .. } = alert;
    let of = app.as_ref().map_or_else(|| "the host".to_owned(), ToString::to_string);
    let state = if is_resolved { "resolved" } else { "firing" };
    json!({
        "id": id, "state": state, "rule": rule, "app": app, "at": at, "since": since, "value": value,
        "threshold": threshold, "unit": rule.unit(), "text": format!("[{state}] {of}: {rule}: {text}"),
    })
    .to_string()
}

impl Recorder {
    pub(super) fn new(store: Store) -> (Self, Storing) {
        let (records, received) = mpsc::channel(limits::ALERT_RECORDS_QUEUED_MAX);
        (Self(records), Storing { store, received })
    }

    /// Stores a change later. A full queue drops it: after a restart, the alert fires again.
    pub(super) fn record(&self, change: AlertRecord) {
        self.send(Record::Change(change));
    }

    /// Removes a message from the store later. If that fails, a restart posts it again.
    fn done(&self, message: String) {
        self.send(Record::Done(message));
    }

    fn send(&self, record: Record) {
        if self.0.try_send(record).is_err() {
            tracing::warn!(
                "a change of an alert was dropped: the queue is full, because the disk is slow or can't be written"
            );
        }
    }
}

impl Storing {
    /// Stores the changes in order until the host shuts down. While the disk can't be written, all
    /// later changes wait for the current one.
    pub(in crate::control) async fn run(self) {
        let Self { store, mut received } = self;
        while let Some(record) = received.recv().await {
            let attempt = || record.attempt(&store);
            match attempt().await {
                Ok(()) => {}
                Err(error) if error.is_of_unwritable_disk() => {
                    tracing::warn!(%error, "a change of an alert can't be stored; retrying");
                    retry_until_stored(&attempt).await;
                }
                Err(error) => tracing::warn!(%error, "a change of an alert could not be stored"),
            }
        }
    }
}

impl Record {
    /// Stores the record. A repeated attempt has no further effect.
    fn attempt(&self, store: &Store) -> storing::Storing {
        let store = store.clone();
        match self {
            Self::Change(change) => {
                let change = change.clone();
                Box::pin(async move { store.put_alert(change).await })
            }
            Self::Done(message) => {
                let message = message.clone();
                Box::pin(async move { store.remove_alert_message(message).await })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use isopod_policy::AlertRule;
    use jiff::SignedDuration;

    use super::*;

    fn outbox() -> (Outbox, mpsc::Receiver<Record>) {
        let (records, received) = mpsc::channel(limits::ALERT_RECORDS_QUEUED_MAX);
        (Outbox { queue: Arc::default(), added: Arc::default(), recorder: Recorder(records) }, received)
    }

    fn message(id: usize, at: Timestamp) -> AlertMessage {
        AlertMessage { id: id.to_string(), body: String::new(), at }
    }

    #[test]
    fn a_full_queue_drops_its_oldest_message() {
        let (outbox, _received) = outbox();
        let most = usize::try_from(ALERT_MESSAGES_MAX).expect("few");
        outbox.restore((0..most + 2).map(|id| message(id, Timestamp::UNIX_EPOCH)).collect());
        let status = outbox.status();
        assert_eq!((status.waiting, status.dropped), (most, 2));
        assert_eq!(outbox.oldest_now().expect("a message").id, "2");
    }

    #[test]
    fn a_message_stays_until_it_is_accepted_or_too_old() {
        let (outbox, mut received) = outbox();
        let later = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48);
        outbox.restore(vec![message(1, Timestamp::UNIX_EPOCH), message(2, later), message(3, later)]);
        outbox.failed("status 500".to_owned(), Timestamp::UNIX_EPOCH);
        assert_eq!(outbox.oldest_now().expect("a message").id, "1");
        outbox.failed("status 500".to_owned(), later);
        assert_eq!(outbox.oldest_now().expect("a message").id, "2");
        assert_eq!(outbox.status().error.as_deref(), Some("status 500"));
        outbox.accepted("2");
        assert_eq!(outbox.status(), WebhookStatus { waiting: 1, dropped: 1, error: None });
        let done = std::iter::from_fn(|| received.try_recv().ok()).map(|record| match record {
            Record::Done(id) => id,
            Record::Change(change) => change.key,
        });
        assert_eq!(done.collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_refused_message_is_dropped_and_the_next_follows() {
        let (outbox, _received) = outbox();
        outbox.restore(vec![message(1, Timestamp::UNIX_EPOCH), message(2, Timestamp::UNIX_EPOCH)]);
        outbox.refused("1", "status 400".to_owned());
        outbox.refused("1", "status 400".to_owned());
        assert_eq!(outbox.oldest_now().expect("a message").id, "2");
        let error = Some("status 400".to_owned());
        assert_eq!(outbox.status(), WebhookStatus { waiting: 1, dropped: 1, error });
    }

    #[test]
    fn only_a_refusal_of_the_message_is_permanent() {
        let is_permanent = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            outcome(status, None).map_err(|error| matches!(error, PostError::Permanent { .. }))
        };
        for (status, expected) in [(200, Ok(())), (204, Ok(())), (302, Err(false)), (400, Err(true)), (401, Err(false))]
        {
            assert_eq!(is_permanent(status), expected, "{status}");
        }
    }

    #[test]
    fn a_message_describes_its_alert() {
        let (rule, since) = (AlertRule::QueueDepth, Timestamp::UNIX_EPOCH);
        let alert = Alert {
            rule,
            app: Some("shop".parse().expect("a valid name")),
            app_id: Some("an id".to_owned()),
            since,
            value: 12.0,
            threshold: 10.0,
            text: "12 requests and events wait".to_owned(),
        };
        let body: serde_json::Value = serde_json::from_str(&body("m-1", &alert, false, since)).expect("JSON");
        assert_eq!(
            (&body["state"], &body["rule"], &body["app"]),
            (&json!("firing"), &json!("queue-depth"), &json!("shop"))
        );
        assert_eq!(body["text"], "[firing] shop: queue-depth: 12 requests and events wait");
        assert_eq!(body["app_id"], json!(null));
    }

    #[test]
    fn a_webhook_has_a_scheme_and_a_host() {
        for url in ["https://hooks.example.org/T1?x=y", "http://127.0.0.1:9/"] {
            assert!(WebhookUrl::new(url).is_ok(), "{url}");
        }
        for url in ["", "hooks.example.org", "ftp://x.example/", "https://", "/path"] {
            assert!(WebhookUrl::new(url).is_err(), "{url}");
        }
        let shown = format!("{:?}", WebhookUrl::new("https://x.example/secret").expect("valid"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
