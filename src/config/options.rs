//! The one table of options: it drives reading, checking, `docs/options.md` and the shipped file.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::values::{integer, seconds, Cure, ExternalIp, Mark, Target, Url};
use super::Settings;

/// Where in the settings a value goes.
type At<T> = fn(&mut Settings) -> &mut T;

/// One option of the section `config tailover 'main'`.
pub struct Opt {
    /// Its name in the file.
    pub name: &'static str,
    /// What it can hold.
    pub kind: Kind,
    /// Its default, as it would be written; one element unless the kind is a list.
    pub default: &'static [&'static str],
    /// One line on what it does.
    pub help: &'static str,
    /// The first version that knows it.
    pub since: &'static str,
}

/// What an option can hold, and where it goes.
pub enum Kind {
    /// On or off.
    Switch(At<bool>),
    /// A log level.
    Level(At<LevelFilter>),
    /// Seconds within `min..=max`, with up to three decimals.
    Seconds {
        /// The smallest.
        min: Duration,
        /// The largest.
        max: Duration,
        /// Its place.
        at: At<Duration>,
    },
    /// A whole number within `min..=max`.
    Number {
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
        /// Its place.
        at: At<u32>,
    },
    /// A mark and its mask.
    Mark(At<Mark>),
    /// Bits of a mark, not none.
    Mask(At<u32>),
    /// The name of a script in /etc/init.d.
    Service(At<String>),
    /// An absolute path of a unix socket.
    Socket(At<PathBuf>),
    /// An absolute path.
    Path(At<PathBuf>),
    /// An absolute path, or nothing.
    OptionalPath(At<Option<PathBuf>>),
    /// A list of names of netifd's interfaces or of devices.
    Uplinks(At<Vec<String>>),
    /// A list of targets.
    Targets(At<Vec<Target>>),
    /// A list of ways to learn the public address.
    ExternalIps(At<Vec<ExternalIp>>),
    /// A set of cures, kept mildest first.
    Cures(At<Vec<Cure>>),
}

