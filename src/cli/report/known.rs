//! Which values of configuration files and answers a report shows, by their names. What is not named
//! here is left out: nobody can list every name that a password goes by.

use serde_json::Value;

use super::scrub::OUT;
use crate::config::options::OPTIONS;
use crate::config::uci;

/// Names of options and members whose values are shown, those of tailover's own options besides.
const SHOWN: &str = " \
    auto autostart bridge_empty default_gateway defaultroute delegate device disabled dns_metric \
    enabled family force_link fw_mode gateway ifname igmp_snooping ip4table ip6addr ip6assign ip6gw \
    ip6prefix ip6table ipaddr ipv6 keepalive label_src log_stderr log_stdout metric mtu mtu6 multicast \
    name netmask nohostroute onlink peerdns peeraddr port ports proto reqaddress reqprefix src state_file \
    table target type vid vlan_filtering lookup mark priority \
    advanced check_quality count dest_ip dest_port down failure_interval failure_latency failure_loss \
    flush_conntrack initial_state interface interval keep_failure_interval last_resort local_source \
    logging loglevel max_ttl mmx_mask recovery_interval recovery_latency recovery_loss reliability \
    rtmon_interval rule_type size source_routing src_ip src_port sticky timeout track_gateway track_ip \
    track_method up use_member use_policy weight \
    action address available code data_mtu delegation dns-server dynamic error errors exit_code ip \
    ipv4-address ipv6-address ipv6-prefix ipv6-prefix-assignment l3_device latency lost mask nexthop \
    offline online packetloss pending percent pid preferred proto respawn retry route running score \
    source status subsystem threshold tracking turn updated uptime valid via \
    instances interfaces policies ipv4 ipv6 connected \
    Version BackendState TUN Health TailscaleIPs Self Online Relay Addrs CurAddr Active Expired \
    InNetworkMap InMagicSock InEngine KeyExpiry RxBytes TxBytes LastHandshake LastWrite ExitNodeOption \
    ControlURL RouteAll WantRunning LoggedOut ShieldsUp CorpDNS AdvertiseRoutes NoSNAT \
    NetfilterMode NetfilterKind ExitNodeIP ExitNodeAllowLANAccess NoStatefulFiltering AppConnector \
    AutoUpdate Check Apply Advertise RunSSH RunWebClient ForceDaemon Sync RelayServerPort ";

/// Members whose own members bear names that the owner has given.
const GIVEN: [&str; 5] = ["instances", "interfaces", "policies", "ipv4", "ipv6"];

fn shown(name: &str) -> bool {
    let ours = || OPTIONS.iter().any(|o| o.name == name);
    SHOWN.split_ascii_whitespace().any(|n| n == name) || ours()
}

/// The sections of a UCI file, a line for each option. Comments are not shown.
pub fn uci(text: &[u8], line: &mut dyn FnMut(&str)) {
    let (sections, errors) = uci::parse(text);
    for s in sections {
        // Peers of WireGuard are named after people.
        let name = match s.kind.starts_with("wireguard") {
            true => Some(OUT),
            false => s.name.as_deref(),
        };
        line(&["config ", &s.kind, " ", name.unwrap_or_default()].concat());
        for item in s.items {
            let value = match shown(&item.name) {
                true => item.value.as_str(),
                false => OUT,
            };
            let word = if item.list { "  list " } else { "  option " };
            // A value may have several lines.
            let value = value.replace('\n', " ");
            line(&[word, &item.name, " '", &value, "'"].concat());
        }
    }
    for e in errors {
        // The reason may quote what stands there.
        line(&["(not read: line ", &e.line.to_string(), ")"].concat());
    }
}

/// The members of a JSON value that are known, a line each; lists of plain values on one line.
pub fn json(value: &Value, depth: usize, given: bool, line: &mut dyn FnMut(&str)) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let plain = plain(value);
                if !(shown(name) || given && plain.is_none()) {
                    continue;
                }
                match plain {
                    Some(text) => line(&[&indent, name, ": ", &text].concat()),
                    None => {
                        line(&[&indent, name, ":"].concat());
                        json(value, depth + 1, GIVEN.contains(&name.as_str()), line);
                    }
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                line(&[&indent, "-"].concat());
                json(value, depth + 1, false, line);
            }
        }
        plain => line(&[&indent, plain.to_string().as_str()].concat()),
    }
}

/// A value that fits a line.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => map.is_empty().then(|| "none".to_string()),
        Value::Array(list) => {
            let mut all = String::new();
            for value in list {
                all += if all.is_empty() { "" } else { ", " };
                all += &plain(value)?;
            }
            Some(all)
        }
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
