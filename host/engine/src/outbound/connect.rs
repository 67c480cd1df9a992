//! Connections that the host opens on behalf of an app, such as those of its log drains. They reach
//! the same addresses as the app's own requests with a grant of the server. Never sends anything.

use super::{gate::Gate, network::Network};
use crate::{Output, OutputLine, Sandbox};
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use isopod_policy::{Grants, HttpGrant};
use std::{error::Error as StdError, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tower_service::Service;

/// A server that the host connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundServer {
    /// A name or an address; an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
}

/// A connection to a server, with TLS if the server has it.
pub type OutboundStream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Discards the output of a sandbox without a guest.
struct NoOutput;

impl Output for NoOutput {
    fn line(&self, _: OutputLine<'_>) {}
}

/// Connects to a server within `wait`. Returns why that fails, as text for users.
pub(crate) async fn connect(
    network: &Arc<Network>,
    app: &str,
    server: &OutboundServer,
    wait: Duration,
) -> Result<OutboundStream, String> {
    let (gate, uri) = (gate_to(network, app, server)?, uri_of(server)?);
    let deadline = Instant::now() + wait;
    let mut connector = HttpsConnector::from((gate.dial(deadline), network.tls_of_the_host()));
    match timeout_at(deadline, connector.call(uri)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(reason(&*error)),
        Err(_) => Err("the connection timed out".to_owned()),
    }
}

/// Returns the addresses of a server that the app may reach.
pub(crate) async fn addresses(
    network: &Arc<Network>,
    app: &str,
    server: &OutboundServer,
) -> Result<Vec<SocketAddr>, String> {
    let (gate, uri) = (gate_to(network, app, server)?, uri_of(server)?);
    gate.addresses(&uri).await.map_err(|refused| refused.to_string())
}

/// Returns the rules of an app whose only grant is this server.
fn gate_to(network: &Arc<Network>, app: &str, server: &OutboundServer) -> Result<Gate, String> {
    let grant = HttpGrant::of_server(&server.host, server.port)?;
    let grants = Grants { http: vec![grant], ..Grants::default() };
    let sandbox = Sandbox { grants, ..Sandbox::without_rights(app.to_owned(), Arc::new(NoOutput)) };
    let owner = network.pool().owner(app);
    Ok(Gate::new(Arc::new(sandbox), Arc::clone(network), owner))
}

fn uri_of(server: &OutboundServer) -> Result<Uri, String> {
    let OutboundServer { host, port, is_tls } = server;
    let scheme = if *is_tls { "https" } else { "http" };
    format!("{scheme}://{host}:{port}/").parse().map_err(|_| format!("{host}:{port} is not a valid server"))
}

/// Returns the innermost cause of a failed connection: the outer ones only repeat it.
fn reason(error: &(dyn StdError + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source()).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineConfig;

    fn server(host: &str, port: u16) -> OutboundServer {
        OutboundServer { host: host.to_owned(), port, is_tls: false }
    }

    #[tokio::test]
    async fn the_host_reaches_no_listener_of_its_own_and_no_unusable_address() {
        let forbidden_addresses = vec!["127.0.0.1:81".parse().expect("an address")];
        let network = Network::new(&EngineConfig { forbidden_addresses, ..EngineConfig::default() });
        for (host, port) in [("127.0.0.1", 81), ("localhost", 81), ("[::1]", 81), ("0.0.0.0", 90), ("224.0.0.1", 90)] {
            assert!(addresses(&network, "shop", &server(host, port)).await.is_err(), "{host}");
        }
        let found = addresses(&network, "shop", &server("127.0.0.1", 90)).await.expect("it is allowed");
        assert_eq!(found, ["127.0.0.1:90".parse().expect("an address")]);
    }
}
