//! Rules, routes, links and addresses of the kernel by rtnetlink(7), and a monitor of their changes.
//!
//! Requests are synchronous: the kernel answers them before it returns to us, in well under a
//! millisecond on tables of a router's size. Only the [`Monitor`] waits, and it is async.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netlink_sys::{protocols::NETLINK_ROUTE, Socket, SocketAddr};
use rustix::io::Errno;
use smol::Async;
use socket2::SockRef;

use super::nlmsg::{attrs, messages, text, u32_at, Builder, Message};

/// The protocol number on every rule and route of ours (FRA_PROTOCOL, RTPROT). 128 to 255 are for
/// everyone, below are the well-known ones; 0x7a is unassigned (linux/rtnetlink.h).
pub const PROTOCOL: u8 = 0x7a;
/// RT_TABLE_MAIN.
pub const TABLE_MAIN: u32 = 254;

/// Numbers of the kernel's interface: linux/netlink.h, rtnetlink.h, fib_rules.h, if_link.h,
/// if_addr.h. They are the same on every CPU.
mod uapi {
    pub const NLMSG_ERROR: u16 = 2;
    pub const NLMSG_DONE: u16 = 3;
    pub const NLM_F_REQUEST: u16 = 1;
    pub const NLM_F_ACK: u16 = 4;
    pub const NLM_F_DUMP_INTR: u16 = 0x10;
    pub const NLM_F_DUMP: u16 = 0x300;
    pub const NLM_F_REPLACE: u16 = 0x100;
    pub const NLM_F_EXCL: u16 = 0x200;
    pub const NLM_F_CREATE: u16 = 0x400;

    pub const RTM_NEWLINK: u16 = 16;
    pub const RTM_DELLINK: u16 = 17;
    pub const RTM_GETLINK: u16 = 18;
    pub const RTM_NEWADDR: u16 = 20;
    pub const RTM_DELADDR: u16 = 21;
    pub const RTM_GETADDR: u16 = 22;
    pub const RTM_NEWROUTE: u16 = 24;
    pub const RTM_DELROUTE: u16 = 25;
    pub const RTM_GETROUTE: u16 = 26;
    pub const RTM_NEWRULE: u16 = 32;
    pub const RTM_DELRULE: u16 = 33;
    pub const RTM_GETRULE: u16 = 34;

    pub const RTNLGRP: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

    pub const AF_INET: u8 = 2;
    pub const AF_INET6: u8 = 10;

    pub const FRA_DST: u16 = 1;
    pub const FRA_SRC: u16 = 2;
    pub const FRA_IIFNAME: u16 = 3;
    pub const FRA_PRIORITY: u16 = 6;
    pub const FRA_FWMARK: u16 = 10;
    pub const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
    pub const FRA_TABLE: u16 = 15;
    pub const FRA_FWMASK: u16 = 16;
    pub const FRA_OIFNAME: u16 = 17;
    pub const FRA_PROTOCOL: u16 = 21;
    pub const FIB_RULE_INVERT: u32 = 2;

    pub const RTA_DST: u16 = 1;
    pub const RTA_SRC: u16 = 2;
    pub const RTA_OIF: u16 = 4;
    pub const RTA_GATEWAY: u16 = 5;
    pub const RTA_PRIORITY: u16 = 6;
    pub const RTA_PREFSRC: u16 = 7;
    pub const RTA_MULTIPATH: u16 = 9;
    pub const RTA_TABLE: u16 = 15;
    pub const RTA_MARK: u16 = 16;
    pub const RTA_VIA: u16 = 18;
    pub const RTM_F_CLONED: u32 = 0x200;
    pub const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
    pub const RTNH_F_ONLINK: u32 = 4;
    pub const RT_SCOPE_UNIVERSE: u8 = 0;
    pub const RT_SCOPE_NOWHERE: u8 = 255;

    pub const IFLA_IFNAME: u16 = 3;
    pub const IFLA_OPERSTATE: u16 = 16;
    pub const IFLA_CARRIER: u16 = 33;
    pub const IFF_UP: u32 = 1;

