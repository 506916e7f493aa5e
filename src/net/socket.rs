//! Sockets that leave by a chosen way (mark, device, source address), and the TCP probe over them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use smol::{Async, Timer};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A connected UDP socket needs a port; which one is the same to the route.
const SOME_PORT: u16 = 443;

/// The way a packet shall leave the router. The default asks for nothing: the kernel decides.
///
/// A probe of one uplink sets `device` and a `mark` that no rule of mwan3 catches; the probe of
/// the path tailscaled uses now sets the bare mark and no device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// SO_MARK, which `ip rule fwmark` sees.
    pub mark: Option<u32>,
    /// SO_BINDTODEVICE, the kernel's name of the device, at most 15 bytes.
    pub device: Option<String>,
    /// Source address to bind to, with a port of the kernel's choice.
    pub source: Option<IpAddr>,
}

impl Egress {
    /// A TCP socket that will leave this way, not yet connected.
    ///
    /// Blocking, as the HTTP client wants it. `peer` only gives the address family.
    pub fn tcp(&self, peer: SocketAddr) -> io::Result<Socket> {
        self.open(peer, Type::STREAM, Protocol::TCP)
    }

    /// The source address that the kernel gives a socket of this egress towards `peer`, or `None`
    /// where it has no way. Nothing is sent.
    ///
    /// With source-specific IPv6 defaults the kernel chooses the address first and the route by it
    /// (ip6_dst_lookup_tail), which no question to rtnetlink shows.
    ///
    /// # Errors
    /// The socket could not be made.
    pub fn source_for(&self, peer: IpAddr) -> io::Result<Option<IpAddr>> {
        let peer = SocketAddr::new(peer, SOME_PORT);
        let socket = self.udp(peer)?;
        if socket.connect(&SockAddr::from(peer)).is_err() {
            return Ok(None);
        }
        let own = socket.local_addr()?.as_socket();
        Ok(own.map(|own| own.ip()))
    }

    /// A UDP socket that will leave this way, not connected. `peer` only gives the address family.
    pub fn udp(&self, peer: SocketAddr) -> io::Result<Socket> {
        self.open(peer, Type::DGRAM, Protocol::UDP)
    }

    fn open(&self, peer: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(peer), kind, Some(protocol))
            .map_err(|e| explain(e, "opening a socket"))?;
        if let Some(mark) = self.mark {
            socket
                .set_mark(mark)
                .map_err(|e| explain(e, &format!("setting mark {mark:#x}")))?;
        }
        if let Some(device) = &self.device {
            socket
                .bind_device(Some(device.as_bytes()))
                .map_err(|e| explain(e, &format!("binding to device {device}")))?;
        }
        if let Some(source) = self.source {
            socket
                .bind(&SockAddr::from(SocketAddr::new(source, 0)))
                .map_err(|e| explain(e, &format!("binding to source address {source}")))?;
        }
        Ok(socket)
    }
}

/// Adds to an error what was tried, and for the usual causes what to do. The kind is kept.
fn explain(error: io::Error, tried: &str) -> io::Error {
    let text = match Errno::from_io_error(&error) {
        // SO_MARK asks for CAP_NET_ADMIN, SO_BINDTODEVICE for CAP_NET_RAW (socket(7)); whoever
        // lacks one lacks the other.
        Some(Errno::PERM) => format!("{tried} needs CAP_NET_ADMIN: run as root"),
        Some(Errno::NODEV) => format!("{tried}: there is no such device"),
        Some(Errno::ADDRNOTAVAIL) => format!("{tried}: this address is not ours"),
        Some(Errno::AFNOSUPPORT) => {
            format!("{tried}: the target is of the other address family, or this kernel lacks it")
        }
        _ => format!("{tried}: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// The error of an exchange that got no answer in time.
pub(crate) fn timed_out(timeout: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no answer within {:.1} s", timeout.as_secs_f32()),
    )
}

/// Runs `work` for at most `timeout`, after which the error kind is `TimedOut`.
pub(crate) async fn within<T>(
    timeout: Duration,
    work: impl std::future::Future<Output = io::Result<T>>,
) -> io::Result<T> {
    smol::future::or(work, async {
        Timer::after(timeout).await;
        Err(timed_out(timeout))
    })
    .await
}

/// Opens a TCP connection, closes it at once, and returns how long the handshake took.
///
/// A refusal (`ConnectionRefused`) is an error as well, though somebody answered: what it proves
/// is for the caller to judge.
pub async fn tcp_connect(
    addr: SocketAddr,
    egress: &Egress,
    timeout: Duration,
) -> io::Result<Duration> {
    let started = Instant::now();
    let socket = Async::new(egress.tcp(addr)?)?;
    within(timeout, async {
        match socket.get_ref().connect(&SockAddr::from(addr)) {
            Ok(()) => {}
            Err(e) if Errno::from_io_error(&e) == Some(Errno::INPROGRESS) => {
                // connect(2): writable says that it is over, SO_ERROR says how it ended.
                socket.writable().await?;
                if let Some(error) = socket.get_ref().take_error()? {
                    return Err(error);
                }
            }
            Err(e) => return Err(e),
        }
        Ok(started.elapsed())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn connects_and_measures_on_both_families() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(host).expect("a loopback listener");
            let addr = listener.local_addr().expect("its address");
            let rtt = smol::block_on(tcp_connect(
                addr,
                &Egress::default(),
                Duration::from_secs(5),
            ))
            .expect("connects");
            assert!(rtt < Duration::from_secs(5));
            assert!(listener.accept().is_ok(), "the listener saw the connection");
        }
    }

    #[test]
    fn a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback listener");
        let addr = listener.local_addr().expect("its address");
        drop(listener);
        let error = smol::block_on(tcp_connect(
            addr,
            &Egress::default(),
            Duration::from_secs(5),
        ))
        .expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_source_address_is_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback listener");
        let addr = listener.local_addr().expect("its address");
        let egress = Egress {
            source: Some(IpAddr::from([127, 0, 0, 9])),
            ..Egress::default()
        };
        smol::block_on(tcp_connect(addr, &egress, Duration::from_secs(5))).expect("connects");
        let (_, peer) = listener.accept().expect("a connection");
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 9]));
    }

    #[test]
    fn errors_say_what_was_tried() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let foreign = Egress {
            source: Some(IpAddr::from([192, 0, 2, 1])),
            ..Egress::default()
        };
        let text = foreign.tcp(peer).expect_err("not ours").to_string();
        assert_eq!(
            text,
            "binding to source address 192.0.2.1: this address is not ours"
        );
        let refused = explain(Errno::PERM.into(), "setting mark 0x80000");
        assert_eq!(
            refused.to_string(),
            "setting mark 0x80000 needs CAP_NET_ADMIN: run as root"
        );
        let missing = Egress {
            device: Some("nosuchdev0".into()),
            ..Egress::default()
        };
        let text = missing.udp(peer).expect_err("no device").to_string();
        assert!(text.starts_with("binding to device nosuchdev0"), "{text}");
    }
}
