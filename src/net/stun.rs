//! STUN (RFC 8489): the public address this router has on a given way out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use smol::{Async, Timer};

use super::socket::{within, Egress};

/// A transaction id, 96 bits. Only whoever got the request can know it, so it must be random.
pub type TxId = [u8; 12];

/// RFC 8489 section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_LEN: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
/// RFC 8489 section 18.3.
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
/// RFC 8489 section 14.7: the CRC-32 is XORed with this ("STUN").
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const FINGERPRINT_LEN: usize = 8;
/// derper answers only a request that names this software and carries a fingerprint
/// (tailscale, net/stun/stun.go); other servers do not mind.
const SOFTWARE_NAME: &[u8; 8] = b"tailnode";
/// Pause after a read that failed.
const ERROR_PAUSE: Duration = Duration::from_millis(20);
/// A request of ours is this long, always.
pub const REQUEST_LEN: usize = HEADER_LEN + 4 + SOFTWARE_NAME.len() + FINGERPRINT_LEN;

/// Builds a binding request.
pub fn request(txid: &TxId) -> Vec<u8> {
    let mut packet = Vec::with_capacity(REQUEST_LEN);
    packet.extend(BINDING_REQUEST.to_be_bytes());
    packet.extend(((REQUEST_LEN - HEADER_LEN) as u16).to_be_bytes());
    packet.extend(MAGIC_COOKIE);
    packet.extend(txid);
    packet.extend(SOFTWARE.to_be_bytes());
    packet.extend((SOFTWARE_NAME.len() as u16).to_be_bytes());
    packet.extend(SOFTWARE_NAME);
    // The header's length already counts the fingerprint, as section 14.7 asks.
    let fingerprint = crc32(&packet) ^ FINGERPRINT_XOR;
    packet.extend(FINGERPRINT.to_be_bytes());
    packet.extend(4u16.to_be_bytes());
    packet.extend(fingerprint.to_be_bytes());
    packet
}

/// Reads a binding success response: its transaction id and the address the server saw.
///
/// XOR-MAPPED-ADDRESS counts before MAPPED-ADDRESS, which some routers on the way rewrite.
/// `None` for anything else: another message, a wrong length, a wrong fingerprint, no address.
pub fn parse_response(packet: &[u8]) -> Option<(TxId, SocketAddr)> {
    let (header, body) = packet.split_at_checked(HEADER_LEN)?;
    let length = usize::from(be16(header, 2)?);
    if be16(header, 0)? != BINDING_SUCCESS
        || header.get(4..8)? != MAGIC_COOKIE
        || length != body.len()
        || length % 4 != 0
    {
        return None;
    }
    let txid: TxId = header.get(8..20)?.try_into().ok()?;
    let (mut plain, mut xored) = (None, None);
    let mut rest = body;
    while !rest.is_empty() {
        let kind = be16(rest, 0)?;
        let len = usize::from(be16(rest, 2)?);
        let value = rest.get(4..)?.get(..len)?;
        let next = rest.get(4 + len.next_multiple_of(4)..)?;
        match kind {
            // The first of each counts (section 14).
            MAPPED_ADDRESS if plain.is_none() => plain = address(value, None),
            XOR_MAPPED_ADDRESS if xored.is_none() => xored = address(value, Some(&txid)),
            FINGERPRINT => {
                let before = packet.get(..packet.len().checked_sub(rest.len())?)?;
                let want = crc32(before) ^ FINGERPRINT_XOR;
                // It must be the last attribute (section 14.7).
                if value != want.to_be_bytes() || !next.is_empty() {
                    return None;
                }
            }
            _ => {}
        }
        rest = next;
    }
    Some((txid, xored.or(plain)?))
}

