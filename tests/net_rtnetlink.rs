//! Rules, routes and the monitor on the real kernel, in a network namespace of the test's own,
//! held against what ip(8) says.

mod netns;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use netns::{address, inside, ip};
use serde_json::Value;
use smol::Timer;
use tailover::core::Family;
use tailover::net::rtnetlink::{
    Action, Change, Client, Monitor, Path, Route, RouteKind, Rule, PROTOCOL, TABLE_MAIN,
};
use tailover::net::socket::{tcp_connect, Egress};

const MARK: (u32, u32) = (0x80000, 0xff0000);
const TABLE: u32 = 900;

fn ip_json(arguments: &str) -> Vec<Value> {
    let text = ip(arguments);
    match serde_json::from_str(&text) {
        Ok(Value::Array(list)) => list,
        // An empty list prints nothing at all in some versions.
        _ => Vec::new(),
    }
}

/// Two uplinks, wan1 by metric the better, each with a gateway that is never asked.
fn two_uplinks() {
    ip("link set lo up");
    for (n, metric) in [(1, 10), (2, 20)] {
        ip(&format!("link add wan{n} type veth peer name isp{n}"));
        ip(&format!("link set wan{n} up"));
        ip(&format!("link set isp{n} up"));
        ip(&format!("addr add 192.0.{n}.2/24 dev wan{n}"));
        ip(&format!("addr add 2001:db8:{n}::2/64 dev wan{n} nodad"));
        ip(&format!(
            "route add default via 192.0.{n}.1 dev wan{n} metric {metric}"
        ));
        ip(&format!(
            "-6 route add default via 2001:db8:{n}::1 dev wan{n} metric {metric}"
        ));
    }
}

/// The two rules that move the mark, as in the manual way with ip(8).
fn steering(family: Family) -> [Rule; 2] {
    let ours = |priority, table| Rule {
        iif: Some("lo".into()),
        mark: Some(MARK),
        ..Rule::to_table(family, priority, table)
    };
    let keep = Rule {
        suppress_prefixlength: Some(0),
        ..ours(990, TABLE_MAIN)
    };
    [keep, ours(991, TABLE)]
}

fn device(client: &mut Client, destination: &str, mark: Option<u32>) -> Option<Path> {
    client
        .route_get(address(destination), mark, None)
        .expect("the kernel answers")
}

