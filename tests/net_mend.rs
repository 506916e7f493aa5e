//! What tailscaled puts into the kernel is read, lost and put back on the real kernel, in a network
//! namespace of the test's own, held against what ip(8) says.

mod netns;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns::{inside, ip};
use smol::Timer;
use tailover::cure::mend::mend;
use tailover::net::nftables::Monitor;
use tailover::tailscale::kernel::{missing, Claims, Held, Missing, Record};
use tailover::tailscale::networks::Networks;
use tailover::watch::chains;
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
        ..Claims::default()
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

/// The chains that tailscaled makes in one family.
const CHAINS: &str = "
table FAMILY filter {
    chain ts-forward { oifname tailscale0 counter accept; }
    chain ts-input { iifname tailscale0 counter accept; }
    chain FORWARD { type filter hook forward priority filter; counter jump ts-forward; }
    chain INPUT { type filter hook input priority filter; counter jump ts-input; }
}
table FAMILY nat {
    chain ts-postrouting { meta mark and 0xff0000 == 0x40000 counter masquerade; }
    chain POSTROUTING { type nat hook postrouting priority srcnat; counter jump ts-postrouting; }
}
";

const OTHERS: &str = "
table inet fw4
flush table inet fw4
table inet fw4 {
    set names { type ipv4_addr; flags timeout; }
    chain input { type filter hook input priority filter; ip saddr @names accept; }
}
";

/// Runs nft(8) with these lines.
fn nft(lines: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft(8) is installed");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(lines.as_bytes()).expect("it reads");
    drop(input);
    assert!(child.wait().expect("it ends").success(), "nft: {lines}");
}

/// Runs in a namespace with nf_tables and tailscaled's chains; passes where the kernel has none.
fn with_chains(test: &str, body: impl FnOnce()) {
    if !inside(test) {
        return;
    }
    as_tailscaled();
    let probe = Command::new("nft").args(["list", "tables"]).output();
    if !probe.is_ok_and(|o| o.status.success()) {
        println!("skipped: {test}: no nft(8), or no nf_tables");
        return;
    }
    nft(OTHERS);
    for family in ["ip", "ip6"] {
        nft(&CHAINS.replace("FAMILY", family));
    }
    body();
}

fn filtering(netfilter_mode: u64) -> Claims {
    Claims {
        netfilter_mode,
        ..claims()
    }
}

#[test]
fn lost_firewall_chains_are_named_and_the_rest_is_put_back() {
    with_chains(
        "lost_firewall_chains_are_named_and_the_rest_is_put_back",
        || {
            let watch = KernelWatch::new(0x3f00);
            let record = Record::of(&read(&watch)).expect("a record");
            let lost = || missing(Some(&record), &read(&watch), &filtering(2));
            assert!(lost().is_empty(), "{:?}", lost().words());
            nft(OTHERS);
            assert!(lost().is_empty(), "the firewall was reloaded");
            for (change, words) in [
                (
                    "flush chain ip6 filter FORWARD",
                    "the firewall's jump from FORWARD to ts-forward of ip6 filter",
                ),
                (
                    "flush chain ip nat ts-postrouting",
                    "the content of the firewall chain ts-postrouting of ip nat",
                ),
                (
                    "flush chain ip filter FORWARD; delete chain ip filter ts-forward",
                    "the firewall chain ts-forward of ip filter",
                ),
            ] {
                nft(&change.replace("; ", "\n"));
                let lost = lost().words();
                assert!(lost.iter().any(|w| w == words), "{change}: {lost:?}");
            }
            ip("route del 10.9.0.0/16 table 52");
            let both = lost();
            assert_eq!(both.words().len(), 4, "{:?}", both.words());
            let done = mend(&both).expect("the route is put back").text;
            assert_eq!(done, "put back the IPv4 route 10.9.0.0/16 of table 52");
            let refused = mend(&lost()).expect_err("only the firewall is left");
            assert!(refused.contains("ts-forward of ip filter"), "{refused}");
            assert!(missing(Some(&record), &read(&watch), &filtering(0)).is_empty());
        },
    );
}

#[test]
fn deleted_chains_are_heard_of_and_a_busy_firewall_is_not() {
    with_chains(
        "deleted_chains_are_heard_of_and_a_busy_firewall_is_not",
        || {
            let mut monitor = Monitor::open().expect("nf_tables can be listened to");
            smol::block_on(async {
                let mut heard = async || {
                    let deleted = async { chains::deleted(&mut monitor).await.map(|()| true) };
                    let timeout = async {
                        Timer::after(Duration::from_millis(300)).await;
                        Ok(false)
                    };
                    smol::future::or(deleted, timeout)
                        .await
                        .expect("it goes on")
                };
                nft("add element inet fw4 names { 192.0.2.1 timeout 60s }");
                nft(OTHERS);
                nft("add rule ip filter INPUT counter accept");
                assert!(!heard().await, "nothing of tailscaled's was deleted");
                // More than the socket holds, and the kernel keeps all of it away.
                let element = |n: u32| {
                    let name = Ipv4Addr::from(n);
                    format!("add element inet fw4 names {{ {name} timeout 60s }}\n")
                };
                nft(&(1..=8000).map(element).collect::<String>());
                assert!(!heard().await, "elements of a set woke us");
                nft("delete table ip nat");
                assert!(heard().await, "a table was deleted");
                while heard().await {}
                // As fast as can be, more than the socket holds: lost words count as a deletion.
                let rule = "add rule inet fw4 input tcp dport { 1, 2, 3 } counter accept\n";
                let many = rule.repeat(400);
                for _ in 0..20 {
                    nft(OTHERS);
                    nft(&many);
                }
                assert!(heard().await, "words were lost");
                while heard().await {}
                nft("flush chain ip filter ts-input");
                assert!(heard().await, "it listens on after words were lost");
            });
        },
    );
}

fn listing_without_device() -> Vec<String> {
    let whats = ["-d rule show", "-d route show table all"];
    let families = ["-4", "-6"].into_iter();
    let all = families.flat_map(|f| whats.map(|what| ip(&format!("{f} {what}"))));
    all.collect()
}
