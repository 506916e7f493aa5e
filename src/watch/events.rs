//! Reads what netifd, mwan3 and hotplug say into events of the core.

use std::time::Duration;

use crate::core::starts::Word;
use crate::core::tailnet::Respawn;
use crate::core::Event;
use crate::ubus::blobmsg::Value;

/// A longer respawn delay, in seconds, is as good as none.
const LONGEST_DELAY: u32 = 3600;

/// No interface or action of netifd is longer.
const NAME: usize = 64;

/// An event `network.interface` {action, interface} of netifd.
pub fn netifd_event(data: &Value) -> Option<Event> {
    let interface = data.get("interface")?.str()?;
    let action = data.get("action")?.str()?;
    (is_name(action) && is_name(interface)).then(|| interface_event("netifd", action, interface))
}

/// A notification of `network.interface.NAME`: `interface.update` or `interface.down`.
pub fn netifd_notification(object: &str, method: &str, data: &Value) -> Option<Event> {
    let interface = match data.get("interface").and_then(Value::str) {
        Some(name) => name,
        None => object.strip_prefix("network.interface.")?,
    };
    match method {
        "interface.down" => Some(interface_event("netifd", "ifdown", interface)),
        // Comes with each DHCP renewal; the path tells whether it matters.
        "interface.update" => Some(Event::Kernel {
            what: format!("{interface} was updated"),
        }),
        _ => None,
    }
}

/// A notification of `network.device`: `link_up` or `link_down` {name}.
pub fn device_notification(method: &str, data: &Value) -> Option<Event> {
    let device = data.get("name")?.str()?;
    match method {
        "link_down" => Some(interface_event("netifd", "ifdown", device)),
        "link_up" => Some(interface_event("netifd", "ifup", device)),
        _ => None,
    }
}

/// What `tailover hotplug` relayed from /etc/hotplug.d/iface, or from ntp there.
///
/// # Errors
/// Says which value is missing.
pub fn hotplug(data: &Value) -> Result<Event, &'static str> {
    let text = |name: &str| data.get(name).and_then(Value::str).unwrap_or("");
    let (action, interface) = (text("action"), text("interface"));
    if !is_name(action) {
        return Err("action is missing or no word");
    }
    if !is_name(interface) {
        return Err("interface is missing or no name");
    }
    // What busybox's ntpd calls the moment in which it trusts its time (networking/ntpd.c). Nothing
    // that needs a certificate could be judged before, so everything is looked at anew.
    if action == "stratum" {
        let what = "NTP has set the clock".to_string();
        return Ok(Event::Changed { what });
    }
    Ok(interface_event("hotplug", action, interface))
}

/// netifd's names and actions are words; anything else would end up in the log.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME && text.bytes().all(|b| b.is_ascii_graphic())
}

/// mwan3 says connected and disconnected, netifd ifup and ifdown.
fn interface_event(source: &str, action: &str, interface: &str) -> Event {
    let (interface, source) = (interface.to_string(), source.to_string());
    match action {
        "connected" | "ifup" => Event::Up { interface, source },
        "disconnected" | "ifdown" | "ifup-failed" => Event::Down { interface, source },
        // netifd sends this with each renewal of a lease.
        "ifupdate" | "update" => Event::Kernel {
            what: format!("{interface} was updated"),
        },
        // `disconnecting` comes seconds before `disconnected`: time enough to look.
        other => Event::Changed {
            what: format!("{source}: {interface} is {other}"),
        },
    }
}

/// Interfaces that mwan3 calls offline, from `mwan3 status {"section":"interfaces"}`.
pub fn mwan3_offline(status: &Value) -> Vec<String> {
    let Some(table) = status.get("interfaces").and_then(Value::table) else {
        return Vec::new();
    };
    table
        .iter()
        .filter(|(_, v)| {
            let tracked = v.get("tracking").and_then(Value::str) == Some("active");
            tracked && v.get("status").and_then(Value::str) == Some("offline")
        })
        .map(|(name, _)| name.clone())
        .collect()
}

