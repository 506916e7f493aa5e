//! Rules, routes, links and addresses of the kernel by rtnetlink(7), and a monitor of their changes;
//! single TCP connections by sock_diag(7), whose messages are of the same kind.
//!
//! Requests are synchronous: the kernel answers them before it returns to us, in well under a
//! millisecond on tables of a router's size. Only the [`Monitor`] waits, and it is async.

mod diag;
mod frame;
mod message;
mod monitor;
mod types;
mod uapi;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_sys::{protocols::NETLINK_ROUTE, Socket, SocketAddr};
use rustix::io::Errno;
use socket2::SockRef;

use crate::core::Family;

pub use diag::Diag;
use frame::{messages, u32_at, Builder, Message};
use message::*;
pub use monitor::{Change, Monitor};
pub use types::*;
use uapi::*;

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
        Self::connect(NETLINK_ROUTE).map_err(|source| Error {
            tried: "opening an rtnetlink socket".into(),
            source,
        })
    }

    fn connect(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
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
        // Dropped one by one: a router with many tables has more than fits beside each other.
        let of_table = |r: &Route| table.is_none_or(|t| t == r.table);
        self.dump(&tried, RTM_GETROUTE, &header, RTM_NEWROUTE, |payload| {
            route(payload).filter(of_table)
        })
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

    /// Adds a route. `false` if there is one to the same prefix with the same metric.
    pub fn add_route(&mut self, route: &Route) -> Result<bool, Error> {
        let tried = format!("adding the {route}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let result = self.change(&tried, route_request(RTM_NEWROUTE, flags, route));
        done_or(result, &[Errno::EXIST])
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
    ///
    /// `source` matters where IPv6 defaults are source-specific: without one the kernel finds none
    /// of them here, while a socket gets its source first ([`crate::net::socket::Egress::source_for`]).
    pub fn route_get(
        &mut self,
        destination: IpAddr,
        mark: Option<u32>,
        source: Option<IpAddr>,
    ) -> Result<Option<Path>, Error> {
        let tried = format!("asking for the route to {destination}");
        let family = Family::of(&destination);
        let (bytes, bits) = octets(destination);
        let from = source.map(octets);
        let from_bits = from.as_ref().map_or(0, |(_, bits)| *bits);
        let header = route_header(family, bits, from_bits, [0; 4], RTM_F_LOOKUP_TABLE);
        let answer = self.request(&tried, RTM_GETROUTE, &header, |request| {
            request.attr(RTA_DST, &bytes);
            if let Some((bytes, _)) = &from {
                request.attr(RTA_SRC, bytes);
            }
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

    /// Adds an address to a device. `false` if it was there already.
    pub fn add_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> Result<bool, Error> {
        let tried = format!("adding the address {ip}/{prefix}");
        let result = self.change(&tried, address_request(index, ip, prefix));
        done_or(result, &[Errno::EXIST])
    }

    /// Sets a device up, as `ip link set NAME up` does.
    pub fn set_up(&mut self, link: &Link) -> Result<(), Error> {
        let tried = format!("setting {} up", link.name);
        self.change(&tried, up_request(link.index))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

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
