//! Reads what netifd, mwan3 and hotplug say into events of the core.

use crate::core::Event;
use crate::ubus::blobmsg::Value;

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

/// What `tailover hotplug` relayed from /etc/hotplug.d/iface.
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

/// True when procd holds an instance of the service. One that was stopped on purpose has none; one
/// that procd gave up on keeps it (`service list`).
pub fn service_wanted(list: &Value, service: &str) -> bool {
    let instances = list
        .get(service)
        .and_then(|s| s.get("instances"))
        .and_then(Value::table);
    instances.is_some_and(|t| !t.is_empty())
}

/// A notification of procd's object `service`: `instance.start`, `instance.stop`, … {service}.
pub fn service_notification(method: &str, data: &Value, service: &str) -> Option<Event> {
    if data.get("service")?.str()? != service {
        return None;
    }
    Some(Event::Tailscaled {
        what: format!("procd: {service} {method}"),
    })
}