fn steer(family: Family, outside: &str, near: &str, gateway: &str) {
    let mut client = Client::open().expect("rtnetlink opens");
    let links = client.links().expect("links");
    let index = |name: &str| links.iter().find(|l| l.name == name).expect("a link").index;
    let (wan2, family_flag) = (
        index("wan2"),
        if family == Family::V4 { "-4" } else { "-6" },
    );
    let mark = Some(MARK.0);

    assert_eq!(
        device(&mut client, outside, mark).expect("a way").device,
        "wan1"
    );

    let route = Route::default_via(family, TABLE, wan2, Some(address(gateway)));
    client.replace_route(&route).expect("the route is set");
    client.replace_route(&route).expect("and set again");
    for rule in steering(family) {
        assert!(client.add_rule(&rule).expect("the rule is added"));
        assert!(!client.add_rule(&rule).expect("it is there already"));
    }

    let moved = device(&mut client, outside, mark).expect("a way");
    assert_eq!((moved.device.as_str(), moved.oif), ("wan2", wan2));
    assert_eq!(moved.gateway, Some(address(gateway)));
    assert_eq!(moved.table, Some(TABLE));
    assert!(moved.prefsrc.is_some());
    let unmarked = device(&mut client, outside, None).expect("a way");
    assert_eq!(unmarked.device, "wan1", "only the mark moves");
    let connected = device(&mut client, near, mark).expect("a way");
    assert_eq!(
        (connected.device.as_str(), connected.gateway),
        ("wan1", None),
        "main's connected routes stay"
    );

    // What we list is what we added, and what ip(8) lists.
    let listed = client.rules(family).expect("rules");
    let ours: Vec<_> = listed.iter().filter(|r| r.protocol == PROTOCOL).collect();
    assert_eq!(ours, steering(family).iter().collect::<Vec<_>>());
    let theirs = ip_json(&format!("{family_flag} -j -N rule list"));
    assert_eq!(listed.len(), theirs.len());
    for (rule, json) in listed.iter().zip(&theirs) {
        assert_eq!(json["priority"], rule.priority);
        let Action::Table(table) = rule.action else {
            panic!("no rule of another kind was added: {rule:?}")
        };
        assert_eq!(json["table"], table.to_string());
        match rule.mark {
            Some((mark, mask)) => {
                assert_eq!(json["fwmark"], format!("{mark:#x}"));
                assert_eq!(json["fwmask"], format!("{mask:#x}"));
                assert_eq!(json["iif"], "lo");
                assert_eq!(json["protocol"], PROTOCOL.to_string());
            }
            None => assert!(json.get("fwmark").is_none()),
        }
        let length = json.get("suppress_prefixlen").and_then(Value::as_u64);
        assert_eq!(length, rule.suppress_prefixlength.map(u64::from));
    }
    let listed: Vec<Route> = client.routes(family, TABLE).expect("routes");
    assert_eq!(listed.len(), 1);
    let theirs = ip_json(&format!("{family_flag} -j -N route list table {TABLE}"));
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    assert_eq!(theirs[0]["dst"], "default");
    assert_eq!(theirs[0]["gateway"], gateway);
    assert_eq!(theirs[0]["dev"], "wan2");
    assert_eq!(theirs[0]["protocol"], PROTOCOL.to_string());
    assert_eq!(listed[0].gateway, route.gateway);
    assert_eq!((listed[0].oif, listed[0].protocol), (Some(wan2), PROTOCOL));
    let defaults = client.main_defaults(family).expect("defaults");
    let metrics: Vec<u32> = defaults.iter().map(|r| r.metric).collect();
    assert_eq!(metrics, [10, 20]);

    // Away again.
    for rule in steering(family) {
        assert!(client.delete_rule(&rule).expect("the rule goes"));
        assert!(!client.delete_rule(&rule).expect("it has gone"));
    }
    assert_eq!(
        client.flush(family, TABLE).expect("the table is flushed"),
        1
    );
    assert_eq!(client.flush(family, TABLE).expect("it is empty"), 0);
    assert_eq!(
        device(&mut client, outside, mark).expect("a way").device,
        "wan1"
    );
    assert_eq!(
        client.routes::<Vec<Route>>(family, TABLE).expect("routes"),
        []
    );
}

#[test]
fn the_mark_moves_and_comes_back() {
    if !inside("the_mark_moves_and_comes_back") {
        return;
    }
    two_uplinks();
    steer(Family::V4, "8.8.8.8", "192.0.1.77", "192.0.2.1");
    steer(
        Family::V6,
        "2001:4860:4860::8888",
        "2001:db8:1::77",
        "2001:db8:2::1",
    );

    let mut client = Client::open().expect("rtnetlink opens");
    ip("rule add pref 100 fwmark 0x1 unreachable");
    ip("rule add pref 101 fwmark 0x2 blackhole");
    ip("-6 rule add pref 101 fwmark 0x2 blackhole");
    assert_eq!(device(&mut client, "8.8.8.8", Some(1)), None);
    assert_eq!(device(&mut client, "8.8.8.8", Some(2)), None);
    assert_eq!(device(&mut client, "2001:4860:4860::8888", Some(2)), None);
    let actions: Vec<_> = client.rules(Family::V4).expect("rules");
    let actions: Vec<_> = actions.iter().map(|r| r.action).collect();
    assert!(actions.contains(&Action::Unreachable) && actions.contains(&Action::Blackhole));
}