    pub const IFA_ADDRESS: u16 = 1;
    pub const IFA_LOCAL: u16 = 2;
    pub const IFA_FLAGS: u16 = 8;
    pub const IFA_F_DEPRECATED: u32 = 0x20;
    pub const IFA_F_TENTATIVE: u32 = 0x40;
}
use uapi::*;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        match number {
            AF_INET => Some(Self::V4),
            AF_INET6 => Some(Self::V6),
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address and a prefix length in bits.
pub type Prefix = (IpAddr, u8);

/// What a rule does with a packet that matches. The numbers are FR_ACT_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Table(u32),
    Blackhole,
    Unreachable,
    Prohibit,
    /// Goto, nop or something newer.
    Other(u8),
}

impl Action {
    fn number(self) -> u8 {
        match self {
            Self::Table(_) => 1,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u8, table: u32) -> Self {
        match number {
            1 => Self::Table(table),
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            other => Self::Other(other),
        }
    }
}

/// A policy rule, as `ip rule` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub family: Family,
    /// `pref`; lower is asked first.
    pub priority: u32,
    pub from: Option<Prefix>,
    pub to: Option<Prefix>,
    pub iif: Option<String>,
    pub oif: Option<String>,
    /// Mark and mask. A mask of all ones is what `fwmark N` alone means.
    pub mark: Option<(u32, u32)>,
    /// `suppress_prefixlength`: routes with a prefix this long or shorter do not count.
    pub suppress_prefixlength: Option<u32>,
    /// `not`: matches what the selectors do not.
    pub invert: bool,
    pub action: Action,
    /// FRA_PROTOCOL: who put it there; [`PROTOCOL`] is us.
    pub protocol: u8,
}

impl Rule {
    /// A rule of ours that sends everything of a family to a table. Narrow it by its fields.
    pub fn to_table(family: Family, priority: u32, table: u32) -> Self {
        Self {
            family,
            priority,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            suppress_prefixlength: None,
            invert: false,
            action: Action::Table(table),
            protocol: PROTOCOL,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.family, self.priority)
    }
}

/// What a route does with a packet. The numbers are RTN_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    Local,
    Blackhole,
    Unreachable,
    Prohibit,
    /// Go on with the next rule.
    Throw,
    Other(u8),
}

impl RouteKind {
    fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Throw => 9,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Unicast,
            2 => Self::Local,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            9 => Self::Throw,
            other => Self::Other(other),
        }
    }
}

/// A route, as `ip route` shows it. What is listed can be put back as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub family: Family,
    pub table: u32,
    pub kind: RouteKind,
    /// `None` is the default route.
    pub to: Option<Prefix>,
    /// Only IPv6 has source-specific routes.
    pub from: Option<Prefix>,
    /// Of a multipath route the first hop.
    pub gateway: Option<IpAddr>,
    /// Index of the device. Of a multipath route the first hop's.
    pub oif: Option<u32>,
    pub prefsrc: Option<IpAddr>,
    /// `metric`; 0 if none is set.
    pub metric: u32,
    /// RTPROT: who put it there; [`PROTOCOL`] is us.
    pub protocol: u8,
    /// RT_SCOPE_*: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// The gateway need not be in a network of the device.
    pub onlink: bool,
}

impl Route {
    /// A default route of ours. Without a gateway it goes straight into the device, as with PPPoE.
    pub fn default_via(family: Family, table: u32, oif: u32, gateway: Option<IpAddr>) -> Self {
        Self {
            family,
            table,
            kind: RouteKind::Unicast,
            to: None,
            from: None,
            gateway,
            oif: Some(oif),
            prefsrc: None,
            metric: 0,
            protocol: PROTOCOL,
            scope: RT_SCOPE_UNIVERSE,
            onlink: false,
        }
    }

