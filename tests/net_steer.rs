//! Steering and the probes' own tables on the real kernel, in a network namespace of the test's
//! own, held against what ip(8) says.

mod netns;

use std::time::Duration;

use netns::{address, inside, ip};
use smol::Timer;
use tailover::config::Mark;
use tailover::core::{Family, Hop, Knowledge, Steering, Uplink, Way};
use tailover::cure::steer::{apply, cleanup, found, open_devices, open_for_probes, Found, Place};
use tailover::net::rtnetlink::{Change, Client, Monitor};
use tailover::watch::uplinks::{devices, join, Choice};

const FAR: [&str; 2] = ["8.8.8.8", "2001:4860:4860::8888"];
const PROBE: Mark = Mark {
    value: 0x83f00,
    mask: 0xff3f00,
};

fn place() -> Place {
    Place {
        mark: Mark {
            value: 0x80000,
            mask: 0xff0000,
        },
        priority: 990,
        table: 17400,
        protocol: 122,
    }
}

fn client() -> Client {
    Client::open().expect("rtnetlink opens")
}

/// Uplinks wan1 and wan2; main has a default for wan1 alone.
fn one_default_of_two() {
    ip("link set lo up");
    for n in [1, 2] {
        pair(&format!("wan{n}"), &format!("isp{n}"));
        ip(&format!("addr add 192.0.{n}.2/24 dev wan{n}"));
        ip(&format!("addr add 2001:db8:{n}::2/64 dev wan{n} nodad"));
    }
    ip("route add default via 192.0.1.1 dev wan1 metric 10");
    ip("-6 route add default via 2001:db8:1::1 dev wan1 metric 10");
}

fn pair(near: &str, far: &str) {
    ip(&format!("link add {near} type veth peer name {far}"));
    ip(&format!("link set {near} up"));
    ip(&format!("link set {far} up"));
}

fn hop(device: &str, gateway: Option<&str>, own: &str) -> Hop {
    Hop {
        device: device.into(),
        way: Way {
            gateway: gateway.map(address),
            addresses: vec![address(own)],
            ..Way::default()
        },
    }
}

/// wan2's hop in a family.
fn second(family: Family) -> Hop {
    match family {
        Family::V4 => hop("wan2", Some("192.0.2.1"), "192.0.2.2"),
        Family::V6 => hop("wan2", Some("2001:db8:2::1"), "2001:db8:2::2"),
    }
}

fn to(hop: &Hop) -> Steering {
    Steering {
        to: Some(hop.clone()),
        keep: None,
    }
}

/// What ip(8) says of the way to the outside; `how` is `mark …` or `oif …` or both.
fn way(family: Family, how: &str) -> String {
    let far = FAR[usize::from(family != Family::V4)];
    ip(format!("route get {far} {how}").trim_end())
}

/// Rules and routes of ours, as ip(8) lists them.
fn ours() -> String {
    let mut text = String::new();
    for family in ["-4", "-6"] {
        let rules = ip(&format!("-d -N {family} rule show"));
        for line in rules.lines().filter(|l| l.contains("proto 122")) {
            text += &format!("{family} {line}\n");
        }
        text += &ip(&format!("-N {family} route show table all proto 122"));
    }
    text
}

#[test]
fn only_a_bound_and_marked_probe_uses_the_probes_table() {
    if !inside("only_a_bound_and_marked_probe_uses_the_probes_table") {
        return;
    }
    one_default_of_two();
    let (mut client, place) = (client(), place());
    for (family, gateway) in [
        (Family::V4, "via 192.0.2.1 "),
        (Family::V6, "via 2001:db8:2::1 "),
    ] {
        let probe = "oif wan2 mark 0x83f00";
        let others = ["mark 0x83f00", "mark 0x80000", "oif wan1 mark 0x83f00", ""];
        if family == Family::V4 {
            // Without a route the kernel takes a bound device's outside as its neighbour.
            assert!(!way(family, probe).contains("via"), "the fault shows");
        }
        let before: Vec<String> = others.iter().map(|how| way(family, how)).collect();
        let hops = [second(family)];
        open_for_probes(&mut client, &place, family, PROBE, &hops).expect("opened");
        let seen = way(family, probe);
        assert!(
            seen.contains(gateway) && seen.contains("dev wan2 table 17400"),
            "{seen}"
        );
        let after: Vec<String> = others.iter().map(|how| way(family, how)).collect();
        assert_eq!(after, before, "nobody else uses it");
        let open = open_devices(&mut client, &place, family).expect("listed");
        assert_eq!(open, ["wan2"]);
    }
    assert_eq!(cleanup(&mut client, &place).expect("cleaned"), 4);
    assert_eq!(ours(), "");
}

