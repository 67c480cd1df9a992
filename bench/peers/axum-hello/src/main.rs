//! A native greeting over HTTP with axum: the upper bound for an app. Only the benchmarks use it;
//! it never uses the product.

use axum::{Router, routing::get, serve::ListenerExt};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: axum-hello ADDRESS");
        std::process::exit(2);
    };
    let app = Router::new().route("/", get(|| async { "Hello, world!" }));
    // Sends small responses immediately, like the servers that it is compared with.
    let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
