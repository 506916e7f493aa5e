//! Reads what the kernel tells for nothing: packets of devices, resent TCP segments, a stopped process.

use std::fs::File;
use std::io::Read;

use crate::core::signs::{Pulse, Resending, Traffic};
use crate::tailscale::process;

use super::sockets::Entry;

/// A router has its own connections only in these tables; more than this is an attack on it.
const RESENDING: usize = 64;

/// Files of /proc say that they are empty, and would be read from 32 bytes on, doubled each time.
/// They are read every second or two for ever.
const READ_AT_ONCE: usize = 8 * 1024;

/// Reads the counters of `uplinks` (devices) and of tailscale's device, whether the process `pid` is
/// stopped, and which of the TCP connections, if they were read, have unacknowledged data. What
/// cannot be read is left out: a sign less is no harm.
pub fn read(uplinks: &[&str], pid: Option<u32>, connections: Option<&[Entry]>) -> Pulse {
    let mut text = String::with_capacity(READ_AT_ONCE);
    read_into(&mut text, "/proc/net/dev");
    let mut pulse = traffic(&text, uplinks);
    pulse.halted = pid.is_some_and(process::halted);
    pulse.resending = connections.map(|all| resending(all).take(RESENDING).collect());
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

fn resending(entries: &[Entry]) -> impl Iterator<Item = Resending> + '_ {
    entries
        .iter()
        .filter(|e| e.flow.retransmits > 0 && e.flow.tx_queue > 0)
        .map(|e| Resending {
            local: e.flow.local,
            remote: e.flow.remote,
            times: e.flow.retransmits,
        })
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(text: &str) {
    traffic(text, &["eth1", "tailscale0"]);
}

#[cfg(test)]
mod tests {
    use super::super::sockets;
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
        let connections = sockets::tcp(std::process::id()).expect("our own view");
        let pulse = read(&["lo"], None, Some(&connections));
        assert_eq!(pulse.uplinks.len(), 1);
        assert!(pulse.resending.is_some() && read(&["lo"], None, None).resending.is_none());
    }
}
