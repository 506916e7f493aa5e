//! Carries out what the core decided, and reports what came of it. Decides nothing.

pub mod leave;
pub mod mend;
pub mod program;
pub mod restart;
pub mod steer;
pub mod tailscaled;
