//! STUN (RFC 8489): the public address this router has on a given way out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt;
use smol::Async;
use socket2::Socket;

use super::socket::Egress;
use super::volley::{volley, Schedule, Volley};

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
/// A comprehension-optional attribute that nobody has registered (RFC 8489 section 18.3): a server
/// passes it over.
const FILLER: u16 = 0xff00;
/// The shortest request of ours, in bytes.
pub const REQUEST_LEN: usize = HEADER_LEN + 4 + SOFTWARE_NAME.len() + FINGERPRINT_LEN;

/// Builds a binding request of `length` bytes: a multiple of four, [`REQUEST_LEN`] at least.
pub fn request(txid: &TxId, length: usize) -> Vec<u8> {
    let filler = (length & !3).saturating_sub(REQUEST_LEN + 4);
    let length = match filler {
        0 => REQUEST_LEN,
        _ => filler.saturating_add(REQUEST_LEN + 4),
    };
    let mut packet = Vec::with_capacity(length);
    packet.extend(BINDING_REQUEST.to_be_bytes());
    // The header's length counts the fingerprint too, as section 14.7 asks.
    packet.extend(be(length.saturating_sub(HEADER_LEN)));
    packet.extend(MAGIC_COOKIE);
    packet.extend(txid);
    packet.extend(SOFTWARE.to_be_bytes());
    packet.extend(be(SOFTWARE_NAME.len()));
    packet.extend(SOFTWARE_NAME);
    if filler > 0 {
        packet.extend(FILLER.to_be_bytes());
        packet.extend(be(filler));
        packet.extend(std::iter::repeat_n(0, filler));
    }
    // derper wants it last.
    let fingerprint = crc32(&packet) ^ FINGERPRINT_XOR;
    packet.extend(FINGERPRINT.to_be_bytes());
    packet.extend(4u16.to_be_bytes());
    packet.extend(fingerprint.to_be_bytes());
    packet
}

/// A length as STUN writes it. No datagram is too long for it.
fn be(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
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
        let next = rest.get(4..)?.get(len.next_multiple_of(4)..)?;
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

/// Sends requests of `length` bytes of UDP payload on `schedule` to the servers in turn, and returns
/// at the first valid answer, or `timeout` after the start. The answer is the address the server saw.
///
/// The servers must be of one address family. A request longer than [`REQUEST_LEN`] carries a filler
/// and is sent whole or not at all. The id of the n-th datagram is `seed` with n mixed in, so one
/// random seed serves all.
///
/// # Errors
/// There is no server, they are of both families, or the socket could not be made.
pub async fn burst(
    servers: &[SocketAddr],
    egress: &Egress,
    seed: TxId,
    schedule: Schedule,
    timeout: Duration,
    length: usize,
) -> io::Result<Volley<SocketAddr>> {
    let Some(first) = servers.first().copied() else {
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
    let socket = egress.udp(first)?;
    if length > REQUEST_LEN {
        dont_fragment(&socket, first)?;
    }
    let socket = Async::<UdpSocket>::try_from(UdpSocket::from(socket))?;
    let datagram = |n: u16| {
        let turn = usize::from(n).checked_rem(servers.len()).unwrap_or(0);
        let server = servers.get(turn).copied().unwrap_or(first);
        (request(&mix(seed, n), length), server)
    };
    let read = |packet: &[u8]| {
        let (id, public) = parse_response(packet)?;
        let n = unmix(seed, id)?;
        Some((n, public))
    };
    Ok(volley(&socket, schedule, timeout, datagram, read).await)
}

/// Has the kernel set the don't-fragment bit (IPv4), or not fragment itself (IPv6), and refuse what
/// is longer than it knows the path to take (ip(7), ipv6(7)).
fn dont_fragment(socket: &Socket, peer: SocketAddr) -> io::Result<()> {
    match peer {
        SocketAddr::V4(_) => {
            sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DO)?;
        }
        SocketAddr::V6(_) => {
            sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DO)?;
        }
    }
    Ok(())
}