    /// Whether this is a default route, also a source-specific one.
    pub fn is_default(&self) -> bool {
        self.to.is_none()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some((address, length)) => write!(f, "route to {address}/{length}")?,
            None => write!(f, "{} default route", self.family)?,
        }
        write!(f, " in table {}", self.table)
    }
}

/// The way the kernel would send a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub oif: u32,
    pub device: String,
    pub gateway: Option<IpAddr>,
    /// The source address a socket without one of its own would get.
    pub prefsrc: Option<IpAddr>,
    /// The table that decided, where the kernel says so.
    pub table: Option<u32>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// IFLA_CARRIER: whether the cable is in. `None` where the kernel does not say.
    pub carrier: Option<bool>,
    /// IF_OPER_*: 0 unknown (tunnels, PPP), 2 down, 3 lower layer down, 5 dormant, 6 up.
    pub operstate: u8,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of the device.
    pub index: u32,
    /// The router's own address, also on point-to-point links.
    pub address: IpAddr,
    pub prefix: u8,
    /// RT_SCOPE_*: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// Still in duplicate address detection: not usable yet.
    pub tentative: bool,
    /// Past its preferred lifetime: not chosen for new connections.
    pub deprecated: bool,
}

/// A request that failed.
#[derive(Debug)]
pub struct Error {
    /// What was tried, as a verb phrase: "adding IPv4 rule 990".
    pub tried: String,
    pub source: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_permission() {
            write!(f, "{} needs CAP_NET_ADMIN: run as root", self.tried)
        } else {
            write!(f, "{}: {}", self.tried, self.source)
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Error {
    /// Whether the right to do it is missing.
    pub fn is_permission(&self) -> bool {
        self.is(Errno::PERM)
    }

    fn is(&self, errno: Errno) -> bool {
        Errno::from_io_error(&self.source) == Some(errno)
    }
}

/// The kernel answers at once; this only keeps a fault in our reading from hanging the daemon.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kernel fills dumps in pieces of at most this (net/netlink/af_netlink.c, netlink_dump).
const DUMP_PIECE: usize = 32 * 1024;
/// A dump that a change ran into is read again, at most this often.
const DUMP_TRIES: u32 = 3;

/// How the kernel says that it would not send a packet: no route or `unreachable`, `blackhole`
/// (EINVAL), `prohibit` (EACCES). See fib_props in net/ipv4/fib_semantics.c; IPv6 does the same.
const NO_WAY: [Errno; 4] = [
    Errno::NETUNREACH,
    Errno::HOSTUNREACH,
    Errno::INVAL,
    Errno::ACCESS,
];

/// A connection for requests.
pub struct Client {
    socket: Socket,
    sequence: u32,
}

impl Client {
    /// Opens the connection, which needs no rights; changes need CAP_NET_ADMIN.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Self {
                socket,
                sequence: 0,
            }),
            Err(source) => Err(Error {
                tried: "opening an rtnetlink socket".into(),
                source,
            }),
        }
    }

    /// All rules of a family, in the order they are asked.
    pub fn rules(&mut self, family: Family) -> Result<Vec<Rule>, Error> {
        let header = rule_header(family, 0, 0, 0, 0);
        self.dump(
            &format!("listing {family} rules"),
            RTM_GETRULE,
            &header,
            RTM_NEWRULE,
            rule,
        )
    }

    /// Adds a rule. `false` if the very same rule was there already.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<bool, Error> {
        let tried = format!("adding {rule}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let result = self.change(&tried, rule_request(RTM_NEWRULE, flags, rule));
        done_or(result, &[Errno::EXIST])
    }

    /// Deletes a rule. `false` if there was none like it.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<bool, Error> {
        let tried = format!("deleting {rule}");
        let result = self.change(&tried, rule_request(RTM_DELRULE, 0, rule));
        // A kernel without IPv6 has no rules of it either.
        done_or(result, &[Errno::NOENT, Errno::AFNOSUPPORT])
    }

    /// All routes of a family, or those of one table.
    pub fn routes(&mut self, family: Family, table: Option<u32>) -> Result<Vec<Route>, Error> {
        let header = route_header(family, 0, 0, [0; 4], 0);
        let tried = format!("listing {family} routes");
        let mut routes = self.dump(&tried, RTM_GETROUTE, &header, RTM_NEWROUTE, route)?;
        routes.retain(|r| table.is_none_or(|t| t == r.table));
        Ok(routes)
    }

    /// The default routes in the main table, lowest metric first.
    pub fn main_defaults(&mut self, family: Family) -> Result<Vec<Route>, Error> {
        let mut routes = self.routes(family, Some(TABLE_MAIN))?;
        routes.retain(|r| r.is_default() && r.kind == RouteKind::Unicast);
        routes.sort_by_key(|r| r.metric);
        Ok(routes)
    }

    /// Adds a route, in the place of one to the same prefix with the same metric.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        let tried = format!("setting the {route}");
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.change(&tried, route_request(RTM_NEWROUTE, flags, route))
    }

    /// Deletes a route. `false` if there was none like it.
    pub fn delete_route(&mut self, route: &Route) -> Result<bool, Error> {
        let tried = format!("deleting the {route}");
        let mut wanted = route.clone();
        if wanted.family == Family::V4 {
            // "Any scope", as ip(8) asks for (iproute2, iproute_modify).
            wanted.scope = RT_SCOPE_NOWHERE;
        }
        let result = self.change(&tried, route_request(RTM_DELROUTE, 0, &wanted));
        // ESRCH: no such route. ENODEV: its device went, and took it along.
        done_or(result, &[Errno::SRCH, Errno::NODEV])
    }

    /// Deletes every route of a table and returns how many there were.
    pub fn flush(&mut self, family: Family, table: u32) -> Result<usize, Error> {
        let routes = self.routes(family, Some(table))?;
        let mut deleted = 0;
        for route in &routes {
            deleted += usize::from(self.delete_route(route)?);
        }
        Ok(deleted)
    }

    /// The way the kernel would now send a packet of the router's own with this mark, or `None` if
    /// it would not send it.
    pub fn route_get(
        &mut self,
        destination: IpAddr,
        mark: Option<u32>,
    ) -> Result<Option<Path>, Error> {
        let tried = format!("asking for the route to {destination}");
        let family = Family::of(destination);
        let (bytes, bits) = octets(destination);
        let header = route_header(family, bits, 0, [0; 4], RTM_F_LOOKUP_TABLE);
        let answer = self.request(&tried, RTM_GETROUTE, &header, |request| {
            request.attr(RTA_DST, &bytes);
            if let Some(mark) = mark {
                request.u32(RTA_MARK, mark);
            }
        });
        let payload = match answer {
            Ok(payload) => payload,
            Err(e) if NO_WAY.iter().any(|errno| e.is(*errno)) => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(route) = route(&payload) else {
            return Ok(None);
        };
        let Some(oif) = route.oif else {
            return Ok(None);
        };
        Ok(Some(Path {
            oif,
            device: self.link(oif)?.name,
            gateway: route.gateway,
            prefsrc: route.prefsrc,
            table: (route.table != 0).then_some(route.table),
        }))
    }

    /// All devices.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let header = link_header(0);
        self.dump("listing devices", RTM_GETLINK, &header, RTM_NEWLINK, link)
    }

    /// One device.
    pub fn link(&mut self, index: u32) -> Result<Link, Error> {
        let tried = format!("asking for device {index}");
        let header = link_header(index);
        let payload = self.request(&tried, RTM_GETLINK, &header, |_| {})?;
        link(&payload).ok_or_else(|| Error {
            tried,
            source: io::ErrorKind::InvalidData.into(),
        })
    }

    /// The addresses of all devices, or of one.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>, Error> {
        // struct ifaddrmsg, all zero: both families, all devices.
        let mut found = self.dump(
            "listing addresses",
            RTM_GETADDR,
            &[0; 8],
            RTM_NEWADDR,
            address,
        )?;
        found.retain(|a| index.is_none_or(|i| i == a.index));
        Ok(found)
    }

    /// Sends a change and waits for the kernel's word on it.
    fn change(
        &mut self,
        tried: &str,
        build: impl FnOnce(u32) -> Option<Builder>,
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let outcome = match build(self.sequence) {
            Some(request) => self
                .send(request)
                .and_then(|()| self.receive(|message| (message.kind == NLMSG_DONE).then_some(()))),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "addresses of both families in one",
            )),
        };
        outcome.map(drop).map_err(|source| Error {
            tried: tried.into(),
            source,
        })
    }

    /// Sends a request for one object and returns its payload.
    fn request(
        &mut self,
        tried: &str,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Builder),
    ) -> Result<Vec<u8>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Builder::new(kind, NLM_F_REQUEST, self.sequence, header);
        fill(&mut request);
        self.send(request)
            .and_then(|()| self.receive(|message| Some(message.payload.to_vec())))
            .and_then(|payload| payload.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .map_err(|source| Error {
                tried: tried.into(),
                source,
            })
    }

    /// Lists objects, and again when a change ran into the listing.
    fn dump<T>(
        &mut self,
        tried: &str,
        kind: u16,
        header: &[u8],
        answer: u16,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.sequence = self.sequence.wrapping_add(1);
            let request = Builder::new(kind, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, header);
            let (mut all, mut torn) = (Vec::new(), false);
            let done = self.send(request).and_then(|()| {
                self.receive(|message| {
                    torn |= message.flags & NLM_F_DUMP_INTR != 0;
                    if message.kind == answer {
                        all.extend(parse(message.payload));
                    }
                    (message.kind == NLMSG_DONE).then_some(())
                })
            });
            match done {
                Ok(_) if torn && tries < DUMP_TRIES => {}
                Ok(_) => return Ok(all),
                Err(source) => {
                    return Err(Error {
                        tried: tried.into(),
                        source,
                    })
                }
            }
        }
    }

    fn send(&self, request: Builder) -> io::Result<()> {
        self.socket.send(&request.finish(), 0).map(drop)
    }

    /// Reads answers to the last request until `take` is satisfied, or the kernel acknowledges it
    /// (`None`) or refuses it.
    fn receive<T>(&self, mut take: impl FnMut(&Message) -> Option<T>) -> io::Result<Option<T>> {
        let mut buffer = vec![0; DUMP_PIECE];
        loop {
            let length = self.socket.recv(&mut &mut buffer[..], 0)?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                // A late answer to a request that timed out.
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    return match u32_at(message.payload, 0).map(|code| code as i32) {
                        Some(0) => Ok(None),
                        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        None => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                if let Some(taken) = take(&message) {
                    return Ok(Some(taken));
                }
            }
        }
    }
}

