//! The canonical ABI of the exports `isopod:plugin/middleware`, `isopod:plugin/body-handler` and
//! `isopod:plugin/config`, and of the import `isopod:plugin/bodies`. Never decides about a request.

use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::cell::UnsafeCell;

use super::abi::{Area, Slice, free_list};
use super::event_export::done_or_not;
use super::exports::run_constructors;
use super::{flat, reactor};
use crate::http::{Body, Headers, Method, Request, Response, Target};
use crate::plugin::middleware::HeaderChange;
use crate::plugin::{AppRequest, AssetResponse, Decision, ResponseDecision, ResponseHead, parse_settings, settings};
use crate::{Error, Result, logging};

/// The parameters of `on-request`. They are passed by pointer because they exceed the number of
/// flat parameters of a call.
#[repr(C)]
struct RawRequest {
    config: Slice,
    method: Slice,
    scheme: Slice,
    authority: Slice,
    path_with_query: Slice,
    headers: *mut [Slice; 2],
    header_count: usize,
    has_client_address: u8,
    client_address: Slice,
    app: Slice,
    request_id: Slice,
}

const _: () = assert!(size_of::<RawRequest>() == 19 * size_of::<usize>());

/// The parameters of `on-request-body`.
#[repr(C)]
struct RawRequestBody {
    request: RawRequest,
    body: Slice,
}

const _: () = assert!(size_of::<RawRequestBody>() == 21 * size_of::<usize>());

#[link(wasm_import_module = "isopod:plugin/bodies@0.1.0")]
unsafe extern "C" {
    #[link_name = "ask"]
    fn raw_ask(bytes_max: u64);
}

/// The header change `set`, `append` or `remove`: the case, and up to two strings.
#[repr(C)]
struct RawChange {
    case: u8,
    strings: [Slice; 2],
}

const _: () = assert!(size_of::<RawChange>() == 5 * size_of::<usize>());

/// The result that the host reads after a call has returned. It remains valid until the next call.
struct Last {
    area: Area<13>,
    changes: Vec<RawChange>,
    fields: Vec<[Slice; 2]>,
    owner: Owner,
}

/// Owns the memory that the raw result points to.
enum Owner {
    None,
    Error { _text: String },
    Changes { _headers: Vec<HeaderChange>, path: Option<String>, context: Option<Vec<u8>>, body: Option<Vec<u8>> },
    Response { _headers: Headers, _body: Cow<'static, [u8]> },
    Asset { _headers: Headers, _path: String },
}

struct Cell(UnsafeCell<Last>);

// SAFETY: a component's instance has one thread, and an export is never entered while another runs.
unsafe impl Sync for Cell {}

static LAST: Cell =
    Cell(UnsafeCell::new(Last { area: Area::new(), changes: Vec::new(), fields: Vec::new(), owner: Owner::None }));

const NO_SLICE: Slice = Slice { pointer: std::ptr::null_mut(), length: 0 };

/// The index of a decision's payload in the result, after the tags of `result` and of the decision.
const PAYLOAD: usize = 2;

/// The indexes of the new body in the results of `on-request-body` and `on-response-body`, after
/// the decision.
const REQUEST_BODY: usize = 10;
const RESPONSE_BODY: usize = 7;

/// Decides about a request and returns a pointer to the decision.
///
/// Only the export may call this, with the pointer that the host passed.
pub unsafe fn on_request<C, F>(request: *mut u8, decide: F) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&AppRequest, &C) -> Result<Decision>,
{
    begin();
    // SAFETY: the host passes parameters that it allocated for this call.
    let (config, request) = unsafe {
        let raw = request.cast::<RawRequest>().read();
        free_list(request.cast::<RawRequest>(), 1);
        lift(raw, None)
    };
    respond_to_request(config, request, decide)
}

/// Decides about a request with its body, as [`on_request`].
pub unsafe fn on_request_body<C, F>(request: *mut u8, decide: F) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&AppRequest, &C) -> Result<Decision>,
{
    begin();
    // SAFETY: the host passes parameters that it allocated for this call.
    let (config, request) = unsafe {
        let RawRequestBody { request: raw, body } = request.cast::<RawRequestBody>().read();
        free_list(request.cast::<RawRequestBody>(), 1);
        lift(raw, Some(body))
    };
    respond_to_request(config, request, decide)
}

