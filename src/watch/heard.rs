//! Hears from the kernel when data last came on tailscaled's connections, where the kernel tells it.

use std::net::SocketAddr;

use crate::core::signs::Heard;
use crate::net::sock_diag::SockDiag;

/// After so many readings in a row without any answer the kernel has no ear for this. A single one
/// may have asked for connections that had just been closed, which looks the same.
const DEAF_AFTER: u8 = 2;

/// Connections asked for at once; tailscaled has one to control and a few to relays.
const MOST: usize = 16;

/// Asks the kernel, until it is clear that it does not tell: OpenWrt's kmod-inet-diag is often not
/// there, and each question would have the kernel look for the module.
#[derive(Debug, Default)]
pub struct Ear {
    unanswered: u8,
}

impl Ear {
    /// When data last came on each of these connections, local and remote end. One without data, or
    /// that is gone, is left out.
    pub fn read(&mut self, ends: &[(SocketAddr, SocketAddr)]) -> Vec<Heard> {
        if self.is_deaf() || ends.is_empty() {
            return Vec::new();
        }
        let Ok(mut diag) = SockDiag::open() else {
            self.unanswered = DEAF_AFTER;
            return Vec::new();
        };
        self.unanswered = self.unanswered.saturating_add(1);
        let mut heard = Vec::new();
        for &(local, remote) in ends.iter().take(MOST) {
            let Ok(told) = diag.last_data(local, remote) else {
                continue;
            };
            self.unanswered = 0;
            heard.extend(told.map(|ago| Heard { local, remote, ago }));
        }
        heard
    }

    fn is_deaf(&self) -> bool {
        self.unanswered >= DEAF_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn data_is_heard_and_a_kernel_that_never_answers_is_not_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback listener");
        let remote = listener.local_addr().expect("its address");
        let client = TcpStream::connect(remote).expect("connected");
        let local = client.local_addr().expect("its address");
        let (mut peer, _) = listener.accept().expect("the other end");
        let nobody = (local, SocketAddr::from(([127, 0, 0, 2], 1)));
        let mut ear = Ear::default();
        assert!(ear.read(&[nobody]).is_empty());
        peer.write_all(b"data").expect("sent");
        let heard = ear.read(&[nobody, (local, remote)]);
        if heard.is_empty() {
            eprintln!("this kernel has no tcp_diag");
            assert_eq!(ear.unanswered, DEAF_AFTER);
        } else {
            assert_eq!((heard[0].local, heard[0].remote), (local, remote));
            assert_eq!((heard.len(), ear.unanswered), (1, 0));
            assert!(ear.read(&[nobody]).is_empty());
            assert!(!ear.is_deaf());
            assert!(ear.read(&[nobody]).is_empty());
        }
        assert!(ear.is_deaf());
        assert!(ear.read(&[(local, remote)]).is_empty());
    }
}
