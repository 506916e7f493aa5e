//! Finds the addresses in a word, for a report that masks them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The first address in a word: where it begins and ends, and its kind.
pub(super) fn address(word: &str) -> Option<(usize, usize, &'static str)> {
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b':' || b == b'.';
    let bytes = word.as_bytes();
    // Where a piece may begin, and end: at the edges of runs, and at colons. The longest first.
    let edge = |at: usize| {
        let inside = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at))
                .is_some_and(|b| part(*b) && *b != b':')
        };
        !(inside(at.checked_sub(1)) && inside(Some(at)))
    };
    for from in 0..word.len() {
        if !edge(from) || !word.is_char_boundary(from) {
            continue;
        }
        let rest = word.get(from..)?;
        let run = from + rest.bytes().take_while(|b| part(*b)).count();
        for to in (from + 2..=run).rev().filter(|to| edge(*to)) {
            let piece = word.get(from..to).unwrap_or_default().trim_end_matches('.');
            if let Some(kind) = kind(piece) {
                return Some((from, from + piece.len(), kind));
            }
        }
    }
    None
}

/// The kind of an address; `None` for what is none, or is the same everywhere.
pub(super) fn kind(text: &str) -> Option<&'static str> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        let [a, b, ..] = ip.octets();
        return match (a, b) {
            _ if ip.is_unspecified() || ip.is_loopback() || ip.is_broadcast() => None,
            // A netmask.
            (255, _) => None,
            (100, 64..=127) => Some("tailnet or carrier IPv4"),
            _ if ip.is_private() => Some("private IPv4"),
            _ => Some("IPv4"),
        };
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return match ip.segments() {
            _ if ip.is_unspecified() || ip.is_loopback() => None,
            [0xfd7a, 0x115c, 0xa1e0, ..] => Some("tailnet IPv6"),
            [0xfe80..=0xfebf, ..] => Some("link-local IPv6"),
            [0xfc00..=0xfdff, ..] => Some("private IPv6"),
            _ => Some("IPv6"),
        };
    }
    if text == "00:00:00:00:00:00" || text == "ff:ff:ff:ff:ff:ff" {
        return None;
    }
    let mut places = text.bytes().enumerate();
    let fits = |(at, b): (usize, u8)| {
        if at % 3 == 2 {
            b == b':'
        } else {
            b.is_ascii_hexdigit()
        }
    };
    (text.len() == 17 && places.all(fits)).then_some("MAC")
}
