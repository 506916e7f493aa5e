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
