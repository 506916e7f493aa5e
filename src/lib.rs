//! tailover brings a router's tailnet back after a WAN failover, by the mildest cure that works.
//!
//! The way of the data is `watch -> core -> cure`: `watch` turns the world into inputs, `core`
//! decides, `cure` acts. `daemon` joins the three on one thread.

// A number from outside must not become another one.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::unchecked_time_subtraction
    )
)]

pub mod cli;
pub mod config;
pub mod core;
pub mod cure;
pub mod daemon;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
pub mod metrics;
pub mod net;
pub mod tailscale;
pub mod ubus;
pub mod view;
pub mod watch;
