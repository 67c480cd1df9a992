//! The macros that export handlers. They only name functions; the implementation is in `wasm/`.
//!
//! Items of an expansion are visible to the handler's path, so their names begin with `__isopod`.

/// Answers HTTP requests with an `async fn(Request) -> Result<Response>`.
///
/// The component exports the handler twice: as `wasi:http/incoming-handler`, which runs on any
/// host, and as `isopod:app/http-packed`, the flat interface, which Isopod prefers because it costs
/// less.
/// An app that uses [`Response::stream`](crate::http::Response::stream) or
/// [`Body::produce`](crate::http::Body::produce) anywhere is called only over `wasi:http`, since
/// the flat interface carries whole bodies. An error that `?` returns is logged and answered with
/// 500, without its text.
///
/// With the feature `wasi-03` the handler is exported as `wasi:http/handler` 0.3 instead, and one
/// instance handles several requests concurrently.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::http!(greet);
///
/// async fn greet(request: Request) -> Result<Response> {
///     let name = request.query_param("name").unwrap_or("world".into());
///     Ok(Response::text(format!("Hello, {name}!")))
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! http {
    ($handler:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__export_http!($handler);
            $crate::__start!();
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            async fn __isopod_handler(request: $crate::http::Request) -> $crate::Result<$crate::http::Response> {
                $handler(request).await
            }
        };
    };
}

/// Answers HTTP requests with an `async fn(Request, IncomingBody) -> Result<Response>`, which reads
/// the body in chunks and may respond before the body has ended.
///
/// Only `wasi:http` is exported, since the flat interface carries whole bodies.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::http_streaming!(shout);
///
/// async fn shout(_: Request, mut body: IncomingBody) -> Result<Response> {
///     Ok(Response::stream(async move |mut out| {
///         while let Some(piece) = body.next().await? {
///             out.write(piece.to_ascii_uppercase()).await?;
///         }
///         Ok(())
///     }))
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! http_streaming {
    ($handler:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__export_http_streaming!($handler);
            $crate::__start!();
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            async fn __isopod_handler(
                request: $crate::http::Request,
                body: $crate::http::IncomingBody,
            ) -> $crate::Result<$crate::http::Response> {
                $handler(request, body).await
            }
        };
    };
}

/// Handles events with an `async fn(Event) -> Result<Option<Reply>, EventError>`.
///
/// The delivery of a stored event is a transaction: the values that the handler sets in
/// [`kv`](crate::kv), the events that it sends with [`events::emit`](crate::events::emit) and the
/// acknowledgement of its event take effect together when it succeeds, exactly once. If it fails,
/// they are discarded. If another handler has changed a key that it has read, the host calls it
/// again, so it must not rely on memory that an earlier call has changed.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::events!(on_event);
///
/// async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
///     let count = kv::open("default")?.increment(event.subject()?, 1)?;
///     Ok(Some(Reply::json(&count)?))
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! events {
    ($handler:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__link!(EVENT_HANDLER, "component-type:isopod-sdk:0.1.0:event-handler-app");

            #[unsafe(export_name = "isopod:app/event-handler@0.1.0#handle")]
            unsafe extern "C" fn __isopod_handle(event: *mut u8) -> *const u8 {
                // SAFETY: the host passes an event that it wrote for this call.
                unsafe { $crate::__private::handle_event(event, $handler) }
            }
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            async fn __isopod_handler(
                event: $crate::events::Event,
            ) -> $crate::Result<Option<$crate::events::Reply>, $crate::events::EventError> {
                $handler(event).await
            }
        };
    };
}

/// Reports the app's health with an `async fn() -> Result<()>`. The error describes the problem.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::health!(check);
///
/// async fn check() -> Result<()> {
///     config::require("API_KEY").map(drop)
/// }
/// # fn main() {}
/// ```
///
/// A check of one line can be a closure:
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::health!(async || kv::open("default").map(drop));
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! health {
    ($check:expr) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__link!(HEALTH, "component-type:isopod-sdk:0.1.0:health-app");

            #[unsafe(export_name = "isopod:app/health@0.1.0#check")]
            unsafe extern "C" fn __isopod_check() -> *const u8 {
                $crate::__private::done_or_not($check)
            }
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            async fn __isopod_handler() -> $crate::Result<()> {
                ($check)().await
            }
        };
    };
}

