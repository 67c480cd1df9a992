//! Classifies the network addresses of guests' requests. Owns the lists: addresses that no guest
//! reaches, metadata services, non-public addresses, and the IPv6 forms that wrap an IPv4 address.
//! Never resolves a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an address, from the most to the least restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressKind {
    /// Unspecified, multicast, broadcast or "this network": not the address of a single other
    /// machine. Linux connects an unspecified address to the machine itself.
    Unusable,
    /// A cloud's metadata service, which hands out the machine's own credentials.
    Metadata,
    /// Loopback, private, link-local, shared, reserved or documentation.
    Private,
    /// On the public internet.
    Public,
}

/// Metadata services of clouds and of their container platforms, by provider.
const METADATA: [IpAddr; 9] = [
    // AWS, Google, Azure and most others; the credentials of AWS ECS tasks and EKS pods.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google over IPv6, Alibaba, Oracle, and Azure's wire server, which has a public address.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

impl AddressKind {
    /// Returns the kind of an address. An address that wraps another one has the more restricted
    /// kind of the two.
    pub fn of(address: IpAddr) -> Self {
        let own = Self::of_unwrapped(address);
        embedded_v4(address).map_or(own, |v4| Self::of_unwrapped(IpAddr::V4(v4)).min(own))
    }

    fn of_unwrapped(address: IpAddr) -> Self {
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        let (unusable, public) = match address {
            IpAddr::V4(v4) => (matches!(v4.octets(), [0 | 224..=239, ..] | [255, 255, 255, 255]), is_public_v4(v4)),
            IpAddr::V6(v6) => (v6.is_unspecified() || v6.is_multicast(), is_public_v6(v6)),
        };
        match (unusable, public) {
            (true, _) => Self::Unusable,
            (false, true) => Self::Public,
            (false, false) => Self::Private,
        }
    }
}

/// Returns the form in which addresses are compared: an IPv4-mapped address (`::ffff:a.b.c.d`)
/// becomes the IPv4 address, as in the kernel.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Returns whether a connection to either address can reach the same listener: they are equal once
/// canonical, both are loopback, or one wraps the other. Errs on the side of `true`, so use it for
/// refusals only, never for grants.
pub fn may_reach_same(one: IpAddr, other: IpAddr) -> bool {
    let plain = |address: IpAddr| embedded_v4(address).map_or(address, IpAddr::V4);
    let (one, other) = (plain(one), plain(other));
    one == other || one.is_loopback() && other.is_loopback()
}

/// Returns the IPv4 address that an IPv6 address wraps or is tunnelled to.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    match address.segments() {
        // `::` and `::1` look like compatible addresses, but are not.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped (`::ffff:a.b.c.d`), compatible (`::a.b.c.d`, deprecated), and translated
        // (`::ffff:0:a.b.c.d`).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(joined(high, low)),
        // NAT64's well-known prefix reaches the IPv4 address in its last 32 bits.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined(high, low)),
        // 6to4 reaches the IPv4 address after its prefix.
        [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => None,
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let private = match address.octets() {
        [0 | 10 | 127, ..] => true,
        // Shared by carriers between their customers (RFC 6598).
        [100, second, ..] if second & 0b1100_0000 == 64 => true,
        // Link-local, and with it the metadata services of clouds.
        [169, 254, ..] => true,
        [172, second, ..] if second & 0b1111_0000 == 16 => true,
        [192, 168, ..] => true,
        // Reserved for protocols, three networks of documentation, the 6to4 relay and benchmarks.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Multicast, reserved, and broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !private
}

/// Judges only the wrapper of an address that wraps an IPv4 address.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0, 0, 0, 0, 0, 0xffff, _, _] => true,
        // Protocol assignments (Teredo, ORCHID, benchmarks) and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Only 2000::/3 is assigned to the public internet. Loopback, unspecified, unique-local,
        // link-local, site-local, multicast, local NAT64 and all reserved blocks are outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(text: &str) -> AddressKind {
        AddressKind::of(text.parse().expect("the test writes valid addresses"))
    }

    fn public(text: &str) -> bool {
        kind(text) == AddressKind::Public
    }

    fn is_public(address: IpAddr) -> bool {
        AddressKind::of(address) == AddressKind::Public
    }

    #[test]
    fn unusable_and_metadata_addresses_are_recognised_in_every_wrapper() {
        for (text, expected) in [
            ("0.0.0.0 0.1.2.3 224.0.0.1 239.1.1.1 255.255.255.255 :: ff02::1 ff0e::1", AddressKind::Unusable),
            (
                "::ffff:0.0.0.0 ::ffff:255.255.255.255 64:ff9b::e000:1 2002:ffff:ffff::1 ::ffff:0:0:0",
                AddressKind::Unusable,
            ),
            (
                "169.254.169.254 fd00:ec2::254 ::ffff:169.254.169.254 ::a9fe:a9fe 2002:a9fe:a9fe::",
                AddressKind::Metadata,
            ),
            (
                "64:ff9b::a9fe:a9fe 169.254.170.2 100.100.100.200 168.63.129.16 ::ffff:0:a9fe:a9fe",
                AddressKind::Metadata,
            ),
            (
                "127.0.0.1 ::1 ::ffff:127.0.0.1 ::7f00:1 64:ff9b::7f00:1 2002:7f00:1::1 169.254.1.1",
                AddressKind::Private,
            ),
            ("1.1.1.1 ::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::1 2606:4700:4700::1111", AddressKind::Public),
        ] {
            for text in text.split_whitespace() {
                assert_eq!(kind(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn wrapped_addresses_may_reach_what_they_wrap() {
        let reach = |one: &str, other: &str| may_reach_same(one.parse().expect(one), other.parse().expect(other));
        for other in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::1"]
        {
            assert!(reach("127.0.0.1", other) && reach(other, "::1"), "{other}");
        }
        assert!(reach("10.0.0.5", "::ffff:10.0.0.5") && reach("2002:a00:5::", "10.0.0.5"));
        assert!(!reach("10.0.0.5", "10.0.0.6") && !reach("127.0.0.1", "10.0.0.5") && !reach("::1", "::2"));
    }

    #[test]
    fn ordinary_servers_are_public() {
        for text in ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1"] {
            assert!(public(text), "{text}");
        }
        for text in ["2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "3fff:1000::1"] {
            assert!(public(text), "{text}");
        }
    }

    #[test]
    fn addresses_of_machines_networks_and_protocols_are_not() {
        let v4 = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 \
                  172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 \
                  203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255";
        let v6 = ":: ::1 fe80::1 febf::1 fec0::1 fc00::1 fdff::1 ff02::1 2001:db8::1 3fff::1 2001::1 2001:10::1 100::1 \
                  64:ff9b:1::1 5f00::1 ::7f00:1 4000::1";
        for text in v4.split_whitespace().chain(v6.split_whitespace()) {
            assert!(!public(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_that_wraps_another_is_as_public_as_the_wrapped(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let wrapped = is_public(IpAddr::V4(v4));
            prop_assert_eq!(is_public(IpAddr::V6(v4.to_ipv6_mapped())), wrapped);
            prop_assert_eq!(is_public(IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low))), wrapped);
            prop_assert_eq!(is_public(IpAddr::V6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1))), wrapped);
        }

        #[test]
        fn what_the_standard_library_calls_private_is_never_public(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_documentation() {
                prop_assert!(!is_public(IpAddr::V4(v4)));
            }
        }
    }
}
