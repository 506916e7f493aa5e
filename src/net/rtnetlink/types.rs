//! Rules, routes, devices and addresses as plain data.

use std::fmt;
use std::net::IpAddr;

use crate::core::prefix::Prefix;
use crate::core::Family;

use super::uapi::*;

/// The protocol number on every rule and route of ours (FRA_PROTOCOL, RTPROT). 128 to 255 are for
/// everyone, below are the well-known ones; 0x7a is unassigned (linux/rtnetlink.h).
pub const PROTOCOL: u8 = 0x7a;
/// RT_TABLE_MAIN.
pub const TABLE_MAIN: u32 = 254;

/// What a rule does with a packet that matches. The numbers are FR_ACT_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Table(u32),
    Blackhole,
    Unreachable,
    Prohibit,
    /// Goto, nop or something newer.
    Other(u8),
}

impl Action {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Table(_) => 1,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Other(number) => number,
        }
    }

    pub(super) fn from_number(number: u8, table: u32) -> Self {
        match number {
            1 => Self::Table(table),
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            other => Self::Other(other),
        }
    }
}

/// A policy rule, as `ip rule` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub family: Family,
    /// `pref`; lower is asked first.
    pub priority: u32,
    pub from: Option<Prefix>,
    pub to: Option<Prefix>,
    pub iif: Option<String>,
    pub oif: Option<String>,
    /// Mark and mask. A mask of all ones is what `fwmark N` alone means.
    pub mark: Option<(u32, u32)>,
    /// `suppress_prefixlength`: routes with a prefix this long or shorter do not count.
    pub suppress_prefixlength: Option<u32>,
    /// `not`: matches what the selectors do not.
    pub invert: bool,
    pub action: Action,
    /// FRA_PROTOCOL: who put it there; [`PROTOCOL`] is us.
    pub protocol: u8,
}

impl Rule {
    /// A rule of ours that sends everything of a family to a table. Narrow it by its fields.
    pub fn to_table(family: Family, priority: u32, table: u32) -> Self {
        Self {
            family,
            priority,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            suppress_prefixlength: None,
            invert: false,
            action: Action::Table(table),
            protocol: PROTOCOL,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.family, self.priority)
    }
}

/// What a route does with a packet. The numbers are RTN_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
    /// Go on with the next rule.
    Throw,
    Other(u8),
}

impl RouteKind {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Throw => 9,
            Self::Other(number) => number,
        }
    }

    pub(super) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Unicast,
            2 => Self::Local,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            9 => Self::Throw,
            other => Self::Other(other),
        }
    }
}

/// A route, as `ip route` shows it. What is listed can be put back as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub family: Family,
    pub table: u32,
    pub kind: RouteKind,
    /// `None` is the default route.
    pub to: Option<Prefix>,
    /// Only IPv6 has source-specific routes.
    pub from: Option<Prefix>,
    /// Of a multipath route the first hop.
    pub gateway: Option<IpAddr>,
    /// Index of the device. Of a multipath route the first hop's.
    pub oif: Option<u32>,
    pub prefsrc: Option<IpAddr>,
    /// `metric`; 0 if none is set.
    pub metric: u32,
    /// RTPROT: who put it there; [`PROTOCOL`] is us.
    pub protocol: u8,
    /// RT_SCOPE_*: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// The gateway need not be in a network of the device.
    pub onlink: bool,
}

impl Route {
    /// A default route of ours. Without a gateway it goes straight into the device, as with PPPoE.
    pub fn default_via(family: Family, table: u32, oif: u32, gateway: Option<IpAddr>) -> Self {
        Self {
            family,
            table,
            kind: RouteKind::Unicast,
            to: None,
            from: None,
            gateway,
            oif: Some(oif),
            prefsrc: None,
            metric: 0,
            protocol: PROTOCOL,
            scope: RT_SCOPE_UNIVERSE,
            onlink: false,
        }
    }

    /// Whether this is a default route, also a source-specific one.
    pub fn is_default(&self) -> bool {
        self.to.is_none()
    }

    /// Whether this is a part of a default that was cut up to come before the default itself, as
    /// VPNs do: `0.0.0.0/1` and `128.0.0.0/1`, or `2000::/3`. Nobody has a network that large.
    pub fn is_slice(&self) -> bool {
        self.to
            .is_some_and(|(_, length)| u32::from(length) <= slice_bits(self.family))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some((address, length)) => write!(f, "route to {address}/{length}")?,
            None => write!(f, "{} default route", self.family)?,
        }
        write!(f, " in table {}", self.table)
    }
}

/// Routes with a prefix of at most this length stand for a default, or for a slice of one.
pub fn slice_bits(family: Family) -> u32 {
    match family {
        Family::V4 => 1,
        // OpenVPN's `redirect-gateway ipv6` has 2000::/4 and 3000::/4.
        Family::V6 => 4,
    }
}

/// The way the kernel would send a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub oif: u32,
    pub device: String,
    pub gateway: Option<IpAddr>,
    /// The source address a socket without one of its own would get.
    pub prefsrc: Option<IpAddr>,
    /// The table that decided, where the kernel says so.
    pub table: Option<u32>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// IFLA_CARRIER: whether the cable is in. `None` where the kernel does not say.
    pub carrier: Option<bool>,
    /// IF_OPER_*: 0 unknown (tunnels, PPP), 2 down, 3 lower layer down, 5 dormant, 6 up.
    pub operstate: u8,
    /// Has no neighbours to ask for (PPP, raw modems, tunnels): a route needs no gateway.
    pub bare: bool,
    /// IFLA_INFO_KIND: `wireguard`, `tun`, `vlan`, …; `None` for plain hardware.
    pub kind: Option<String>,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of the device.
    pub index: u32,
    /// The router's own address, also on point-to-point links.
    pub address: IpAddr,
    pub prefix: u8,
    /// RT_SCOPE_*: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// Still in duplicate address detection: not usable yet.
    pub tentative: bool,
    /// Past its preferred lifetime: not chosen for new connections.
    pub deprecated: bool,
}