/// The largest number of uplinks, each with a routing table of its own. mwan3 has at most 60.
pub const TABLES: u32 = 64;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The longest path that fits into a `sockaddr_un` with its final zero byte (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;

/// The longest path that the kernel takes (PATH_MAX with its final zero byte), in bytes.
pub const PATH_MAX: usize = 4095;

/// A probe that takes less than this cannot be told from one that was never sent.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

const fn timeout(at: At<Duration>) -> Kind {
    Kind::Seconds {
        min: TIMEOUT_MIN,
        max: Duration::from_secs(60),
        at,
    }
}

/// Every option, in the order in which the docs and the shipped file show them.
pub const OPTIONS: &[Opt] = &[
    Opt {
        name: "enabled",
        kind: Kind::Switch(|s| &mut s.enabled),
        default: &["1"],
        help: "Whether the service runs at all.",
        since: "0.1",
    },
    Opt {
        name: "log_level",
        kind: Kind::Level(|s| &mut s.log_level),
        default: &["info"],
        help: "How much is logged; info is one line for each act.",
        since: "0.1",
    },
    Opt {
        name: "uplink",
        kind: Kind::Uplinks(|s| &mut s.uplinks),
        default: &[],
        help: "Interfaces or devices that lead outside, best first; empty: every one with a default route.",
        since: "0.1",
    },
    Opt {
        name: "metered",
        kind: Kind::Uplinks(|s| &mut s.metered),
        default: &[],
        help: "Interfaces or devices that cost by volume: chosen last, asked seldom and with few bytes.",
        since: "0.1",
    },
    Opt {
        name: "target",
        kind: Kind::Targets(|s| &mut s.targets),
        default: &["derp", "tcp:8.8.8.8:53", "tcp:1.1.1.1:53"],
        help: "Whose answer proves an uplink open; all are asked side by side, any answer counts.",
        since: "0.1",
    },
    Opt {
        name: "external_ip",
        kind: Kind::ExternalIps(|s| &mut s.external_ip),
        default: &["stun", "https://api.ipify.org?format=json"],
        help: "How to learn an uplink's public address, whose change is itself a trigger.",
        since: "0.1",
    },
    Opt {
        name: "interval",
        kind: Kind::Seconds {
            min: SECOND,
            max: HOUR,
            at: |s| &mut s.interval,
        },
        default: &["30"],
        help: "Seconds after the last proof until the path that the tailnet's packets take now is asked.",
        since: "0.1",
    },
    Opt {
        name: "other_interval",
        kind: Kind::Seconds {
            min: SECOND,
            max: DAY,
            at: |s| &mut s.other_interval,
        },
        default: &["300"],
        help: "Seconds between two looks at an uplink that is not in use.",
        since: "0.1",
    },
    Opt {
        name: "settle",
        kind: Kind::Seconds {
            min: Duration::ZERO,
            max: Duration::from_secs(10),
            at: |s| &mut s.settle,
        },
        default: &["0.2"],
        help: "Seconds to wait for the rest of a burst of events before looking.",
        since: "0.1",
    },
    Opt {
        name: "probe_timeout",
        kind: timeout(|s| &mut s.probe_timeout),
        default: &["2"],
        help: "Seconds that a round of datagrams (STUN) may take.",
        since: "0.1",
    },
    Opt {
        name: "tcp_timeout",
        kind: timeout(|s| &mut s.tcp_timeout),
        default: &["3"],
        help: "Seconds that a TCP connection may take to open.",
        since: "0.1",
    },
    Opt {
        name: "tls_timeout",
        kind: timeout(|s| &mut s.tls_timeout),
        default: &["5"],
        help: "Seconds that a TLS handshake may take, the TCP connection included.",
        since: "0.1",
    },
    Opt {
        name: "http_timeout",
        kind: timeout(|s| &mut s.http_timeout),
        default: &["5"],
        help: "Seconds that an HTTP request may take, everything included.",
        since: "0.1",
    },
    Opt {
        name: "hold",
        kind: Kind::Seconds {
            min: Duration::ZERO,
            max: DAY,
            at: |s| &mut s.hold,
        },
        default: &["30"],
        help: "Seconds that a better uplink must be open without a break before going back to it.",
        since: "0.1",
    },
    Opt {
        name: "cure",
        kind: Kind::Cures(|s| &mut s.cures),
        default: &["steer", "nudge", "renew", "mend", "restart"],
        help: "The cures that are allowed; the mildest that fits comes first in any case.",
        since: "0.1",
    },
    Opt {
        name: "restart_min",
        kind: Kind::Seconds {
            min: SECOND,
            max: DAY,
            at: |s| &mut s.restart_min,
        },
        default: &["60"],
        help: "Seconds from one restart to the next at first; doubled each time.",
        since: "0.1",
    },
    Opt {
        name: "restart_max",
        kind: Kind::Seconds {
            min: SECOND,
            max: DAY,
            at: |s| &mut s.restart_max,
        },
        default: &["3600"],
        help: "Seconds from one restart to the next at most.",
        since: "0.1",
    },
    Opt {
        name: "restarts_per_hour",
        kind: Kind::Number {
            min: 0,
            max: 60,
            at: |s| &mut s.restarts_per_hour,
        },
        default: &["3"],
        help: "The most restarts within any hour.",
        since: "0.1",
    },
    Opt {
        name: "service",
        kind: Kind::Service(|s| &mut s.service),
        default: &["tailscale"],
        help: "The script in /etc/init.d that runs tailscaled.",
        since: "0.1",
    },
    Opt {
        name: "socket",
        kind: Kind::Socket(|s| &mut s.socket),
        default: &["/var/run/tailscale/tailscaled.sock"],
        help: "The socket of tailscaled's LocalAPI.",
        since: "0.1",
    },
    Opt {
        name: "ubus_socket",
        kind: Kind::Socket(|s| &mut s.ubus_socket),
        default: &["/var/run/ubus/ubus.sock"],
        help: "The socket of ubusd.",
        since: "0.1",
    },
    Opt {
        name: "mark",
        kind: Kind::Mark(|s| &mut s.mark),
        default: &["0x80000/0xff0000"],
        help: "The mark on tailscaled's own packets.",
        since: "0.1",
    },
    Opt {
        name: "mmx_mask",
        kind: Kind::Mask(|s| &mut s.mmx_mask),
        default: &["0x3f00"],
        help: "The bits of the mark that mwan3 uses; at the default mwan3's own globals are read.",
        since: "0.1",
    },
    Opt {
        name: "priority",
        kind: Kind::Number {
            // The rules take priority - 2 to priority + 1. 0 is the kernel's; mwan3's stop deletes
            // 1000 to 3999.
            min: 3,
            max: 998,
            at: |s| &mut s.priority,
        },
        default: &["990"],
        help: "The third of the four ip rule priorities in use.",
        since: "0.1",
    },
    Opt {
        name: "table",
        kind: Kind::Number {
            // 253 to 255 are the kernel's, 1 to 252 mwan3's, 52 is tailscale's.
            min: 256,
            max: 65_000,
            at: |s| &mut s.table,
        },
        default: &["17400"],
        help: "The first of the 64 routing tables in use, one for each uplink.",
        since: "0.1",
    },
    Opt {
        name: "protocol",
        kind: Kind::Number {
            // Below and above, iproute2's rt_protos gives most numbers to routing daemons.
            min: 100,
            max: 185,
            at: |s| &mut s.protocol,
        },
        default: &["122"],
        help: "The protocol number that marks rules and routes as tailover's.",
        since: "0.1",
    },
    Opt {
        name: "state_dir",
        kind: Kind::Path(|s| &mut s.state_dir),
        default: &["/var/run/tailover"],
        help: "Where the lock against a second daemon and the history are; on a router this is RAM.",
        since: "0.1",
    },
    Opt {
        name: "history",
        kind: Kind::OptionalPath(|s| &mut s.history),
        default: &[],
        help: "A copy of the history that outlives a reboot, written at the end and every 6 hours at most; empty: none.",
        since: "0.1",
    },
    Opt {
        name: "ca_file",
        kind: Kind::OptionalPath(|s| &mut s.ca_file),
        default: &[],
        help: "The CA certificates to trust, in PEM; empty: the system's.",
        since: "0.1",
    },
];

/// The option of that name.
pub fn find(name: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.name == name)
}