/// The UDP payload that makes an IP packet of `packet` bytes.
pub fn payload_of(packet: usize, ipv4: bool) -> usize {
    const IPV4_HEADER: usize = 20;
    const IPV6_HEADER: usize = 40;
    const UDP_HEADER: usize = 8;
    let header = if ipv4 { IPV4_HEADER } else { IPV6_HEADER };
    packet.saturating_sub(header).saturating_sub(UDP_HEADER)
}

fn mix(mut seed: TxId, n: u16) -> TxId {
    let [high, low] = n.to_be_bytes();
    seed[10] ^= high;
    seed[11] ^= low;
    seed
}

/// The number that was mixed into the seed, or `None` for a stranger's id.
fn unmix(seed: TxId, id: TxId) -> Option<u16> {
    let n = u16::from_be_bytes([seed[10] ^ id[10], seed[11] ^ id[11]]);
    (mix(seed, n) == id).then_some(n)
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
        let packet = request(&RFC5769_TXID, REQUEST_LEN);
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
    fn a_long_request_is_exactly_as_long_as_asked_and_ends_in_its_fingerprint() {
        for ipv4 in [true, false] {
            let length = payload_of(1400, ipv4);
            let packet = request(&RFC5769_TXID, length);
            assert_eq!(packet.len(), length);
            let told = usize::from(be16(&packet, 2).expect("a length"));
            assert_eq!(told, length - HEADER_LEN);
            assert_eq!(&packet[20..32], b"\x80\x22\x00\x08tailnode");
            assert_eq!(be16(&packet, 32), Some(FILLER));
            let filler = usize::from(be16(&packet, 34).expect("a length"));
            assert_eq!(36 + filler + FINGERPRINT_LEN, length);
            let fingerprint = crc32(&packet[..length - FINGERPRINT_LEN]) ^ FINGERPRINT_XOR;
            assert_eq!(packet[length - 4..], fingerprint.to_be_bytes());
        }
    }

    #[test]
    fn an_id_gives_its_number_back_and_a_strangers_none() {
        for n in [0, 1, 255, 256, u16::MAX] {
            assert_eq!(unmix(RFC5769_TXID, mix(RFC5769_TXID, n)), Some(n));
        }
        assert_eq!(unmix(RFC5769_TXID, [0; 12]), None);
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
        assert_eq!(
            parse_response(&request(&RFC5769_TXID, REQUEST_LEN)),
            None,
            "a request"
        );
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
                assert_eq!(buffer[..len], request(&txid, REQUEST_LEN));
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

    const QUICK: Schedule = Schedule {
        count: 16,
        spacing: Duration::from_millis(5),
    };

    fn ask(servers: &[SocketAddr], count: u16, limit: Duration) -> io::Result<Volley<SocketAddr>> {
        let schedule = Schedule { count, ..QUICK };
        let egress = Egress::default();
        let burst = burst(servers, &egress, [9; 12], schedule, limit, REQUEST_LEN);
        smol::block_on(burst)
    }

    #[test]
    fn a_burst_outlasts_losses() {
        let (live, thread) = server(2);
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let servers = [silent.local_addr().expect("its address"), live];
        let result = ask(&servers, 16, Duration::from_secs(5)).expect("a burst");
        let answer = result.answer.as_ref().expect("an answer");
        assert_eq!(answer.what.ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(answer.server, live);
        // Two went unanswered; each second datagram goes to the live server.
        assert_eq!(thread.join().expect("the server"), 3);
        assert!(result.sent >= 6, "{result:?}");
        assert_eq!(result.refused, 0);
    }

    #[test]
    fn a_burst_into_silence_ends_in_time() {
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let servers = [silent.local_addr().expect("its address")];
        let result = ask(&servers, 3, Duration::from_millis(50)).expect("a burst");
        assert!(result.answer.is_none());
        assert_eq!(result.sent, 3);
    }

    #[test]
    fn a_burst_without_servers_is_an_error() {
        let error = ask(&[], 1, Duration::ZERO).expect_err("no server");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
