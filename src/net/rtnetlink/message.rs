//! Requests to bytes, and the kernel's messages to plain data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::prefix::Prefix;
use crate::core::Family;
use crate::net::netlink::*;

use super::types::*;
use super::uapi::*;

/// AF_INET or AF_INET6.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

pub(super) fn family_from(number: u8) -> Option<Family> {
    match number {
        AF_INET => Some(Family::V4),
        AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

/// An address in network order, and its length in bits.
pub(super) fn octets(address: IpAddr) -> (Vec<u8>, u8) {
    match address {
        IpAddr::V4(v4) => (v4.octets().to_vec(), 32),
        IpAddr::V6(v6) => (v6.octets().to_vec(), 128),
    }
}

pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

/// The value of a one-number attribute.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// The old 8-bit table field of a header: RT_TABLE_UNSPEC when the number is in an attribute.
pub(super) fn small_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(0)
}

/// struct fib_rule_hdr.
pub(super) fn rule_header(family: Family, to: u8, from: u8, table: u8, action: u8) -> [u8; 12] {
    [
        family_number(family),
        to,
        from,
        0,
        table,
        0,
        0,
        action,
        0,
        0,
        0,
        0,
    ]
}

/// struct rtmsg; `rest` is table, protocol, scope, type.
pub(super) fn route_header(
    family: Family,
    to: u8,
    from: u8,
    rest: [u8; 4],
    flags: u32,
) -> [u8; 12] {
    let [table, protocol, scope, kind] = rest;
    let [a, b, c, d] = flags.to_ne_bytes();
    let family = family_number(family);
    [
        family, to, from, 0, table, protocol, scope, kind, a, b, c, d,
    ]
}

/// struct ifinfomsg with only the index set.
pub(super) fn link_header(index: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Whether all these addresses are of one family.
pub(super) fn agree(family: Family, addresses: &[Option<IpAddr>]) -> bool {
    addresses.iter().flatten().all(|a| Family::of(a) == family)
}

pub(super) fn prefix_bits(prefix: Option<Prefix>) -> u8 {
    prefix.map_or(0, |(_, bits)| bits)
}

pub(super) fn rule_request(
    kind: u16,
    flags: u16,
    rule: &Rule,
) -> impl FnOnce(u32) -> Option<Builder> + '_ {
    move |sequence| {
        if !agree(rule.family, &[rule.from.map(|p| p.0), rule.to.map(|p| p.0)]) {
            return None;
        }
        let table = match rule.action {
            Action::Table(table) => table,
            _ => 0,
        };
        let mut header = rule_header(
            rule.family,
            prefix_bits(rule.to),
            prefix_bits(rule.from),
            small_table(table),
            rule.action.number(),
        );
        if rule.invert {
            header[8..].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
        }
        let mut request = Builder::new(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &header);
        if let Some((address, _)) = rule.to {
            request.attr(FRA_DST, &octets(address).0);
        }
        if let Some((address, _)) = rule.from {
            request.attr(FRA_SRC, &octets(address).0);
        }
        if let Some(name) = &rule.iif {
            request.name(FRA_IIFNAME, name);
        }
        if let Some(name) = &rule.oif {
            request.name(FRA_OIFNAME, name);
        }
        request.u32(FRA_PRIORITY, rule.priority);
        if let Some((mark, mask)) = rule.mark {
            request.u32(FRA_FWMARK, mark);
            request.u32(FRA_FWMASK, mask);
        }
        if let Some(length) = rule.suppress_prefixlength {
            request.u32(FRA_SUPPRESS_PREFIXLEN, length);
        }
        if table != 0 {
            request.u32(FRA_TABLE, table);
        }
        request.attr(FRA_PROTOCOL, &[rule.protocol]);
        Some(request)
    }
}

pub(super) fn route_request(
    kind: u16,
    flags: u16,
    route: &Route,
) -> impl FnOnce(u32) -> Option<Builder> + '_ {
    move |sequence| {
        let to = route.to.map(|p| p.0);
        let from = route.from.map(|p| p.0);
        // A gateway may be of the other family (RTA_VIA), which we never set.
        if !agree(route.family, &[to, from, route.gateway, route.prefsrc]) {
            return None;
        }
        let header = route_header(
            route.family,
            prefix_bits(route.to),
            prefix_bits(route.from),
            [
                small_table(route.table),
                route.protocol,
                route.scope,
                route.kind.number(),
            ],
            if route.onlink { RTNH_F_ONLINK } else { 0 },
        );
        let mut request = Builder::new(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &header);
        let addresses = [
            (RTA_DST, to),
            (RTA_SRC, from),
            (RTA_GATEWAY, route.gateway),
            (RTA_PREFSRC, route.prefsrc),
        ];
        for (kind, address) in addresses {
            if let Some(address) = address {
                request.attr(kind, &octets(address).0);
            }
        }
        if let Some(oif) = route.oif {
            request.u32(RTA_OIF, oif);
        }
        if route.metric != 0 {
            request.u32(RTA_PRIORITY, route.metric);
        }
        request.u32(RTA_TABLE, route.table);
        Some(request)
    }
}

/// Adds an address that is a host's own, without a network: both ends are the same.
pub(super) fn address_request(
    index: u32,
    ip: IpAddr,
    prefix: u8,
) -> impl FnOnce(u32) -> Option<Builder> {
    move |sequence| {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let [a, b, c, d] = index.to_ne_bytes();
        let family = family_number(Family::of(&ip));
        let header = [family, prefix, 0, RT_SCOPE_UNIVERSE, a, b, c, d];
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_REQUEST | NLM_F_ACK;
        let mut request = Builder::new(RTM_NEWADDR, flags, sequence, &header);
        let bytes = octets(ip).0;
        request.attr(IFA_LOCAL, &bytes);
        request.attr(IFA_ADDRESS, &bytes);
        Some(request)
    }
}