#[test]
fn routes_are_put_back_as_they_were() {
    if !inside("routes_are_put_back_as_they_were") {
        return;
    }
    two_uplinks();
    ip("route add 100.64.0.1 dev wan1 table 52");
    ip("route add 10.9.0.0/16 dev wan1 scope global proto boot src 192.0.1.2 table 52");
    ip("route add throw 192.168.1.0/24 table 52");
    ip("route add default via 198.51.100.1 dev wan2 onlink metric 7 table 52");
    ip("-6 route add fd7a:115c:a1e0::1 dev wan1 table 52");
    ip("-6 route add throw fd00:1::/64 table 52");
    ip("-6 route add default from 2001:db8:2:1::/64 via 2001:db8:2::1 dev wan2 table 52");
    let mut client = Client::open().expect("rtnetlink opens");
    for (family, flag, count) in [(Family::V4, "-4", 4), (Family::V6, "-6", 3)] {
        let before = ip(&format!("{flag} -N route list table 52"));
        let routes: Vec<Route> = client.routes(family, 52).expect("routes");
        assert_eq!(routes.len(), count, "{routes:?}");
        assert!(routes.iter().any(|r| r.kind == RouteKind::Throw));
        assert_eq!(client.flush(family, 52).expect("flushed"), count);
        assert_eq!(client.routes::<Vec<Route>>(family, 52).expect("routes"), []);
        for route in &routes {
            client.replace_route(route).expect("the route is put back");
        }
        assert_eq!(
            client.routes::<Vec<Route>>(family, 52).expect("routes"),
            routes
        );
        assert_eq!(ip(&format!("{flag} -N route list table 52")), before);
    }
}

#[test]
fn links_and_addresses_are_listed() {
    if !inside("links_and_addresses_are_listed") {
        return;
    }
    two_uplinks();
    ip("link set isp2 down");
    let mut client = Client::open().expect("rtnetlink opens");
    let links = client.links().expect("links");
    for json in ip_json("-j link list") {
        let name = json["ifname"].as_str().expect("a name");
        let link = links.iter().find(|l| l.name == name).expect("listed");
        assert_eq!(json["ifindex"], link.index);
        // Only the name: the state follows the carrier with a delay.
        assert_eq!(client.link(link.index).expect("one link").name, name);
    }
    let wan = |n: u32| links.iter().find(|l| l.name == format!("wan{n}"));
    let (wan1, wan2) = (wan(1).expect("wan1"), wan(2).expect("wan2"));
    assert_eq!((wan1.up, wan1.carrier), (true, Some(true)));
    assert_eq!((wan2.up, wan2.carrier), (true, Some(false)));
    let addresses = client.addresses(Some(wan1.index)).expect("addresses");
    let has = |text: &str, prefix| {
        let found = addresses.iter().find(|a| a.address == address(text));
        found.is_some_and(|a| a.prefix == prefix && a.scope == 0 && !a.tentative)
    };
    assert!(
        has("192.0.1.2", 24) && has("2001:db8:1::2", 64),
        "{addresses:?}"
    );
    let gone = client.link(9999).expect_err("no such device").to_string();
    assert!(gone.starts_with("asking for device 9999: "), "{gone}");
}

/// Reads changes until one passes, for at most five seconds.
async fn until(monitor: &mut Monitor, wanted: impl Fn(&Change) -> bool) -> Change {
    let search = async {
        loop {
            let change = monitor.next().await.expect("the monitor reads");
            if wanted(&change) {
                return Some(change);
            }
        }
    };
    let patience = async {
        Timer::after(Duration::from_secs(5)).await;
        None
    };
    let found = smol::future::or(search, patience).await;
    found.expect("the change is seen")
}