/// Turns the errors that say "nothing to do" into `false`.
fn done_or(result: Result<(), Error>, nothing: &[Errno]) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if nothing.iter().any(|errno| e.is(*errno)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// An address in network order, and its length in bits.
fn octets(address: IpAddr) -> (Vec<u8>, u8) {
    match address {
        IpAddr::V4(v4) => (v4.octets().to_vec(), 32),
        IpAddr::V6(v6) => (v6.octets().to_vec(), 128),
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

/// The value of a one-number attribute.
fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// The old 8-bit table field of a header: RT_TABLE_UNSPEC when the number is in an attribute.
fn small_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(0)
}

/// struct fib_rule_hdr.
fn rule_header(family: Family, to: u8, from: u8, table: u8, action: u8) -> [u8; 12] {
    [
        family.number(),
        to,
        from,
        0,
        table,
        0,
        0,
        action,
        0,
        0,
        0,
        0,
    ]
}

/// struct rtmsg; `rest` is table, protocol, scope, type.
fn route_header(family: Family, to: u8, from: u8, rest: [u8; 4], flags: u32) -> [u8; 12] {
    let [table, protocol, scope, kind] = rest;
    let [a, b, c, d] = flags.to_ne_bytes();
    let family = family.number();
    [
        family, to, from, 0, table, protocol, scope, kind, a, b, c, d,
    ]
}

/// struct ifinfomsg with only the index set.
fn link_header(index: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Whether all these addresses are of one family.
fn agree(family: Family, addresses: &[Option<IpAddr>]) -> bool {
    addresses.iter().flatten().all(|a| Family::of(*a) == family)
}

fn prefix_bits(prefix: Option<Prefix>) -> u8 {
    prefix.map_or(0, |(_, bits)| bits)
}

fn rule_request(kind: u16, flags: u16, rule: &Rule) -> impl FnOnce(u32) -> Option<Builder> + '_ {
    move |sequence| {
        if !agree(rule.family, &[rule.from.map(|p| p.0), rule.to.map(|p| p.0)]) {
            return None;
        }
        let table = match rule.action {
            Action::Table(table) => table,
            _ => 0,
        };
        let mut header = rule_header(
            rule.family,
            prefix_bits(rule.to),
            prefix_bits(rule.from),
            small_table(table),
            rule.action.number(),
        );
        if rule.invert {
            header[8..].copy_from_slice(&FIB_RULE_INVERT.to_ne_bytes());
        }
        let mut request = Builder::new(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &header);
        if let Some((address, _)) = rule.to {
            request.attr(FRA_DST, &octets(address).0);
        }
        if let Some((address, _)) = rule.from {
            request.attr(FRA_SRC, &octets(address).0);
        }
        if let Some(name) = &rule.iif {
            request.name(FRA_IIFNAME, name);
        }
        if let Some(name) = &rule.oif {
            request.name(FRA_OIFNAME, name);
        }
        request.u32(FRA_PRIORITY, rule.priority);
        if let Some((mark, mask)) = rule.mark {
            request.u32(FRA_FWMARK, mark);
            request.u32(FRA_FWMASK, mask);
        }
        if let Some(length) = rule.suppress_prefixlength {
            request.u32(FRA_SUPPRESS_PREFIXLEN, length);
        }
        if table != 0 {
            request.u32(FRA_TABLE, table);
        }
        request.attr(FRA_PROTOCOL, &[rule.protocol]);
        Some(request)
    }
}

fn route_request(kind: u16, flags: u16, route: &Route) -> impl FnOnce(u32) -> Option<Builder> + '_ {
    move |sequence| {
        let to = route.to.map(|p| p.0);
        let from = route.from.map(|p| p.0);
        // A gateway may be of the other family (RTA_VIA), which we never set.
        if !agree(route.family, &[to, from, route.gateway, route.prefsrc]) {
            return None;
        }
        let header = route_header(
            route.family,
            prefix_bits(route.to),
            prefix_bits(route.from),
            [
                small_table(route.table),
                route.protocol,
                route.scope,
                route.kind.number(),
            ],
            if route.onlink { RTNH_F_ONLINK } else { 0 },
        );
        let mut request = Builder::new(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, &header);
        let addresses = [
            (RTA_DST, to),
            (RTA_SRC, from),
            (RTA_GATEWAY, route.gateway),
            (RTA_PREFSRC, route.prefsrc),
        ];
        for (kind, address) in addresses {
            if let Some(address) = address {
                request.attr(kind, &octets(address).0);
            }
        }
        if let Some(oif) = route.oif {
            request.u32(RTA_OIF, oif);
        }
        if route.metric != 0 {
            request.u32(RTA_PRIORITY, route.metric);
        }
        request.u32(RTA_TABLE, route.table);
        Some(request)
    }
}

fn rule(payload: &[u8]) -> Option<Rule> {
    let (header, rest) = payload.split_at_checked(12)?;
    let mut table = u32::from(*header.get(4)?);
    let mut rule = Rule::to_table(Family::from_number(*header.first()?)?, 0, 0);
    rule.protocol = 0;
    rule.invert = u32_at(header, 8)? & FIB_RULE_INVERT != 0;
    let (mut mark, mut mask) = (None, u32::MAX);
    for (kind, value) in attrs(rest) {
        match kind {
            FRA_DST => rule.to = ip(value).zip(header.get(1).copied()),
            FRA_SRC => rule.from = ip(value).zip(header.get(2).copied()),
            FRA_IIFNAME => rule.iif = text(value),
            FRA_OIFNAME => rule.oif = text(value),
            FRA_PRIORITY => rule.priority = number(value)?,
            FRA_FWMARK => mark = number(value),
            FRA_FWMASK => mask = number(value)?,
            // The kernel lists "none" as all ones (net/core/fib_rules.c).
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefixlength = number(value).filter(|n| *n != u32::MAX);
            }
            FRA_TABLE => table = number(value)?,
            FRA_PROTOCOL => rule.protocol = *value.first()?,
            _ => {}
        }
    }
    rule.mark = mark.map(|mark| (mark, mask));
    rule.action = Action::from_number(*header.get(7)?, table);
    Some(rule)
}