fn respond_to_request<C, F>(config: String, request: AppRequest, decide: F) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&AppRequest, &C) -> Result<Decision>,
{
    let decided = run(async {
        let settings = settings::cached::<C>(config)?;
        match decide(&request, &settings).await {
            Err(error) if error.is_for_client() => Ok(Response::from_error(&error).into()),
            decision => decision,
        }
    });
    let last = last();
    match decided {
        Ok(Decision::Pass) => last.set(0),
        Ok(Decision::ReadBody(bytes_max)) => last.ask(bytes_max, request.has_body),
        Ok(Decision::Change(changes)) if changes.body.is_some() && !request.has_body => last.set_error(unread()),
        Ok(Decision::Change(changes)) => {
            last.set(1);
            let list =
                last.keep_changes(changes.headers, changes.path_with_query, changes.response_context, changes.body);
            let Owner::Changes { path, context, body, .. } = &last.owner else { return last.pointer() };
            let [path, context, body] =
                [path.as_ref().map(String::as_bytes), context.as_deref(), body.as_deref()].map(option_words);
            let words = &mut last.area.0[PAYLOAD..];
            words[..3].copy_from_slice(&path);
            words[3..5].copy_from_slice(&list);
            words[5..8].copy_from_slice(&context);
            last.area.0[REQUEST_BODY..].copy_from_slice(&body);
        }
        Ok(Decision::Respond(response)) => last.set_response(response),
        Ok(Decision::Asset(response)) => last.set_asset(response),
        Err(error) => last.set_error(error),
    }
    last.pointer()
}

/// Decides about a response and returns a pointer to the decision. `body` is that of
/// `on-response-body`.
///
/// Only the export may call this, with the lists that the host passed. The handler of requests
/// determines the type of the settings.
pub unsafe fn on_response<C, F, G>(
    [config, context]: [(*mut u8, usize); 2],
    status: i32,
    (headers, header_count): (*mut u8, usize),
    body: Option<(*mut u8, usize)>,
    _on_request: F,
    decide: G,
) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&AppRequest, &C) -> Result<Decision>,
    G: AsyncFn(&ResponseHead, &[u8], &C) -> Result<ResponseDecision>,
{
    begin();
    let slice = |(pointer, length): (*mut u8, usize)| Slice { pointer, length };
    // SAFETY: the host passes lists that it allocated for this call.
    let (config, context, headers, body) = unsafe {
        let (config, context) = (slice(config).into_string(), slice(context).into_vec());
        let body = body.map(|body| slice(body).into_vec());
        (config, context, lift_headers(headers.cast(), header_count), body)
    };
    let head = ResponseHead { status: status as u16, headers, body };
    let decided = run(async {
        let settings = settings::cached::<C>(config)?;
        match decide(&head, &context, &settings).await {
            Err(error) if error.is_for_client() => Ok(Response::from_error(&error).into()),
            decision => decision,
        }
    });
    let (last, has_body) = (last(), head.body.is_some());
    match decided {
        Ok(ResponseDecision::Pass) => last.set(0),
        Ok(ResponseDecision::ReadBody(bytes_max)) => last.ask(bytes_max, has_body),
        Ok(ResponseDecision::Change(changes)) if changes.body.is_some() && !has_body => last.set_error(unread()),
        Ok(ResponseDecision::Change(changes)) => {
            last.set(1);
            let list = last.keep_changes(changes.headers, None, None, changes.body);
            let Owner::Changes { body, .. } = &last.owner else { return last.pointer() };
            let body = option_words(body.as_deref());
            let words = &mut last.area.0[PAYLOAD..];
            // The option's tag is the first byte of the word, and its value the upper half.
            words[0] = changes.status.map_or(0, |status| 1 | usize::from(status) << 16);
            words[1..3].copy_from_slice(&list);
            last.area.0[RESPONSE_BODY..RESPONSE_BODY + 3].copy_from_slice(&body);
        }
        Ok(ResponseDecision::Replace(response)) => last.set_response(response),
        Err(error) => last.set_error(error),
    }
    last.pointer()
}

/// Checks a config and returns a pointer to the outcome. The handler of requests determines the
/// type of the settings.
///
/// Only the export may call this, with the string that the host passed.
pub unsafe fn validate_config<C, F>((pointer, length): (*mut u8, usize), _handler: F) -> *const u8
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&AppRequest, &C) -> Result<Decision>,
{
    // SAFETY: the host passes a string that it allocated for this call.
    let config = unsafe { Slice { pointer, length }.into_string() };
    done_or_not(async || parse_settings::<C>(&config).map(drop))
}

fn begin() {
    // A plugin has no `_initialize`; see `__start!`.
    run_constructors();
    logging::install();
}

fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    reactor::run(work).unwrap_or_else(|stuck| Err(stuck.into()))
}

fn unread() -> Error {
    Error::msg("a body can be set only after it was read: decide `ReadBody` first")
}

fn last() -> &'static mut Last {
    // SAFETY: see `Cell`. No other reference is alive, since handlers have returned and the host
    // has read the last result.
    unsafe { &mut *LAST.0.get() }
}

impl Last {
    fn pointer(&mut self) -> *const u8 {
        self.area.pointer()
    }

    /// Sets the case of a decision.
    fn set(&mut self, case: usize) {
        self.area.0 = [0; 13];
        self.area.0[1] = case;
    }

