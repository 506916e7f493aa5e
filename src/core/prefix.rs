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