fn route(payload: &[u8]) -> Option<Route> {
    let (header, rest) = payload.split_at_checked(12)?;
    let flags = u32_at(header, 8)?;
    let mut route = Route {
        family: Family::from_number(*header.first()?)?,
        table: u32::from(*header.get(4)?),
        kind: RouteKind::from_number(*header.get(7)?),
        to: None,
        from: None,
        gateway: None,
        oif: None,
        prefsrc: None,
        metric: 0,
        protocol: *header.get(5)?,
        scope: *header.get(6)?,
        onlink: flags & RTNH_F_ONLINK != 0,
    };
    for (kind, value) in attrs(rest) {
        match kind {
            RTA_DST => route.to = ip(value).zip(header.get(1).copied()),
            RTA_SRC => route.from = ip(value).zip(header.get(2).copied()),
            RTA_OIF => route.oif = number(value),
            RTA_GATEWAY => route.gateway = ip(value),
            // struct rtvia: family u16, address.
            RTA_VIA => route.gateway = value.get(2..).and_then(ip),
            RTA_PRIORITY => route.metric = number(value)?,
            RTA_PREFSRC => route.prefsrc = ip(value),
            RTA_TABLE => route.table = number(value)?,
            RTA_MULTIPATH => first_hop(value, &mut route),
            _ => {}
        }
    }
    Some(route)
}

