//! Bindings generated from the guest contracts in `sdk/wit`. Never contains other code.

pub(crate) mod events {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "isopod:app/event-app",
        exports: { default: async },
    });
    pub(crate) use exports::isopod::app::events::{Event, Failure, Reply};
}

pub(crate) mod event_handler {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "isopod:app/event-handler-app",
        exports: { default: async },
    });
    pub(crate) use exports::isopod::app::event_handler::{Event, Failure, Reply};
}

pub(crate) mod health {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "isopod:app/health-app",
        exports: { default: async },
    });
}

pub(crate) mod init {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "isopod:app/init-app",
        exports: { default: async },
    });
}

pub(crate) mod middleware {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/middleware-plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
        exports: { default: async },
    });
    pub(crate) use exports::isopod::plugin::middleware::{
        AssetResponse, Decision, Guest, HeaderChange, Request, Response, ResponseDecision, ResponseHead,
    };
}

pub(crate) mod hook {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/hook-plugin",
        exports: { default: async },
    });
    pub(crate) use exports::isopod::plugin::hook::{Event, Failure};
}

pub(crate) mod gate {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/gate-plugin",
        ownership: Borrowing { duplicate_if_necessary: false },
        exports: { default: async },
    });
    pub(crate) use exports::isopod::plugin::gate::{Cause, Decision, Release};
}

pub(crate) mod plugin_config {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/config-plugin",
        exports: { default: async },
    });
}

pub(crate) mod counters {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/counting-plugin",
        imports: { default: trappable },
    });
    pub(crate) use isopod::plugin::counters::{Error, Host, Rate, State, add_to_linker};
}