/// Reads the value of (XOR-)MAPPED-ADDRESS (sections 14.1 and 14.2). With a transaction id given,
/// the port and the address are XORed with the cookie and, for IPv6, the id.
fn address(value: &[u8], xor: Option<&TxId>) -> Option<SocketAddr> {
    let mut mask = [0u8; 16];
    if let Some(txid) = xor {
        mask[..4].copy_from_slice(&MAGIC_COOKIE);
        mask[4..].copy_from_slice(txid);
    }
    let port = be16(value, 2)? ^ u16::from_be_bytes([mask[0], mask[1]]);
    let family = *value.get(1)?;
    let mut bytes: Vec<u8> = value.get(4..)?.to_vec();
    bytes.iter_mut().zip(mask).for_each(|(b, m)| *b ^= m);
    let ip = match family {
        1 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        2 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    // derper listens on both families with one socket and sees IPv4 callers as mapped addresses.
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

/// CRC-32 of ITU V.42, bit by bit: a few dozen bytes a minute need no table.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}

/// A valid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The address the server saw.
    pub public: SocketAddr,
    /// The server that said so.
    pub server: SocketAddr,
    /// From sending the request this answers to receiving the answer.
    pub rtt: Duration,
}

/// What came of a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    /// The first valid answer, if any came.
    pub answer: Option<Answer>,
    /// Datagrams the kernel took.
    pub sent: u32,
    /// Datagrams the kernel refused, for example because there is no route.
    pub refused: u32,
    /// The last refusal in words.
    pub refusal: Option<String>,
}

/// Asks one server once. Returns the public address and the round trip time.
pub async fn stun(
    server: SocketAddr,
    egress: &Egress,
    txid: TxId,
    timeout: Duration,
) -> io::Result<(SocketAddr, Duration)> {
    let socket = Async::<UdpSocket>::try_from(UdpSocket::from(egress.udp(server)?))?;
    within(timeout, async {
        let started = Instant::now();
        socket.send_to(&request(&txid), server).await?;
        loop {
            let (id, public, from) = receive(&socket).await?;
            if id == txid && from == server {
                return Ok((public, started.elapsed()));
            }
        }
    })
    .await
}

/// Sends `count` requests, `interval` apart, to the servers in turn, and returns at the first valid
/// answer, or `timeout` after the start.
///
/// On a line that loses every third packet each way one exchange fails half the time: 16 datagrams
/// to three servers tell such a line from a dead one. The servers must be of one address family.
/// The id of the n-th datagram is `seed` with n mixed in, so one random seed serves all.
pub async fn burst(
    servers: &[SocketAddr],
    egress: &Egress,
    seed: TxId,
    count: u16,
    interval: Duration,
    timeout: Duration,
) -> io::Result<Burst> {
    let Some(first) = servers.first() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no STUN server given",
        ));
    };
    if servers.iter().any(|s| s.is_ipv4() != first.is_ipv4()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "STUN servers of both address families in one burst",
        ));
    }
    let socket = Async::<UdpSocket>::try_from(UdpSocket::from(egress.udp(*first)?))?;
    let mut result = Burst {
        answer: None,
        sent: 0,
        refused: 0,
        refusal: None,
    };
    let mut sent_at: Vec<(TxId, SocketAddr, Instant)> = Vec::with_capacity(usize::from(count));
    let deadline = Instant::now() + timeout;
    let mut targets = (0..count).zip(servers.iter().cycle());
    loop {
        // One round: send one datagram if any is left, then listen until the next is due.
        let until = match targets.next() {
            Some((n, server)) => {
                let id = mix(seed, n);
                match socket.get_ref().send_to(&request(&id), *server) {
                    Ok(_) => {
                        result.sent += 1;
                        sent_at.push((id, *server, Instant::now()));
                    }
                    Err(e) => {
                        result.refused += 1;
                        result.refusal = Some(e.to_string());
                    }
                }
                deadline.min(Instant::now() + interval)
            }
            // Nothing left on the way: nothing to wait for.
            None if sent_at.is_empty() => return Ok(result),
            None => deadline,
        };
        let heard = smol::future::or(first_valid(&socket, &sent_at), async {
            Timer::at(until).await;
            None
        })
        .await;
        if heard.is_some() || Instant::now() >= deadline {
            result.answer = heard;
            return Ok(result);
        }
    }
}

/// Waits for an answer to one of the requests sent. Never ends without one.
async fn first_valid(
    socket: &Async<UdpSocket>,
    sent: &[(TxId, SocketAddr, Instant)],
) -> Option<Answer> {
    loop {
        let Ok((id, public, from)) = receive(socket).await else {
            // Perhaps about an earlier datagram: the others may yet be answered. The pause keeps
            // an error that stays from taking the whole thread.
            Timer::after(ERROR_PAUSE).await;
            continue;
        };
        if let Some((_, server, at)) = sent.iter().find(|(i, s, _)| *i == id && *s == from) {
            return Some(Answer {
                public,
                server: *server,
                rtt: at.elapsed(),
            });
        }
    }
}

