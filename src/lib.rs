//! tailover brings a router's tailnet back after a WAN failover, by the mildest cure that works.
//!
//! The way of the data is `watch -> core -> cure`: `watch` turns the world into inputs, `core`
//! decides, `cure` acts. `daemon` joins the three on one thread.

pub mod cli;
pub mod config;
pub mod core;
pub mod cure;
pub mod daemon;
pub mod metrics;
pub mod net;
pub mod tailscale;
pub mod ubus;
pub mod view;
pub mod watch;
