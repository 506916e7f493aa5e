//! Finds the router's uplinks: default routes from the kernel, names and order from netifd.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::core::{Family, Uplink, Way};
use crate::net::rtnetlink::{self, Client};
use crate::ubus::blobmsg::Value;

/// A scope of "global": addresses that can be a source beyond the link (RT_SCOPE_UNIVERSE).
const GLOBAL: u8 = 0;

/// One interface of netifd's dump that is up and has a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// `l3_device`, which for PPPoE is not `device`.
    pub device: String,
    /// Defaults that netifd knows: family, next hop (`None` for 0.0.0.0 or `::`).
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
    let routes = v.get("route").and_then(Value::array).unwrap_or(&[]);
    Some(Interface {
        name: v.get("interface")?.str()?.to_string(),
        device: device.to_string(),
        defaults: routes.iter().filter_map(default_route).collect(),
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
    pub v4: Option<Way>,
    pub v6: Option<Way>,
    pub addresses: Vec<IpAddr>,
}

/// Reads devices, their global addresses, and the main table's defaults.
///
/// # Errors
/// What rtnetlink refused.
pub fn devices(client: &mut Client) -> Result<Vec<Device>, rtnetlink::Error> {
    let mut found: BTreeMap<u32, Device> = BTreeMap::new();
    for link in client.links()? {
        found.insert(
            link.index,
            Device {
                name: link.name,
                up: link.up && link.carrier != Some(false),
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
        for route in client.main_defaults(family)? {
            let Some(d) = route.oif.and_then(|i| found.get_mut(&i)) else {
                continue;
            };
            let way = Way {
                gateway: route.gateway,
                addresses: addresses(&d.addresses, family),
                from: route.from,
                metric: Some(route.metric),
            };
            // Defaults come by rising metric: the first of a device is the one in use.
            let slot = match family {
                Family::V4 => &mut d.v4,
                Family::V6 => &mut d.v6,
            };
            slot.get_or_insert(way);
        }
    }
    Ok(found.into_values().collect())
}

fn addresses(all: &[IpAddr], family: Family) -> Vec<IpAddr> {
    all.iter()
        .filter(|ip| Family::of(ip) == family)
        .copied()
        .collect()
}

/// Joins both views. `wanted` is the owner's list of interfaces or devices, the preferred first;
/// empty means every device with a default route, by metric.
pub fn join(devices: &[Device], interfaces: &[Interface], wanted: &[String]) -> Vec<Uplink> {
    let mut uplinks: Vec<Uplink> = devices
        .iter()
        .filter(|d| d.up && !is_tailscale(&d.name))
        .map(|d| uplink(d, interfaces))
        .filter(|u| u.v4.is_some() || u.v6.is_some())
        .collect();
    if wanted.is_empty() {
        uplinks.sort_by_key(|u| {
            let metric = |w: &Option<Way>| w.as_ref().map(|w| w.metric.unwrap_or(u32::MAX));
            (
                metric(&u.v4).or(metric(&u.v6)).unwrap_or(u32::MAX),
                u.device.clone(),
            )
        });
        return uplinks;
    }
    let mut chosen: Vec<Uplink> = Vec::new();
    for name in wanted {
        let found = uplinks.iter().position(|u| u.is(name));
        chosen.extend(found.map(|at| uplinks.swap_remove(at)));
    }
    chosen
}

fn uplink(device: &Device, interfaces: &[Interface]) -> Uplink {
    let own: Vec<&Interface> = interfaces
        .iter()
        .filter(|i| i.device == device.name)
        .collect();
    let way = |family: Family, main: &Option<Way>| {
        main.clone().or_else(|| {
            // A default that netifd holds but main has not: mwan3's or the owner's choice.
            own.iter()
                .flat_map(|i| &i.defaults)
                .find(|(f, _)| *f == family)
                .map(|(_, gateway)| Way {
                    gateway: *gateway,
                    addresses: addresses(&device.addresses, family),
                    from: None,
                    metric: None,
                })
        })
    };
    let has_v4 = |i: &&&Interface| i.defaults.iter().any(|(f, _)| *f == Family::V4);
    let name = own.iter().find(has_v4).or(own.first());
    let mut aliases: Vec<String> = own.iter().map(|i| i.name.clone()).collect();
    aliases.push(device.name.clone());
    Uplink {
        name: name.map_or(&device.name, |i| &i.name).clone(),
        aliases,
        device: device.name.clone(),
        v4: way(Family::V4, &device.v4),
        v6: way(Family::V6, &device.v6),
        metered: false,
    }
}

/// tailscale's own device is never a way out for tailscale's own packets.
fn is_tailscale(device: &str) -> bool {
    device.starts_with("tailscale")
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

    fn names(uplinks: &[Uplink]) -> Vec<&str> {
        uplinks.iter().map(|u| u.name.as_str()).collect()
    }

    #[test]
    fn metric_orders_unless_the_owner_does() {
        let devices = [device("eth2", 20), device("eth1", 10)];
        assert_eq!(names(&join(&devices, &[], &[])), ["eth1", "eth2"]);
        let wanted = ["eth2".to_string(), "nothere".to_string()];
        assert_eq!(names(&join(&devices, &[], &wanted)), ["eth2"]);
    }

    #[test]
    fn two_interfaces_on_one_device_are_one_uplink_named_by_the_ipv4_one() {
        let face = |name: &str, defaults| Interface {
            name: name.into(),
            device: "eth1".into(),
            defaults,
            ..Interface::default()
        };
        let faces = [
            face("wan6", vec![(Family::V6, None)]),
            face("wan", vec![(Family::V4, None)]),
        ];
        let got = join(&[device("eth1", 1)], &faces, &[]);
        assert_eq!(names(&got), ["wan"]);
        assert!(got[0].is("wan6") && got[0].is("eth1"));
        assert_eq!(got[0].v6.as_ref().map(|w| w.metric), Some(None));
    }

    #[test]
    fn tailscales_device_and_devices_without_carrier_are_no_uplinks() {
        let mut dead = device("eth1", 10);
        dead.up = false;
        assert!(join(&[dead, device("tailscale0", 5)], &[], &[]).is_empty());
    }
}
