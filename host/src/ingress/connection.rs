//! Serves one connection: reads its HTTP and handles each request from head to response. Never
//! accepts connections.

use super::{
    config::Config,
    connection_fairness::Ticket,
    delivery::{self, Context, Delivered, Received},
    failure::{self, Failed},
    forwarded::Peer,
    lookup::{self, Part},
    normalise::{Arrival, Target, normalise},
    pages,
    timing::{self, TimingAccess},
    trace,
};
use crate::{
    failpoint,
    http::connections::{self, ConnectionPermit, DrainedBody},
    http::discarded_body,
    http::problem::Problem,
    http::response_rules::{self, ERROR_SOURCE, REQUEST_ID, SentBody},
    invoke_problem::{self, Interface, no_such_part},
    observe::{
        access_log::{AccessLine, AccessLog},
        liveness::Liveness,
    },
    runtime::{App, Directory, PhaseTimes, PreviewError},
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version, header,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};
use isopod_engine::{ResponseBody, ResponseEnd};
use isopod_policy::{AppName, InstanceId, Phase, ReleaseNumber, RequestId, RequestTrace, Timing};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// The state that all connections share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) directory: Arc<Directory>,
    pub(super) access: Arc<dyn AccessLog>,
    /// Decides which clients see the phases of requests. `None` if no client does.
    pub(super) timing: Option<Arc<dyn TimingAccess>>,
    pub(super) connections: connections::Settings,
    /// Checks the serving threads.
    pub(super) liveness: Arc<Liveness>,
}

/// The state that the requests of one connection share.
struct Connection {
    shared: Arc<Shared>,
    arrival: Arrival,
    ticket: Ticket,
}

/// Serves a connection until its client disconnects or the host stops.
pub(super) async fn serve(
    stream: TcpStream,
    permit: &ConnectionPermit,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()>,
) {
    // The socket of a disconnected client has no address.
    let Ok(peer) = stream.peer_addr() else { return };
    let local = shared.config.only_app.as_ref().and_then(|_| stream.local_addr().ok());
    let arrival = Arrival::new(Peer::new(peer.ip(), &shared.config.trusted_proxies), local);
    let connection = Arc::new(Connection { shared, arrival, ticket: Ticket::new() });
    // Boxed here, since each function that passes the future on would copy it. The box is allocated
    // first, so that the future is constructed in it instead of being copied into it.
    let answer = |request| Box::into_pin(Box::write(Box::new_uninit(), Arc::clone(&connection).answer(request)));
    let settings = &connection.shared.connections;
    connections::serve((stream, permit), settings, answer, &connection.ticket, stop).await;
}

impl Connection {
    async fn answer(self: Arc<Self>, mut request: Request<DrainedBody>) -> Response<SentBody<ResponseBody>> {
        let Self { shared, arrival, ticket } = &*self;
        let started = Instant::now();
        let id = RequestId::from_random(rand::random());
        failpoint::here("traffic-request");
        let found = match normalise(&mut request, arrival, &shared.config.trusted_proxies) {
            Ok(Target::App) => {
                let (last, host) = (&arrival.last_host, request.uri().authority());
                lookup::find(last, host, &shared.config, &shared.directory).map(Some)
            }
            Ok(Target::Server) => Ok(None),
            Err(problem) => Err(problem),
        };
        let (head, body) = request.into_parts();
        // Boxed, since it passes through many functions.
        let head = Box::new(head);
        let mut response = match found {
            Ok(Some((app, part))) => {
                let queue = Arc::as_ptr(&app).addr();
                if head.version == Version::HTTP_2 {
                    // Each stream is a separate task.
                    ticket.assign(queue);
                    let mut handled = Box::pin(shared.handle(&app, part, head, body, (id, started)));
                    Ticket::of(queue).poll_fairly(handled.as_mut()).await
                } else {
                    ticket.move_to(queue).await;
                    shared.handle(&app, part, head, body, (id, started)).await
                }
            }
            Ok(None) => sendable(&head.method, head.version, server_options()),
            Err(problem) => {
                let page = render(&problem.for_visitors(), id, pages::wants_html(&head));
                sendable(&head.method, head.version, page)
            }
        };
        if let Ok(value) = HeaderValue::from_str(id.as_str()) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
}

impl Shared {
    async fn handle(
        &self,
        app: &Arc<App>,
        part: Part,
        mut head: Box<Parts>,
        body: DrainedBody,
        (id, started): (RequestId, Instant),
    ) -> Response<SentBody<ResponseBody>> {
        if let Some(page) = build_state(app, &head) {
            return sendable(&head.method, head.version, page);
        }
        let sampling = self.access.sampling();
        let trace = trace::begin(&mut head.headers, sampling);
        let trace_state = sampling.and_then(|_| trace::state(&head.headers));
        let shows_timing = timing::is_requested(&mut head.headers, self.timing.as_deref(), app.name());
        let (method, version, path) = (head.method.clone(), head.version, head.uri.path_and_query().cloned());
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let is_https = head.uri.scheme() == Some(&Scheme::HTTPS);
        let gone = line_of_gone(app.name(), id, (&method, version), path.path(), trace);
        let line = AccessLine { is_https, trace_state: trace_state.as_ref(), ..gone };
        let times = PhaseTimes::default();
        let pending = PendingRecord { access: &*self.access, app, line, started, times: &times, streams: false };
        let wants_html = pages::wants_html(&head);
        let (release, delivered) = self.outcome(app, part, (head, body), Context { id, times: &times }).await;
        let Delivered { outcome, plugin, instance } = delivered;
        let (response, fault) = response_of(outcome, plugin.is_some(), app, id, wants_html);
        let mut response = sendable(&method, version, response);
        if shows_timing {
            timing::show(response.headers_mut(), &times.read(), started.elapsed());
        }
        let (status, bytes) = (response.status(), response.body().bytes());
        match response.body_mut() {
            SentBody::Whole(body) if body.is_streamed() => {
                let duration = pending.streams();
                let streamed = StreamedRecord {
                    access: Arc::clone(&self.access),
                    app: Arc::clone(app),
                    release,
                    request_id: id,
                    method,
                    path,
                    status,
                    started,
                    duration,
                    plugin,
                    instance,
                    is_https,
                    version,
                    trace,
                    trace_state,
                    timing: times.read(),
                };
                body.watch(move |end| streamed.complete(end));
            }
            _ => {
                let (plugin, instance) = (plugin.as_ref(), instance.as_ref());
                pending.complete(|line| AccessLine { release, status, bytes, fault, plugin, instance, ..line });
            }
        }
        response
    }

