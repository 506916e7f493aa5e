//! tailscaled: its LocalAPI and what that says, its process, and what it puts into the kernel.

mod frame;
pub mod kernel;
pub mod localapi;
pub mod networks;
mod pieces;
pub mod process;
pub mod types;
