//! Cuts the peers out of a status as its bytes come, so that one at a time is in memory.

/// A peer that takes more than this is not kept; a real one takes 1.5 kB.
const PIECE: usize = 32 * 1024;

/// How deep a peer stands: the whole, `Peer`, the peer.
const PEER: usize = 3;

/// Takes the bytes of `GET status`: `{"Peer": {KEY: {...}, ...}, ...}`.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The member of the whole that is being read, and whether its name is.
    member: Vec<u8>,
    naming: bool,
    piece: Vec<u8>,
    too_long: bool,
}

impl Cutter {
    /// Takes the next bytes and hands each complete peer, as JSON, to `take`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        for byte in bytes {
            self.next(*byte, &mut take);
        }
    }

    fn next(&mut self, byte: u8, take: &mut impl FnMut(&[u8])) {
        let before = self.depth;
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ if self.naming && self.member.len() < PEER * 2 => self.member.push(byte),
                _ => {}
            }
        } else {
            match byte {
                b'"' => {
                    self.in_text = true;
                    if self.depth == 1 && self.naming {
                        self.member.clear();
                    }
                }
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    self.naming = self.depth == 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 1 => self.naming = true,
                b':' if self.depth == 1 => self.naming = false,
                _ => {}
            }
        }
        let inside = self.member == b"Peer" && (before >= PEER || self.depth >= PEER);
        if !inside {
            return;
        }
        match self.piece.len() < PIECE {
            true => self.piece.push(byte),
            false => self.too_long = true,
        }
        if self.depth < PEER {
            if !self.too_long {
                take(&self.piece);
            }
            self.piece.clear();
            self.too_long = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, size: usize) -> Vec<String> {
        let (mut cutter, mut pieces) = (Cutter::default(), Vec::new());
        for part in text.as_bytes().chunks(size) {
            cutter.feed(part, |piece| {
                pieces.push(String::from_utf8_lossy(piece).into_owned());
            });
        }
        pieces
    }

    #[test]
    fn the_peers_of_a_real_status_come_one_by_one_in_pieces_of_any_size() {
        let text = include_str!("../../tests/recordings/tailscale/localapi-status.json");
        let whole: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let wanted: Vec<serde_json::Value> = whole["Peer"]
            .as_object()
            .expect("peers")
            .values()
            .cloned()
            .collect();
        assert!(!wanted.is_empty());
        for size in [1, 7, text.len()] {
            let got: Vec<serde_json::Value> = cut(text, size)
                .iter()
                .map(|piece| serde_json::from_str(piece).expect("a peer"))
                .collect();
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn only_members_of_peer_count_whatever_the_texts_hold() {
        let text = r#"{"A":{"x":{"b":1}},"Peer":{"k}\"":{"n":"a{\"}","l":[{"m":2}]},"e":{}},
            "User":{"1":{"Peer":3}},"s":"\"Peer\":{"}"#;
        assert_eq!(cut(text, 3), [r#"{"n":"a{\"}","l":[{"m":2}]}"#, "{}"]);
    }

    #[test]
    fn a_peer_without_end_is_not_kept() {
        let long = format!(
            r#"{{"Peer":{{"a":{{"x":"{}"}},"b":{{"y":1}}}}}}"#,
            "z".repeat(PIECE)
        );
        assert_eq!(cut(&long, 4096), [r#"{"y":1}"#]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(text in "[{}\\[\\]\"\\\\,:aP]{0,200}") {
            cut(&text, 5);
        }
    }
}
