//! Acts that exhaust the host: endless calls, and too many open requests.

#[cfg(target_family = "wasm")]
pub use inside::{call_storm, fetch_many, growth_storm, poll_storm};
#[cfg(not(target_family = "wasm"))]
pub use outside::{call_storm, fetch_many, growth_storm, poll_storm};

/// Acts that work only in a component.
#[cfg(target_family = "wasm")]
mod inside {
    use std::hint::black_box;
    use wasip2::clocks::monotonic_clock;
    use wasip2::http::outgoing_handler::{FutureIncomingResponse, OutgoingRequest, handle};
    use wasip2::http::types::{ErrorCode, Fields, IncomingResponse, Scheme};
    use wasip2::io::poll;

    /// Polls an event that is always ready, forever.
    pub fn poll_storm() {
        loop {
            poll::poll(&[&monotonic_clock::subscribe_duration(0)]);
        }
    }

    /// Reads the host's clock, forever.
    pub fn call_storm() {
        loop {
            black_box(monotonic_clock::now());
        }
    }

    /// Requests more memory, even after the host has refused.
    pub fn growth_storm() {
        loop {
            black_box(core::arch::wasm32::memory_grow(0, 1));
        }
    }

    /// Sends all requests before it reads a response, and keeps all responses until the last. `{n}`
    /// in the authority is each request's number.
    pub fn fetch_many(authority: &str, count: usize) -> String {
        let asked: Vec<_> = (0..count).map(|n| ask(&authority.replace("{n}", &n.to_string()))).collect();
        let came: Vec<_> = asked.into_iter().map(|asked| asked.and_then(answer)).collect();
        let refused: Vec<_> = came.iter().filter_map(|came| came.as_ref().err()).collect();
        let answered = came.len() - refused.len();
        format!("{answered} answered, {} refused, the first for {:?}", refused.len(), refused.first())
    }

    fn ask(authority: &str) -> Result<FutureIncomingResponse, ErrorCode> {
        let request = OutgoingRequest::new(Fields::new());
        let set = request.set_scheme(Some(&Scheme::Http)).and_then(|()| request.set_authority(Some(authority)));
        let set = set.and_then(|()| request.set_path_with_query(Some("/")));
        set.map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
        handle(request, None)
    }

    fn answer(asked: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
        asked.subscribe().block();
        asked.get().expect("it is ready").expect("it is taken once")
    }
}

/// Stubs for native builds of the app's tests.
#[cfg(not(target_family = "wasm"))]
mod outside {
    pub fn poll_storm() {}

    pub fn call_storm() {}

    pub fn growth_storm() {}

    pub fn fetch_many(_: &str, count: usize) -> String {
        format!("0 answered, {count} refused: only a component has a host to ask")
    }
}
