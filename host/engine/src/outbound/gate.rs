//! Access control for outbound requests: checks the host's name against the app's grants, and each
//! address that it resolves to when connecting. A public name that resolves to a private address is
//! therefore refused. Never keeps a connection.

use super::{
    network::Network,
    pool::{Owner, Upstream},
    resolver::Unresolved,
};
use crate::{Level, Origin, OutputLine, Stream, sandbox::Sandbox};
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use isopod_policy::{HttpGrant, Reach, address::AddressKind};
use std::{
    error::Error as StdError,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use wasmtime_wasi_http::Error;

/// One program's access rules.
#[derive(Clone)]
pub(super) struct Gate {
    sandbox: Arc<Sandbox>,
    network: Arc<Network>,
    owner: Owner,
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the request names no host")]
    NoHost,
    #[error("the request's URL has a user name, which HTTP does not send (RFC 9110 §4.2.4): use a header field")]
    UserInfo,
    #[error("{host}:{port} is not granted: add \"{grant}\" to http under [grants] in isopod.toml")]
    NotGranted { host: String, port: u16, grant: HttpGrant },
    #[error("{host}:{port} is not a valid server, so no grant can allow it: {why}")]
    NotGrantable { host: String, port: u16, why: &'static str },
    #[error("{host} resolves to {address}, {}", why_not(*address))]
    NotAdmitted { host: Arc<str>, address: IpAddr },
    #[error("{address} belongs to this host itself and is never reachable from an app")]
    Own { address: SocketAddr },
    #[error("cannot resolve {host}: {why}")]
    Unresolved { host: Arc<str>, why: Unresolved },
}

/// Returns why an address is refused, and which grant would allow it.
fn why_not(address: IpAddr) -> &'static str {
    match AddressKind::of(address) {
        AddressKind::Unusable => "which is not the address of a single machine and is never reachable from an app",
        AddressKind::Metadata => "which is a metadata service: only a grant of this exact address allows it",
        AddressKind::Private | AddressKind::Public => {
            "which is not a public address: grant it by its address or as a plain name to allow it"
        }
    }
}

/// Opens one connection after checking its address.
#[derive(Clone)]
pub(super) struct Dial {
    gate: Gate,
    deadline: Instant,
}

impl Gate {
    pub(super) fn new(sandbox: Arc<Sandbox>, network: Arc<Network>, owner: Owner) -> Self {
        Self { sandbox, network, owner }
    }

    /// Returns the server that a URL names, if it is granted.
    pub(super) fn upstream(&self, uri: &Uri) -> Result<Upstream, Refused> {
        Ok(self.reach(uri)?.0)
    }

    fn reach(&self, uri: &Uri) -> Result<(Upstream, Reach), Refused> {
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Refused::UserInfo);
        }
        let is_tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().ok_or(Refused::NoHost)?.trim_matches(['[', ']']).to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let granted = match self.sandbox.grants.allows_http(&host, port, is_tls) {
            _ if self.sandbox.inherit_network => Some(Reach::ByAddress),
            granted => granted,
        };
        match granted {
            Some(reach) => Ok((Upstream { host: host.into(), port, is_tls }, reach)),
            None => Err(self.denied(host, port)),
        }
    }

    /// Returns why a server that is not granted is refused. Suggests a grant only if a manifest
    /// accepts it and it would allow the request.
    fn denied(&self, host: String, port: u16) -> Refused {
        if let Ok(ip) = host.parse::<IpAddr>() {
            let address = SocketAddr::new(ip, port);
            if self.network.is_own(address) {
                return Refused::Own { address };
            }
            if AddressKind::of(ip) == AddressKind::Unusable {
                return Refused::NotAdmitted { host: host.into(), address: ip };
            }
        }
        match HttpGrant::of_server(&host, port) {
            Ok(grant) => Refused::NotGranted { host, port, grant },
            Err(why) => Refused::NotGrantable { host, port, why },
        }
    }

    pub(super) async fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, Refused> {
        let (Upstream { host, port, .. }, reach) = self.reach(uri)?;
        let found = self.network.resolver().addresses(&self.owner, &host).await;
        let found = found.map_err(|why| Refused::Unresolved { host: Arc::clone(&host), why })?;
        for &ip in &found {
            self.check(&host, SocketAddr::new(ip, port), reach)?;
        }
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Checks that a connection to this resolved address is allowed for the host.
    fn check(&self, host: &Arc<str>, address: SocketAddr, reach: Reach) -> Result<(), Refused> {
        if self.network.is_own(address) {
            return Err(Refused::Own { address });
        }
        if !reach.admits(address.ip()) {
            return Err(Refused::NotAdmitted { host: Arc::clone(host), address: address.ip() });
        }
        Ok(())
    }

    /// Returns the connector for one connection, with its deadline.
    pub(super) fn dial(&self, deadline: Instant) -> Dial {
        Dial { gate: self.clone(), deadline }
    }

    /// Logs the reason to the app's log; the guest receives only a code.
    pub(super) fn report(&self, refused: &Refused) -> Error {
        let text = format!("outbound request refused: {refused}");
        let stream = Stream::Log(Level::Warn);
        self.sandbox.output.line(OutputLine::new(stream, "isopod", Origin::default(), &text));
        match refused {
            Refused::NoHost | Refused::UserInfo | Refused::NotGrantable { .. } => Error::HttpRequestUriInvalid,
            Refused::NotGranted { .. } => Error::HttpRequestDenied,
            Refused::NotAdmitted { .. } | Refused::Own { .. } => Error::DestinationIpProhibited,
            Refused::Unresolved { why: Unresolved::TimedOut, .. } => Error::DnsTimeout,
            Refused::Unresolved { .. } => Error::DnsError { rcode: None, info_code: None },
        }
    }

    /// Maps a failed connection to an error of `wasi:http`.
    pub(super) fn explain(&self, error: &(dyn StdError + 'static)) -> Error {
        for cause in std::iter::successors(Some(error), |error| (*error).source()) {
            if let Some(refused) = cause.downcast_ref::<Refused>() {
                return self.report(refused);
            }
            if let Some(rustls) = cause.downcast_ref::<rustls::Error>() {
                return match rustls {
                    rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
                    _ => Error::TlsProtocolError,
                };
            }
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                // An I/O error of TLS holds its own reason, which isn't among its sources.
                match io.get_ref() {
                    Some(inner) => return self.explain(inner),
                    None => return explain_io(io),
                }
            }
        }
        Error::ConnectionRefused
    }
}