    /// Delivers a request to the release that it is for. Returns the release with the outcome.
    async fn outcome(
        &self,
        app: &App,
        part: Part,
        request: Received,
        context: Context<'_>,
    ) -> (Option<ReleaseNumber>, Delivered) {
        let running = match self.directory.serving_request(app, context.times).await {
            Ok(running) => running,
            Err(reason) => {
                let problem = invoke_problem::unavailable(reason, Interface::Http).retry_after(5);
                return (None, Delivered::failed((problem, None)));
            }
        };
        match (part, running.middleware()) {
            (Part::Serving, None) => (running.release(), delivery::to_app(app, &running, None, request, context).await),
            // Boxed, so that the future of a request without middleware doesn't reserve space for
            // this.
            (Part::Serving, Some(chain)) => {
                let through = delivery::through(chain, &self.directory, app, &running, None, request, context);
                (running.release(), Box::pin(through).await)
            }
            (part @ (Part::Release(_) | Part::Instance(_)), _) => {
                Box::pin(self.deliver_to_part(app, part, request, context)).await
            }
        }
    }
}

/// The pending access record of a request. Dropping it writes the record, also if the client
/// disconnects before the response.
struct PendingRecord<'a> {
    access: &'a dyn AccessLog,
    app: &'a App,
    line: AccessLine<'a>,
    started: Instant,
    times: &'a PhaseTimes,
    /// Whether the record is written at the end of the response's body.
    streams: bool,
}

impl<'a> PendingRecord<'a> {
    fn complete(mut self, completed: impl FnOnce(AccessLine<'a>) -> AccessLine<'a>) {
        self.line = completed(self.line);
    }

    /// Defers the record to the end of the response's body. Returns the time to the response's
    /// head.
    fn streams(mut self) -> Duration {
        self.streams = true;
        self.started.elapsed()
    }
}

impl Drop for PendingRecord<'_> {
    fn drop(&mut self) {
        if !self.streams {
            let (duration, timing) = (self.started.elapsed(), self.times.read());
            record(self.access, self.app, AccessLine { duration, elapsed: duration, timing, ..self.line });
        }
    }
}

/// The access record of a request whose response is streamed, until the body ends.
struct StreamedRecord {
    access: Arc<dyn AccessLog>,
    app: Arc<App>,
    release: Option<ReleaseNumber>,
    request_id: RequestId,
    method: Method,
    path: PathAndQuery,
    status: StatusCode,
    started: Instant,
    /// Until the response's head.
    duration: Duration,
    plugin: Option<AppName>,
    instance: Option<InstanceId>,
    is_https: bool,
    version: Version,
    trace: RequestTrace,
    trace_state: Option<HeaderValue>,
    /// Without the time of the body.
    timing: Timing,
}

impl StreamedRecord {
    fn complete(&self, end: ResponseEnd) {
        let elapsed = self.started.elapsed();
        let line = AccessLine {
            app: self.app.name(),
            release: self.release,
            request_id: self.request_id,
            method: &self.method,
            path: self.path.path(),
            status: self.status,
            duration: self.duration,
            elapsed,
            bytes: Some(end.bytes),
            fault: end.fault,
            plugin: self.plugin.as_ref(),
            instance: self.instance.as_ref(),
            is_https: self.is_https,
            version: self.version,
            trace: self.trace,
            trace_state: self.trace_state.as_ref(),
            timing: self.timing.with(Phase::Reply, elapsed.saturating_sub(self.duration)),
        };
        record(&*self.access, &self.app, line);
    }
}

