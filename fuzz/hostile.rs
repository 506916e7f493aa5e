//! One program for all targets: the environment's HOSTILE names the one that gets the bytes.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tailover::hostile::{Target, TARGETS};

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let (_, read) = TARGET.get_or_init(|| {
        let asked = std::env::var("HOSTILE").unwrap_or_default();
        let found = TARGETS.iter().find(|(name, _)| *name == asked);
        *found.unwrap_or_else(|| panic!("HOSTILE={asked} is none of the targets"))
    });
    read(bytes);
});
