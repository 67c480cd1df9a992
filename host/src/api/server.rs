//! Owns the admin address's connections: accepts them, bounds them in number and time, and drains them at a stop.
//! Never knows a route.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{limits, linger::Lingering};

/// The admin address, bound and not yet answering.
pub(crate) struct Service {
    listener: TcpListener,
    connections_max: usize,
}

impl Service {
    /// Binds the address. Must be called on the runtime that will run the service.
    pub(crate) fn bind(address: SocketAddr, connections_max: usize) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A host that comes back at once must get its port, though old connections linger in the kernel.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(limits::ADMIN_BACKLOG)?, connections_max })
    }

    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`; then lets open requests finish for up to `drain_time`.
    pub(crate) async fn run(self, router: Router, stop: CancellationToken, drain_time: Duration) {
        let connections = Arc::new(Semaphore::new(self.connections_max));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &connections) => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Some((stream, slot)) => serve(stream, slot, router.clone(), &graceful),
                // Out of file descriptors, most likely: a pause lets others close theirs.
                None => tokio::time::sleep(limits::ACCEPT_PAUSE).await,
            }
        }
        drop(self.listener);
        if tokio::time::timeout(drain_time, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests to the admin address were still open after the drain time and are cut off");
        }
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(trouble) => {
            tracing::warn!(%trouble, "a connection to the admin address can't be accepted");
            None
        }
    }
}

fn serve(stream: TcpStream, slot: OwnedSemaphorePermit, router: Router, graceful: &GracefulShutdown) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits::ADMIN_HEADERS_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(limits::ADMIN_HEADERS_TIMEOUT));
    let service = TowerToHyperService::new(router);
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        asks.store(true, Ordering::Relaxed);
        hyper::service::Service::call(&service, Lingering::of(request).map(axum::body::Body::new))
    });
    let connection = graceful.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
    // While it is not known which HTTP a client speaks, no timeout of either is running yet.
    let never_asked = async move {
        tokio::time::sleep(limits::ADMIN_HEADERS_TIMEOUT).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            ended = connection => {
                if let Err(trouble) = ended {
                    tracing::debug!(%trouble, "a connection to the admin address ended early");
                }
            }
            () = never_asked => tracing::debug!("a connection to the admin address said nothing in time"),
        }
        drop(slot);
    });
}
