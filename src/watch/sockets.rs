//! The TCP connections of a process, tailscaled's above all, from /proc: where each one leaves and
//! whether the kernel keeps resending on it.
//!
//! A connection whose local address is not the one a fresh connection would get now, and whose
//! retransmits grow, sits on a dead path. This is seen seconds after a failover, long before
//! tailscaled itself notices.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The kernel hands out no more of a table at once (seq_file(9)), and each read begins where the last ended.
const PAGE: usize = 4096;

/// State of a TCP connection (include/net/tcp_states.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// One newer than this list.
    Other(u8),
}

impl State {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            other => Self::Other(other),
        }
    }
}

/// A line of /proc/net/tcp or tcp6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub flow: Flow,
    /// 0 for connections that belong to no process any more.
    pub inode: u64,
}

/// A TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// IPv4 addresses in IPv6 clothes are given as IPv4.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: State,
    /// Bytes sent and not yet acknowledged.
    pub tx_queue: u32,
    /// Retransmits of the oldest unacknowledged segment; back to 0 with the next acknowledgement.
    pub retransmits: u32,
}

/// Reads /proc/net/tcp or tcp6 (proc_pid_net(5)); lines that do not parse, the heading among them,
/// are left out. So are those of no process on which nothing is resent: a router that has just
/// closed a thousand connections keeps each for a minute (TIME_WAIT), and nobody asks for them.
///
/// Line by line, as the whole text would be the largest thing that the daemon ever holds.
fn read(mut table: impl BufRead) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line)? > 0 {
        let found = std::str::from_utf8(&line).ok().and_then(entry);
        entries.extend(found.filter(|e| e.inode != 0 || e.flow.retransmits > 0));
        line.clear();
    }
    Ok(entries)
}

/// `sl local rem st tx:rx tr:when retrnsmt uid timeout inode …`, all but the last three in
/// hexadecimal (net/ipv4/tcp_ipv4.c, get_tcp4_sock).
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = address(words.next()?)?;
    let remote = address(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (tx_queue, _) = words.next()?.split_once(':')?;
    let retransmits = words.nth(1)?;
    let inode = words.nth(2)?;
    Some(Entry {
        flow: Flow {
            local,
            remote,
            state: State::from_number(state),
            tx_queue: u32::from_str_radix(tx_queue, 16).ok()?,
            retransmits: u32::from_str_radix(retransmits, 16).ok()?,
        },
        inode: inode.parse().ok()?,
    })
}

