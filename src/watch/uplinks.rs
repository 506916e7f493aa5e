//! Finds the router's uplinks: default routes from the kernel, names from netifd, order from mwan3.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::core::prefix::Prefix;
use crate::core::{Family, Uplink, Way};
use crate::net::rtnetlink::{self, Client, Route, RouteKind, TABLE_MAIN};
use crate::tailscale::kernel;
use crate::ubus::blobmsg::Value;

use super::mwan3::Mwan3;

/// A scope of "global": addresses that can be a source beyond the link (RT_SCOPE_UNIVERSE).
const GLOBAL: u8 = 0;

/// Kinds of device (IFLA_INFO_KIND) and protocols of netifd that go over another uplink. PPTP and
/// L2TP are not among them: providers use them for the access itself.
const VPN_KINDS: [&str; 6] = ["wireguard", "amneziawg", "tun", "gre", "vti", "xfrm"];
const VPN_PROTOCOLS: [&str; 7] = [
    "wireguard",
    "amneziawg",
    "openvpn",
    "openconnect",
    "vpnc",
    "gre",
    "vti",
];

/// tailscale's own addresses, whatever its device is called (tsaddr.TailscaleULARange).
const TAILSCALE_PREFIX: [u16; 3] = [0xfd7a, 0x115c, 0xa1e0];

/// One interface of netifd's dump that is up and has a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// `l3_device`, which for PPPoE is not `device`.
    pub device: String,
    /// `proto`: `static`, `dhcp`, `pppoe`, `wireguard`, …
    pub protocol: String,
    /// Defaults that netifd knows: family, next hop (`None` for 0.0.0.0 or `::`). Those in force
    /// first, then those that it was told not to set (`defaultroute 0`).
    pub defaults: Vec<(Family, Option<IpAddr>)>,
    /// Its resolvers, also those that the router was told not to use (`peerdns 0`).
    pub resolvers: Vec<IpAddr>,
}

/// Reads the answer of `network.interface dump`. What is missing or malformed is passed over: a
/// strange interface must not hide the others.
pub fn interfaces(dump: &Value) -> Vec<Interface> {
    let list = dump.get("interface").and_then(Value::array).unwrap_or(&[]);
    list.iter().filter_map(interface).collect()
}

fn interface(v: &Value) -> Option<Interface> {
    if !v.get("up")?.bool()? {
        return None;
    }
    let device = v.get("l3_device").or_else(|| v.get("device"))?.str()?;
    let text = |name: &str| v.get(name).and_then(Value::str).unwrap_or_default();
    let in_force = v.get("route");
    let inactive = v.get("inactive").and_then(|v| v.get("route"));
    let lists = [in_force, inactive].into_iter().flatten();
    let routes = lists.filter_map(Value::array).flatten();
    Some(Interface {
        name: v.get("interface")?.str()?.to_string(),
        device: device.to_string(),
        protocol: text("proto").to_string(),
        defaults: routes.filter_map(default_route).collect(),
        resolvers: [Some(v), v.get("inactive")]
            .into_iter()
            .flatten()
            .filter_map(|v| v.get("dns-server")?.array())
            .flatten()
            .filter_map(|ip| ip.str()?.parse().ok())
            .collect(),
    })
}

fn default_route(route: &Value) -> Option<(Family, Option<IpAddr>)> {
    let target: IpAddr = route.get("target")?.str()?.parse().ok()?;
    if !target.is_unspecified() || route.get("mask")?.i64()? != 0 {
        return None;
    }
    let hop: Option<IpAddr> = route.get("nexthop").and_then(Value::str)?.parse().ok();
    Some((Family::of(&target), hop.filter(|ip| !ip.is_unspecified())))
}

/// What the kernel knows of defaults and addresses, by device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub up: bool,
    /// Needs no gateway (PPP, raw modems, tunnels).
    pub bare: bool,
    /// IFLA_INFO_KIND.
    pub kind: Option<String>,
    /// Main's defaults.
    pub v4: Option<Way>,
    pub v6: Option<Way>,
    /// Defaults that only another table has (mwan3's, pbr's, `ip4table`): family and next hop.
    pub elsewhere: Vec<(Family, Option<IpAddr>)>,
    pub addresses: Vec<IpAddr>,
    /// Networks that need no gateway here.
    pub on_link: Vec<Prefix>,
}

