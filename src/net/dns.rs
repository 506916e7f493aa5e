//! One question to a resolver over UDP (RFC 1035): does it resolve names for us?

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use smol::Async;

use super::socket::Egress;
use super::volley::{volley, Answer, Schedule};

/// Where resolvers listen.
pub const PORT: u16 = 53;

const HEADER_LEN: usize = 12;
/// RFC 1035 section 4.1.1: recursion desired.
const RECURSE: u16 = 0x0100;
/// The first bit of the flags: this is a response.
const RESPONSE: u16 = 0x8000;
const RCODE: u16 = 0x000f;
/// Section 3.2.2 and 3.2.4: an address, of the internet.
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// Section 2.3.4.
const LABEL_MOST: usize = 63;
const NAME_MOST: usize = 253;

/// Builds a question for the IPv4 address of `name`. `None` when no such name can be asked for.
pub fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_MOST {
        return None;
    }
    let mut packet = Vec::with_capacity(HEADER_LEN.saturating_add(name.len()).saturating_add(6));
    packet.extend(id.to_be_bytes());
    packet.extend(RECURSE.to_be_bytes());
    // One question, and nothing else.
    packet.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_MOST {
            return None;
        }
        packet.push(u8::try_from(label.len()).ok()?);
        packet.extend(label.bytes());
    }
    packet.push(0);
    packet.extend(TYPE_A.to_be_bytes());
    packet.extend(CLASS_IN.to_be_bytes());
    Some(packet)
}

/// What a resolver said (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It resolves: the name, or that there is no such name.
    Resolved,
    /// It answers, and cannot or will not resolve: the response code, 2 for SERVFAIL, 5 for REFUSED.
    Unable(u8),
}

impl Reply {
    /// The response code in words.
    pub fn word(self) -> String {
        match self {
            Reply::Resolved => "resolved".into(),
            Reply::Unable(2) => "SERVFAIL".into(),
            Reply::Unable(5) => "REFUSED".into(),
            Reply::Unable(code) => format!("response code {code}"),
        }
    }
}

/// Reads a response to the question `query`: the id may differ from the question's, and is given
/// with what was said. `None` for anything else.
pub fn parse_reply(packet: &[u8], query: &[u8]) -> Option<(u16, Reply)> {
    let word = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let (id, flags, questions) = (word(0)?, word(2)?, word(4)?);
    if flags & RESPONSE == 0 {
        return None;
    }
    // Whoever did not see the question cannot repeat it. A server that could not read it leaves it out.
    let asked = query.get(HEADER_LEN..)?;
    let told = packet.get(HEADER_LEN..)?;
    let same = |told: &[u8]| told.eq_ignore_ascii_case(asked);
    let repeated = questions == 1 && told.get(..asked.len()).is_some_and(same);
    match flags & RCODE {
        // NXDOMAIN: only a resolver that reaches the others knows that.
        0 | 3 if repeated => Some((id, Reply::Resolved)),
        0 | 3 => None,
        code if repeated || questions == 0 => Some((id, Reply::Unable(u8::try_from(code).ok()?))),
        _ => None,
    }
}

