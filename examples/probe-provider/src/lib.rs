//! A provider for the tests of the host: it returns values of each kind, or misbehaves as its
//! caller asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

wit_bindgen::generate!({ path: ["../../sdk/wit/plugin", "wit"], world: "acme:probe/provider", generate_all });

use exports::acme::probe::counters::{self, Counter, CounterBorrow, GuestCounter};
use exports::acme::probe::probe::{All, Guest};
use isopod::plugin::caller;

struct Probe;

export!(Probe);

static CALLS: AtomicU32 = AtomicU32::new(0);

impl Guest for Probe {
    fn echo(value: All) -> Result<All, String> {
        match value.text.as_deref() {
            Some("refuse") => Err("refused".to_owned()),
            _ => Ok(value),
        }
    }

    fn caller() -> (Option<String>, u32) {
        (caller::app(), CALLS.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn text(bytes: u32) -> String {
        "x".repeat(bytes as usize)
    }

    fn bytes(data: Vec<u8>) -> u32 {
        data.len() as u32
    }

    fn misbehave(act: String) {
        match act.as_str() {
            "trap" => panic!("as asked"),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "allocate" => {
                let mut held: Vec<Vec<u8>> = Vec::new();
                loop {
                    held.push(vec![1; 1 << 20]);
                }
            }
            "sleep" => std::thread::sleep(Duration::from_secs(1)),
            other => eprintln!("unknown act: {other}"),
        }
    }

    fn burn(milliseconds: u32) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(milliseconds.into()) {
            std::hint::spin_loop();
        }
    }
}

static LIVE: AtomicU32 = AtomicU32::new(0);

struct Count(Cell<u32>);

impl Count {
    fn of(number: u32) -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(Cell::new(number))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl GuestCounter for Count {
    fn new(start: u32) -> Self {
        Self::of(start)
    }

    fn add(&self, number: u32) -> u32 {
        self.0.set(self.0.get() + number);
        self.0.get()
    }

    fn named(name: String) -> Result<Counter, String> {
        if name.is_empty() {
            Err("the name is empty".to_owned())
        } else {
            Ok(Counter::new(Self::of(name.len() as u32)))
        }
    }
}

impl counters::Guest for Probe {
    type Counter = Count;

    fn merge(into: CounterBorrow<'_>, other: Counter) -> u32 {
        let other = other.into_inner::<Count>();
        into.get::<Count>().add(other.0.get())
    }

    fn many(count: u32) -> Vec<Counter> {
        (0..count).map(|number| Counter::new(Count::of(number))).collect()
    }

    fn live() -> u32 {
        LIVE.load(Ordering::Relaxed)
    }

    fn fail(_: CounterBorrow<'_>) {
        panic!("as asked");
    }
}
