//! The kernel's table of connections: UDP flows of tailscaled with the mark mwan3 keeps for each, and who in the
//! tailnet is talked with.
//!
//! mwan3 saves an uplink's mark with the connection and gives it to every further packet of it, also
//! when new connections get another uplink's. /proc is read and not netlink: OpenWrt's kernels have
//! it (CONFIG_NF_CONNTRACK_PROCFS; LuCI shows it), while netlink needs a module that most routers
//! lack.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;

use crate::tailscale::kernel::is_tailnet;

const TABLE: &str = "/proc/net/nf_conntrack";

/// Bytes read at most: 32,768 flows, twice what a router with 128 MB keeps at its defaults.
const READ_MAX: u64 = 8 << 20;

/// Flows given at most. One is evidence, more are only examples.
const FOUND_MAX: usize = 8;

/// Tailnet addresses given at most.
const ENDS_MAX: usize = 64;

/// A flow that mwan3 holds on an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub local: IpAddr,
    pub remote: IpAddr,
    /// mwan3's bits of the mark.
    pub mark: u32,
}

/// The UDP flows from these local ports that carry an uplink's mark.
///
/// # Errors
/// The kernel has no such table, or does not let us read it.
pub fn kept(ports: &[u16], mmx_mask: u32) -> io::Result<Vec<Kept>> {
    find(table()?, ports, mmx_mask)
}

/// Tailnet addresses at both ends of flows that the kernel knows, this node's own among them. It keeps a flow for
/// longer than tailscaled may be away: 30 s after a ping, 5 days of an established TCP connection (2 h on OpenWrt).
///
/// # Errors
/// As [`kept`].
pub fn tailnet() -> io::Result<Vec<IpAddr>> {
    ends_in_tailnet(table()?)
}

fn table() -> io::Result<impl BufRead> {
    Ok(BufReader::new(File::open(TABLE)?.take(READ_MAX)))
}

fn ends_in_tailnet(table: impl BufRead) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for line in table.lines() {
        let line = line?;
        let ends = line.split_ascii_whitespace().filter_map(|word| {
            let end = word
                .strip_prefix("src=")
                .or_else(|| word.strip_prefix("dst="));
            end?.parse().ok()
        });
        for ip in ends.filter(is_tailnet) {
            if found.len() < ENDS_MAX && !found.contains(&ip) {
                found.push(ip);
            }
        }
    }
    Ok(found)
}

fn find(table: impl BufRead, ports: &[u16], mmx_mask: u32) -> io::Result<Vec<Kept>> {
    let mut found = Vec::new();
    for line in table.lines() {
        found.extend(entry(&line?, ports, mmx_mask));
        if found.len() >= FOUND_MAX {
            break;
        }
    }
    Ok(found)
}

