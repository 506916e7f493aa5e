//! What tailscaled says, as plain data, read by hand from JSON.
//!
//! Only fields that something here looks at. A missing field or one of a surprising type reads as
//! its zero value, as it would in Go: versions differ, and one odd field must not blind us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::http::CertCheck;
use serde_json::Value;

/// ipn.State. On the bus it is the number, in the status the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    NoState,
    InUseOtherUser,
    NeedsLogin,
    NeedsMachineAuth,
    Stopped,
    Starting,
    Running,
    /// One that is newer than this list.
    Unknown,
}

impl BackendState {
    const ALL: [(Self, &'static str); 7] = [
        (Self::NoState, "NoState"),
        (Self::InUseOtherUser, "InUseOtherUser"),
        (Self::NeedsLogin, "NeedsLogin"),
        (Self::NeedsMachineAuth, "NeedsMachineAuth"),
        (Self::Stopped, "Stopped"),
        (Self::Starting, "Starting"),
        (Self::Running, "Running"),
    ];

    fn from_name(name: &str) -> Self {
        let found = Self::ALL.iter().find(|(_, n)| *n == name);
        found.map_or(Self::Unknown, |(state, _)| *state)
    }

    fn from_number(number: u64) -> Self {
        let found = usize::try_from(number).ok().and_then(|n| Self::ALL.get(n));
        found.map_or(Self::Unknown, |(state, _)| *state)
    }

    /// The name tailscaled uses.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(state, _)| *state == self);
        found.map_or("Unknown", |(_, name)| name)
    }
}

/// GET status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub backend: BackendState,
    pub version: String,
    /// Whether there is a kernel device. Without one (userspace networking) tailscaled sets no
    /// marks, and nothing can be steered.
    pub tun: bool,
    /// Whether a map poll to the control server is open. Stays true for 76 to 110 s on a dead
    /// path; always false in builds without health. `None` when there is no self node.
    pub online: Option<bool>,
    /// Code of the home DERP region, empty if none.
    pub relay: String,
    /// Endpoints this node announces, public and local.
    pub addrs: Vec<SocketAddr>,
    pub tailscale_ips: Vec<IpAddr>,
    /// The node key has expired: only a login helps.
    pub key_expired: bool,
    /// The warnings in words, as `tailscale status` shows them.
    pub health: Vec<String>,
    /// Empty when asked for without peers.
    pub peers: Vec<Peer>,
}

/// A peer in the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// DNS name without the last dot, or the host name.
    pub name: String,
    pub ips: Vec<IpAddr>,
    /// Networks routed to it, as `ADDRESS/BITS`: its own addresses and its accepted routes.
    pub allowed_ips: Vec<String>,
    /// The direct path in use, if one is.
    pub cur_addr: Option<SocketAddr>,
    /// Code of the DERP region it is reached by.
    pub relay: String,
    pub online: bool,
    /// Traffic went either way within the last two minutes.
    pub active: bool,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// RFC 3339; `None` if there was none since tailscaled started.
    pub last_handshake: Option<String>,
    pub last_write: Option<String>,
}

impl Status {
    /// Reads the answer to GET status. `None` if it is no object.
    pub fn from_json(json: &Value) -> Option<Self> {
        json.as_object()?;
        let own = &json["Self"];
        Some(Self {
            backend: BackendState::from_name(text(&json["BackendState"])),
            version: text(&json["Version"]).into(),
            tun: flag(&json["TUN"]),
            online: own["Online"].as_bool(),
            relay: text(&own["Relay"]).into(),
            addrs: parsed(&own["Addrs"]),
            tailscale_ips: parsed(&json["TailscaleIPs"]),
            key_expired: flag(&own["Expired"]),
            health: texts(&json["Health"]),
            peers: values(&json["Peer"]).map(Peer::from_json).collect(),
        })
    }
}

