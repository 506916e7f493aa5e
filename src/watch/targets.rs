//! Whom the probes ask: the DERP map, the control server, the configured targets, the router's resolvers.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{ExternalIp, Host, Settings, Target, Url};
use crate::core::Family;
use crate::tailscale::types::DerpNode;

/// Asked when tailscaled has no DERP map; needs the router's resolver.
pub const DERP_WITHOUT_MAP: &str = "derp.tailscale.com";

/// Where the router's own programs learn whom to ask for names (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// More is no list of resolvers.
const RESOLV_CONF_LIMIT: u64 = 64 * 1024;

/// The resolver reads no more of them (MAXNS in resolv.h).
const RESOLVERS: usize = 3;

/// tailscaled's own resolver (net/tsaddr, TailscaleServiceIP and its IPv6 form). It is no judge of
/// the names that tailscaled itself needs.
const MAGIC_DNS: [&str; 2] = ["100.100.100.100", "fd7a:115c:a1e0::53"];

/// What is known of those who may be asked. Filled by [`super::tailnet`], read by [`super::probe`].
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub derp: Vec<DerpNode>,
    pub control: Option<Url>,
    /// Addresses of the control server, kept over failed lookups: names die with the uplink.
    pub control_addresses: Vec<IpAddr>,
    pub tcp: Vec<(Host, u16)>,
    pub web: Vec<Url>,
    /// Services that answer with the caller's public address.
    pub external: Vec<Url>,
    pub stun: bool,
    pub use_derp: bool,
}

impl Targets {
    /// The configured part; the rest comes from tailscaled.
    pub fn new(settings: &Settings) -> Targets {
        let mut t = Targets::default();
        for target in &settings.targets {
            match target {
                Target::Derp => t.use_derp = true,
                Target::Tcp { host, port } => t.tcp.push((host.clone(), *port)),
                Target::Http(url) => t.web.push(url.clone()),
            }
        }
        for way in &settings.external_ip {
            match way {
                ExternalIp::Stun => t.stun = true,
                ExternalIp::Http(url) => t.external.push(url.clone()),
            }
        }
        t
    }

    /// Keeps what tailscaled told when the settings change.
    pub fn reconfigure(&mut self, settings: &Settings) {
        let old = std::mem::replace(self, Targets::new(settings));
        self.derp = old.derp;
        self.control = old.control;
        self.control_addresses = old.control_addresses;
    }

    /// STUN servers of one family, a node of each region first.
    pub fn stun_servers(&self, family: Family) -> Vec<SocketAddr> {
        if !self.use_derp && !self.stun {
            return Vec::new();
        }
        let mut seen = Vec::new();
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for node in &self.derp {
            let (Some(port), Some(ip)) = (node.stun_port, address(node, family)) else {
                continue;
            };
            match seen.contains(&node.region) {
                true => rest.push(SocketAddr::new(ip, port)),
                false => {
                    seen.push(node.region);
                    first.push(SocketAddr::new(ip, port));
                }
            }
        }
        first.extend(rest);
        first
    }

    /// DERP nodes that speak TLS and have an address of this family.
    pub fn derp_nodes(&self, family: Family) -> Vec<(&DerpNode, IpAddr)> {
        self.derp
            .iter()
            .filter(|n| self.use_derp && !n.stun_only)
            .filter_map(|n| Some((n, address(n, family)?)))
            .collect()
    }

    /// TCP targets given as addresses of this family. Names are left to the HTTP probes, whose
    /// lookup has a time-out of its own.
    pub fn tcp_addresses(&self, family: Family) -> Vec<SocketAddr> {
        self.tcp
            .iter()
            .filter_map(|(host, port)| match host {
                Host::Ip(ip) if Family::of(ip) == family => Some(SocketAddr::new(*ip, *port)),
                _ => None,
            })
            .collect()
    }

    /// TCP targets given by name.
    pub fn tcp_names(&self) -> Vec<(&str, u16)> {
        self.tcp
            .iter()
            .filter_map(|(host, port)| match host {
                Host::Name(name) => Some((name.as_str(), *port)),
                Host::Ip(_) => None,
            })
            .collect()
    }

