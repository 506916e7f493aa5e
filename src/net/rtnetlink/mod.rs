//! Rules, routes, links and addresses of the kernel by rtnetlink(7), and a monitor of their changes.
//!
//! Requests are synchronous; only the [`Monitor`] waits, and it is async.

mod message;
mod monitor;
mod types;
mod uapi;

use std::io;
use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;

use crate::core::Family;

pub use super::netlink::Error;
use super::netlink::*;
use message::*;
pub use monitor::{Change, Monitor};
pub use types::*;
use uapi::*;

/// How the kernel says that it would not send a packet: no route or `unreachable`, `blackhole`
/// (EINVAL), `prohibit` (EACCES). See fib_props in net/ipv4/fib_semantics.c; IPv6 does the same.
const NO_WAY: [Errno; 4] = [
    Errno::NETUNREACH,
    Errno::HOSTUNREACH,
    Errno::INVAL,
    Errno::ACCESS,
];

/// A connection for requests.
pub struct Client(Connection);

impl Client {
    /// Opens the connection, which needs no rights; changes need CAP_NET_ADMIN.
    pub fn open() -> Result<Self, Error> {
        Connection::open(NETLINK_ROUTE, "opening an rtnetlink socket").map(Client)
    }

    /// All rules of a family, in the order they are asked.
    pub fn rules(&mut self, family: Family) -> Result<Vec<Rule>, Error> {
        let header = rule_header(family, 0, 0, 0, 0);
        self.0.dump(
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
        let result = self
            .0
            .change(&tried, rule_request(RTM_NEWRULE, flags, rule));
        done_or(result, &[Errno::EXIST])
    }

    /// Deletes a rule. `false` if there was none like it.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<bool, Error> {
        let tried = format!("deleting {rule}");
        let result = self.0.change(&tried, rule_request(RTM_DELRULE, 0, rule));
        // A kernel without IPv6 has no rules of it either.
        done_or(result, &[Errno::NOENT, Errno::AFNOSUPPORT])
    }

    /// The routes of a family in one table.
    pub fn routes<C: Default + Extend<Route>>(
        &mut self,
        family: Family,
        table: u32,
    ) -> Result<C, Error> {
        self.routes_that(family, |r| r.table == table)
    }

    /// The routes of a family that are to be kept. The others are dropped one by one: a router with
    /// many tables, or a large tailnet, has more than fits beside each other.
    pub fn routes_that<C: Default + Extend<Route>>(
        &mut self,
        family: Family,
        keep: impl Fn(&Route) -> bool,
    ) -> Result<C, Error> {
        let header = route_header(family, 0, 0, [0; 4], 0);
        let tried = format!("listing {family} routes");
        self.0
            .dump(&tried, RTM_GETROUTE, &header, RTM_NEWROUTE, |payload| {
                route(payload).filter(&keep)
            })
    }

    /// The default routes in the main table, lowest metric first.
    pub fn main_defaults(&mut self, family: Family) -> Result<Vec<Route>, Error> {
        let mut routes: Vec<Route> = self.routes(family, TABLE_MAIN)?;
        routes.retain(|r| r.is_default() && r.kind == RouteKind::Unicast);
        routes.sort_by_key(|r| r.metric);
        Ok(routes)
    }

    /// Adds a route, in the place of one to the same prefix with the same metric.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        let tried = format!("setting the {route}");
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.0
            .change(&tried, route_request(RTM_NEWROUTE, flags, route))
    }

    /// Adds a route. `false` if there is one to the same prefix with the same metric.
    pub fn add_route(&mut self, route: &Route) -> Result<bool, Error> {
        let tried = format!("adding the {route}");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let result = self
            .0
            .change(&tried, route_request(RTM_NEWROUTE, flags, route));
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
        let result = self
            .0
            .change(&tried, route_request(RTM_DELROUTE, 0, &wanted));
        // ESRCH: no such route. ENODEV: its device went, and took it along.
        done_or(result, &[Errno::SRCH, Errno::NODEV])
    }

    /// Deletes every route of a table and returns how many there were.
    pub fn flush(&mut self, family: Family, table: u32) -> Result<usize, Error> {
        let routes: Vec<Route> = self.routes(family, table)?;
        let mut deleted: usize = 0;
        for route in &routes {
            deleted = deleted.saturating_add(self.delete_route(route)?.into());
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
        let answer = self.0.request(&tried, RTM_GETROUTE, &header, |request| {
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
        self.0
            .dump("listing devices", RTM_GETLINK, &header, RTM_NEWLINK, link)
    }

    /// One device.
    pub fn link(&mut self, index: u32) -> Result<Link, Error> {
        let tried = format!("asking for device {index}");
        let header = link_header(index);
        let payload = self.0.request(&tried, RTM_GETLINK, &header, |_| {})?;
        link(&payload).ok_or_else(|| Error {
            tried,
            source: io::ErrorKind::InvalidData.into(),
        })
    }

    /// The addresses of all devices, or of one.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>, Error> {
        // struct ifaddrmsg, all zero: both families, all devices.
        let mut found: Vec<Address> = self.0.dump(
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
        let result = self.0.change(&tried, address_request(index, ip, prefix));
        done_or(result, &[Errno::EXIST])
    }

    /// Sets a device up, as `ip link set NAME up` does.
    pub fn set_up(&mut self, link: &Link) -> Result<(), Error> {
        let tried = format!("setting {} up", link.name);
        self.0.change(&tried, up_request(link.index))
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

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    for m in super::netlink::messages(bytes) {
        message::rule(m.payload);
        message::route(m.payload);
        message::link(m.payload);
        message::address(m.payload);
        Change::from_message(&m);
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
