//! tailover brings a router's tailnet back after a WAN failover, by the mildest cure that works.
//!
//! The way of the data is `watch -> core -> cure`: `watch` turns the world into inputs, `core`
//! decides, `cure` acts. `daemon` joins the three on one thread.

// What comes from outside must not end the daemon (a panic aborts it: docs/threat-model.md), and a number must
// not become another one.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::unchecked_time_subtraction
    )
)]

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a command that is run by hand and ends"
)]
pub mod cli;
pub mod config;
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "times of Duration, tables of two; tests/weeks checks every sum"
)]
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
