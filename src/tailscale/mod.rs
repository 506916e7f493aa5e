//! tailscaled as seen over its LocalAPI: the client, and what it says as plain data.

mod frame;
pub mod kernel;
pub mod localapi;
pub mod networks;
mod pieces;
pub mod process;
pub mod types;
