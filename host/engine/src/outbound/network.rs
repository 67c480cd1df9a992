//! Network state that all programs of an engine share: the host's own addresses, name lookup, the
//! connection pool and the certificate authorities. Never decides which addresses an app may reach.

use super::{
    pool::{Bounds, Pool},
    resolver::Resolver,
};
use crate::{EngineConfig, limits};
use hyper_rustls::ConfigBuilderExt;
use isopod_policy::address;
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::CertificateDer};
use std::{net::SocketAddr, sync::Arc};

pub(crate) struct Network {
    forbidden: Vec<SocketAddr>,
    resolver: Resolver,
    pool: Arc<Pool>,
    tls: ClientConfig,
    /// The settings of the host's own connections.
    host_tls: Arc<ClientConfig>,
}

impl Network {
    pub(crate) fn new(config: &EngineConfig) -> Arc<Self> {
        let bounds = Bounds::usual(config.outbound_connections_max, config.outbound_idle_time);
        let tls = ClientConfig::builder().with_webpki_roots().with_no_client_auth();
        let mut host_tls = if config.authorities.is_empty() { tls.clone() } else { trusting(&config.authorities) };
        // A connection must not resume the session of another app.
        host_tls.resumption = Resumption::disabled();
        Arc::new(Self {
            forbidden: config.forbidden_addresses.clone(),
            resolver: Resolver::new(config.resolver),
            pool: Pool::new(bounds),
            tls,
            host_tls: Arc::new(host_tls),
        })
    }

    /// Returns whether an address is one of the host's own listeners, in any notation and over any
    /// interface.
    pub(super) fn is_own(&self, asked: SocketAddr) -> bool {
        self.forbidden.iter().any(|own| {
            own.port() == asked.port()
                && (own.ip().to_canonical().is_unspecified() || address::may_reach_same(own.ip(), asked.ip()))
        })
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Returns the TLS configuration of the host's own connections.
    pub(super) fn tls_of_the_host(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.host_tls)
    }

    /// Returns a program's TLS configuration. The certificate authorities are shared; the session
    /// cache is the program's own, so that no program can resume the session of another.
    pub(super) fn tls_of_a_program(&self) -> ClientConfig {
        let mut tls = self.tls.clone();
        tls.resumption = Resumption::in_memory_sessions(limits::OUTBOUND_TLS_SESSIONS_MAX);
        tls
    }
}

/// Returns a configuration that trusts only these authorities.
fn trusting(authorities: &[Vec<u8>]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(authorities.iter().map(|der| CertificateDer::from(&**der)));
    if unusable > 0 {
        tracing::warn!(unusable, "some certificates of authorities can't be used for TLS");
    }
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(own: &str, asked: &str) -> bool {
        let forbidden_addresses = vec![own.parse().expect(own)];
        let network = Network::new(&EngineConfig { forbidden_addresses, ..EngineConfig::default() });
        network.is_own(asked.parse().expect(asked))
    }

    #[test]
    fn the_hosts_own_address_is_recognised_in_every_form() {
        let forms = "127.0.0.1:81 127.9.9.9:81 [::1]:81 [::ffff:127.0.0.1]:81 [::ffff:7f00:1]:81 [::7f00:1]:81 \
                     [64:ff9b::7f00:1]:81 [2002:7f00:1::]:81";
        for asked in forms.split_whitespace() {
            for own in
                ["127.0.0.1:81", "[::1]:81", "[::ffff:127.0.0.1]:81", "0.0.0.0:81", "[::]:81", "[::ffff:0.0.0.0]:81"]
            {
                assert!(is_own(own, asked), "{asked} reaches {own}");
            }
            assert!(!is_own("127.0.0.1:80", asked) && !is_own("10.0.0.1:81", asked), "{asked}");
        }
        assert!(is_own("10.0.0.1:81", "[::ffff:10.0.0.1]:81"));
        assert!(!is_own("10.0.0.1:81", "10.0.0.2:81"));
    }
}
