//! Holds a counter of the provider `probe-provider` for the tests of the host: while a response
//! over `wasi:http` 0.2 is streamed, and as a command that never ends.

#[path = "../../probe-caller/src/count.rs"]
mod count;
mod handler;

use std::time::Duration;

wit_bindgen::generate!({
    path: ["../../sdk/wit/plugin", "../probe-provider/wit"],
    world: "acme:probe/app",
    generate_all,
});

isopod_sdk::http_streaming!(handler::handle);

/// Uses a counter every 4 s.
fn main() {
    let counter = acme::probe::counters::Counter::new(0);
    println!("holds a counter");
    loop {
        std::thread::sleep(Duration::from_secs(4));
        println!("the counter is {}", counter.add(1));
    }
}