/// struct rtnexthop: length u16, flags u8, hops u8, index u32, then attributes.
fn first_hop(value: &[u8], route: &mut Route) {
    let length = value
        .first_chunk()
        .map_or(0, |l| usize::from(u16::from_ne_bytes(*l)));
    let Some(hop) = value.get(..length) else {
        return;
    };
    route.oif = u32_at(hop, 4);
    for (kind, value) in attrs(hop.get(8..).unwrap_or_default()) {
        match kind {
            RTA_GATEWAY => route.gateway = ip(value),
            RTA_VIA => route.gateway = value.get(2..).and_then(ip),
            _ => {}
        }
    }
}

fn link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = payload.split_at_checked(16)?;
    let mut link = Link {
        index: u32_at(header, 4)?,
        name: String::new(),
        up: u32_at(header, 8)? & IFF_UP != 0,
        carrier: None,
        operstate: 0,
    };
    for (kind, value) in attrs(rest) {
        match kind {
            IFLA_IFNAME => link.name = text(value)?,
            IFLA_CARRIER => link.carrier = value.first().map(|b| *b != 0),
            IFLA_OPERSTATE => link.operstate = *value.first()?,
            _ => {}
        }
    }
    Some(link)
}

fn address(payload: &[u8]) -> Option<Address> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let (header, rest) = payload.split_at_checked(8)?;
    let mut flags = u32::from(*header.get(2)?);
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attrs(rest) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => peer = ip(value),
            IFA_FLAGS => flags = number(value)?,
            _ => {}
        }
    }
    Some(Address {
        index: u32_at(header, 4)?,
        // On a point-to-point link IFA_ADDRESS is the other end (linux/if_addr.h).
        address: local.or(peer)?,
        prefix: *header.get(1)?,
        scope: *header.get(3)?,
        tentative: flags & IFA_F_TENTATIVE != 0,
        deprecated: flags & IFA_F_DEPRECATED != 0,
    })
}

