//! Reads what the kernel tells for nothing: packets of devices, resent TCP segments, a stopped process.

use std::fs::File;
use std::io::Read;

use crate::core::signs::{Pulse, Resending, Traffic};
use crate::tailscale::process;

use super::sockets;

/// A router has its own connections only in these tables; more than this is an attack on it.
const RESENDING: usize = 64;

/// Files of /proc say that they are empty, and would be read from 32 bytes on, doubled each time.
/// They are read every second or two for ever.
const READ_AT_ONCE: usize = 8 * 1024;

/// Reads the counters of `uplinks` (devices) and of tailscale's device, whether the process `pid` is
/// stopped, and, if asked for, all connections with unacknowledged data. What cannot be read is
/// left out: a sign less is no harm.
pub fn read(uplinks: &[&str], pid: Option<u32>, connections: bool) -> Pulse {
    let mut text = String::with_capacity(READ_AT_ONCE);
    read_into(&mut text, "/proc/net/dev");
    let mut pulse = traffic(&text, uplinks);
    pulse.halted = pid.is_some_and(process::halted);
    if connections {
        let mut list = Vec::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            read_into(&mut text, table);
            let room = RESENDING.saturating_sub(list.len());
            list.extend(resending(&text).take(room));
        }
        pulse.resending = Some(list);
    }
    pulse
}

/// Replaces `text` by that of a file; empty when it cannot be read.
fn read_into(text: &mut String, path: &str) {
    text.clear();
    if File::open(path)
        .and_then(|mut file| file.read_to_string(text))
        .is_err()
    {
        text.clear();
    }
}

/// Picks devices out of the text of /proc/net/dev (proc_pid_net(5)): after two lines of heading
/// `name: bytes packets errs drop fifo frame compressed multicast bytes packets …`.
fn traffic(text: &str, uplinks: &[&str]) -> Pulse {
    let mut pulse = Pulse::default();
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else {
            continue;
        };
        let name = name.trim();
        let tunnel = name.starts_with("tailscale");
        if !tunnel && !uplinks.contains(&name) {
            continue;
        }
        let mut counters = counters.split_ascii_whitespace();
        let received = counters.nth(1).and_then(|n| n.parse().ok());
        let sent = counters.nth(7).and_then(|n| n.parse().ok());
        let (Some(received), Some(sent)) = (received, sent) else {
            continue;
        };
        let traffic = Traffic {
            device: name.to_string(),
            received,
            sent,
        };
        match tunnel {
            true => pulse.tunnel = Some(traffic),
            false => pulse.uplinks.push(traffic),
        }
    }
    pulse
}

fn resending(text: &str) -> impl Iterator<Item = Resending> + '_ {
    sockets::parse(text)
        .into_iter()
        .filter(|e| e.flow.retransmits > 0 && e.flow.tx_queue > 0)
        .map(|e| Resending {
            local: e.flow.local,
            remote: e.flow.remote,
            times: e.flow.retransmits,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0
  eth1:123456     789    1    0    0     0          0         3   654321     987    0    0    0     0       0          0
pppoe-wan: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0
tailscale0: 50 5 0 0 0 0 0 0 60 6 0 0 0 0 0 0
broken: 1 2
";

    #[test]
    fn devices_are_picked_by_name() {
        let pulse = traffic(DEV, &["eth1", "pppoe-wan", "broken"]);
        let t = |device: &str, received, sent| Traffic {
            device: device.into(),
            received,
            sent,
        };
        assert_eq!(pulse.uplinks, [t("eth1", 789, 987), t("pppoe-wan", 2, 4)]);
        assert_eq!(pulse.tunnel, Some(t("tailscale0", 5, 6)));
    }

    #[test]
    fn nonsense_shows_nothing() {
        assert_eq!(traffic("", &["eth1"]), Pulse::default());
        assert_eq!(
            traffic("a\nb\neth1 7\neth1: x y", &["eth1"]),
            Pulse::default()
        );
    }

    #[test]
    fn this_machine_can_be_read() {
        assert_eq!(read(&["lo"], None, true).uplinks.len(), 1);
    }
}