/// Prepares an instance before its first request, with an `async fn() -> Result<()>`: builds an
/// index, reads a table. If it fails, the instance is not started.
///
/// An app with `[snapshot]` in its manifest is prepared once, at the deploy, and its instances
/// start with the memory of the prepared instance. During a snapshot the function can read only the
/// component itself: no config vars, files, key-value data or other servers.
///
/// ```
/// use isopod_sdk::prelude::*;
/// use std::sync::OnceLock;
///
/// static SQUARES: OnceLock<Vec<u64>> = OnceLock::new();
///
/// isopod_sdk::init!(prepare);
///
/// async fn prepare() -> Result<()> {
///     SQUARES.get_or_init(|| (0..1_000_000).map(|number| number * number).collect());
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! init {
    ($prepare:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__link!(INIT, "component-type:isopod-sdk:0.1.0:init-app");

            #[unsafe(export_name = "isopod:app/init@0.1.0#init")]
            unsafe extern "C" fn __isopod_init() -> *const u8 {
                $crate::__private::done_or_not($prepare)
            }
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            async fn __isopod_handler() -> $crate::Result<()> {
                $prepare().await
            }
        };
    };
}

/// Exports a middleware: an `async fn(&AppRequest, &Settings) -> Result<Decision>` that receives
/// the requests to apps before the apps do. The component is a plugin.
///
/// The middleware defines the type of its settings. The SDK deserialises them from the `config` of
/// the app that uses the plugin, once per text. A config that can't be deserialised fails the
/// deploy of that app. A middleware without settings takes
/// [`NoSettings`](crate::plugin::NoSettings). An error created by
/// [`Error::status`](crate::Error::status) is the response to the client; any other error is a
/// failure of the plugin.
///
/// ```
/// use isopod_sdk::plugin::{AppRequest, Decision, NoSettings, RequestChanges};
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::middleware!(name_the_app);
///
/// async fn name_the_app(request: &AppRequest, _: &NoSettings) -> Result<Decision> {
///     Ok(RequestChanges::new().set_header("x-app", request.app().to_owned()).into())
/// }
/// # fn main() {}
/// ```
///
/// The request's body is streamed past the middleware. If the handler returns
/// [`Decision::ReadBody`](crate::plugin::Decision::ReadBody), the host reads the body and calls the
/// handler again:
///
/// ```
/// use isopod_sdk::plugin::{AppRequest, Decision, NoSettings};
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::middleware!(only_json);
///
/// async fn only_json(request: &AppRequest, _: &NoSettings) -> Result<Decision> {
///     if request.whole_body().is_none() {
///         return Ok(Decision::ReadBody(64 * 1024));
///     }
///     // The error has status 400.
///     request.json::<serde::de::IgnoredAny>()?;
///     Ok(Decision::Pass)
/// }
/// # fn main() {}
/// ```
///
/// A second handler, `async fn(&ResponseHead, &[u8], &Settings) -> Result<ResponseDecision>`, sees
/// the head of the response to each request for which the first handler called
/// [`on_response`](crate::plugin::RequestChanges::on_response):
///
/// ```
/// use isopod_sdk::plugin::{AppRequest, Decision, NoSettings, RequestChanges};
/// use isopod_sdk::plugin::{ResponseChanges, ResponseDecision, ResponseHead};
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::middleware!(begin, complete);
///
/// async fn begin(request: &AppRequest, _: &NoSettings) -> Result<Decision> {
///     Ok(RequestChanges::new().on_response(request.path()).into())
/// }
///
/// async fn complete(_: &ResponseHead, path: &[u8], _: &NoSettings) -> Result<ResponseDecision> {
///     Ok(ResponseChanges::new().set_header("x-path", path.to_vec()).into())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! middleware {
    ($on_request:path) => {
        #[cfg(target_family = "wasm")]
        $crate::__export_middleware!($on_request, $crate::plugin::__pass_response);
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            fn __isopod_handler() {
                $crate::plugin::__check_handlers($on_request, $crate::plugin::__pass_response);
            }
        };
    };
    ($on_request:path, $on_response:path) => {
        #[cfg(target_family = "wasm")]
        $crate::__export_middleware!($on_request, $on_response);
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            fn __isopod_handler() {
                $crate::plugin::__check_handlers($on_request, $on_response);
            }
        };
    };
}

