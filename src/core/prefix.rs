//! An address and a prefix length, and what lies within.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// An address and a prefix length in bits.
pub type Prefix = (IpAddr, u8);

/// The network that an address with this prefix length lies in.
pub fn network(ip: IpAddr, bits: u8) -> Prefix {
    let net = match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(bits.min(32)))
                .unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(bits.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    };
    (net, bits)
}

/// True when an address lies in a network, whose further bits are not set.
pub fn in_network(ip: &IpAddr, net: Prefix) -> bool {
    Family::of(ip) == Family::of(&net.0) && network(*ip, net.1) == net
}

/// The two networks that a network consists of. One address is its own halves.
pub fn halves(net: Prefix) -> [Prefix; 2] {
    let (ip, bits) = net;
    let upper = match ip {
        IpAddr::V4(ip) => {
            let bit = (1_u32 << 31).checked_shr(u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) | bit).into()
        }
        IpAddr::V6(ip) => {
            let bit = (1_u128 << 127).checked_shr(u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) | bit).into()
        }
    };
    let bits = bits
        .saturating_add(1)
        .min(if ip.is_ipv4() { 32 } else { 128 });
    [(ip, bits), (upper, bits)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(ip: &str, bits: u8) -> Prefix {
        (ip.parse().expect("an address"), bits)
    }

    #[test]
    fn a_network_has_no_bits_beyond_its_prefix() {
        for (ip, bits, net) in [
            ("203.0.113.77", 24, "203.0.113.0"),
            ("203.0.113.77", 31, "203.0.113.76"),
            ("203.0.113.77", 0, "0.0.0.0"),
            ("2001:db8:1:2::9", 48, "2001:db8:1::"),
            ("2001:db8:1:2::9", 127, "2001:db8:1:2::8"),
            ("2001:db8:1:2::9", 0, "::"),
        ] {
            assert_eq!(
                network(ip.parse().expect("an address"), bits),
                prefix(net, bits)
            );
        }
    }

    #[test]
    fn halves_share_a_network_between_them() {
        for (net, lower, upper) in [
            (
                prefix("0.0.0.0", 0),
                prefix("0.0.0.0", 1),
                prefix("128.0.0.0", 1),
            ),
            (
                prefix("10.0.0.0", 8),
                prefix("10.0.0.0", 9),
                prefix("10.128.0.0", 9),
            ),
            (
                prefix("10.0.0.1", 32),
                prefix("10.0.0.1", 32),
                prefix("10.0.0.1", 32),
            ),
            (prefix("::", 0), prefix("::", 1), prefix("8000::", 1)),
            (
                prefix("2001:db8::", 32),
                prefix("2001:db8::", 33),
                prefix("2001:db8:8000::", 33),
            ),
        ] {
            assert_eq!(halves(net), [lower, upper]);
        }
    }
}