impl Kind {
    /// Whether the option takes `list` lines.
    pub fn is_list(&self) -> bool {
        matches!(
            self,
            Kind::Uplinks(_) | Kind::Targets(_) | Kind::ExternalIps(_) | Kind::Cures(_)
        )
    }

    /// What is allowed, in words that fit after "allowed: ".
    pub fn allowed(&self) -> String {
        match self {
            Kind::Switch(_) => "1 or 0, also on/off, yes/no, true/false, enabled/disabled".into(),
            Kind::Level(_) => "error, warn, info, debug or trace".into(),
            Kind::Seconds { min, max, .. } => {
                format!(
                    "seconds from {} to {}, with at most three decimals",
                    min.as_secs_f64(),
                    max.as_secs_f64()
                )
            }
            Kind::Number { min, max, .. } => format!("a whole number from {min} to {max}"),
            Kind::Mark(_) => {
                "VALUE/MASK such as 0x80000/0xff0000, VALUE not 0 and within MASK".into()
            }
            Kind::Mask(_) => "a number other than 0, such as 0x3f00".into(),
            Kind::Service(_) => {
                "the name of a script in /etc/init.d: letters, digits, _, . and -".into()
            }
            Kind::Socket(_) => {
                format!(
                    "an absolute path of at most {SOCKET_PATH_MAX} bytes, no control characters"
                )
            }
            Kind::Path(_) => "an absolute path, no control characters".into(),
            Kind::OptionalPath(_) => "an absolute path, no control characters, or nothing".into(),
            Kind::Uplinks(_) => {
                "names of interfaces or devices: 1 to 64 characters, no blanks, no /".into()
            }
            Kind::Targets(_) => {
                "derp, tcp:HOST:PORT, http:URL or https:URL, an IPv6 address in brackets".into()
            }
            Kind::ExternalIps(_) => "stun, an http or https URL, or off alone".into(),
            Kind::Cures(_) => "steer, nudge, renew, mend or restart".into(),
        }
    }

