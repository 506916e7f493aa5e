//! The networks that tailscaled's peers are allowed, read out of a status as its bytes come.
//!
//! With a thousand peers the answer is 1.5 MB. A small router has no room for that as a tree of
//! values, and all that is wanted of it is a few bytes for each peer.

use std::net::IpAddr;

use crate::core::prefix::Prefix;

/// More networks than this are no router's tailnet.
const MOST: usize = 16 * 1024;

/// Deeper than this is no status.
const DEPTH: usize = 32;

/// The longest text that is wanted: an IPv6 network, or the name of a field.
const TEXT: usize = 64;

/// Every network of every peer that tailscaled would route to: its own addresses and what it
/// advertises. Peers with an expired key are left out, as tailscaled leaves them out
/// (net/routemanager, peerViewOf).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Sorted, each once.
    list: Vec<Prefix>,
}

impl Networks {
    /// Whether a peer is allowed exactly this network.
    pub fn has(&self, network: &Prefix) -> bool {
        self.list.binary_search(network).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Prefix> {
        self.list.iter()
    }
}

impl FromIterator<Prefix> for Networks {
    fn from_iter<T: IntoIterator<Item = Prefix>>(prefixes: T) -> Self {
        let mut list: Vec<Prefix> = prefixes.into_iter().collect();
        list.sort_unstable();
        list.dedup();
        Self { list }
    }
}

/// The field of a peer that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    AllowedIps,
    Expired,
    #[default]
    Other,
}

/// Takes the bytes of `GET status`: `{"Peer": {KEY: {"AllowedIPs": [...], "Expired": true}}}`.
#[derive(Debug, Default)]
pub(super) struct Reader {
    found: Vec<Prefix>,
    /// For each open bracket whether it is an object's.
    open: Vec<bool>,
    /// The next text of this object is a key.
    key: bool,
    /// Inside the member `Peer` of the whole.
    peers: bool,
    field: Field,
    /// Where the networks of the peer being read begin.
    peer: usize,
    expired: bool,
    text: Option<Text>,
    begun: bool,
}

/// A text being read.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// The byte before was a backslash.
    escaped: bool,
}

/// How deep the members of a peer stand: the whole, `Peer`, the peer.
const MEMBER: usize = 3;

