//! Runs the steps that an event or a request lists in its JSON, such as `[["set","k","v"],["get",
//! "k"],["fail","retry","later"]]`, and replies with the result of each. A step that the host
//! refuses has the result `{"error": text}`, so that the next steps run.

use isopod_sdk::prelude::*;
use serde_json::{Map, Value, json};
use std::time::Duration;

isopod_sdk::http!(on_request);
isopod_sdk::events!(on_event);

async fn on_request(request: Request) -> Result<Response> {
    let steps: Value =
        if request.body.as_bytes().unwrap_or_default().is_empty() { json!([]) } else { request.json()? };
    match run(&steps, 0).await {
        Ok(results) => Response::json(&results),
        Err(failure) => Err(Error::msg(failure.to_string())),
    }
}

async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    let steps = if event.data.is_some() { event.json()? } else { json!([]) };
    Ok(Some(Reply::json(&run(&steps, event.attempt).await?)?))
}

async fn run(steps: &Value, attempt: u32) -> Result<Vec<Value>, EventError> {
    let mut results = Vec::new();
    let mut is_strict = false;
    for step in steps.as_array().or_status(400, "the steps are not a list")? {
        let step = Step(step.as_array().or_status(400, "a step is not a list")?);
        let result = match step.text(0)? {
            "strict" => {
                is_strict = true;
                json!(null)
            }
            "attempt" => json!(attempt),
            "fail" => return Err(failure(&step)?),
            "trap" => panic!("outbox was asked to trap"),
            "spin" => loop {
                std::hint::black_box(());
            },
            "sleep" => {
                sleep(Duration::from_millis(step.number(1)?)).await;
                json!(null)
            }
            // Waits until a key exists.
            "until" => {
                let bucket = kv::open("default")?;
                while !bucket.exists(step.text(1)?)? {
                    sleep(Duration::from_millis(10)).await;
                }
                json!(null)
            }
            "ask" => {
                let asked = events::ask(step.event(1)?, Duration::from_millis(step.number(2).unwrap_or(5_000))).await;
                result(asked.map(|reply| reply.map(|reply| String::from_utf8_lossy(&reply.data).into_owned())))
            }
            "emit" => result(events::emit(step.event(1)?)),
            act => result(stored(act, &step)),
        };
        if is_strict && let Some(error) = result.get("error") {
            return Err(EventError::retry(error.to_string()));
        }
        results.push(result);
    }
    Ok(results)
}

/// Performs one act on the key-value data.
fn stored(act: &str, step: &Step<'_>) -> Result<Value> {
    let bucket = kv::open("default")?;
    Ok(match act {
        "set" => json!(bucket.set(step.text(1)?, step.text(2)?)?),
        "get" => json!(bucket.get_text(step.text(1)?)?),
        "exists" => json!(bucket.exists(step.text(1)?)?),
        "delete" => json!(bucket.delete(step.text(1)?)?),
        "increment" => json!(bucket.increment(step.text(1)?, 1)?),
        "append" => {
            let old = |old: Option<Vec<u8>>| String::from_utf8_lossy(&old.unwrap_or_default()).into_owned();
            let more = step.text(2)?;
            json!(bucket.update(step.text(1)?, |value| old(value) + more)?)
        }
        "list" => json!(bucket.keys()?),
        // Sets this number of keys to values of this size.
        "fill" => {
            let value = vec![b'x'; usize::try_from(step.number(2)?)?];
            (0..step.number(1)?).try_for_each(|index| bucket.set(&format!("fill-{index:05}"), &value))?;
            json!(null)
        }
        act => return Err(Error::status(400, format!("outbox knows no step {act}"))),
    })
}

fn result(result: Result<impl Into<Value>>) -> Value {
    result.map_or_else(|error| json!({ "error": error.to_string() }), Into::into)
}

fn failure(step: &Step<'_>) -> Result<EventError> {
    let delay = || step.number(3).map(Duration::from_millis);
    let message = step.text(2).unwrap_or("outbox was asked to fail").to_owned();
    Ok(match step.text(1)? {
        "permanent" => EventError::permanent(message),
        "retry" => EventError::retry(message),
        "retry-after" => EventError::retry_after(message, delay()?),
        "snooze" => EventError::snooze(message, delay()?),
        // An error of this length.
        "long" => EventError::permanent("é".repeat(usize::try_from(step.number(3)?)? / 2)),
        kind => Error::status(400, format!("outbox knows no failure {kind}")).into(),
    })
}

/// One step: its name and its parameters.
struct Step<'a>(&'a [Value]);

impl Step<'_> {
    fn text(&self, index: usize) -> Result<&str> {
        self.0.get(index).and_then(Value::as_str).or_status(400, format!("parameter {index} is not text"))
    }

    fn number(&self, index: usize) -> Result<u64> {
        self.0.get(index).and_then(Value::as_u64).or_status(400, format!("parameter {index} is not a number"))
    }

    /// Reads an event: its attributes, and the steps that its handler runs as `steps`.
    fn event(&self, index: usize) -> Result<NewEvent> {
        let fields = self.0.get(index).and_then(Value::as_object).or_status(400, "the event is not an object")?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let ms = |name: &str| fields.get(name).and_then(Value::as_u64).map(Duration::from_millis);
        let event = NewEvent {
            id: text("id"),
            source: text("source"),
            kind: text("type").unwrap_or_else(|| "steps".to_owned()),
            subject: text("subject"),
            delay: ms("delay_ms"),
            expiry: ms("expires_ms"),
            app: text("app"),
            extensions: extensions(fields),
            ..NewEvent::default()
        };
        match fields.get("steps") {
            Some(steps) => event.with_json(steps),
            None => Ok(event),
        }
    }
}

fn extensions(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let extensions = fields.get("extensions").and_then(Value::as_object).into_iter().flatten();
    extensions.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}
