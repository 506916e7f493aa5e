//! `tailover fetch-worker`: what the daemon starts for its probes; nobody types it.

use std::io;

use argh::FromArgs;

use crate::net::worker;

use super::{OK, SYSTEM, USAGE};

/// (for the daemon itself) answer requests from standard input
#[derive(FromArgs)]
#[argh(subcommand, name = "fetch-worker")]
pub struct FetchWorker {}

impl FetchWorker {
    pub fn go(self) -> u8 {
        match worker::serve(io::stdin().lock(), io::stdout()) {
            Ok(()) => OK,
            Err(e) => {
                eprintln!("tailover fetch-worker: {e}");
                match e.kind() {
                    io::ErrorKind::InvalidData => USAGE,
                    _ => SYSTEM,
                }
            }
        }
    }
}