    /// The control server's name, where it has one: names are needed then.
    pub fn control_name(&self) -> Option<&str> {
        match &self.control.as_ref()?.host {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// A name that exists, and that tailscaled may need.
    pub fn some_name(&self) -> &str {
        let is_name = |n: &&DerpNode| n.hostname.parse::<IpAddr>().is_err();
        let derp = || {
            let node = self.derp.iter().find(is_name)?;
            Some(node.hostname.as_str())
        };
        self.control_name()
            .or_else(derp)
            .unwrap_or(DERP_WITHOUT_MAP)
    }

    /// True when `ip` is a DERP node's.
    pub fn is_derp(&self, ip: &IpAddr) -> bool {
        self.derp
            .iter()
            .any(|n| n.ipv4.map(IpAddr::V4) == Some(*ip) || n.ipv6.map(IpAddr::V6) == Some(*ip))
    }
}

/// The resolvers that the router's own programs ask.
pub fn router_resolvers() -> Vec<IpAddr> {
    let read = || {
        let mut text = String::new();
        let file = File::open(RESOLV_CONF)?;
        file.take(RESOLV_CONF_LIMIT).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    // Without the file they ask the router itself.
    nameservers(&read().unwrap_or_default())
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then(|| words.next())?
        })
        .take(RESOLVERS)
        .collect();
    if named.is_empty() {
        return vec![Ipv4Addr::LOCALHOST.into()];
    }
    let others = named.into_iter().filter(|n| !MAGIC_DNS.contains(n));
    others.filter_map(|n| n.parse().ok()).collect()
}

fn address(node: &DerpNode, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => node.ipv4.map(IpAddr::V4),
        Family::V6 => node.ipv6.map(IpAddr::V6),
    }
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(text: &str) {
    assert!(nameservers(text).len() <= text.lines().count().max(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routers_resolvers_are_read_as_resolv_conf_has_them() {
        let read = |text: &str| -> Vec<String> {
            let found = nameservers(text);
            found.iter().map(IpAddr::to_string).collect()
        };
        let text = "search lan\nnameserver 127.0.0.1\nnameserver\t::1\n#nameserver 9.9.9.9\n";
        assert_eq!(read(text), ["127.0.0.1", "::1"]);
        assert_eq!(read(""), ["127.0.0.1"]);
        assert!(read("nameserver 100.100.100.100\n").is_empty());
        assert_eq!(read("nameserver x\nnameserver 192.0.2.1\n"), ["192.0.2.1"]);
        let many = "nameserver 192.0.2.1\n".repeat(9);
        assert_eq!(read(&many).len(), RESOLVERS);
    }

    fn node(region: u64, last: u8) -> DerpNode {
        DerpNode {
            region,
            name: String::new(),
            hostname: format!("derp{region}.example"),
            cert_name: String::new(),
            ipv4: Some(Ipv4Addr::new(192, 0, 2, last)),
            ipv6: None,
            stun_port: Some(3478),
            derp_port: 443,
            stun_only: false,
            can_port80: true,
            insecure_for_tests: false,
        }
    }

    #[test]
    fn a_burst_asks_a_node_of_each_region_before_two_of_one() {
        let targets = Targets {
            use_derp: true,
            derp: vec![node(1, 1), node(1, 2), node(2, 3), node(3, 4)],
            ..Targets::default()
        };
        let servers = targets.stun_servers(Family::V4);
        let asked: Vec<String> = servers.iter().map(|s| s.ip().to_string()).collect();
        assert_eq!(asked, ["192.0.2.1", "192.0.2.3", "192.0.2.4", "192.0.2.2"]);
    }

    #[test]
    fn the_control_servers_name_is_asked_for_before_others() {
        let mut targets = Targets {
            derp: vec![node(1, 1)],
            ..Targets::default()
        };
        assert_eq!(targets.some_name(), "derp1.example");
        targets.control = Url::parse("https://192.0.2.9");
        assert_eq!(targets.control_name(), None);
        targets.control = Url::parse("https://headscale.example");
        assert_eq!(targets.some_name(), "headscale.example");
        assert_eq!(Targets::default().some_name(), DERP_WITHOUT_MAP);
    }
}