#[test]
fn the_monitor_sees_changes_and_overruns() {
    if !inside("the_monitor_sees_changes_and_overruns") {
        return;
    }
    two_uplinks();
    let mut monitor = Monitor::open().expect("the monitor opens");
    let mut client = Client::open().expect("rtnetlink opens");
    smol::block_on(async {
        for family in [Family::V4, Family::V6] {
            let [rule, _] = steering(family);
            client.add_rule(&rule).expect("added");
            let change = until(&mut monitor, |c| matches!(c, Change::Rule { .. })).await;
            assert!(change.is_of(PROTOCOL));
            let added = Change::Rule {
                rule: rule.clone(),
                gone: false,
            };
            assert_eq!(change, added);
            client.delete_rule(&rule).expect("deleted");
            let change = until(&mut monitor, |c| matches!(c, Change::Rule { .. })).await;
            assert_eq!(change, Change::Rule { rule, gone: true });
        }
        ip("route del default via 192.0.1.1 dev wan1 metric 10");
        // The kernel adds and drops IPv6 link-local routes of its own accord meanwhile.
        let change = until(&mut monitor, |c| {
            matches!(c, Change::Route { route, gone: true } if route.is_default() && route.table == TABLE_MAIN)
        })
        .await;
        assert!(!change.is_of(PROTOCOL));
        ip("addr add 192.0.2.99/24 dev wan2");
        until(&mut monitor, |c| {
            matches!(c, Change::Address { address: a, gone: false } if a.address == address("192.0.2.99"))
        })
        .await;
        ip("link set isp1 down");
        until(&mut monitor, |c| {
            matches!(c, Change::Link { link, .. } if link.name == "wan1" && link.carrier == Some(false))
        })
        .await;

        // Nobody reads meanwhile, so the kernel's queue for us runs full.
        let wan2 = client.links().expect("links").into_iter();
        let wan2 = wan2.clone().find(|l| l.name == "wan2").expect("wan2").index;
        let mut route = Route::default_via(Family::V4, TABLE, wan2, Some(address("192.0.2.1")));
        for metric in 1..5000 {
            route.metric = metric;
            client.replace_route(&route).expect("a route");
        }
        until(&mut monitor, |c| *c == Change::Overrun).await;
    });
}

#[test]
fn a_socket_carries_its_mark_and_its_device() {
    if !inside("a_socket_carries_its_mark_and_its_device") {
        return;
    }
    two_uplinks();
    // What has the mark is refused at once; what has not is sent, and nobody answers.
    ip("rule add pref 50 fwmark 0x80000/0xff0000 prohibit");
    ip("-6 rule add pref 50 fwmark 0x80000/0xff0000 prohibit");
    let connect = |target: &str, egress: &Egress| {
        let target = SocketAddr::new(address(target), 53);
        let wait = Duration::from_millis(100);
        let result = smol::block_on(tcp_connect(target, egress, wait));
        result.expect_err("nobody is there").kind()
    };
    let marked = Egress {
        mark: Some(MARK.0),
        ..Egress::default()
    };
    for target in ["8.8.8.8", "2001:4860:4860::8888"] {
        assert_eq!(connect(target, &marked), ErrorKind::PermissionDenied);
        assert_eq!(connect(target, &Egress::default()), ErrorKind::TimedOut);
    }
    // Bound to a device without a route to the target, the kernel takes it as on-link there, and
    // picks that device's address.
    let egress = Egress {
        device: Some("wan2".into()),
        ..Egress::default()
    };
    let target = SocketAddr::new(address("8.8.8.8"), 53);
    let socket = egress.udp(target).expect("a socket");
    socket.connect(&target.into()).expect("a route by wan2");
    let local = socket.local_addr().expect("bound").as_socket();
    assert_eq!(local.expect("an IP socket").ip(), address("192.0.2.2"));
    let missing = Egress {
        device: Some("wan9".into()),
        ..Egress::default()
    };
    let text = missing.tcp(target).expect_err("no such device").to_string();
    assert_eq!(text, "binding to device wan9: there is no such device");
}

#[test]
fn an_impossible_change_is_named() {
    if !inside("an_impossible_change_is_named") {
        return;
    }
    let mut client = Client::open().expect("rtnetlink opens");
    let route = Route::default_via(Family::V4, TABLE, 4242, Some(address("192.0.2.1")));
    let error = client.replace_route(&route).expect_err("no such device");
    let text = error.to_string();
    assert!(
        text.starts_with("setting the IPv4 default route in table 900: "),
        "{text}"
    );
    assert!(!error.is_permission());
}