/// `0100007F:0050`: the address as 32-bit words, each printed as a number of this CPU's byte order,
/// then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at.checked_mul(8)?..)?.get(..8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The inode in a link of /proc/PID/fd, `socket:[12345]`.
fn inode(link: &Path) -> Option<u64> {
    let text = link.to_str()?;
    text.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The TCP connections of a process, in the kernel's order, IPv4 first.
///
/// Needs root for a process of another user. An error means that the process is gone or not ours
/// to look into.
pub fn flows(pid: u32) -> io::Result<Vec<Flow>> {
    own(pid, tcp(pid)?)
}

/// The kernel's tables of TCP connections as a process sees them, IPv4 first. Each reading is a walk
/// through the whole of the kernel's hash: 4 ms for a table where there is much memory.
pub fn tcp(pid: u32) -> io::Result<Vec<Entry>> {
    tables(pid, ["tcp", "tcp6"])
}

/// The local ports of a process's UDP sockets, each once. Errors as those of [`flows`].
pub fn udp_ports(pid: u32) -> io::Result<Vec<u16>> {
    // The tables of UDP have the same columns (net/ipv4/udp.c, udp4_format_sock).
    let sockets = own(pid, tables(pid, ["udp", "udp6"])?)?;
    let mut ports: Vec<u16> = sockets.iter().map(|s| s.local.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// What of these connections belongs to the process.
pub fn own(pid: u32, entries: Vec<Entry>) -> io::Result<Vec<Flow>> {
    let mut inodes = HashSet::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor closed meanwhile is no error.
        if let Ok(link) = fd.and_then(|fd| fs::read_link(fd.path())) {
            inodes.extend(inode(&link));
        }
    }
    let own = entries.into_iter().filter(|e| inodes.contains(&e.inode));
    Ok(own.map(|e| e.flow).collect())
}

/// Reads tables, the second one of IPv6: the process's own view, should it live in another network
/// namespace.
fn tables(pid: u32, names: [&str; 2]) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (name, optional) in names.into_iter().zip([false, true]) {
        match File::open(format!("/proc/{pid}/net/{name}")) {
            // A kernel without IPv6.
            Err(e) if e.kind() == io::ErrorKind::NotFound && optional => {}
            table => entries.append(&mut read(BufReader::with_capacity(PAGE, table?))?),
        }
    }
    Ok(entries)
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    if let Ok(entries) = read(bytes) {
        let own = own(std::process::id(), entries);
        drop(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};

    fn parse(text: &str) -> Vec<Entry> {
        read(text.as_bytes()).expect("a text can be read")
    }

    /// As printed on a little-endian CPU, with a resending connection and a mapped address.
    #[cfg(target_endian = "little")]
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0000000000000000 100 0 0 10 0
   1: 0200000A:C350 0A6433C6:01BB 01 0000002D:00000000 01:00000190 00000007     0        0 202 4 0000000000000000 6400 4 30 10 -1
";
    #[cfg(target_endian = "little")]
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000200000A:C351 0000000000000000FFFF00000A6433C6:01BB 01 00000000:00000000 00:00000000 00000000     0        0 303 1 0000000000000000 20 4 30 10 -1
   1: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 404 1 0000000000000000 100 0 0 10 0
";

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_both_tables() {
        let four = parse(TCP);
        assert_eq!(four.len(), 2);
        assert_eq!(four[0].flow.state, State::Listen);
        assert_eq!(four[0].flow.local, "127.0.0.1:8080".parse().unwrap());
        let stuck = Flow {
            local: "10.0.0.2:50000".parse().unwrap(),
            remote: "198.51.100.10:443".parse().unwrap(),
            state: State::Established,
            tx_queue: 45,
            retransmits: 7,
        };
        assert_eq!(
            four[1],
            Entry {
                flow: stuck,
                inode: 202
            }
        );
        let six = parse(TCP6);
        assert_eq!(six[0].flow.local, "10.0.0.2:50001".parse().unwrap());
        assert_eq!(six[0].flow.remote, "198.51.100.10:443".parse().unwrap());
        assert_eq!(six[1].flow.local, "[2001:db8::1]:22".parse().unwrap());
        assert_eq!(six[1].inode, 404);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn of_what_belongs_to_no_process_only_what_is_resent_is_kept() {
        let line = |times: u32| {
            format!(
                "   7: 0200000A:C350 0A6433C6:01BB 06 00000000:00000000 03:00000DB7 {times:08X}     0        0 0 3 0\n"
            )
        };
        assert_eq!(parse(&line(0).repeat(10_000)), []);
        let kept = parse(&(line(0) + &line(2) + TCP));
        assert_eq!(kept.len(), 3);
        assert_eq!((kept[0].inode, kept[0].flow.retransmits), (0, 2));
    }

    #[test]
    fn finds_its_own_connections() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(host).expect("a loopback listener");
            let address = listener.local_addr().expect("its address");
            let client = TcpStream::connect(address).expect("connected");
            let local = client.local_addr().expect("its address");
            let all = flows(std::process::id()).expect("our own process");
            let ours = all.iter().find(|f| f.local == local).expect("the client");
            assert_eq!((ours.remote, ours.state), (address, State::Established));
            let waiting = all.iter().find(|f| f.local == address);
            assert!(waiting.is_some(), "the listener");
            drop(client);
            let all = flows(std::process::id()).expect("our own process");
            assert!(all.iter().all(|f| f.local != local), "closed is not ours");
        }
    }

    #[test]
    fn finds_its_own_udp_ports() {
        let sockets = ["127.0.0.1:0", "[::1]:0"]
            .map(|host| std::net::UdpSocket::bind(host).expect("a loopback socket"));
        let ports = udp_ports(std::process::id()).expect("our own process");
        for socket in &sockets {
            let port = socket.local_addr().expect("its address").port();
            assert!(ports.contains(&port), "{port} in {ports:?}");
        }
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        // Beyond the highest number the kernel gives (PID_MAX_LIMIT).
        assert!(flows(u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "\\PC{0,200}", fields in prop::collection::vec("[0-9A-Fé:]{0,40}", 0..12)) {
            let _ = parse(&text);
            let _ = parse(&fields.join(" "));
        }
    }
}
