//! Whom the probes ask: the DERP map, the control server, the configured targets, as addresses.

use std::net::{IpAddr, SocketAddr};

use crate::config::{ExternalIp, Host, Settings, Target, Url};
use crate::core::Family;
use crate::tailscale::types::DerpNode;

/// Asked when tailscaled has no DERP map; needs the router's resolver.
pub const DERP_WITHOUT_MAP: &str = "derp.tailscale.com";

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

    /// True when `ip` is a DERP node's.
    pub fn is_derp(&self, ip: &IpAddr) -> bool {
        self.derp.iter().any(|n| {
            n.ipv4.map(IpAddr::V4) == Some(*ip) || n.ipv6.map(IpAddr::V6) == Some(*ip)
        })
    }
}

fn address(node: &DerpNode, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => node.ipv4.map(IpAddr::V4),
        Family::V6 => node.ipv6.map(IpAddr::V6),
    }
}