    /// Takes a list's default away, so that the file's values replace it.
    pub(super) fn clear(&self, settings: &mut Settings) {
        match self {
            Kind::Uplinks(at) => at(settings).clear(),
            Kind::Targets(at) => at(settings).clear(),
            Kind::ExternalIps(at) => at(settings).clear(),
            Kind::Cures(at) => at(settings).clear(),
            _ => {}
        }
    }

    /// Puts one value into the settings, or appends it to the list. `None`: it is not allowed, and
    /// nothing was changed. A value that a list has already is not added again.
    pub(super) fn put(&self, settings: &mut Settings, text: &str) -> Option<()> {
        match self {
            Kind::Switch(at) => *at(settings) = switch(text)?,
            Kind::Level(at) => *at(settings) = level(text)?,
            Kind::Seconds { min, max, at } => {
                *at(settings) = seconds(text).filter(|value| (min..=max).contains(&value))?;
            }
            Kind::Number { min, max, at } => {
                *at(settings) = integer(text).filter(|value| (min..=max).contains(&value))?;
            }
            Kind::Mark(at) => *at(settings) = Mark::parse(text)?,
            Kind::Mask(at) => *at(settings) = integer(text).filter(|mask| *mask != 0)?,
            Kind::Service(at) => *at(settings) = name(text)?,
            Kind::Socket(at) => {
                *at(settings) = path(text).filter(|_| text.len() <= SOCKET_PATH_MAX)?;
            }
            Kind::Path(at) => *at(settings) = path(text)?,
            Kind::OptionalPath(at) => *at(settings) = Some(path(text)?),
            Kind::Uplinks(at) => push(at(settings), interface(text)?),
            Kind::Targets(at) => push(at(settings), Target::parse(text)?),
            Kind::ExternalIps(at) => match text {
                "off" => {}
                "stun" => push(at(settings), ExternalIp::Stun),
                _ => push(at(settings), ExternalIp::Http(Url::parse(text)?)),
            },
            Kind::Cures(at) => {
                let cures = at(settings);
                push(cures, Cure::parse(text)?);
                cures.sort_unstable();
            }
        }
        Some(())
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// The words that OpenWrt's `config_get_bool` takes (`/lib/functions.sh`).
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "on" | "yes" | "true" | "enabled" => Some(true),
        "0" | "off" | "no" | "false" | "disabled" => Some(false),
        _ => None,
    }
}

fn level(text: &str) -> Option<LevelFilter> {
    match text {
        "error" => Some(LevelFilter::Error),
        "warn" => Some(LevelFilter::Warn),
        "info" => Some(LevelFilter::Info),
        "debug" => Some(LevelFilter::Debug),
        "trace" => Some(LevelFilter::Trace),
        _ => None,
    }
}

/// A name that is safe as a part of a path and as an argument of a program.
fn name(text: &str) -> Option<String> {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let good =
        (1..=64).contains(&text.len()) && !text.starts_with(['-', '.']) && text.bytes().all(usual);
    good.then(|| text.to_owned())
}

/// A name of an interface or a device. The kernel takes almost anything in at most 15 bytes
/// (net/core/dev.c, dev_valid_name); netifd's names are those of UCI sections and may be longer.
fn interface(text: &str) -> Option<String> {
    let usual = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    let good = (1..=64).contains(&text.len()) && text.bytes().all(usual);
    good.then(|| text.to_owned())
}

fn path(text: &str) -> Option<PathBuf> {
    let good = text.starts_with('/') && text.len() <= PATH_MAX && !text.contains(char::is_control);
    good.then(|| PathBuf::from(text))
}