impl Peer {
    pub(super) fn from_json(json: &Value) -> Self {
        let dns_name = text(&json["DNSName"]).trim_end_matches('.');
        let host_name = text(&json["HostName"]);
        let name = if dns_name.is_empty() {
            host_name
        } else {
            dns_name
        };
        Self {
            name: name.into(),
            ips: parsed(&json["TailscaleIPs"]),
            allowed_ips: texts(&json["AllowedIPs"]),
            cur_addr: text(&json["CurAddr"]).parse().ok(),
            relay: text(&json["Relay"]).into(),
            online: flag(&json["Online"]),
            active: flag(&json["Active"]),
            rx_bytes: count(&json["RxBytes"]),
            tx_bytes: count(&json["TxBytes"]),
            last_handshake: time(&json["LastHandshake"]),
            last_write: time(&json["LastWrite"]),
        }
    }
}

/// GET prefs: what the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefs {
    /// Empty means the default server.
    pub control_url: String,
    /// `tailscale up` (true) or `down`.
    pub want_running: bool,
    pub logged_out: bool,
    /// Accepts the subnet routes of others.
    pub route_all: bool,
    /// `ADDRESS/BITS`.
    pub advertise_routes: Vec<String>,
    /// 0 off, 1 no divert, 2 on.
    pub netfilter_mode: u64,
    /// What comes from the tailnet keeps its source in the advertised networks.
    pub no_snat: bool,
    /// An exit node is set: the default route of the router's LAN goes into the tailnet.
    pub exit_node: bool,
}

impl Prefs {
    /// Reads the answer to GET prefs. `None` if it is no object.
    pub fn from_json(json: &Value) -> Option<Self> {
        json.as_object()?;
        Some(Self {
            control_url: text(&json["ControlURL"]).into(),
            want_running: flag(&json["WantRunning"]),
            logged_out: flag(&json["LoggedOut"]),
            route_all: flag(&json["RouteAll"]),
            advertise_routes: texts(&json["AdvertiseRoutes"]),
            netfilter_mode: count(&json["NetfilterMode"]),
            no_snat: flag(&json["NoSNAT"]),
            exit_node: !text(&json["ExitNodeID"]).is_empty()
                || !text(&json["ExitNodeIP"]).is_empty(),
        })
    }
}

/// GET derpmap: the relays, as a flat list in the order of their regions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DerpMap {
    pub nodes: Vec<DerpNode>,
}

/// One relay (tailcfg.DERPNode).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerpNode {
    pub region: u64,
    pub name: String,
    pub hostname: String,
    /// Empty: the certificate is for the host name.
    pub cert_name: String,
    /// With neither address the host name must be looked up.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// `None`: it speaks no STUN.
    pub stun_port: Option<u16>,
    pub derp_port: u16,
    /// Speaks STUN only, no DERP.
    pub stun_only: bool,
    /// Answers `generate_204` on port 80. Elsewhere silence there means nothing.
    pub can_port80: bool,
    /// Its certificate is not to be checked.
    pub insecure_for_tests: bool,
}

impl DerpMap {
    /// Reads the answer to GET derpmap. `None` if it is no object.
    pub fn from_json(json: &Value) -> Option<Self> {
        json.as_object()?;
        let mut nodes: Vec<DerpNode> = values(&json["Regions"])
            .flat_map(|region| values(&region["Nodes"]))
            .map(DerpNode::from_json)
            .collect();
        nodes.sort_by_key(|node| node.region);
        Some(Self { nodes })
    }
}

impl DerpNode {
    fn from_json(json: &Value) -> Self {
        // 0 is the default; a negative STUN port means none (tailcfg.DERPNode).
        let port = |value: &Value, default| match value.as_i64() {
            None | Some(0) => Some(default),
            Some(number) => u16::try_from(number).ok(),
        };
        Self {
            region: count(&json["RegionID"]),
            name: text(&json["Name"]).into(),
            hostname: text(&json["HostName"]).into(),
            cert_name: text(&json["CertName"]).into(),
            // Empty or `none`, which is no address either way.
            ipv4: text(&json["IPv4"]).parse().ok(),
            ipv6: text(&json["IPv6"]).parse().ok(),
            stun_port: port(&json["STUNPort"], 3478),
            derp_port: port(&json["DERPPort"], 443).unwrap_or(443),
            stun_only: flag(&json["STUNOnly"]),
            can_port80: flag(&json["CanPort80"]),
            insecure_for_tests: flag(&json["InsecureForTests"]),
        }
    }

