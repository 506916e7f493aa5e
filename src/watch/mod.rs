//! Turns the world into inputs of the core, and decides nothing.

pub mod chains;
pub mod conntrack;
pub mod events;
pub mod hands;
pub mod heard;
pub mod kernel;
pub mod lost;
pub mod mwan3;
pub mod oddities;
pub mod probe;
pub mod pulse;
pub mod sockets;
pub mod tailnet;
pub mod targets;
pub mod uplinks;