/// Waits for the next datagram that is a binding success response.
async fn receive(socket: &Async<UdpSocket>) -> io::Result<(TxId, SocketAddr, SocketAddr)> {
    let mut buffer = [0u8; 1500];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await?;
        if let Some((id, public)) = buffer.get(..len).and_then(parse_response) {
            return Ok((id, public, from));
        }
    }
}

fn mix(mut seed: TxId, n: u16) -> TxId {
    let [high, low] = n.to_be_bytes();
    seed[10] ^= high;
    seed[11] ^= low;
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_caller_seen_by_a_dual_stack_server_is_told_as_ipv4() {
        let mapped: Ipv6Addr = "::ffff:203.0.113.10".parse().expect("an address");
        let mut value = vec![0, 2, 0x12, 0x34];
        value.extend(mapped.octets());
        let told = address(&value, None).expect("an address");
        assert_eq!(told, "203.0.113.10:4660".parse().expect("an address"));
    }
    use proptest::prelude::*;

    /// RFC 5769 section 2.2: sample IPv4 response.
    const RFC5769_V4: &[u8] = &[
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1,
        0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3,
        0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00,
        0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];

    /// RFC 5769 section 2.3: sample IPv6 response.
    const RFC5769_V6: &[u8] = &[
        0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6,
        0x86, 0xfa, 0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76,
        0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01,
        0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        0x00, 0x08, 0x00, 0x14, 0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84, 0xc9,
        0x7c, 0x82, 0x92, 0xc2, 0x75, 0xbf, 0xe3, 0xed, 0x41, 0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb,
        0x0b, 0x4c,
    ];
    const RFC5769_TXID: TxId = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    /// A response as the server would send it, with the given attributes and no fingerprint.
    fn response(txid: &TxId, attributes: &[u8]) -> Vec<u8> {
        let mut packet = BINDING_SUCCESS.to_be_bytes().to_vec();
        packet.extend((attributes.len() as u16).to_be_bytes());
        packet.extend(MAGIC_COOKIE);
        packet.extend(txid);
        packet.extend(attributes);
        packet
    }

    #[test]
    fn reads_the_samples_of_rfc_5769() {
        let v4 = parse_response(RFC5769_V4).expect("the IPv4 sample");
        assert_eq!(v4, (RFC5769_TXID, "192.0.2.1:32853".parse().unwrap()));
        let v6 = parse_response(RFC5769_V6).expect("the IPv6 sample");
        let want = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        assert_eq!(v6, (RFC5769_TXID, want.parse().unwrap()));
    }

    #[test]
    fn any_flipped_bit_of_a_sample_is_noticed() {
        // Up to the end of XOR-MAPPED-ADDRESS, and in the fingerprint's value. In the type or length
        // of what stands between, a flip can hide the fingerprint, which then is not looked at.
        let covered = (0..48).chain(RFC5769_V4.len() - 4..RFC5769_V4.len());
        for bit in covered.flat_map(|byte| byte * 8..byte * 8 + 8) {
            let mut packet = RFC5769_V4.to_vec();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_response(&packet), None, "bit {bit}");
        }
    }

    #[test]
    fn a_request_is_what_derper_wants() {
        let packet = request(&RFC5769_TXID);
        assert_eq!(packet.len(), REQUEST_LEN);
        assert_eq!(packet.len(), 40);
        assert_eq!(&packet[..8], [0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(&packet[8..20], RFC5769_TXID);
        assert_eq!(&packet[20..32], b"\x80\x22\x00\x08tailnode");
        assert_eq!(&packet[32..36], [0x80, 0x28, 0, 4]);
        let fingerprint = crc32(&packet[..32]) ^ FINGERPRINT_XOR;
        assert_eq!(&packet[36..], fingerprint.to_be_bytes());
    }

    #[test]
    fn crc32_check_value() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn mapped_address_is_the_fallback() {
        let plain = [0, 1, 0, 8, 0, 1, 0x12, 0x34, 203, 0, 113, 9];
        let only = response(&RFC5769_TXID, &plain);
        let want: SocketAddr = "203.0.113.9:4660".parse().unwrap();
        assert_eq!(parse_response(&only), Some((RFC5769_TXID, want)));
        let mut both = plain.to_vec();
        both.extend(&RFC5769_V4[36..48]);
        let both = response(&RFC5769_TXID, &both);
        let want: SocketAddr = "192.0.2.1:32853".parse().unwrap();
        assert_eq!(parse_response(&both), Some((RFC5769_TXID, want)));
    }

    #[test]
    fn malformed_answers_are_refused() {
        assert_eq!(parse_response(&request(&RFC5769_TXID)), None, "a request");
        assert_eq!(parse_response(&response(&RFC5769_TXID, &[])), None, "empty");
        let overlong = [0, 0x20, 0xff, 0xff, 0, 1, 0, 0];
        assert_eq!(parse_response(&response(&RFC5769_TXID, &overlong)), None);
        let short_v6 = [0, 0x20, 0, 8, 0, 2, 0, 0, 1, 2, 3, 4];
        assert_eq!(parse_response(&response(&RFC5769_TXID, &short_v6)), None);
        for len in 0..RFC5769_V4.len() {
            assert_eq!(parse_response(&RFC5769_V4[..len]), None, "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_response(&bytes);
            let _ = parse_response(&response(&RFC5769_TXID, &bytes));
        }
    }

    /// A server that ignores the first `deaf` requests, then answers one with a stranger's
    /// transaction id before the right one.
    fn server(deaf: usize) -> (SocketAddr, std::thread::JoinHandle<usize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let addr = socket.local_addr().expect("its address");
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 200];
            for n in 0.. {
                let (len, from) = socket.recv_from(&mut buffer).expect("a request");
                let txid: TxId = buffer[8..20].try_into().expect("12 bytes");
                assert_eq!(buffer[..len], request(&txid));
                if n < deaf {
                    continue;
                }
                let (IpAddr::V4(ip), port) = (from.ip(), from.port()) else {
                    panic!("an IPv4 socket heard IPv6")
                };
                let mut value = vec![0, 1, 0, 8, 0, 1];
                value.extend(port.to_be_bytes());
                value.extend(ip.octets());
                let stranger = response(&mix(txid, 0x5555), &value);
                socket.send_to(&stranger, from).expect("sent");
                let answer = response(&txid, &value);
                socket.send_to(&answer, from).expect("sent");
                return n + 1;
            }
            0
        });
        (addr, thread)
    }

    #[test]
    fn asks_once() {
        let (addr, thread) = server(0);
        let egress = Egress::default();
        let ask = stun(addr, &egress, [7; 12], Duration::from_secs(5));
        let (public, _) = smol::block_on(ask).expect("an answer");
        assert_eq!(public.ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(thread.join().expect("the server"), 1);
    }

    #[test]
    fn a_burst_outlasts_losses() {
        let (live, thread) = server(2);
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let servers = [silent.local_addr().expect("its address"), live];
        let result = smol::block_on(burst(
            &servers,
            &Egress::default(),
            [9; 12],
            16,
            Duration::from_millis(5),
            Duration::from_secs(5),
        ))
        .expect("a burst");
        assert_eq!(result.answer.expect("an answer").server, live);
        // Two went unanswered; each second datagram goes to the live server.
        assert_eq!(thread.join().expect("the server"), 3);
        assert!(result.sent >= 6, "{result:?}");
        assert_eq!(result.refused, 0);
    }

    #[test]
    fn a_burst_into_silence_ends_in_time() {
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let servers = [silent.local_addr().expect("its address")];
        let result = smol::block_on(burst(
            &servers,
            &Egress::default(),
            [9; 12],
            3,
            Duration::from_millis(5),
            Duration::from_millis(50),
        ))
        .expect("a burst");
        assert_eq!((result.answer, result.sent), (None, 3));
    }

    #[test]
    fn a_burst_without_servers_is_an_error() {
        let egress = Egress::default();
        let empty = burst(&[], &egress, [0; 12], 1, Duration::ZERO, Duration::ZERO);
        let error = smol::block_on(empty).expect_err("no server");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
