//! The networks that are tailscale's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::prefix::{in_network, Prefix};
use crate::core::Family;

/// 100.64.0.0/10, tailnet addresses of IPv4 (tsaddr.CGNATRange).
pub(super) const CGNAT: Prefix = (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10);

/// fd7a:115c:a1e0::/48, those of IPv6 (tsaddr.TailscaleULARange).
pub(super) const ULA: Prefix = (
    IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0)),
    48,
);

/// The address at which tailscaled itself answers (tsaddr.TailscaleServiceIP). It has a route as
/// long as this node has an address of that family.
pub fn service(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(100, 100, 100, 100).into(),
        Family::V6 => Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0x53).into(),
    }
}

/// The prefix that a default route stands for.
pub(super) fn default(family: Family) -> Prefix {
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => (Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// Whether this can be a tailnet address. A provider's CGNAT has the same IPv4 range.
pub fn is_tailnet(ip: &IpAddr) -> bool {
    in_network(ip, CGNAT) || in_network(ip, ULA)
}

pub(super) fn host(ip: IpAddr) -> Prefix {
    (ip, if ip.is_ipv4() { 32 } else { 128 })
}

pub(super) fn is_host(network: &Prefix) -> bool {
    *network == host(network.0)
}