/// What procd holds of a service.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its process, while it runs.
    pub pid: Option<u32>,
    pub respawn: Respawn,
}

/// The first instance of the service in procd's `service list`. A service that was stopped on
/// purpose has none; one that procd gave up on keeps it, without its `respawn` (procd,
/// service/instance.c: instance_exit, instance_dump).
pub fn service_kept(list: &Value, service: &str) -> Option<Kept> {
    let instances = list.get(service)?.get("instances")?.table()?;
    let (_, instance) = instances.first()?;
    let pid = instance.get("pid").and_then(Value::u32);
    let respawn = match instance.get("respawn") {
        Some(r) => {
            let delay = r.get("timeout").and_then(Value::u32).unwrap_or(0);
            Respawn::After(Duration::from_secs(delay.min(LONGEST_DELAY).into()))
        }
        None if pid.is_none() => Respawn::GaveUp,
        None => Respawn::Unknown,
    };
    Some(Kept { pid, respawn })
}

/// A notification of procd's object `service`: `instance.start`, `instance.stop`, … {service}.
pub fn service_notification(method: &str, data: &Value, service: &str) -> Option<Event> {
    if data.get("service")?.str()? != service {
        return None;
    }
    Some(match method {
        "instance.start" => Event::Service(Word::Started),
        "instance.respawn" => Event::Service(Word::Ended),
        "instance.fail" => Event::Service(Word::GaveUp),
        _ => Event::Tailscaled {
            what: format!("procd: {service} {method}"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ubus::blobmsg::table_from_json;
    use serde_json::json;

    fn kept(instance: serde_json::Value) -> Option<Kept> {
        let list = json!({ "tailscale": { "instances": { "instance1": instance } } });
        service_kept(&Value::Table(table_from_json(list)), "tailscale")
    }

    #[test]
    fn procds_list_tells_who_starts_tailscaled_again() {
        let respawn = json!({ "threshold": 3600, "timeout": 5, "retry": 5 });
        assert_eq!(
            kept(json!({ "running": true, "pid": 42, "respawn": respawn })),
            Some(Kept {
                pid: Some(42),
                respawn: Respawn::After(Duration::from_secs(5))
            })
        );
        let ended = kept(json!({ "running": false, "exit_code": 2, "respawn": respawn }));
        assert_eq!(ended.map(|k| k.pid), Some(None));
        let given_up = kept(json!({ "running": false, "exit_code": 2 }));
        assert_eq!(given_up.map(|k| k.respawn), Some(Respawn::GaveUp));
        let plain = kept(json!({ "running": true, "pid": 42 }));
        assert_eq!(plain.map(|k| k.respawn), Some(Respawn::Unknown));
        let stopped = json!({ "tailscale": {} });
        let stopped = Value::Table(table_from_json(stopped));
        assert_eq!(service_kept(&stopped, "tailscale"), None);
    }

    #[test]
    fn the_clock_is_no_interface() {
        let data = json!({ "action": "stratum", "interface": "ntp" });
        let heard = hotplug(&Value::Table(table_from_json(data)));
        assert!(matches!(heard, Ok(Event::Changed { what }) if what == "NTP has set the clock"));
    }

    #[test]
    fn procds_words_of_our_service_are_told_apart() {
        let data = |service: &str| {
            Value::Table(table_from_json(
                json!({ "service": service, "instance": "instance1" }),
            ))
        };
        let heard = |method| service_notification(method, &data("tailscale"), "tailscale");
        assert_eq!(heard("instance.start"), Some(Event::Service(Word::Started)));
        assert_eq!(heard("instance.respawn"), Some(Event::Service(Word::Ended)));
        assert_eq!(heard("instance.fail"), Some(Event::Service(Word::GaveUp)));
        assert!(matches!(
            heard("instance.stop"),
            Some(Event::Tailscaled { .. })
        ));
        let other = service_notification("instance.start", &data("dnsmasq"), "tailscale");
        assert_eq!(other, None);
    }
}
