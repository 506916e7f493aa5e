//! Turns the world into inputs for `core`, and decides nothing.

pub mod sockets;