/// Sets a device up; the flag is changed alone (linux/rtnetlink.h, struct ifinfomsg).
pub(super) fn up_request(index: u32) -> impl FnOnce(u32) -> Option<Builder> {
    move |sequence| {
        let mut header = link_header(index);
        header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        Some(Builder::new(RTM_NEWLINK, flags, sequence, &header))
    }
}

pub(super) fn rule(payload: &[u8]) -> Option<Rule> {
    let (header, rest) = payload.split_at_checked(12)?;
    let mut table = u32::from(*header.get(4)?);
    let mut rule = Rule::to_table(family_from(*header.first()?)?, 0, 0);
    rule.protocol = 0;
    rule.invert = u32_at(header, 8)? & FIB_RULE_INVERT != 0;
    let (mut mark, mut mask) = (None, u32::MAX);
    for (kind, value) in attrs(rest) {
        match kind {
            FRA_DST => rule.to = ip(value).zip(header.get(1).copied()),
            FRA_SRC => rule.from = ip(value).zip(header.get(2).copied()),
            FRA_IIFNAME => rule.iif = text(value),
            FRA_OIFNAME => rule.oif = text(value),
            FRA_PRIORITY => rule.priority = number(value)?,
            FRA_FWMARK => mark = number(value),
            FRA_FWMASK => mask = number(value)?,
            // The kernel lists "none" as all ones (net/core/fib_rules.c).
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefixlength = number(value).filter(|n| *n != u32::MAX);
            }
            FRA_TABLE => table = number(value)?,
            FRA_PROTOCOL => rule.protocol = *value.first()?,
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule.action = Action::from_number(*header.get(7)?, table);
    Some(rule)
}

pub(super) fn route(payload: &[u8]) -> Option<Route> {
    let (header, rest) = payload.split_at_checked(12)?;
    let flags = u32_at(header, 8)?;
    let mut route = Route {
        family: family_from(*header.first()?)?,
        table: u32::from(*header.get(4)?),
        kind: RouteKind::from_number(*header.get(7)?),
        to: None,
        from: None,
        gateway: None,
        oif: None,
        prefsrc: None,
        metric: 0,
        protocol: *header.get(5)?,
        scope: *header.get(6)?,
        onlink: flags & RTNH_F_ONLINK != 0,
    };
    for (kind, value) in attrs(rest) {
        match kind {
            RTA_DST => route.to = ip(value).zip(header.get(1).copied()),
            RTA_SRC => route.from = ip(value).zip(header.get(2).copied()),
            RTA_OIF => route.oif = number(value),
            RTA_GATEWAY => route.gateway = ip(value),
            // struct rtvia: family u16, address.
            RTA_VIA => route.gateway = value.get(2..).and_then(ip),
            RTA_PRIORITY => route.metric = number(value)?,
            RTA_PREFSRC => route.prefsrc = ip(value),
            RTA_TABLE => route.table = number(value)?,
            RTA_MULTIPATH => first_hop(value, &mut route),
            _ => {}
        }
    }
    Some(route)
}

/// struct rtnexthop: length u16, flags u8, hops u8, index u32, then attributes.
pub(super) fn first_hop(value: &[u8], route: &mut Route) {
    let length = value
        .first_chunk()
        .map_or(0, |l| usize::from(u16::from_ne_bytes(*l)));
    let Some(hop) = value.get(..length) else {
        return;
    };
    route.oif = u32_at(hop, 4);
    for (kind, value) in attrs(hop.get(8..).unwrap_or_default()) {
        match kind {
            RTA_GATEWAY => route.gateway = ip(value),
            RTA_VIA => route.gateway = value.get(2..).and_then(ip),
            _ => {}
        }
    }
}

pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = payload.split_at_checked(16)?;
    let flags = u32_at(header, 8)?;
    let mut link = Link {
        index: u32_at(header, 4)?,
        name: String::new(),
        up: flags & IFF_UP != 0,
        carrier: None,
        operstate: 0,
        bare: flags & (IFF_POINTOPOINT | IFF_NOARP) != 0,
        kind: None,
    };
    for (kind, value) in attrs(rest) {
        match kind {
            IFLA_IFNAME => link.name = text(value)?,
            IFLA_CARRIER => link.carrier = value.first().map(|b| *b != 0),
            IFLA_OPERSTATE => link.operstate = *value.first()?,
            IFLA_LINKINFO => {
                let mut inner = attrs(value);
                link.kind = inner.find_map(|(k, v)| text(v).filter(|_| k == IFLA_INFO_KIND));
            }
            _ => {}
        }
    }
    Some(link)
}

pub(super) fn address(payload: &[u8]) -> Option<Address> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let (header, rest) = payload.split_at_checked(8)?;
    let mut flags = u32::from(*header.get(2)?);
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attrs(rest) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => peer = ip(value),
            IFA_FLAGS => flags = number(value)?,
            _ => {}
        }
    }
    Some(Address {
        index: u32_at(header, 4)?,
        // On a point-to-point link IFA_ADDRESS is the other end (linux/if_addr.h).
        address: local.or(peer)?,
        prefix: *header.get(1)?,
        scope: *header.get(3)?,
        tentative: flags & IFA_F_TENTATIVE != 0,
        deprecated: flags & IFA_F_DEPRECATED != 0,
    })
}