fn explain_io(error: &io::Error) -> Error {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut, UnexpectedEof,
    };
    match error.kind() {
        TimedOut => Error::ConnectionTimeout,
        HostUnreachable | NetworkUnreachable => Error::DestinationIpUnroutable,
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Error::ConnectionTerminated,
        _ => Error::ConnectionRefused,
    }
}

/// Connects to the first address that accepts. The remaining time is divided among the untried
/// addresses, so that an unresponsive address doesn't use up the timeout.
async fn connect_first(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let wait = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(wait, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

impl Dial {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Box<dyn StdError + Send + Sync>> {
        let addresses = self.gate.addresses(&uri).await?;
        let stream = connect_first(&addresses, self.deadline).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, Output};
    use isopod_policy::Grants;

    struct Silent;

    impl Output for Silent {
        fn line(&self, _: OutputLine<'_>) {}
    }

    fn gate(grants: &[&str], own: &[&str], inherit_network: bool) -> Gate {
        let forbidden_addresses = own.iter().map(|own| own.parse().expect(own)).collect();
        let network = Network::new(&EngineConfig { forbidden_addresses, ..EngineConfig::default() });
        let owner = network.pool().owner("test");
        let http = grants.iter().map(|grant| grant.parse().expect(grant)).collect();
        let sandbox = Sandbox {
            grants: Grants { http, ..Grants::default() },
            inherit_network,
            ..Sandbox::without_rights("test".to_owned(), Arc::new(Silent))
        };
        Gate::new(Arc::new(sandbox), network, owner)
    }

    /// Returns whether a connection to any address of the host is allowed.
    async fn reaches(gate: &Gate, host: &str) -> bool {
        let Ok(uri) = format!("http://{host}/").parse::<Uri>() else { return false };
        gate.addresses(&uri).await.is_ok()
    }

    /// No spelling of the host's own listener reaches it, regardless of the tenant's grants.
    #[tokio::test]
    async fn no_spelling_reaches_the_hosts_own_listeners() {
        let spellings = "127.0.0.1:81 127.1:81 2130706433:81 0177.0.0.1:81 0x7f.1:81 0x7f000001:81 127.0.0.1.:81 \
            0.0.0.0:81 0:81 127.9.9.9:81 localhost:81 LOCALHOST:81 localhost.:81 a.localhost:81 [::1]:81 [::]:81 \
            [0:0:0:0:0:0:0:1]:81 [::ffff:127.0.0.1]:81 [::FFFF:7F00:1]:81 [::ffff:0.0.0.0]:81 [::127.0.0.1]:81 \
            [64:ff9b::7f00:1]:81 [2002:7f00:1::1]:81 [::ffff:0:7f00:1]:81 [::1%25lo]:81 [::1%lo]:81 \
            %31%32%37.0.0.1:81 localhos%74:81 user@127.0.0.1:81 127.0.0.1%00.example:81 [::1].:81";
        let grants = [
            "*:81",
            "127.0.0.1:81",
            "127.9.9.9:81",
            "localhost:81",
            "a.localhost:81",
            "[::1]:81",
            "[::]:81",
            "0.0.0.0:81",
            "[::ffff:127.0.0.1]:81",
            "[::ffff:0.0.0.0]:81",
            "[::127.0.0.1]:81",
            "[64:ff9b::7f00:1]:81",
            "[2002:7f00:1::1]:81",
            "[::ffff:0:7f00:1]:81",
        ];
        for own in ["127.0.0.1:81", "[::1]:81", "[::ffff:127.0.0.1]:81", "0.0.0.0:81", "[::]:81"] {
            let gates = [gate(&grants, &[own], false), gate(&[], &[own], true)];
            for spelling in spellings.split_whitespace() {
                for gate in &gates {
                    let is_name_only = spelling.contains("7f.1") || !spelling.contains(['[', '.', 'l', 'L']);
                    // With the whole network granted, such a "name" is looked up and not found.
                    if !(gate.sandbox.inherit_network && is_name_only) {
                        assert!(!reaches(gate, spelling).await, "{spelling} reaches {own}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_refusal_suggests_only_grants_that_a_manifest_accepts() {
        let gate = gate(&[], &["127.0.0.1:81"], false);
        let refused = |server: &str| {
            let uri = format!("http://{server}/").parse::<Uri>().expect(server);
            gate.upstream(&uri).expect_err(server)
        };
        for (server, grant) in [
            ("Api.example.org", "\"api.example.org\""),
            ("api.example.org:8443", "\"api.example.org:8443\""),
            ("my_service", "\"my_service\""),
            ("[2001:db8::1]:8080", "\"[2001:db8::1]:8080\""),
        ] {
            let text = refused(server).to_string();
            assert!(text.contains(&format!("add {grant} to http")), "{text}");
        }
        let [label, name] = ["a".repeat(64), ["a".repeat(60).as_str(); 5].join(".")];
        for server in [&label, &name, "a..b", "2130706433", "example.org:0", "*.example.org"] {
            let refused = refused(server);
            assert!(matches!(refused, Refused::NotGrantable { .. }), "{refused}");
            assert!(matches!(gate.report(&refused), Error::HttpRequestUriInvalid));
        }
        for server in ["0.0.0.0", "[ff02::1]", "127.0.0.1:81"] {
            let refused = refused(server);
            assert!(matches!(gate.report(&refused), Error::DestinationIpProhibited), "{refused}");
        }
    }

    #[tokio::test]
    async fn private_grants_allow_their_own_address_in_either_form_only() {
        let gate = gate(
            &["127.0.0.1:90", "localhost:90", "[::]:90", "0.0.0.0:90", "224.0.0.1:90", "255.255.255.255:90"],
            &[],
            false,
        );
        for host in ["127.0.0.1:90", "[::ffff:127.0.0.1]:90", "localhost:90", "LocalHost.:90"] {
            assert!(reaches(&gate, host).await, "{host}");
        }
        for host in [
            "127.0.0.2:90",
            "[::1]:90",
            "[::127.0.0.1]:90",
            "0.0.0.0:90",
            "[::]:90",
            "[::ffff:0.0.0.0]:90",
            "224.0.0.1:90",
            "255.255.255.255:90",
            "[::ffff:255.255.255.255]:90",
        ] {
            assert!(!reaches(&gate, host).await, "{host}");
        }
    }

    #[tokio::test]
    async fn metadata_services_are_reached_only_by_a_grant_of_their_address() {
        let metadata = ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "168.63.129.16"];
        let wide = gate(&["*", "169.254.1.1", "metadata"], &[], false);
        for host in metadata {
            assert!(!reaches(&wide, host).await, "{host}");
            assert!(reaches(&gate(&[host], &[], false), host).await, "{host}");
        }
        let plain = Arc::from("metadata");
        let address = SocketAddr::from(([169, 254, 169, 254], 80));
        assert!(wide.check(&plain, address, Reach::Private).is_err());
    }
}
