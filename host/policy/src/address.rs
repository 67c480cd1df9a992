//! Which network addresses are public. Owns the list of those that are not: loopback, private, link-local, shared,
//! reserved, multicast and documentation addresses, and IPv6 addresses that only wrap one of these. Never resolves a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the address belongs to the public internet, so that a guest may reach it by a grant for a public name.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
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

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // Mapped: `::ffff:a.b.c.d` is the IPv4 address itself.
        [0, 0, 0, 0, 0, 0xffff, high, low] => is_public_v4(embedded_v4(high, low)),
        // NAT64's well-known prefix reaches the IPv4 address in its last 32 bits.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(embedded_v4(high, low)),
        // 6to4 reaches the IPv4 address after its prefix.
        [0x2002, high, low, ..] => is_public_v4(embedded_v4(high, low)),
        // Protocol assignments (Teredo, ORCHID, benchmarks) and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Only 2000::/3 is given out for the public internet. Loopback, unspecified, unique-local, link-local,
        // site-local, multicast, local NAT64 and all reserved blocks are outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn embedded_v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().expect("the test writes valid addresses"))
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
