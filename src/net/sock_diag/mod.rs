//! When data last came on a TCP connection, as the kernel tells it by sock_diag(7).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::io::Errno;

use super::netlink::{attrs, Connection, AF_INET, AF_INET6};

pub use super::netlink::Error;

/// Numbers of linux/sock_diag.h, inet_diag.h and include/net/tcp_states.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_INFO: u16 = 2;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;

/// struct inet_diag_msg up to its attributes (linux/inet_diag.h).
const MESSAGE_LEN: usize = 72;

/// Offsets in struct tcp_info (linux/tcp.h, which only ever grows at its end).
const LAST_DATA_RECV: usize = 52;
const BYTES_RECEIVED: usize = 128;

/// Asks for single connections. The kernel finds each by its hash; a dump would walk its whole
/// table, which takes 10 ms where there is much memory.
pub struct SockDiag(Connection);

impl SockDiag {
    /// Opens the socket, which needs no rights.
    ///
    /// # Errors
    /// The kernel has no sock_diag at all.
    pub fn open() -> Result<SockDiag, Error> {
        Connection::open(NETLINK_SOCK_DIAG, "opening a sock_diag socket").map(SockDiag)
    }

    /// How long ago data came on an established connection. `None`: none ever did, or the kernel is
    /// older than 4.1 and does not count it. Acknowledgements and keepalive probes are no data.
    ///
    /// # Errors
    /// [`Error::is_missing`] when there is no such connection, and also where the kernel's part for
    /// TCP (OpenWrt's kmod-inet-diag) is not there: it gives the same number for both.
    pub fn last_data(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<Duration>, Error> {
        let tried = "asking for a TCP connection";
        let header = request(local, remote);
        let answer = self
            .0
            .request(tried, SOCK_DIAG_BY_FAMILY, &header, |_| {})?;
        Ok(last_data(&answer))
    }
}

impl Error {
    /// Whether what was asked for is not there.
    pub fn is_missing(&self) -> bool {
        self.is(Errno::NOENT)
    }
}

/// struct inet_diag_req_v2: family, protocol, attributes wanted, states, and struct inet_diag_sockid:
/// both ports and addresses in network byte order, no device, no cookie (INET_DIAG_NOCOOKIE).
fn request(local: SocketAddr, remote: SocketAddr) -> [u8; 56] {
    let mut bytes = [0; 56];
    let family = match local.ip() {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    let mut put = |at: usize, value: &[u8]| {
        if let Some(field) = bytes.get_mut(at..).and_then(|b| b.get_mut(..value.len())) {
            field.copy_from_slice(value);
        }
    };
    put(0, &[family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1)]);
    put(4, &(1u32 << TCP_ESTABLISHED).to_ne_bytes());
    for (port_at, ip_at, address) in [(8, 12, local), (10, 28, remote)] {
        put(port_at, &address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => put(ip_at, &ip.octets()),
            IpAddr::V6(ip) => put(ip_at, &ip.octets()),
        }
    }
    put(48, &[u8::MAX; 8]);
    bytes
}

/// Reads struct inet_diag_msg and its INET_DIAG_INFO.
fn last_data(payload: &[u8]) -> Option<Duration> {
    // A listener answers for a connection that is gone.
    if *payload.get(1)? != TCP_ESTABLISHED {
        return None;
    }
    let info = attrs(payload.get(MESSAGE_LEN..)?).find(|(kind, _)| *kind == INET_DIAG_INFO)?;
    let field = |at: usize, length: usize| info.1.get(at..)?.get(..length);
    let received = u64::from_ne_bytes(field(BYTES_RECEIVED, 8)?.try_into().ok()?);
    let ago = u32::from_ne_bytes(field(LAST_DATA_RECV, 4)?.try_into().ok()?);
    // The handshake sets the time as well (tcp_finish_connect), and anybody on the way can complete it.
    (received > 0).then(|| Duration::from_millis(ago.into()))
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    for message in super::netlink::messages(bytes) {
        last_data(message.payload);
    }
}

#[cfg(test)]
mod tests;
