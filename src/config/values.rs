//! The typed values that options can have, each read from and written as its text.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A host in a target or URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Needs no name resolution.
    Ip(IpAddr),
    /// A DNS name, in lower case, without a final dot.
    Name(String),
}

impl Host {
    /// Reads a name, an IPv4 literal, or an IPv6 literal in brackets. `None`: none of them.
    ///
    /// The unspecified addresses are refused: the kernel connects them to the router itself, which
    /// would make every uplink look open.
    pub fn parse(text: &str) -> Option<Host> {
        let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let ip = match bracketed {
            Some(inner) => Some(IpAddr::V6(inner.parse().ok()?)),
            None => text.parse().ok().map(IpAddr::V4),
        };
        if let Some(ip) = ip {
            return (!ip.is_unspecified()).then_some(Host::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        // A last label of digits alone is a mistyped IPv4 address (RFC 3696, section 2).
        let last = name.rsplit('.').next().unwrap_or("");
        let well_formed = name.len() <= 253
            && name.split('.').all(label)
            && !last.bytes().all(|byte| byte.is_ascii_digit());
        well_formed.then(|| Host::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// An `http` or `https` URL, taken apart. It has no user, password or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https`.
    pub tls: bool,
    /// Whom to ask.
    pub host: Host,
    /// 80 or 443 unless the URL names one.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH]` or `https://…`. `None`: it is no such URL.
    pub fn parse(text: &str) -> Option<Url> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            (true, text.strip_prefix("https://")?)
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['#', '@']) {
            return None;
        }
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let (host, port) = match split_port(authority) {
            Some((host, port)) => (host, port_number(port)?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        Some(Url {
            tls,
            host: Host::parse(host)?,
            port,
            path,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.tls {
            ("https", 443)
        } else {
            ("http", 80)
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

/// Something beyond the uplinks whose answer proves that an uplink is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The nodes of tailscaled's own DERP map.
    Derp,
    /// A TCP connection that opens.
    Tcp {
        /// Whom to connect to.
        host: Host,
        /// Not 0.
        port: u16,
    },
    /// An HTTP or HTTPS server that answers.
    Http(Url),
}

impl Target {
    /// Reads `derp`, `tcp:HOST:PORT`, `http:URL` or `https:URL`; the URL may stand alone.
    pub fn parse(text: &str) -> Option<Target> {
        if text == "derp" {
            return Some(Target::Derp);
        }
        if let Some(rest) = text.strip_prefix("tcp:") {
            let (host, port) = split_port(rest)?;
            return Some(Target::Tcp {
                host: Host::parse(host)?,
                port: port_number(port)?,
            });
        }
        // `http:http://…` is the form of the other kinds, `http://…` what everybody will write.
        let url = match text.split_once(':') {
            Some((scheme, url)) if url.starts_with(&format!("{scheme}://")) => url,
            _ => text,
        };
        Url::parse(url).map(Target::Http)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Derp => f.write_str("derp"),
            Target::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Target::Http(url) => url.fmt(f),
        }
    }
}

/// A way to learn the public address of an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExternalIp {
    /// By STUN, from the DERP map's nodes.
    Stun,
    /// From a server that answers `{"ip":"…"}` or the bare address as text.
    Http(Url),
}

/// What may be done to bring the tailnet back, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Move tailscaled's packets to a live uplink.
    Steer,
    /// Ask tailscaled to look at its paths again.
    Nudge,
    /// Have tailscaled make a new control connection.
    Renew,
    /// Put lost rules and routes of tailscaled's back.
    Mend,
    /// Restart the service.
    Restart,
}

impl Cure {
    /// Every cure, mildest first.
    pub const ALL: [Cure; 5] = [
        Cure::Steer,
        Cure::Nudge,
        Cure::Renew,
        Cure::Mend,
        Cure::Restart,
    ];

    /// The word in the config file and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Cure::Steer => "steer",
            Cure::Nudge => "nudge",
            Cure::Renew => "renew",
            Cure::Mend => "mend",
            Cure::Restart => "restart",
        }
    }

    /// Reads the word that [`Cure::name`] writes.
    pub fn parse(text: &str) -> Option<Cure> {
        Cure::ALL.into_iter().find(|cure| cure.name() == text)
    }
}

/// A firewall mark and the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Not 0, and no bit outside `mask`.
    pub value: u32,
    /// Not 0.
    pub mask: u32,
}

impl Mark {
    /// Reads `VALUE/MASK`, each in decimal or as `0x…`.
    pub fn parse(text: &str) -> Option<Mark> {
        let (value, mask) = text.split_once('/')?;
        let (value, mask) = (integer(value)?, integer(mask)?);
        (value != 0 && value & !mask == 0).then_some(Mark { value, mask })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// A whole number in decimal or as `0x…`, without sign or blanks.
pub(crate) fn integer(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// Seconds with up to three decimals. Binary fractions are kept out so that `0.2` is exactly that.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let milliseconds: u64 = format!("{fraction:0<3}").parse().ok()?;
    Duration::from_secs(whole).checked_add(Duration::from_millis(milliseconds))
}

/// The port, when there is one: the last colon that is not inside brackets.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
}

fn port_number(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}