    /// Asks the host for the body.
    fn ask(&mut self, bytes_max: u64, has_body: bool) {
        if has_body {
            return self.set_error(Error::msg("the body was already read"));
        }
        // SAFETY: the host only records the number.
        unsafe { raw_ask(bytes_max) };
        self.set(0);
    }

    fn set_error(&mut self, error: Error) {
        let text = error.to_string();
        self.set(0);
        self.area.0[0] = 1;
        self.area.0[1..3].copy_from_slice(&words(Slice::of(text.as_bytes())));
        self.owner = Owner::Error { _text: text };
    }

    fn set_response(&mut self, response: Response) {
        let (status, headers, body) = match run(flat::whole(async { Ok(response) })) {
            Ok(whole) => whole,
            Err(error) => return self.set_error(error),
        };
        self.set(2);
        let (fields, body_words) = (self.keep_fields(&headers), words(Slice::of(&body)));
        let payload = &mut self.area.0[PAYLOAD..];
        payload[0] = usize::from(status);
        payload[1..3].copy_from_slice(&fields);
        payload[3..5].copy_from_slice(&body_words);
        self.owner = Owner::Response { _headers: headers, _body: body };
    }

    fn set_asset(&mut self, response: AssetResponse) {
        let AssetResponse { path, status, headers } = response;
        self.set(3);
        let fields = self.keep_fields(&headers);
        let payload = &mut self.area.0[PAYLOAD..];
        payload[..2].copy_from_slice(&words(Slice::of(path.as_bytes())));
        payload[2] = usize::from(status);
        payload[3..5].copy_from_slice(&fields);
        self.owner = Owner::Asset { _headers: headers, _path: path };
    }

    /// Stores views of header fields, and returns the words of their list.
    fn keep_fields(&mut self, headers: &Headers) -> [usize; 2] {
        self.fields.clear();
        self.fields.extend(headers.iter().map(|(name, value)| [Slice::of(name.as_bytes()), Slice::of(value)]));
        [self.fields.as_ptr() as usize, self.fields.len()]
    }

    /// Stores changes, and returns the words of the list of header changes.
    fn keep_changes(
        &mut self,
        headers: Vec<HeaderChange>,
        path: Option<String>,
        context: Option<Vec<u8>>,
        body: Option<Vec<u8>>,
    ) -> [usize; 2] {
        self.changes.clear();
        self.changes.extend(headers.iter().map(|change| {
            let (case, name, value) = match change {
                HeaderChange::Set(name, value) => (0, name, Slice::of(value.as_bytes())),
                HeaderChange::Append(name, value) => (1, name, Slice::of(value.as_bytes())),
                HeaderChange::Remove(name) => (2, name, NO_SLICE),
            };
            RawChange { case, strings: [Slice::of(name.as_bytes()), value] }
        }));
        self.owner = Owner::Changes { _headers: headers, path, context, body };
        [self.changes.as_ptr() as usize, self.changes.len()]
    }
}

fn words(slice: Slice) -> [usize; 2] {
    [slice.pointer as usize, slice.length]
}

fn option_words(bytes: Option<&[u8]>) -> [usize; 3] {
    let [pointer, length] = words(bytes.map_or(NO_SLICE, Slice::of));
    [usize::from(bytes.is_some()), pointer, length]
}

/// Returns the config, and the request with its body if that was read.
///
/// # Safety
/// The host has allocated the parameters with `cabi_realloc`, and every value is taken once.
unsafe fn lift(raw: RawRequest, body: Option<Slice>) -> (String, AppRequest) {
    // SAFETY: the caller's promise.
    unsafe {
        let (scheme, method) = (raw.scheme.into_string(), raw.method.into_string());
        let [authority, path] = [raw.authority, raw.path_with_query].map(|text| text.into_string());
        if raw.has_client_address != 0 {
            // `x-real-ip` has the same address.
            drop(raw.client_address.into_vec());
        }
        let has_body = body.is_some();
        let request = Request {
            method: Method::standard(method.as_bytes()).unwrap_or(Method::Other(method)),
            headers: lift_headers(raw.headers, raw.header_count),
            body: body.map_or_else(Body::empty, |body| body.into_vec().into()),
            scheme: Cow::Borrowed(if scheme == "https" { "https" } else { "http" }),
            target: Target::new(&authority, &path),
            params: Vec::new(),
            timeout: None,
        };
        let request = AppRequest { request, app: raw.app.into_string(), id: raw.request_id.into_string(), has_body };
        (raw.config.into_string(), request)
    }
}

/// # Safety
/// As for [`lift`].
unsafe fn lift_headers(fields: *mut [Slice; 2], count: usize) -> Headers {
    // SAFETY: the caller's promise.
    unsafe {
        let lifted = (0..count).map(|index| {
            let [name, value] = fields.add(index).read();
            (Cow::Owned(name.into_string()), Cow::Owned(value.into_vec()))
        });
        let lifted = lifted.collect();
        free_list(fields, count);
        Headers::of(lifted)
    }
}
