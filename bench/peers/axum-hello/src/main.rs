//! A native greeting over HTTP with axum: the upper bound for an app. Only the benchmarks use it;
//! it never uses the product.

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::{Next, from_fn},
    routing::get,
    serve::ListenerExt,
};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: axum-hello ADDRESS [MIDDLEWARES]");
        std::process::exit(2);
    };
    let middlewares = std::env::args().nth(2).and_then(|number| number.parse().ok()).unwrap_or(0_usize);
    let mut app = Router::new().route("/", get(|| async { "Hello, world!" }));
    for name in ["x-middleware-0", "x-middleware-1", "x-middleware-2"].into_iter().take(middlewares) {
        app = app.layer(from_fn(move |mut request: Request, next: Next| {
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
            next.run(request)
        }));
    }
    // Sends small responses immediately, like the servers that it is compared with.
    let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
