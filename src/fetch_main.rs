//! The program `tailover-fetch`: does the daemon's HTTP requests and name lookups; nobody types it.
//!
//! It reads requests from standard input and ends with it. It is a program of its own so that the
//! daemon's is small: see [`tailover::net::worker`].

use std::io;
use std::process::ExitCode;

use tailover::cli::{OK, SYSTEM, USAGE};
use tailover::net::worker;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "--version")
    {
        println!("tailover-fetch {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::from(OK);
    }
    match worker::serve(io::stdin().lock(), io::stdout()) {
        Ok(()) => ExitCode::from(OK),
        Err(e) => {
            eprintln!("tailover-fetch: {e}");
            ExitCode::from(match e.kind() {
                io::ErrorKind::InvalidData => USAGE,
                _ => SYSTEM,
            })
        }
    }
}