/// Asks the servers in turn, on `schedule`, until one resolves `name`. They must be of one address
/// family. `seed` makes the ids, one for each server.
///
/// A server is asked again with the very same packet, as stub resolvers do. dnsmasq then asks all of
/// its own servers; a question that is the same but for its id only joins the first one, which may
/// wait for a server that is dead (forward.c, forward_query).
///
/// # Errors
/// In words, for people: none resolved it within `timeout`.
pub async fn ask(
    servers: &[SocketAddr],
    egress: &Egress,
    name: &str,
    seed: u16,
    schedule: Schedule,
    timeout: Duration,
) -> Result<Answer<Reply>, String> {
    let first = *servers.first().ok_or("no resolver is known")?;
    let question = query(seed, name).ok_or_else(|| format!("{name} is no name"))?;
    let open = || -> io::Result<Async<UdpSocket>> {
        Async::<UdpSocket>::try_from(UdpSocket::from(egress.udp(first)?))
    };
    let socket = open().map_err(|e| e.to_string())?;
    let datagram = |n: u16| {
        let turn = usize::from(n).checked_rem(servers.len()).unwrap_or(0);
        let id = seed ^ u16::try_from(turn).unwrap_or(0);
        let mut bytes = question.clone();
        for (byte, id) in bytes.iter_mut().zip(id.to_be_bytes()) {
            *byte = id;
        }
        (bytes, servers.get(turn).copied().unwrap_or(first))
    };
    let mut unable = None;
    let read = |packet: &[u8]| {
        let (id, reply) = parse_reply(packet, &question)?;
        if reply != Reply::Resolved {
            // Another of the servers may do better.
            unable = Some(reply);
            return None;
        }
        // The number of the first datagram with that id.
        Some((seed ^ id, reply))
    };
    let asked = volley(&socket, schedule, timeout, datagram, read).await;
    asked
        .answer
        .ok_or_else(|| match (unable, asked.refusal, asked.sent) {
            (Some(reply), _, _) => reply.word(),
            (None, Some(e), 0) => e.to_string(),
            (None, _, sent) => format!("no answer to {sent} queries"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a resolver sends back for `query`: the same with the flags of a response.
    fn reply(query: &[u8], rcode: u8) -> Vec<u8> {
        let mut packet = query.to_vec();
        packet[2] = 0x81;
        packet[3] = 0x80 | rcode;
        packet
    }

    #[test]
    fn a_question_is_as_rfc_1035_writes_it() {
        let packet = query(0x1234, "headscale.lab").expect("a name");
        let want = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09headscale\x03lab\x00\x00\x01\x00\x01";
        assert_eq!(packet, want);
        assert_eq!(query(0x1234, "headscale.lab."), Some(packet));
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        let long = "a".repeat(64);
        let many = "abcdefg.".repeat(32);
        for name in ["", ".", "a..b", &long, &many] {
            assert_eq!(query(1, name), None, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_proves_a_resolver_and_a_refusal_does_not() {
        let asked = query(7, "a.example").expect("a name");
        let read = |rcode| parse_reply(&reply(&asked, rcode), &asked);
        assert_eq!(read(0), Some((7, Reply::Resolved)));
        assert_eq!(read(3), Some((7, Reply::Resolved)));
        assert_eq!(read(2), Some((7, Reply::Unable(2))));
        assert_eq!(read(5), Some((7, Reply::Unable(5))));
        assert_eq!(Reply::Unable(2).word(), "SERVFAIL");
    }

    #[test]
    fn only_an_answer_to_this_question_counts() {
        let asked = query(7, "a.example").expect("a name");
        let other = query(7, "b.example").expect("a name");
        assert_eq!(parse_reply(&reply(&other, 0), &asked), None);
        assert_eq!(parse_reply(&asked, &asked), None, "a question");
        for length in 0..asked.len() {
            assert_eq!(parse_reply(&reply(&asked, 0)[..length], &asked), None);
        }
        // A server may spell the name its own way.
        let shouted = query(7, "A.EXAMPLE").expect("a name");
        assert!(parse_reply(&reply(&shouted, 0), &asked).is_some());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let asked = query(7, "a.example").expect("a name");
            let _ = parse_reply(&bytes, &asked);
        }
    }

    const SCHEDULE: Schedule = Schedule {
        count: 6,
        spacing: Duration::from_millis(10),
    };

    fn ask_both(servers: &[SocketAddr], limit: Duration) -> Result<Answer<Reply>, String> {
        let egress = Egress::default();
        smol::block_on(ask(servers, &egress, "a.example", 9, SCHEDULE, limit))
    }

    /// A resolver that answers every question with this response code.
    fn resolver(rcode: u8) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let address = socket.local_addr().expect("its address");
        std::thread::spawn(move || {
            let mut buffer = [0u8; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // The test may be over.
                let _ = socket.send_to(&reply(&buffer[..length], rcode), from);
            }
        });
        address
    }

    #[test]
    fn a_resolver_that_fails_does_not_hide_one_that_works() {
        let works = resolver(3);
        let servers = [resolver(2), works];
        let answer = ask_both(&servers, Duration::from_secs(5)).expect("an answer");
        assert_eq!(answer.server, works);
    }

    #[test]
    fn a_question_that_is_asked_again_is_the_same_packet() {
        let sockets = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").expect("a loopback socket"));
        let servers = sockets
            .each_ref()
            .map(|s| s.local_addr().expect("its address"));
        ask_both(&servers, Duration::from_millis(100)).expect_err("silence");
        let mut first = Vec::new();
        for socket in sockets {
            socket.set_nonblocking(true).expect("set");
            let mut buffer = [0u8; 512];
            let mut asked = std::iter::from_fn(|| {
                let (length, from) = socket.recv_from(&mut buffer).ok()?;
                Some((buffer[..length].to_vec(), from))
            });
            first.push(asked.next().expect("a question"));
            assert_eq!(
                asked.by_ref().filter(|a| first.last() == Some(a)).count(),
                2
            );
        }
        assert_ne!(first[0].0, first[1].0, "each server's id is its own");
    }

    #[test]
    fn why_names_are_dead_is_said() {
        let limit = Duration::from_millis(150);
        assert_eq!(ask_both(&[resolver(5)], limit), Err("REFUSED".into()));
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let address = silent.local_addr().expect("its address");
        let why = ask_both(&[address], limit).expect_err("silence");
        assert_eq!(why, "no answer to 6 queries");
    }
}