#[test]
fn what_is_open_already_is_not_written_again() {
    if !inside("what_is_open_already_is_not_written_again") {
        return;
    }
    one_default_of_two();
    let (mut client, place) = (client(), place());
    let open = |client: &mut Client| {
        for family in Family::BOTH {
            open_for_probes(client, &place, family, PROBE, &[second(family)]).expect("opened");
            apply(client, &place, family, &to(&second(family))).expect("steered");
        }
    };
    open(&mut client);
    let before = ours();
    let mut monitor = Monitor::open().expect("the monitor opens");
    open(&mut client);
    assert_eq!(ours(), before);
    ip("addr add 192.0.2.99/24 dev wan2");
    smol::block_on(async {
        let patience = async {
            Timer::after(Duration::from_secs(5)).await;
            panic!("the change is not seen");
        };
        let search = async {
            loop {
                let change = monitor.next().await.expect("the monitor reads");
                assert!(!change.is_of(122), "written again: {change:?}");
                if matches!(change, Change::Address { .. }) {
                    return;
                }
            }
        };
        smol::future::or(search, patience).await;
    });
}

#[test]
fn steering_and_probes_share_a_table_and_leave_each_other_alone() {
    if !inside("steering_and_probes_share_a_table_and_leave_each_other_alone") {
        return;
    }
    one_default_of_two();
    let (mut client, place) = (client(), place());
    let f = Family::V4;
    let open = |client: &mut Client, hops: &[Hop]| {
        open_for_probes(client, &place, f, PROBE, hops).expect("opened");
    };
    let steer = |client: &mut Client, s: &Steering| {
        apply(client, &place, f, s).expect("steered");
    };
    open(&mut client, &[second(f)]);
    steer(&mut client, &to(&second(f)));
    assert!(way(f, "mark 0x80000").contains("via 192.0.2.1 dev wan2 table 17400"));

    // The DHCP server hands out another gateway: both follow, whoever hears of it first.
    let moved = hop("wan2", Some("192.0.2.254"), "192.0.2.2");
    open(&mut client, std::slice::from_ref(&moved));
    assert!(way(f, "mark 0x80000").contains("via 192.0.2.254 dev wan2 table 17400"));
    steer(&mut client, &to(&moved));
    assert!(way(f, "oif wan2 mark 0x83f00").contains("via 192.0.2.254"));
    assert_eq!(ours().matches("default").count(), 1, "{}", ours());

    // The probes' way goes, the steering stays, and the other way round.
    open(&mut client, &[]);
    assert!(way(f, "mark 0x80000").contains("via 192.0.2.254 dev wan2"));
    assert!(!way(f, "oif wan2 mark 0x83f00").contains("oif"));
    open(&mut client, std::slice::from_ref(&moved));
    steer(&mut client, &Steering::default());
    assert!(way(f, "mark 0x80000").contains("dev wan1"));
    assert!(way(f, "oif wan2 mark 0x83f00").contains("via 192.0.2.254"));
    assert_eq!(
        found(&mut client, &place, f).expect("read"),
        Found::default()
    );

    // With the device its routes go; they are put back when it is.
    ip("link set wan2 down");
    assert!(!ours().contains("default"));
    ip("link set wan2 up");
    open(&mut client, std::slice::from_ref(&moved));
    assert!(way(f, "oif wan2 mark 0x83f00").contains("via 192.0.2.254"));

    // Another mask of mwan3's: the rule follows.
    let wider = Mark {
        value: 0x8ff00,
        mask: 0xffff00,
    };
    open_for_probes(&mut client, &place, f, wider, &[moved]).expect("opened");
    assert!(way(f, "oif wan2 mark 0x8ff00").contains("via 192.0.2.254"));
    assert!(!way(f, "oif wan2 mark 0x83f00").contains("via"));
    open(&mut client, &[]);
    assert_eq!(ours(), "");
}

