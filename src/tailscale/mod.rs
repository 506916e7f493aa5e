//! tailscaled as seen over its LocalAPI: the client, and what it says as plain data.

pub mod localapi;
pub mod types;
