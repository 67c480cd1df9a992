//! The networks of reverse proxies that the host's operator trusts. Never reads a request.

use crate::ingress::limits;
use ipnet::IpNet;
use std::net::IpAddr;

/// An invalid list of trusted proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadProxies {
    #[error("invalid network of a trusted proxy: `{0}`. Write an address or a network, such as 10.0.0.0/8")]
    Network(String),
    #[error("too many networks of trusted proxies: {0}; the limit is {max}", max = limits::TRUSTED_PROXIES_MAX)]
    TooMany(usize),
}

/// The networks of trusted proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Parses networks in CIDR notation and single addresses.
    pub(crate) fn read<T: AsRef<str>>(texts: &[T]) -> Result<Self, BadProxies> {
        if texts.len() > limits::TRUSTED_PROXIES_MAX {
            return Err(BadProxies::TooMany(texts.len()));
        }
        let network = |text: &T| {
            let text = text.as_ref();
            let found = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())));
            found.map_err(|_| BadProxies::Network(text.to_owned()))
        };
        texts.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether a peer with this address is trusted. An IPv4-mapped IPv6 address counts as
    /// the IPv4 address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_and_an_address_are_read() {
        let proxies = TrustedProxies::read(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1"]).expect("all are networks");
        for trusted in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "fd12::1", "::1"] {
            assert!(proxies.contains(trusted.parse().expect("an address")), "{trusted}");
        }
        for other in ["11.0.0.1", "192.0.2.8", "::2", "127.0.0.1", "::ffff:11.0.0.1"] {
            assert!(!proxies.contains(other.parse().expect("an address")), "{other}");
        }
    }

    #[test]
    fn invalid_networks_are_named() {
        for wrong in ["10.0.0.0/33", "proxy.example.org", "", "10.0.0"] {
            assert_eq!(
                TrustedProxies::read(&["10.0.0.0/8", wrong]).map(|_| ()),
                Err(BadProxies::Network(wrong.to_owned()))
            );
        }
        let many = vec!["10.0.0.1"; limits::TRUSTED_PROXIES_MAX + 1];
        assert_eq!(TrustedProxies::read(&many).map(|_| ()), Err(BadProxies::TooMany(many.len())));
    }
}
