//! Everything that touches the network: sockets with a mark and a device, STUN, DNS, HTTP, TLS, netlink.
//!
//! Nothing here decides anything. Each function does one exchange and says what came of it; which
//! exchange, by which uplink, and what it means is the business of `watch` and `core`.

pub mod blocking;
pub mod dns;
pub mod http;
mod netlink;
pub mod nftables;
pub mod resolve;
pub mod rtnetlink;
pub mod sock_diag;
pub mod socket;
pub mod stun;
pub mod thread;
#[cfg(feature = "tls")]
pub mod tls;
pub mod together;
pub mod volley;
pub mod worker;