/// Receives the activity of apps with an `async fn(Event) -> Result<(), EventError>`. The component
/// is a plugin. `subscribe` in its manifest selects the events.
///
/// The data of an event is an [`Activity`](crate::plugin::Activity). Each event is delivered at
/// least once, as a transaction like an event of [`events!`](crate::events!). A request to another
/// server may therefore be repeated: send the event's id as its idempotency key.
///
/// ```
/// use isopod_sdk::plugin::Activity;
/// use isopod_sdk::prelude::*;
///
/// isopod_sdk::hook!(count);
///
/// async fn count(event: Event) -> Result<(), EventError> {
///     let activity: Activity = event.json()?;
///     kv::open("default")?.increment(&activity.kind, 1)?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! hook {
    ($hook:path) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            $crate::__link!(HOOK, "component-type:isopod-sdk:0.1.0:hook-plugin");

            #[unsafe(export_name = "isopod:plugin/hook@0.1.0#on-event")]
            unsafe extern "C" fn __isopod_on_event(event: *mut u8) -> *const u8 {
                // SAFETY: the host passes an event that it wrote for this call. A hook has the
                // event and the failures of an event handler, and no reply.
                unsafe { $crate::__private::handle_event(event, |event| $crate::plugin::__handle($hook(event))) }
            }
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            #[allow(dead_code)]
            async fn __isopod_handler(event: $crate::events::Event) -> $crate::Result<(), $crate::events::EventError> {
                $hook(event).await
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_middleware {
    ($on_request:path, $on_response:path) => {
        const _: () = {
            $crate::__link!(MIDDLEWARE, "component-type:isopod-sdk:0.1.0:body-plugin");

            #[unsafe(export_name = "isopod:plugin/middleware@0.1.0#on-request")]
            unsafe extern "C" fn __isopod_on_request(request: *mut u8) -> *const u8 {
                // SAFETY: the host passes parameters that it wrote for this call.
                unsafe { $crate::__private::on_request(request, $on_request) }
            }

            #[unsafe(export_name = "isopod:plugin/middleware@0.1.0#on-response")]
            unsafe extern "C" fn __isopod_on_response(
                config: *mut u8,
                config_length: usize,
                context: *mut u8,
                context_length: usize,
                status: i32,
                headers: *mut u8,
                header_count: usize,
            ) -> *const u8 {
                let lists = [(config, config_length), (context, context_length)];
                let headers = (headers, header_count);
                // SAFETY: the host passes lists that it wrote for this call.
                unsafe { $crate::__private::on_response(lists, status, headers, None, $on_request, $on_response) }
            }

            #[unsafe(export_name = "isopod:plugin/body-handler@0.1.0#on-request-body")]
            unsafe extern "C" fn __isopod_on_request_body(request: *mut u8) -> *const u8 {
                // SAFETY: the host passes parameters that it wrote for this call.
                unsafe { $crate::__private::on_request_body(request, $on_request) }
            }

            #[unsafe(export_name = "isopod:plugin/body-handler@0.1.0#on-response-body")]
            unsafe extern "C" fn __isopod_on_response_body(
                config: *mut u8,
                config_length: usize,
                context: *mut u8,
                context_length: usize,
                status: i32,
                headers: *mut u8,
                header_count: usize,
                body: *mut u8,
                body_length: usize,
            ) -> *const u8 {
                let lists = [(config, config_length), (context, context_length)];
                let (headers, body) = ((headers, header_count), Some((body, body_length)));
                // SAFETY: the host passes lists that it wrote for this call.
                unsafe { $crate::__private::on_response(lists, status, headers, body, $on_request, $on_response) }
            }
        };
        const _: () = {
            $crate::__link!(PLUGIN_CONFIG, "component-type:isopod-sdk:0.1.0:config-plugin");

            #[unsafe(export_name = "isopod:plugin/config@0.1.0#validate-config")]
            unsafe extern "C" fn __isopod_validate_config(config: *mut u8, length: usize) -> *const u8 {
                // SAFETY: the host passes a string that it wrote for this call.
                unsafe { $crate::__private::validate_config((config, length), $on_request) }
            }
        };
    };
}

/// Adds a world's description and the SDK's mark to the component.
#[doc(hidden)]
#[macro_export]
macro_rules! __link {
    ($world:ident, $section:literal) => {
        #[unsafe(link_section = $section)]
        #[allow(dead_code)]
        pub static __ISOPOD_WORLD: [u8; $crate::__private::worlds::$world.len()] = $crate::__private::worlds::$world;

        #[used]
        static __ISOPOD_LINK: fn() = $crate::__private::worlds::link;
    };
}

/// Runs the constructors while an instance starts instead of in its first call: `_initialize`
/// becomes the component's start function, so an error there fails the start before any request.
///
/// Only the HTTP macros expand to it, since a component may have one start function and one such
/// handler. In the crate itself it would also be part of programs with a `main`, whose own start
/// runs the constructors again.
#[doc(hidden)]
#[macro_export]
macro_rules! __start {
    () => {
        #[unsafe(export_name = "_initialize")]
        extern "C" fn __isopod_start() {
            $crate::__private::run_constructors();
        }
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "wasi-03"))]
macro_rules! __export_http {
    ($handler:path) => {
        $crate::__link!(HTTP, "component-type:isopod-sdk:0.1.0:http-packed-app");

        struct __IsopodApp;

        impl $crate::__private::wasip2::exports::http::incoming_handler::Guest for __IsopodApp {
            fn handle(
                request: $crate::__private::wasip2::http::types::IncomingRequest,
                answer: $crate::__private::wasip2::http::types::ResponseOutparam,
            ) {
                $crate::__private::handle_whole(request, answer, $handler)
            }
        }

        $crate::__private::wasip2::http::proxy::export!(__IsopodApp with_types_in $crate::__private::wasip2);

        #[unsafe(export_name = "isopod:app/http-packed@0.1.0#handle")]
        unsafe extern "C" fn __isopod_handle(request: *mut u8, length: usize) -> *const u8 {
            // SAFETY: the host passes a request that it wrote for this call.
            unsafe { $crate::__private::handle_flat(request, length, $handler) }
        }
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(not(feature = "wasi-03"))]
macro_rules! __export_http_streaming {
    ($handler:path) => {
        #[used]
        static __ISOPOD_LINK: fn() = $crate::__private::worlds::link;

        struct __IsopodApp;

        impl $crate::__private::wasip2::exports::http::incoming_handler::Guest for __IsopodApp {
            fn handle(
                request: $crate::__private::wasip2::http::types::IncomingRequest,
                answer: $crate::__private::wasip2::http::types::ResponseOutparam,
            ) {
                $crate::__private::handle_streaming(request, answer, $handler)
            }
        }

        $crate::__private::wasip2::http::proxy::export!(__IsopodApp with_types_in $crate::__private::wasip2);
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(feature = "wasi-03")]
macro_rules! __export_http {
    ($handler:path) => {
        $crate::__export_http03!(handle_whole, $handler);
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(feature = "wasi-03")]
macro_rules! __export_http_streaming {
    ($handler:path) => {
        $crate::__export_http03!(handle_streaming, $handler);
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(feature = "wasi-03")]
macro_rules! __export_http03 {
    ($handle:ident, $handler:path) => {
        #[used]
        static __ISOPOD_LINK: fn() = $crate::__private::worlds::link;

        struct __IsopodApp;

        impl $crate::__private::wasip3::exports::http::handler::Guest for __IsopodApp {
            async fn handle(
                request: $crate::__private::wasip3::http::types::Request,
            ) -> Result<
                $crate::__private::wasip3::http::types::Response,
                $crate::__private::wasip3::http::types::ErrorCode,
            > {
                $crate::__private::$handle(request, $handler).await
            }
        }

        $crate::__private::wasip3::http::service::export!(__IsopodApp with_types_in $crate::__private::wasip3);
    };
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    // Handlers with common names: an item of the expansion with the same name would call itself.
    crate::http!(handle);
    crate::health!(check);
    crate::events!(handler);
    crate::init!(prepare);

    async fn handle(_: Request) -> Result<Response> {
        Ok(Response::new(204))
    }

    async fn check() -> Result<()> {
        Ok(())
    }

    async fn prepare() -> Result<()> {
        Ok(())
    }

    async fn handler(_: Event) -> Result<Option<Reply>, EventError> {
        Ok(None)
    }
}
