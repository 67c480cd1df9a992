//! An app for the tests of the host: each path calls one function of the provider `probe-provider`,
//! and so does each event.

mod count;

use count::count;
use isopod_sdk::prelude::*;
use std::{cell::RefCell, time::Duration};

wit_bindgen::generate!({
    path: ["../../sdk/wit/plugin", "../probe-provider/wit"],
    world: "acme:probe/app",
    generate_all,
});

use acme::probe::counters::{self, Counter};
use acme::probe::probe;
use acme::probe::types::{All, Colour, Rights, Shape};

isopod_sdk::http!(handle);
isopod_sdk::events!(on_event);

async fn handle(request: Request) -> Result<Response> {
    let (path, number) = (request.path(), request.query().parse().unwrap_or(1));
    Ok(Response::text(match path {
        "/" => "without a call".to_owned(),
        "/echo" => format!("{:?}", probe::echo(&all(request.query()))),
        "/caller" => {
            let (app, calls) = probe::caller();
            format!("{} {calls}", app.as_deref().unwrap_or("unknown"))
        }
        "/text" => probe::text(number).len().to_string(),
        "/send" => probe::echo(&all(&"x".repeat(number as usize))).is_ok().to_string(),
        "/bytes" => probe::bytes(&vec![7; number as usize]).to_string(),
        "/burn" => {
            probe::burn(number);
            "burnt".to_owned()
        }
        "/count" => count(number),
        "/counters" => counters::many(number).len().to_string(),
        "/live" => counters::live().to_string(),
        "/keep" => {
            KEPT.set(Some(Counter::new(number)));
            KEPT.with_borrow(|kept| kept.as_ref().map_or(0, |kept| kept.add(1))).to_string()
        }
        "/kept" => KEPT.with_borrow(|kept| kept.as_ref().map_or(0, |kept| kept.add(1))).to_string(),
        "/forget" => KEPT.take().is_some().to_string(),
        "/hold" => {
            let counter = Counter::new(0);
            sleep(Duration::from_millis(number.into())).await;
            counter.add(1).to_string()
        }
        "/hold-and-drop" => {
            let counter = Counter::new(0);
            sleep(Duration::from_millis(number.into())).await;
            drop(counter);
            "dropped".to_owned()
        }
        "/fail-counter" => {
            counters::fail(&Counter::new(number));
            "it returned".to_owned()
        }
        "/many" => (0..number).map(|_| probe::text(1000).len()).sum::<usize>().to_string(),
        act => {
            probe::misbehave(act.trim_start_matches('/'));
            "it returned".to_owned()
        }
    }))
}

thread_local! {
    /// A counter that outlives its request.
    static KEPT: RefCell<Option<Counter>> = const { RefCell::new(None) };
}

/// Calls the provider with the data of the event, which names its misbehaviour.
async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    probe::misbehave(&event.json::<String>()?);
    Ok(None)
}

fn all(text: &str) -> All {
    All {
        truth: true,
        numbers: (1, -1, 2, -2, 3, -3, u64::MAX, i64::MIN),
        fractions: vec![0.5, f64::INFINITY],
        letter: 'ß',
        text: (!text.is_empty()).then(|| text.to_owned()),
        shape: Shape::Lines(vec![vec![1, 2], Vec::new()]),
        colour: Colour::Green,
        rights: Rights::WRITE,
    }
}