#[test]
fn a_device_without_a_gateway_is_steered_to_and_probed() {
    if !inside("a_device_without_a_gateway_is_steered_to_and_probed") {
        return;
    }
    one_default_of_two();
    // As PPP and raw modems: nobody to ask for a neighbour's address.
    pair("pppoe-wan.2@15c", "isp3");
    ip("link set pppoe-wan.2@15c arp off");
    ip("addr add 203.0.113.7 peer 203.0.113.1 dev pppoe-wan.2@15c");
    let (mut client, place) = (client(), place());
    let wanted = ["pppoe-wan.2@15c".to_string(), "wan1".to_string()];
    let seen = devices(&mut client, place.protocol).expect("devices");
    let choice = Choice {
        wanted: &wanted,
        ..Choice::default()
    };
    let uplinks = join(&seen, &[], choice);
    let names: Vec<&str> = uplinks.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, wanted, "{seen:?}");
    let hop = Knowledge::hop(&uplinks[0], Family::V4).expect("a way without a gateway");
    assert_eq!(hop.way.gateway, None);
    assert_eq!(hop.way.addresses, [address("203.0.113.7")]);
    open_for_probes(
        &mut client,
        &place,
        Family::V4,
        PROBE,
        std::slice::from_ref(&hop),
    )
    .expect("opened");
    apply(&mut client, &place, Family::V4, &to(&hop)).expect("steered");
    for how in ["mark 0x80000", "oif pppoe-wan.2@15c mark 0x83f00"] {
        let seen = way(Family::V4, how);
        assert!(
            seen.contains("dev pppoe-wan.2@15c table 17400 src 203.0.113.7"),
            "{seen}"
        );
        assert!(!seen.contains("via"), "{seen}");
    }
}

#[test]
fn two_uplinks_in_one_network_keep_their_own_device_and_address() {
    if !inside("two_uplinks_in_one_network_keep_their_own_device_and_address") {
        return;
    }
    ip("link set lo up");
    // Two modems of one make: the same network and the same gateway behind each device.
    for n in [1, 2] {
        pair(&format!("wan{n}"), &format!("isp{n}"));
        ip(&format!("addr add 192.168.8.10{n}/24 dev wan{n}"));
        ip(&format!(
            "route add default via 192.168.8.1 dev wan{n} metric {n}0"
        ));
    }
    let (mut client, place) = (client(), place());
    let seen = devices(&mut client, place.protocol).expect("devices");
    let uplinks = join(&seen, &[], Choice::default());
    assert_eq!(uplinks.len(), 2);
    let hop = Knowledge::hop(&uplinks[1], Family::V4).expect("a way");
    apply(&mut client, &place, Family::V4, &to(&hop)).expect("steered");
    let steered = way(Family::V4, "mark 0x80000");
    assert!(
        steered.contains("via 192.168.8.1 dev wan2") && steered.contains("src 192.168.8.102"),
        "{steered}"
    );
    for n in [1, 2] {
        let probe = way(Family::V4, &format!("oif wan{n} mark 0x83f00"));
        let own = format!("via 192.168.8.1 dev wan{n}");
        assert!(
            probe.contains(&own) && probe.contains(&format!("src 192.168.8.10{n}")),
            "{probe}"
        );
    }
}

#[test]
fn a_default_cut_in_halves_is_steered_around() {
    if !inside("a_default_cut_in_halves_is_steered_around") {
        return;
    }
    one_default_of_two();
    pair("tun0", "vpn");
    ip("addr add 10.8.0.2/24 dev tun0");
    ip("addr add fd00:8::2/64 dev tun0 nodad");
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        ip(&format!("route add {half} via 10.8.0.1 dev tun0"));
    }
    for half in ["::/1", "8000::/1"] {
        ip(&format!("-6 route add {half} via fd00:8::1 dev tun0"));
    }
    let (mut client, place) = (client(), place());
    let seen = devices(&mut client, place.protocol).expect("devices");
    let uplinks = join(&seen, &[], Choice::default());
    let k = Knowledge {
        uplinks: uplinks.clone(),
        ..Knowledge::default()
    };
    for family in Family::BOTH {
        let main = k.main_default(family).map(|u: &Uplink| u.device.as_str());
        assert_eq!(main, Some("tun0"), "the halves come before the default");
        assert!(way(family, "mark 0x80000").contains("dev tun0"));
        apply(&mut client, &place, family, &to(&second(family))).expect("steered");
        assert!(way(family, "mark 0x80000").contains("dev wan2 table 17400"));
        assert!(way(family, "").contains("dev tun0"), "only the mark moves");
        // Networks that are really there stay where they are.
        let near = if family == Family::V4 {
            "10.8.0.9"
        } else {
            "fd00:8::9"
        };
        assert!(ip(&format!("route get {near} mark 0x80000")).contains("dev tun0"));
    }
}