    /// What its certificate must show, by the rules of tailscale's own DERP client
    /// (derp/derphttp, tlsConfig).
    pub fn cert_check(&self) -> CertCheck {
        if self.insecure_for_tests {
            return CertCheck::Anything;
        }
        match self.cert_name.strip_prefix("sha256-raw:") {
            Some(hash) => CertCheck::Sha256(hash.to_ascii_lowercase()),
            None if self.cert_name.is_empty() => CertCheck::Host,
            None => CertCheck::Name(self.cert_name.clone()),
        }
    }
}

/// One message of the bus. What a message does not speak of is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notify {
    pub state: Option<BackendState>,
    pub engine: Option<Engine>,
    pub prefs: Option<Prefs>,
    pub err_message: Option<String>,
    /// All warnings there are now; an empty list means that all is well.
    pub health: Option<Vec<Warning>>,
    /// The endpoints this node announces now.
    pub endpoints: Option<Vec<SocketAddr>>,
}

/// ipn.EngineStatus: the data plane's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine {
    /// Bytes received from all peers. Standing still while `tx` grows is the first sign of a dead
    /// path, seconds before anything else.
    pub rx: u64,
    pub tx: u64,
    pub live_peers: u64,
    /// DERP connections open, alive or not.
    pub live_derps: u64,
}

/// A health warning. The text is for people; nothing is cured on it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `mapresponse-timeout` and the like.
    pub code: String,
    /// `low`, `medium` or `high`.
    pub severity: String,
    pub text: String,
}

impl Notify {
    /// Reads one line of the bus. `None` if it is no JSON object.
    pub fn from_line(line: &[u8]) -> Option<Self> {
        let json: &Value = &serde_json::from_slice(line).ok()?;
        json.as_object()?;
        let engine = &json["Engine"];
        let health = &json["Health"];
        let own = &json["SelfChange"];
        Some(Self {
            state: json["State"].as_u64().map(BackendState::from_number),
            engine: engine.is_object().then(|| Engine {
                rx: count(&engine["RBytes"]),
                tx: count(&engine["WBytes"]),
                live_peers: count(&engine["NumLive"]),
                live_derps: count(&engine["LiveDERPs"]),
            }),
            prefs: Prefs::from_json(&json["Prefs"]),
            err_message: json["ErrMessage"].as_str().map(Into::into),
            health: health.is_object().then(|| {
                let warnings = values(&health["Warnings"]).map(|warning| Warning {
                    code: text(&warning["WarnableCode"]).into(),
                    severity: text(&warning["Severity"]).into(),
                    text: text(&warning["Text"]).into(),
                });
                warnings.collect()
            }),
            endpoints: own.is_object().then(|| parsed(&own["Endpoints"])),
        })
    }
}

/// POST ping: what a ping found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// Empty if the peer answered.
    pub err: String,
    /// The direct path that answered; `None` by DERP.
    pub endpoint: Option<SocketAddr>,
    /// Code of the DERP region that carried it, empty if direct.
    pub derp_region: String,
}

impl Ping {
    /// Reads the answer to POST ping. `None` if it is no object.
    pub fn from_json(json: &Value) -> Option<Self> {
        json.as_object()?;
        Some(Self {
            err: text(&json["Err"]).into(),
            endpoint: text(&json["Endpoint"]).parse().ok(),
            derp_region: text(&json["DERPRegionCode"]).into(),
        })
    }
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_default()
}

fn flag(json: &Value) -> bool {
    json.as_bool().unwrap_or_default()
}

fn count(json: &Value) -> u64 {
    json.as_u64().unwrap_or_default()
}

/// A time, `None` for Go's zero time.
fn time(json: &Value) -> Option<String> {
    let text = json.as_str()?;
    (!text.starts_with("0001-")).then(|| text.into())
}

/// The members of an array or the values of an object.
fn values(json: &Value) -> impl Iterator<Item = &Value> {
    let list = json.as_array().map(Vec::as_slice).unwrap_or_default();
    let object = json
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::values);
    list.iter().chain(object)
}

fn texts(json: &Value) -> Vec<String> {
    values(json)
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect()
}

/// The members that read as a `T`.
fn parsed<T: std::str::FromStr>(json: &Value) -> Vec<T> {
    values(json)
        .filter_map(|value| value.as_str()?.parse().ok())
        .collect()
}
