//! What the core knows of a way out of the router: names, addresses, order; and of the path the kernel takes.

use std::net::IpAddr;

use super::prefix::{in_network, network, Prefix};

/// Address family. Each has rules, routes, a path and verdicts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(ip: &IpAddr) -> Family {
        if ip.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }

    pub(crate) fn at(self) -> usize {
        match self {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// One family's default route by an uplink, as netifd gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Next hop; `None` on point-to-point devices (PPPoE, modems).
    pub gateway: Option<IpAddr>,
    /// The router's own addresses on the device; the first is the usual source.
    pub addresses: Vec<IpAddr>,
    /// Source-specific IPv6 default (`from PREFIX`), as DHCPv6-PD gives it.
    pub from: Option<Prefix>,
    /// Metric of this default in the main table; `None` when main has no such default.
    pub metric: Option<u32>,
    /// Main has it cut into slices (`0.0.0.0/1` and `128.0.0.0/1`), which come before any default.
    pub sliced: bool,
}

impl Way {
    /// The address to send from where the default is for one prefix only.
    pub fn bound_source(&self) -> Option<IpAddr> {
        let (net, length) = self.from?;
        let from = network(net, length);
        let inside = |ip: &&IpAddr| in_network(ip, from);
        self.addresses.iter().find(inside).copied()
    }
}

/// A way out of the router: a device with a default route in at least one family.
///
/// netifd has an interface for each family (`wan` and `wan6`) on one device. They are one uplink
/// here, because one cable or modem carries both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// The interface's name; the IPv4 one where there are two.
    pub name: String,
    /// All netifd interfaces on this device, so that an event for `wan6` finds `wan`.
    pub aliases: Vec<String>,
    /// Those of them that carry one family alone: their word says nothing of the other.
    pub of_one_family: Vec<(String, Family)>,
    /// Layer-3 device, `eth1` or `pppoe-wan`.
    pub device: String,
    pub v4: Option<Way>,
    pub v6: Option<Way>,
    /// Networks that need no gateway on this device.
    pub on_link: Vec<Prefix>,
    /// Costs by volume: chosen last, and asked with few bytes.
    pub metered: bool,
    /// A tunnel over another uplink (WireGuard, OpenVPN) that the owner has not listed: chosen after
    /// every real one.
    pub vpn: bool,
}

impl Uplink {
    pub fn way(&self, family: Family) -> Option<&Way> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// True when `interface` is one of this uplink's names.
    pub fn is(&self, interface: &str) -> bool {
        self.name == interface || self.aliases.iter().any(|a| a == interface)
    }

    /// True when a word about `interface` is one about this uplink's packets of that family.
    pub fn carries(&self, interface: &str, family: Family) -> bool {
        let other = |(name, own): &(String, Family)| name == interface && *own != family;
        self.is(interface) && !self.of_one_family.iter().any(other)
    }

    /// True when `ip` is a neighbour on this uplink: nothing of the outside is between.
    pub fn on_link(&self, ip: &IpAddr) -> bool {
        self.on_link.iter().any(|net| in_network(ip, *net))
    }

    /// True when `ip` is one of the router's addresses on this uplink.
    pub fn owns(&self, ip: &IpAddr) -> bool {
        self.way(Family::of(ip))
            .is_some_and(|w| w.addresses.contains(ip))
    }
}

/// Where the kernel sends a packet that carries tailscaled's mark (RTM_GETROUTE with RTA_MARK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub device: String,
    pub gateway: Option<IpAddr>,
    /// Source address the kernel chooses for an unbound socket.
    pub source: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_by_its_usual_name() {
        assert_eq!(Family::BOTH.map(|f| f.to_string()), ["IPv4", "IPv6"]);
    }

    #[test]
    fn a_default_for_one_prefix_is_sent_from_an_address_in_it() {
        let mut way = Way {
            addresses: ["fe80::1", "2001:db8:1::1", "2001:db8:2::1"]
                .map(|ip| ip.parse().unwrap())
                .to_vec(),
            ..Way::default()
        };
        assert_eq!(way.bound_source(), None);
        way.from = Some(("2001:db8:2::".parse().unwrap(), 48));
        assert_eq!(way.bound_source(), Some(way.addresses[2]));
    }

    #[test]
    fn an_uplink_is_known_by_its_name_and_by_each_alias() {
        let uplink = Uplink {
            name: "wan".into(),
            aliases: vec!["wan6".into()],
            ..Uplink::default()
        };
        assert!(uplink.is("wan") && uplink.is("wan6"));
        assert!(!uplink.is("wanb"));
    }

    #[test]
    fn an_interface_of_one_family_speaks_for_that_one() {
        let uplink = Uplink {
            name: "wan".into(),
            aliases: vec!["wan6".into(), "eth1".into()],
            of_one_family: vec![("wan".into(), Family::V4), ("wan6".into(), Family::V6)],
            ..Uplink::default()
        };
        let of = |interface| Family::BOTH.map(|f| uplink.carries(interface, f));
        assert_eq!(of("wan"), [true, false]);
        assert_eq!(of("wan6"), [false, true]);
        assert_eq!(of("eth1"), [true, true], "the device carries both");
        assert_eq!(of("wanb"), [false, false]);
    }
}
