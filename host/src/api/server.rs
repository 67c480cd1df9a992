//! Owns the admin address's connections: accepts them, and drains them at a stop. Knows no route
//! except those for which connections are reserved.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::IntoResponse};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper_util::service::TowerToHyperService;
use isopod_policy::connections::ConnectionTimes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{caller::PeerAddress, edge::new_request_id, failure_log::FailureLog, limits},
    http::connections::{self, DrainedBody, Listener},
    http::problem::Problem,
    http::response_rules::{API, REQUEST_ID},
};

/// The requests that a reserved connection may carry: a supervisor must not restart a host because
/// it has many clients.
const LIVENESS: [&str; 2] = ["/livez", "/readyz"];

/// The bound admin address, before it serves.
pub(crate) struct Service {
    listener: TcpListener,
    connections_max: usize,
    settings: connections::Settings,
}

impl Service {
    /// Binds the address. Must be called on the runtime that will run the service.
    pub(crate) fn bind(address: SocketAddr, connections_max: usize, times: ConnectionTimes) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted host must get its port, even if the kernel still has old connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let settings = connections::Settings::new(times, limits::ADMIN_WINDOW_BYTES);
        Ok(Self { listener: socket.listen(limits::ADMIN_BACKLOG)?, connections_max, settings })
    }

    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then drains open requests for up to `drain_time`.
    pub(crate) async fn run(self, router: Router, stop: CancellationToken, drain_time: Duration) {
        let listener = Listener::new(self.listener, self.connections_max, limits::ADMIN_RESERVE);
        let (settings, tracker) = (Arc::new(self.settings), TaskTracker::new());
        // Its own rate, since clients without a token cause these.
        let refusals = Arc::new(FailureLog::default());
        loop {
            let connections::Accepted { stream, permit } = tokio::select! {
                accepted = listener.next() => accepted,
                () = stop.cancelled() => break,
            };
            let Ok(stream) = TcpStream::from_std(stream) else { continue };
            tracker.spawn(serve(
                (stream, permit),
                (router.clone(), Arc::clone(&refusals)),
                Arc::clone(&settings),
                stop.clone(),
            ));
        }
        drop(listener);
        tracker.close();
        if tokio::time::timeout(drain_time, tracker.wait()).await.is_err() {
            tracing::warn!("API requests were cut off: they did not complete within the drain time");
        }
    }
}

async fn serve(
    (stream, permit): (TcpStream, connections::ConnectionPermit),
    (router, refusals): (Router, Arc<FailureLog>),
    settings: Arc<connections::Settings>,
    stop: CancellationToken,
) {
    let (service, is_reserve) = (TowerToHyperService::new(router), permit.is_reserve());
    let peer = stream.peer_addr().ok().map(|address| PeerAddress(address.ip()));
    let answer = |mut request: Request<DrainedBody>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let is_refused = is_reserve && !LIVENESS.contains(&request.uri().path());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let refusals = Arc::clone(&refusals);
        let responding = (!is_refused).then(|| hyper::service::Service::call(&service, request.map(Body::new)));
        Box::pin(async move {
            let mut response = match responding {
                Some(responding) => responding.await.unwrap_or_else(|never| match never {}),
                None => too_many(&refusals, &method, &path),
            };
            response.headers_mut().insert(API, HeaderValue::from_static("v1"));
            response
        })
    };
    connections::serve((stream, &permit), &settings, answer, &connections::Open, stop.cancelled()).await;
}

/// Returns the response to any other request over a reserved connection.
fn too_many(refusals: &FailureLog, method: &Method, path: &str) -> Response<Body> {
    let title = "Too many connections";
    let detail = "all connections of the admin address are in use, or this client has reached its limit";
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", title, detail)
        .retry_after(limits::CONNECTIONS_RETRY_AFTER.as_secs());
    let id = new_request_id();
    refusals.record(method, path, &problem, &id);
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
    let mut response = (problem.status, json, problem.json(&id).to_string()).into_response();
    problem.set_headers(response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
