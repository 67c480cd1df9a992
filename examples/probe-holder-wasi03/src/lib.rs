//! Serves the routes of `probe-holder` over `wasi:http` 0.3. Never runs as a command.

#[path = "../../probe-caller/src/count.rs"]
mod count;
#[path = "../../probe-holder/src/handler.rs"]
mod handler;

wit_bindgen::generate!({
    path: ["../../sdk/wit/plugin", "../probe-provider/wit"],
    world: "acme:probe/app",
    generate_all,
});

isopod_sdk::http_streaming!(handler::handle);