fn record(access: &dyn AccessLog, app: &App, line: AccessLine<'_>) {
    // A line about a destroyed app could get into the log of a new app with the same name.
    if !app.is_destroyed() {
        access.request(line);
    }
}

/// Returns the access line of a request whose client disconnects before the response.
fn line_of_gone<'a>(
    app: &'a AppName,
    id: RequestId,
    (method, version): (&'a Method, Version),
    path: &'a str,
    trace: RequestTrace,
) -> AccessLine<'a> {
    AccessLine {
        app,
        release: None,
        request_id: id,
        method,
        path,
        status: client_gone(),
        duration: Duration::ZERO,
        elapsed: Duration::ZERO,
        bytes: None,
        fault: None,
        plugin: None,
        instance: None,
        is_https: false,
        version,
        trace,
        trace_state: None,
        timing: Timing::default(),
    }
}

/// Returns 499, the status that servers commonly record for a request after its client has closed
/// the connection. It is never sent.
fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT)
}

/// Returns the page of a broken build, or the response to the page's status request.
fn build_state(app: &App, request: &Parts) -> Option<Response<ResponseBody>> {
    let error = app.build_error();
    if request.uri.path() == pages::build::STATUS_PATH {
        return Some(pages::build::status(error.is_some()));
    }
    error.filter(|_| pages::wants_html(request)).map(|error| pages::build::page(app.name().as_ref(), &error))
}

impl Shared {
    async fn deliver_to_part(
        &self,
        app: &App,
        part: Part,
        request: Received,
        context: Context<'_>,
    ) -> (Option<ReleaseNumber>, Delivered) {
        let (running, instance) = match part {
            Part::Serving => (app.serving(), None),
            Part::Instance(instance) => {
                let running = app.with_instance(&instance);
                if let Some(problem) = running.as_ref().and_then(|running| failure::not_http(running, &instance)) {
                    return (running.and_then(|running| running.release()), Delivered::failed((problem, None)));
                }
                (running, Some(instance))
            }
            Part::Release(release) => match self.directory.preview(app, release).await {
                Ok(running) => (Some(running), None),
                Err(PreviewError::Unknown(detail)) => {
                    return (Some(release), Delivered::failed((no_such_part(detail), None)));
                }
                Err(PreviewError::Unavailable(detail)) => {
                    let title = "The release is unavailable";
                    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "release-unavailable", title, detail);
                    return (Some(release), Delivered::failed((problem.retry_after(1), None)));
                }
            },
        };
        match running {
            Some(running) => {
                let directory = &self.directory;
                let delivered = delivery::deliver(directory, app, &running, instance.as_ref(), request, context).await;
                (running.release(), delivered)
            }
            None => (None, Delivered::failed((no_such_part("the instance does not exist".to_owned()), None))),
        }
    }
}

/// Returns the response to an outcome, and the fault of a request that failed. `is_of_plugin` is
/// true if a plugin responded in place of the app.
fn response_of(
    outcome: Result<Response<ResponseBody>, Box<Failed>>,
    is_of_plugin: bool,
    app: &App,
    id: RequestId,
    wants_html: bool,
) -> (Response<ResponseBody>, Option<&'static str>) {
    match outcome {
        Ok(mut response) => {
            response_rules::strip_guest_fields(response.headers_mut());
            if response.status().is_server_error() {
                let source = if is_of_plugin { "host" } else { "app" };
                response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static(source));
            }
            (response, None)
        }
        Err(failed) => {
            let (problem, fault) = *failed;
            let problem = if app.resources().is_dev() { problem } else { problem.for_visitors() };
            (render(&problem.app(app.name()), id, wants_html), fault)
        }
    }
}

/// Renders a problem as an HTML page for a browser, otherwise as JSON.
fn render(problem: &Problem, id: RequestId, wants_html: bool) -> Response<ResponseBody> {
    let mut response = match wants_html {
        true => pages::problem::page(problem, id),
        false => {
            let mut response = Response::new(ResponseBody::full(Bytes::from(problem.json(id.as_str()).to_string())));
            *response.status_mut() = problem.status;
            let json = HeaderValue::from_static("application/problem+json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
    };
    problem.set_headers(response.headers_mut());
    response
}

/// Returns the response to `OPTIONS *`, which the host answers for all apps.
fn server_options() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Applies HTTP's rules to a response. An unsent body is still read, so that its guest can finish.
fn sendable(method: &Method, version: Version, response: Response<ResponseBody>) -> Response<SentBody<ResponseBody>> {
    let (response, unsent) = response_rules::apply(method, version, response);
    unsent.into_iter().for_each(discarded_body::discard);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_request_is_small() {
        fn size_of_future<'a, F>(
            _: impl Fn(&'a Shared, &'a Arc<App>, Part, Box<Parts>, DrainedBody, (RequestId, Instant)) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(Shared::handle);
        assert!(size <= 2_816, "{size} bytes");
    }
}