/// A change of the kernel's state. `gone` tells a removal from a new or changed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Link {
        link: Link,
        gone: bool,
    },
    Address {
        address: Address,
        gone: bool,
    },
    Route {
        route: Route,
        gone: bool,
    },
    Rule {
        rule: Rule,
        gone: bool,
    },
    /// Changes were lost because they came faster than they were read: read all state afresh.
    Overrun,
}

impl Change {
    /// Whether this is a rule or a route of ours.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Route { route, .. } => route.protocol == PROTOCOL,
            Self::Rule { rule, .. } => rule.protocol == PROTOCOL,
            _ => false,
        }
    }

    fn from_message(message: &Message) -> Option<Self> {
        let Message { kind, payload, .. } = *message;
        Some(match kind {
            RTM_NEWLINK | RTM_DELLINK => Self::Link {
                link: link(payload)?,
                gone: kind == RTM_DELLINK,
            },
            RTM_NEWADDR | RTM_DELADDR => Self::Address {
                address: address(payload)?,
                gone: kind == RTM_DELADDR,
            },
            // Cloned: an exception the kernel learned, as a path MTU; no change of a table.
            RTM_NEWROUTE | RTM_DELROUTE if u32_at(payload, 8)? & RTM_F_CLONED == 0 => Self::Route {
                route: route(payload)?,
                gone: kind == RTM_DELROUTE,
            },
            RTM_NEWRULE | RTM_DELRULE => Self::Rule {
                rule: rule(payload)?,
                gone: kind == RTM_DELRULE,
            },
            _ => return None,
        })
    }
}