impl Reader {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// They are no JSON, or no status that a router could hold.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for byte in bytes {
            match &mut self.text {
                Some(text) if text.escaped => text.escaped = false,
                Some(text) if *byte == b'\\' => text.escaped = true,
                Some(text) if *byte != b'"' => {
                    // What is longer is nothing that is looked for.
                    if text.bytes.len() < TEXT {
                        text.bytes.push(*byte);
                    }
                }
                Some(_) => {
                    let text = self.text.take().unwrap_or_default();
                    self.take_text(&text.bytes)?;
                }
                None => self.take_mark(*byte)?,
            }
        }
        Ok(())
    }

    /// What was found, once all has come.
    ///
    /// # Errors
    /// The status broke off.
    pub(super) fn end(self) -> Result<Networks, &'static str> {
        if !self.begun || !self.open.is_empty() || self.text.is_some() {
            return Err("half a status");
        }
        Ok(self.found.into_iter().collect())
    }

    fn take_mark(&mut self, byte: u8) -> Result<(), &'static str> {
        match byte {
            b'"' => self.text = Some(Text::default()),
            b'{' | b'[' => {
                if self.open.len() == DEPTH {
                    return Err("a status that is too deep");
                }
                self.begun = true;
                self.open.push(byte == b'{');
                self.key = byte == b'{';
                if self.peers && self.open.len() == MEMBER {
                    (self.peer, self.expired) = (self.found.len(), false);
                }
            }
            b'}' | b']' => {
                if self.open.pop() != Some(byte == b'}') {
                    return Err("brackets that do not match");
                }
                if self.peers && self.open.len() == MEMBER - 1 && self.expired {
                    self.found.truncate(self.peer);
                }
            }
            b',' => self.key = self.open.last() == Some(&true),
            b':' => self.key = false,
            // Outside of texts a `t` only begins `true`.
            b't' if self.peers && self.open.len() == MEMBER && self.field == Field::Expired => {
                self.expired = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_text(&mut self, text: &[u8]) -> Result<(), &'static str> {
        match (self.key, self.open.len()) {
            (true, 1) => self.peers = text == b"Peer",
            (true, MEMBER) => {
                self.field = match text {
                    b"AllowedIPs" => Field::AllowedIps,
                    b"Expired" => Field::Expired,
                    _ => Field::Other,
                };
            }
            (false, depth) if self.peers && self.field == Field::AllowedIps => {
                if depth != MEMBER + 1 {
                    return Ok(());
                }
                if self.found.len() == MOST {
                    return Err("more networks than can be kept");
                }
                self.found.extend(prefix(text));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads `ADDRESS/BITS`; `None` also where bits beyond the length are set: tailscaled passes
/// over such a network (net/routemanager).
fn prefix(text: &[u8]) -> Option<Prefix> {
    let (address, bits) = std::str::from_utf8(text).ok()?.split_once('/')?;
    let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
    let beyond = match address {
        IpAddr::V4(ip) => u32::from(ip).checked_shl(u32::from(bits)).unwrap_or(0) != 0,
        IpAddr::V6(ip) => u128::from(ip).checked_shl(u32::from(bits)).unwrap_or(0) != 0,
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most && !beyond).then_some((address, bits))
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    let (mut networks, mut cutter) = (Reader::default(), super::pieces::Cutter::default());
    let half = bytes.len() / 2;
    let (first, second) = bytes.split_at(half);
    let fed = [first, second].into_iter().try_for_each(|part| {
        cutter.feed(part, |peer| assert!(peer.len() <= bytes.len()));
        networks.feed(part)
    });
    if fed.is_ok() {
        let _ = networks.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, piece: usize) -> Result<Networks, &'static str> {
        let mut reader = Reader::default();
        for part in text.as_bytes().chunks(piece) {
            reader.feed(part)?;
        }
        reader.end()
    }

    fn networks(text: &str) -> Vec<String> {
        let read = read(text, 7).expect("a status");
        read.iter()
            .map(|(ip, bits)| format!("{ip}/{bits}"))
            .collect()
    }

    #[test]
    fn the_networks_of_a_real_status_are_read_in_pieces_of_any_size() {
        let text = include_str!("../../tests/recordings/tailscale/localapi-status.json");
        let whole = read(text, text.len()).expect("a status");
        let wanted: Networks = ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]
            .iter()
            .filter_map(|text| prefix(text.as_bytes()))
            .collect();
        assert_eq!(whole, wanted);
        for piece in [1, 3, 1024] {
            assert_eq!(read(text, piece), Ok(whole.clone()));
        }
        let none =
            include_str!("../../tests/recordings/tailscale/localapi-status-peers-false.json");
        assert_eq!(read(none, 64), Ok(Networks::default()));
    }

    #[test]
    fn only_members_of_living_peers_count() {
        let text = r#"{"Self":{"x":{"AllowedIPs":["10.0.0.0/8"]},"AllowedIPs":["10.1.0.0/16"]},
            "Peer":{
                "a\"}":{"AllowedIPs":["100.64.0.9/32","192.168.1.0/24"],"Tags":["10.2.0.0/16"]},
                "b":{"Expired":true,"AllowedIPs":["100.64.0.3/32"]},
                "c":{"AllowedIPs":["100.64.0.4/32"],"Expired":true},
                "d":{"Expired":false,"More":{"Expired":true},"AllowedIPs":["192.168.1.1/24","x",
                    "0.0.0.0/0"]}},
            "User":{"1":{"AllowedIPs":["10.3.0.0/16"]}}}"#;
        assert_eq!(
            networks(text),
            ["0.0.0.0/0", "100.64.0.9/32", "192.168.1.0/24"]
        );
    }

    #[test]
    fn what_is_no_status_is_refused() {
        assert!(read(r#"{"Peer":{"a":{"AllowedIPs":["100.64.0.9/32"]"#, 9).is_err());
        assert!(read("", 1).is_err());
        assert!(read("{]", 1).is_err());
        assert!(read(&"[".repeat(100), 10).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let mut text = String::from(r#"{"Peer":{"a":{"AllowedIPs":["#);
        for n in 0..=MOST {
            text.push_str(&format!("\"10.{}.{}.0/24\",", n / 256, n % 256));
        }
        assert!(read(&text, 4096).is_err());
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let mut reader = Reader::default();
            if reader.feed(&bytes).is_ok() {
                let _ = reader.end();
            }
        }
    }
}
