//! What tailscaled puts into the kernel is read, lost and put back on the real kernel, in a network
//! namespace of the test's own, held against what ip(8) says.

mod netns;

use std::net::IpAddr;

use netns::{inside, ip};
use tailover::cure::mend::mend;
use tailover::tailscale::kernel::{missing, Claims, Held, Missing, Record};
use tailover::tailscale::networks::Networks;
use tailover::watch::lost::KernelWatch;

/// What tailscaled sets on a router with mwan3, a LAN and an exit node (router_linux.go).
fn as_tailscaled() {
    ip("link set lo up");
    for (name, peer) in [("tailscale0", "far"), ("br-lan", "host")] {
        ip(&format!("link add {name} type veth peer name {peer}"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {peer} up"));
    }
    ip("addr add 192.168.1.1/24 dev br-lan");
    ip("addr add fd11::1/64 dev br-lan nodad");
    ip("addr add 100.64.0.2/32 dev tailscale0");
    ip("addr add fd7a:115c:a1e0::2/128 dev tailscale0 nodad");
    for (family, nets) in [
        (
            "-4",
            ["100.64.0.1", "100.100.100.100", "10.9.0.0/16", "default"],
        ),
        (
            "-6",
            [
                "fd7a:115c:a1e0::/48",
                "fd7a:115c:a1e0::53",
                "fd99::/64",
                "default",
            ],
        ),
    ] {
        for net in nets {
            let plain = "dev tailscale0 table 52 scope global proto boot";
            ip(&format!("{family} route add {net} {plain}"));
        }
        for (offset, rule) in [
            (10, "fwmark 0x80000/0xff0000 lookup main"),
            (30, "fwmark 0x80000/0xff0000 lookup default"),
            (50, "fwmark 0x80000/0xff0000 type unreachable"),
            (70, "lookup 52"),
        ] {
            ip(&format!("{family} rule add pref {} {rule}", 1300 + offset));
        }
    }
    ip("route add throw 192.168.1.0/24 table 52");
    ip("-6 route add throw fd11::/64 table 52");
}

fn claims() -> Claims {
    let net = |text: &str, bits| (text.parse::<IpAddr>().expect("an address"), bits);
    let networks: Networks = [
        net("100.64.0.1", 32),
        net("fd7a:115c:a1e0::1", 128),
        net("10.9.0.0", 16),
        net("fd99::", 64),
        net("0.0.0.0", 0),
        net("::", 0),
    ]
    .into_iter()
    .collect();
    Claims {
        addresses: vec![net("100.64.0.2", 0).0, net("fd7a:115c:a1e0::2", 0).0],
        route_all: true,
        exit_node: true,
        networks,
    }
}

/// All that ip(8) can tell of it.
fn listing() -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        for what in [
            "-d rule show".to_string(),
            "-d route show table 52".to_string(),
            "-d -o addr show dev tailscale0 scope global".to_string(),
        ] {
            let text = ip(&format!("{family} {what}"));
            // A tunnel does not look for duplicates; the cable that stands for it here does.
            let text = text.replace(" tentative", "").replace(" nodad", "");
            let mut list: Vec<String> = text.lines().map(str::to_string).collect();
            // Routes of one prefix length are listed in the order they were added.
            list.sort();
            lines.extend(list);
        }
    }
    lines
}

fn read(watch: &KernelWatch) -> Held {
    watch.changed();
    watch
        .read()
        .expect("the kernel answers")
        .expect("a reading")
}

/// Loses something, sees it, puts it back, and finds everything as it was.
fn lost_and_mended(what: &[&str], wanted: impl Fn(&Missing)) {
    let watch = KernelWatch::new(0x3f00);
    let before = (listing(), read(&watch));
    let record = Record::of(&before.1).expect("a record");
    assert!(missing(Some(&record), &before.1, &claims()).is_empty());
    for command in what {
        ip(command);
    }
    let lost = missing(Some(&record), &read(&watch), &claims());
    wanted(&lost);
    assert!(lost.mendable(), "{:?}", lost.beyond);
    let report = mend(&lost).expect("it is put back");
    assert!(report.text.starts_with("put back "), "{}", report.text);
    let after = (listing(), read(&watch));
    assert_eq!(after.0, before.0, "after {what:?}");
    assert!(missing(Some(&record), &after.1, &claims()).is_empty());
    // Put back once more, nothing is there twice.
    mend(&lost).expect("it is there already");
    assert_eq!(listing(), before.0);
}

#[test]
fn what_was_lost_is_put_back_as_it_was() {
    if !inside("what_was_lost_is_put_back_as_it_was") {
        return;
    }
    as_tailscaled();
    lost_and_mended(
        &["route flush table 52", "-6 route flush table 52"],
        |lost| {
            assert_eq!((lost.routes.len(), lost.rules.len()), (10, 0));
        },
    );
    lost_and_mended(&["route del 10.9.0.0/16 table 52"], |lost| {
        assert_eq!(lost.words(), ["the IPv4 route 10.9.0.0/16 of table 52"]);
    });
    let rules: Vec<String> = ["-4", "-6"]
        .iter()
        .flat_map(|f| [10, 30, 50, 70].map(|n| format!("{f} rule del pref {}", 1300 + n)))
        .collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    lost_and_mended(&rules, |lost| assert_eq!(lost.rules.len(), 8));
    lost_and_mended(&["addr del 100.64.0.2/32 dev tailscale0"], |lost| {
        assert_eq!(lost.addresses.len(), 1);
    });
    lost_and_mended(&["link set tailscale0 down"], |lost| {
        assert!(lost.down.is_some());
        assert_eq!(
            lost.addresses.len(),
            1,
            "only IPv6 addresses go with the link"
        );
    });
}

#[test]
fn what_cannot_be_put_back_is_left_alone() {
    if !inside("what_cannot_be_put_back_is_left_alone") {
        return;
    }
    as_tailscaled();
    let watch = KernelWatch::new(0x3f00);
    let record = Record::of(&read(&watch)).expect("a record");
    ip("link del tailscale0");
    let lost = missing(Some(&record), &read(&watch), &claims());
    assert!(!lost.mendable());
    let before = listing_without_device();
    let refused = mend(&lost).expect_err("there is no device");
    assert!(refused.contains("tailscale0"), "{refused}");
    assert_eq!(listing_without_device(), before);
}

fn listing_without_device() -> Vec<String> {
    let whats = ["-d rule show", "-d route show table all"];
    let families = ["-4", "-6"].into_iter();
    let all = families.flat_map(|f| whats.map(|what| ip(&format!("{f} {what}"))));
    all.collect()
}