/// A notification is smaller than this; one that is not counts as an overrun.
const NOTIFICATION: usize = 8 * 1024;

/// Listens to changes of links, addresses, routes and rules of both families.
pub struct Monitor {
    socket: Async<Socket>,
    ready: VecDeque<Change>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Starts listening. Changes from now on are kept by the kernel until read.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            for group in RTNLGRP {
                socket.add_membership(group)?;
            }
            Async::new(socket)
        };
        match open() {
            Ok(socket) => Ok(Self {
                socket,
                ready: VecDeque::new(),
                buffer: vec![0; NOTIFICATION],
            }),
            Err(source) => Err(Error {
                tried: "listening to rtnetlink".into(),
                source,
            }),
        }
    }

    /// Waits for the next change. Nothing is lost when the future is dropped before it ends.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            let buffer = &mut self.buffer;
            let read = self
                .socket
                .read_with(|socket| socket.recv(&mut &mut buffer[..], 0));
            match read.await {
                Ok(length) if length >= NOTIFICATION => return Ok(Change::Overrun),
                Ok(length) => {
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    let changes = messages(datagram).filter_map(|m| Change::from_message(&m));
                    self.ready.extend(changes);
                }
                Err(e) if Errno::from_io_error(&e) == Some(Errno::NOBUFS) => {
                    return Ok(Change::Overrun)
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(kind in 16u16..36, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let message = Message { kind, flags: 0, sequence: 0, payload: &payload };
            let _ = Change::from_message(&message);
        }
    }

    #[test]
    fn errors_name_what_was_tried() {
        let rule = Rule::to_table(Family::V4, 990, TABLE_MAIN);
        let error = Error {
            tried: format!("adding {rule}"),
            source: Errno::PERM.into(),
        };
        assert_eq!(
            error.to_string(),
            "adding IPv4 rule 990 needs CAP_NET_ADMIN: run as root"
        );
    }

    #[test]
    fn mixed_families_are_refused() {
        let mut route = Route::default_via(Family::V4, 900, 1, None);
        route.gateway = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert!(route_request(RTM_NEWROUTE, 0, &route)(1).is_none());
    }
}
