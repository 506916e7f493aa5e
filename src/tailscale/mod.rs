//! tailscaled: its LocalAPI and what that says, its process, and what it puts into the kernel.

// What comes from outside must not end the daemon: a panic aborts it (docs/threat-model.md).
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod frame;
pub mod kernel;
pub mod localapi;
pub mod networks;
mod pieces;
pub mod process;
pub mod types;