#[test]
fn an_exit_node_in_use_is_no_uplink_and_moves_no_marked_packet() {
    if !inside("an_exit_node_in_use_is_no_uplink_and_moves_no_marked_packet") {
        return;
    }
    one_default_of_two();
    pair("tailscale0", "tailnet");
    ip("addr add 100.64.0.1/32 dev tailscale0");
    // As tailscaled has them at base 1300 with an exit node.
    ip("rule add pref 1310 fwmark 0x80000/0xff0000 lookup main");
    ip("rule add pref 1370 lookup 52");
    ip("route add default dev tailscale0 table 52");
    let mut client = client();
    let seen = devices(&mut client, 122).expect("devices");
    let uplinks = join(&seen, &[], Choice::default());
    let names: Vec<&str> = uplinks.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["wan1"]);
    assert!(way(Family::V4, "").contains("dev tailscale0"));
    assert!(way(Family::V4, "mark 0x80000").contains("dev wan1"));
    // Probes are marked too, and go where they are bound to.
    open_for_probes(
        &mut client,
        &place(),
        Family::V4,
        PROBE,
        &[second(Family::V4)],
    )
    .expect("opened");
    assert!(way(Family::V4, "oif wan2 mark 0x83f00").contains("via 192.0.2.1 dev wan2"));
    assert!(way(Family::V4, "oif wan1 mark 0x83f00").contains("via 192.0.1.1 dev wan1"));
}

#[test]
fn neighbours_of_an_uplink_are_told_from_the_outside() {
    if !inside("neighbours_of_an_uplink_are_told_from_the_outside") {
        return;
    }
    one_default_of_two();
    // A prefix that a router advertised without an address for us; a copy, as mwan3 makes them.
    ip("-6 route add 2001:db8:77::/64 dev wan1");
    ip("route add 192.0.1.0/24 dev wan1 table 1");
    ip("route add 198.51.100.0/24 via 192.0.1.1 dev wan1");
    let seen = devices(&mut client(), 122).expect("devices");
    let uplinks = join(&seen, &[], Choice::default());
    let near = ["192.0.1.1", "2001:db8:1::1", "2001:db8:77::1", "fe80::1"];
    for ip in near {
        assert!(uplinks[0].on_link(&address(ip)), "{ip}: {uplinks:?}");
    }
    for ip in ["192.0.2.1", "198.51.100.1", "2001:db8:78::1"] {
        assert!(!uplinks[0].on_link(&address(ip)), "{ip}: {uplinks:?}");
    }
    let copies = uplinks[0].on_link.iter();
    assert_eq!(copies.filter(|net| net.0.is_ipv4()).count(), 1);
}

#[test]
fn sixty_uplinks_have_a_table_each_and_no_two_share_one() {
    if !inside("sixty_uplinks_have_a_table_each_and_no_two_share_one") {
        return;
    }
    let mut hops = Vec::new();
    for n in 0..35 {
        let names = [format!("a{n}"), format!("b{n}")];
        pair(&names[0], &names[1]);
        for (m, name) in names.iter().enumerate() {
            ip(&format!("addr add 10.{n}.{m}.2/24 dev {name}"));
            let gateway = format!("10.{n}.{m}.1");
            hops.push(hop(name, Some(&gateway), &format!("10.{n}.{m}.2")));
        }
    }
    let (mut client, place) = (client(), place());
    let sixty = &hops[..60];
    open_for_probes(&mut client, &place, Family::V4, PROBE, sixty).expect("opened");
    for hop in sixty {
        let seen = way(Family::V4, &format!("oif {} mark 0x83f00", hop.device));
        let gateway = hop.way.gateway.expect("a gateway");
        assert!(
            seen.contains(&format!("via {gateway} dev {} ", hop.device)),
            "{seen}"
        );
    }
    // There are 64 tables. More uplinks are an error, and never take another's table.
    let error = open_for_probes(&mut client, &place, Family::V4, PROBE, &hops)
        .expect_err("70 do not fit")
        .to_string();
    assert!(error.starts_with("finding a table for "), "{error}");
    for hop in sixty {
        let seen = way(Family::V4, &format!("oif {} mark 0x83f00", hop.device));
        assert!(
            seen.contains(&format!(" dev {} table ", hop.device)),
            "{seen}"
        );
    }
}