/// `ipv4 2 udp 17 119 src=A dst=B sport=P dport=Q [UNREPLIED] src=B … mark=256 zone=0 use=2`: the
/// first of each name is of the direction that began the flow (net/netfilter/nf_conntrack_standalone.c,
/// ct_seq_show).
fn entry(line: &str, ports: &[u16], mmx_mask: u32) -> Option<Kept> {
    if line.split_ascii_whitespace().nth(2) != Some("udp") {
        return None;
    }
    let first = |name: &str| {
        line.split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    if !ports.contains(&first("sport")?.parse().ok()?) {
        return None;
    }
    let mark: u32 = first("mark")?.parse().ok()?;
    let mark = mark & mmx_mask;
    // All bits set means: not mwan3's business.
    if mark == 0 || mark == mmx_mask {
        return None;
    }
    Some(Kept {
        local: first("src")?.parse().ok()?,
        remote: first("dst")?.parse().ok()?,
        mark,
    })
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    let kept = find(bytes, &[41641, 41642], 0x3f00);
    assert!(kept.is_ok_and(|kept| kept.len() <= FOUND_MAX) || std::str::from_utf8(bytes).is_err());
    let ends = ends_in_tailnet(bytes);
    assert!(ends.is_ok_and(|ends| ends.len() <= ENDS_MAX) || std::str::from_utf8(bytes).is_err());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a kernel printed them, in the lab.
    const LINES: &str = "\
ipv4     2 udp      17 119 src=192.0.2.2 dst=203.0.113.200 sport=41641 dport=41641 src=203.0.113.200 dst=192.0.2.2 sport=41641 dport=41641 [ASSURED] mark=524544 zone=0 use=2
ipv4     2 udp      17 29 src=192.0.2.2 dst=203.0.113.200 sport=53 dport=41641 [UNREPLIED] src=203.0.113.200 dst=192.0.2.2 sport=41641 dport=53 mark=256 zone=0 use=2
ipv4     2 tcp      6 431995 ESTABLISHED src=192.0.2.2 dst=198.51.100.10 sport=41641 dport=443 src=198.51.100.10 dst=192.0.2.2 sport=443 dport=41641 [ASSURED] mark=256 zone=0 use=2
ipv6     10 udp      17 20 src=2001:0db8:0001:0000:0000:0000:0000:0002 dst=2001:0db8:0003:0000:0000:0000:0000:0002 sport=41641 dport=41641 src=2001:0db8:0003:0000:0000:0000:0000:0002 dst=2001:0db8:0001:0000:0000:0000:0000:0002 sport=41641 dport=41641 mark=16128 zone=0 use=2
ipv6     10 udp      17 20 src=2001:0db8:0001:0000:0000:0000:0000:0002 dst=2001:0db8:0003:0000:0000:0000:0000:0002 sport=41641 dport=3478 src=2001:0db8:0003:0000:0000:0000:0000:0002 dst=2001:0db8:0001:0000:0000:0000:0000:0002 sport=3478 dport=41641 mark=512 zone=0 use=2
";

    #[test]
    fn only_udp_of_these_ports_with_an_uplinks_mark_counts() {
        let found = find(LINES.as_bytes(), &[41641], 0x3f00).expect("text");
        let kept = |local: &str, remote: &str, mark| Kept {
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            mark,
        };
        assert_eq!(
            found,
            [
                kept("192.0.2.2", "203.0.113.200", 0x100),
                kept("2001:db8:1::2", "2001:db8:3::2", 0x200),
            ]
        );
    }

    #[test]
    fn ends_in_the_tailnet_are_told_once_each() {
        // A ping from a peer, a session to one by IPv6, one that a provider's NAT has made, and what is none.
        let lines = "\
ipv4     2 icmp     1 29 src=100.64.0.1 dst=100.64.0.2 type=8 code=0 id=7 src=100.64.0.2 dst=100.64.0.1 type=0 code=0 id=7 mark=0 zone=0 use=2
ipv6     10 tcp      6 7439 ESTABLISHED src=fd7a:115c:a1e0:0000:0000:0000:0000:0002 dst=fd7a:115c:a1e0:0000:0000:0000:0000:0009 sport=5 dport=22 src=fd7a:115c:a1e0:0000:0000:0000:0000:0009 dst=fd7a:115c:a1e0:0000:0000:0000:0000:0002 sport=22 dport=5 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=192.168.1.5 dst=100.128.0.1 sport=5 dport=53 src=100.128.0.1 dst=192.168.1.5 sport=53 dport=5 mark=0 zone=0 use=2
";
        let found = ends_in_tailnet(format!("{LINES}{lines}{lines}").as_bytes()).expect("text");
        let told: Vec<_> = found.iter().map(IpAddr::to_string).collect();
        let ours = [
            "100.64.0.1",
            "100.64.0.2",
            "fd7a:115c:a1e0::2",
            "fd7a:115c:a1e0::9",
        ];
        assert_eq!(told, ours);
        let many: String = (0..200).map(|n| format!("src=100.64.1.{n} ")).collect();
        let found = ends_in_tailnet(many.as_bytes()).expect("text");
        assert_eq!(found.len(), ENDS_MAX);
    }

    #[test]
    fn no_more_than_a_few_are_kept() {
        let many = LINES.repeat(100);
        let found = find(many.as_bytes(), &[41641], 0x3f00).expect("text");
        assert_eq!(found.len(), FOUND_MAX);
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "\\PC{0,200}", words in prop::collection::vec("(udp|src=|mark=|sport=41641)[0-9a-f:.]{0,12}", 0..12)) {
            let _ = find(text.as_bytes(), &[41641], 0x3f00);
            let _ = find(words.join(" ").as_bytes(), &[41641], 0x3f00);
        }
    }
}
