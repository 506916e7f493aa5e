//! The core's own files as a crate of their own.

#[path = "../../src/core/mod.rs"]
pub mod core;