/// Reads devices, their global addresses, and their defaults; those of `own` protocol are ours.
///
/// # Errors
/// What rtnetlink refused.
pub fn devices(client: &mut Client, own: u8) -> Result<Vec<Device>, rtnetlink::Error> {
    let mut found: BTreeMap<u32, Device> = BTreeMap::new();
    for link in client.links()? {
        found.insert(
            link.index,
            Device {
                name: link.name,
                up: link.up && link.carrier != Some(false),
                bare: link.bare,
                kind: link.kind,
                ..Device::default()
            },
        );
    }
    for a in client.addresses(None)? {
        if a.scope == GLOBAL && !a.deprecated && !a.tentative {
            if let Some(d) = found.get_mut(&a.index) {
                d.addresses.push(a.address);
            }
        }
    }
    for family in Family::BOTH {
        let far = |r: &Route| r.is_default() || r.is_slice();
        // tailscaled's table has a route for each peer, and no uplink.
        let mut routes: Vec<Route> = client.routes_that(family, |r| {
            let ours = r.protocol == own || r.table == kernel::TABLE;
            r.kind == RouteKind::Unicast && !ours && (far(r) || r.gateway.is_none())
        })?;
        for route in routes.iter().filter(|r| !far(r)) {
            if let Some(d) = route.oif.and_then(|i| found.get_mut(&i)) {
                // mwan3 copies them into each of its tables.
                d.on_link
                    .extend(route.to.filter(|net| !d.on_link.contains(net)));
            }
        }
        routes.retain(far);
        // The first of a device is the one in use: slices come before any default.
        routes.sort_by_key(|r| (r.is_default(), r.metric));
        let (main, others): (Vec<Route>, Vec<Route>) =
            routes.into_iter().partition(|r| r.table == TABLE_MAIN);
        for route in &main {
            let Some(d) = route.oif.and_then(|i| found.get_mut(&i)) else {
                continue;
            };
            if !route.is_default() && !covers(&main, route.oif, family) {
                continue;
            }
            let way = Way {
                gateway: route.gateway,
                addresses: addresses(&d.addresses, family),
                from: route.from,
                metric: Some(route.metric),
                sliced: !route.is_default(),
            };
            let slot = match family {
                Family::V4 => &mut d.v4,
                Family::V6 => &mut d.v6,
            };
            slot.get_or_insert(way);
        }
        for route in others.iter().filter(|r| r.is_default()) {
            if let Some(d) = route.oif.and_then(|i| found.get_mut(&i)) {
                d.elsewhere.push((family, route.gateway));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Whether a device's slices add up to a default: each half of IPv4 is in one, each half of
/// 2000::/3, which is all of IPv6 that is given out.
fn covers(routes: &[Route], oif: Option<u32>, family: Family) -> bool {
    let halves = match family {
        Family::V4 => [0, 1 << 31].map(|ip: u32| u128::from(ip) << 96),
        Family::V6 => [0x2 << 124, 0x3 << 124],
    };
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    };
    let slices = || {
        let own = routes.iter().filter(|r| r.oif == oif);
        own.filter_map(|r| r.to)
    };
    halves.iter().all(|half| {
        slices().any(|(ip, length)| (half ^ bits(ip)).leading_zeros() >= u32::from(length))
    })
}

fn addresses(all: &[IpAddr], family: Family) -> Vec<IpAddr> {
    all.iter()
        .filter(|ip| Family::of(ip) == family)
        .copied()
        .collect()
}

/// What decides which uplinks there are and which comes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// The owner's list of interfaces or devices, the preferred first; empty: all that have a
    /// default route.
    pub wanted: &'a [String],
    /// Interfaces or devices that cost by volume.
    pub metered: &'a [String],
    /// mwan3's order, while it runs.
    pub mwan3: Option<&'a Mwan3>,
}

/// Joins the views. Without an owner's list the order is: real uplinks before tunnels, unmetered
/// before metered, then mwan3's, then main's metric.
pub fn join(devices: &[Device], interfaces: &[Interface], choice: Choice) -> Vec<Uplink> {
    let mut uplinks: Vec<Uplink> = devices
        .iter()
        .filter(|d| d.up && !is_tailscale(d))
        .map(|d| uplink(d, interfaces, &choice))
        .filter(|u| u.v4.is_some() || u.v6.is_some())
        .collect();
    if choice.wanted.is_empty() {
        uplinks.sort_by_key(|u| {
            let rank = rank(u, &choice);
            let metric = |w: &Option<Way>| w.as_ref().map(|w| w.metric.unwrap_or(u32::MAX));
            let metric = metric(&u.v4).or(metric(&u.v6));
            let metric = metric.unwrap_or(u32::MAX);
            // What mwan3 does not use comes after what it does.
            let place = (rank.is_none(), rank, metric);
            (u.vpn, u.metered, place, u.device.clone())
        });
        return uplinks;
    }
    let mut chosen: Vec<Uplink> = Vec::new();
    for name in choice.wanted {
        let found = uplinks.iter().position(|u| u.is(name));
        chosen.extend(found.map(|at| uplinks.swap_remove(at)));
    }
    chosen
}

/// mwan3's place of an uplink: that of the interface it is named by, else of another of its own.
fn rank(uplink: &Uplink, choice: &Choice) -> Option<super::mwan3::Rank> {
    let mwan3 = choice.mwan3?;
    let of_alias = || uplink.aliases.iter().find_map(|a| mwan3.rank(a));
    mwan3.rank(&uplink.name).or_else(of_alias)
}

fn uplink(device: &Device, interfaces: &[Interface], choice: &Choice) -> Uplink {
    let own: Vec<&Interface> = interfaces
        .iter()
        .filter(|i| i.device == device.name)
        .collect();
    let has_v4 = |i: &&&Interface| i.defaults.iter().any(|(f, _)| *f == Family::V4);
    let name = own.iter().find(has_v4).or(own.first());
    let mut aliases: Vec<String> = own.iter().map(|i| i.name.clone()).collect();
    aliases.push(device.name.clone());
    let in_list = |list: &[String]| aliases.iter().any(|a| list.contains(a));
    let by_owner = in_list(choice.wanted);
    let way = |family: Family, main: &Option<Way>| {
        main.clone().or_else(|| {
            let of_family = |(f, _): &&(Family, Option<IpAddr>)| *f == family;
            // A default that netifd holds but main has not: mwan3's or the owner's choice.
            let netifd = own.iter().flat_map(|i| &i.defaults).find(of_family);
            let addresses = addresses(&device.addresses, family);
            let gateway = netifd.map(|(_, gateway)| *gateway).or_else(|| {
                // Named by the owner, it may stand in another table, or need no gateway at all.
                let elsewhere = device.elsewhere.iter().find(of_family);
                let bare = (device.bare && !addresses.is_empty()).then_some(None);
                let other = elsewhere.map(|(_, gateway)| *gateway).or(bare);
                other.filter(|_| by_owner)
            })?;
            Some(Way {
                gateway,
                addresses,
                ..Way::default()
            })
        })
    };
    let lone = |i: &&Interface| {
        let (family, _) = i.defaults.first()?;
        let alone = i.defaults.iter().all(|(f, _)| f == family);
        alone.then(|| (i.name.clone(), *family))
    };
    let tunnel = |i: &&Interface| VPN_PROTOCOLS.contains(&i.protocol.as_str());
    let kind = device.kind.as_deref().unwrap_or_default();
    Uplink {
        name: name.map_or(&device.name, |i| &i.name).clone(),
        device: device.name.clone(),
        v4: way(Family::V4, &device.v4),
        v6: way(Family::V6, &device.v6),
        on_link: device.on_link.clone(),
        metered: in_list(choice.metered),
        of_one_family: own.iter().filter_map(lone).collect(),
        vpn: !by_owner && (VPN_KINDS.contains(&kind) || own.iter().any(tunnel)),
        aliases,
    }
}

/// tailscale's own device is never a way out for tailscale's own packets.
fn is_tailscale(device: &Device) -> bool {
    let own = |ip: &IpAddr| match ip {
        IpAddr::V6(ip) => ip.segments().starts_with(&TAILSCALE_PREFIX),
        IpAddr::V4(_) => false,
    };
    device.name.starts_with("tailscale") || device.addresses.iter().any(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, metric: u32) -> Device {
        Device {
            name: name.into(),
            up: true,
            v4: Some(Way {
                metric: Some(metric),
                ..Way::default()
            }),
            ..Device::default()
        }
    }

    fn face(name: &str, device: &str, defaults: Vec<(Family, Option<IpAddr>)>) -> Interface {
        Interface {
            name: name.into(),
            device: device.into(),
            defaults,
            ..Interface::default()
        }
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    fn names(uplinks: &[Uplink]) -> Vec<&str> {
        uplinks.iter().map(|u| u.name.as_str()).collect()
    }

    #[test]
    fn metric_orders_unless_the_owner_does() {
        let devices = [device("eth2", 20), device("eth1", 10)];
        let none = Choice::default();
        assert_eq!(names(&join(&devices, &[], none)), ["eth1", "eth2"]);
        let wanted = strings(&["eth2", "nothere"]);
        let listed = Choice {
            wanted: &wanted,
            ..none
        };
        assert_eq!(names(&join(&devices, &[], listed)), ["eth2"]);
    }

    #[test]
    fn mwan3_orders_before_the_metric_and_what_it_does_not_use_comes_after() {
        let mut text = String::new();
        for (name, metric) in [("wanb", 1), ("wan", 2)] {
            text += &format!(
                "config interface '{name}'\n option enabled 1\nconfig member 'm_{name}'\n \
                 option interface '{name}'\n option metric {metric}\n"
            );
        }
        text += "config policy 'all'\n list use_member 'm_wan'\n list use_member 'm_wanb'\n";
        let mwan3 = Mwan3::parse(text.as_bytes());
        let devices = [device("eth0", 1), device("eth1", 10), device("eth2", 20)];
        let faces = [face("wan", "eth1", vec![]), face("wanb", "eth2", vec![])];
        let choice = Choice {
            mwan3: Some(&mwan3),
            ..Choice::default()
        };
        let got = join(&devices, &faces, choice);
        assert_eq!(names(&got), ["wanb", "wan", "eth0"]);
        let metered = strings(&["wanb"]);
        let got = join(
            &devices,
            &faces,
            Choice {
                metered: &metered,
                ..choice
            },
        );
        assert_eq!(names(&got), ["wan", "eth0", "wanb"]);
        assert!(got[2].metered && !got[0].metered);
    }

    #[test]
    fn two_interfaces_on_one_device_are_one_uplink_named_by_the_ipv4_one() {
        let faces = [
            face("wan6", "eth1", vec![(Family::V6, None)]),
            face("wan", "eth1", vec![(Family::V4, None)]),
        ];
        let got = join(&[device("eth1", 1)], &faces, Choice::default());
        assert_eq!(names(&got), ["wan"]);
        assert!(got[0].is("wan6") && got[0].is("eth1"));
        let of = |interface| Family::BOTH.map(|f| got[0].carries(interface, f));
        assert_eq!(
            [of("wan"), of("wan6"), of("eth1")],
            [[true, false], [false, true], [true, true]]
        );
        assert_eq!(got[0].v6.as_ref().map(|w| w.metric), Some(None));
    }

    #[test]
    fn tailscales_device_and_devices_without_carrier_are_no_uplinks() {
        let mut dead = device("eth1", 10);
        dead.up = false;
        let mut renamed = device("ts0", 5);
        renamed.addresses = vec!["fd7a:115c:a1e0::53".parse().expect("an address")];
        let devices = [dead, device("tailscale0", 5), renamed];
        assert!(join(&devices, &[], Choice::default()).is_empty());
    }

    #[test]
    fn a_tunnel_comes_after_every_real_uplink_unless_it_is_listed() {
        let mut tunnel = device("wg0", 1);
        tunnel.kind = Some("wireguard".into());
        let devices = [tunnel, device("eth1", 10), device("wwan0", 20)];
        let metered = strings(&["wwan0"]);
        let choice = Choice {
            metered: &metered,
            ..Choice::default()
        };
        let got = join(&devices, &[], choice);
        assert_eq!(names(&got), ["eth1", "wwan0", "wg0"]);
        assert!(got[2].vpn);
        let wanted = strings(&["wg0", "eth1"]);
        let listed = Choice {
            wanted: &wanted,
            ..choice
        };
        let got = join(&devices, &[], listed);
        assert_eq!(names(&got), ["wg0", "eth1"]);
        assert!(!got[0].vpn, "the owner has said where it belongs");
    }

    #[test]
    fn a_listed_device_needs_no_default_in_main() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let bare = |name: &str| Device {
            name: name.into(),
            up: true,
            addresses: vec![ip("198.51.100.9")],
            ..Device::default()
        };
        let modem = Device {
            bare: true,
            ..bare("wwan0")
        };
        let tabled = Device {
            elsewhere: vec![(Family::V4, Some(ip("192.0.2.1")))],
            ..bare("eth0.2@odd-name")
        };
        let devices = [modem, tabled, bare("eth3")];
        assert!(join(&devices, &[], Choice::default()).is_empty());
        let wanted = strings(&["eth0.2@odd-name", "wwan0", "eth3"]);
        let listed = Choice {
            wanted: &wanted,
            ..Choice::default()
        };
        let got = join(&devices, &[], listed);
        assert_eq!(names(&got), ["eth0.2@odd-name", "wwan0"]);
        let gateway = |u: &Uplink| u.v4.as_ref().map(|w| (w.gateway, w.metric));
        assert_eq!(gateway(&got[0]), Some((Some(ip("192.0.2.1")), None)));
        assert_eq!(gateway(&got[1]), Some((None, None)));
    }

    #[test]
    fn a_default_that_netifd_was_told_not_to_set_is_known() {
        let dump = serde_json::json!({ "interface": [{
            "interface": "wanb", "up": true, "l3_device": "eth2", "proto": "dhcp", "route": [],
            "inactive": { "route": [
                { "target": "0.0.0.0", "mask": 0, "nexthop": "192.0.2.65" } ] },
        }, { "interface": "odd", "up": true, "l3_device": "eth3", "inactive": 7 }] });
        let got = interfaces(&Value::from_json(dump));
        let gateway: IpAddr = "192.0.2.65".parse().expect("an address");
        assert_eq!(got[0].defaults, [(Family::V4, Some(gateway))]);
        assert_eq!((got[0].protocol.as_str(), got.len()), ("dhcp", 2));
    }

    #[test]
    fn sixty_uplinks_are_sixty() {
        let devices: Vec<Device> = (0..60).map(|n| device(&format!("w{n}"), 60 - n)).collect();
        let got = join(&devices, &[], Choice::default());
        assert_eq!((got.len(), got[0].name.as_str()), (60, "w59"));
    }

    #[test]
    fn slices_of_a_default_add_up_or_they_do_not() {
        let slice = |to: &str, length| {
            let to: IpAddr = to.parse().expect("an address");
            let mut route = Route::default_via(Family::of(&to), TABLE_MAIN, 7, None);
            route.to = Some((to, length));
            route
        };
        let covers = |family, routes: &[Route]| super::covers(routes, Some(7), family);
        let halves = [slice("0.0.0.0", 1), slice("128.0.0.0", 1)];
        assert!(covers(Family::V4, &halves));
        assert!(!covers(Family::V4, &halves[..1]));
        assert!(covers(Family::V6, &[slice("2000::", 3)]));
        assert!(covers(
            Family::V6,
            &[slice("2000::", 4), slice("3000::", 4)]
        ));
        assert!(!covers(Family::V6, &[slice("2000::", 4)]));
        assert!(!super::covers(&halves, Some(8), Family::V4));
    }
}
