//! A double of ubusd: `ubusd [--socket|-s PATH]` serves the real protocol on a unix socket.
//!
//! `-s` is the real ubusd's option, so that a test can start either.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use smol::net::unix::UnixListener;
use tailover::ubus::DEFAULT_SOCKET;
use tailover_lab_doubles::broker::Broker;
use tailover_lab_doubles::serve::serve;

fn main() -> ExitCode {
    let mut socket = PathBuf::from(DEFAULT_SOCKET);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--socket" | "-s", Some(path)) => socket = path.into(),
            _ => {
                eprintln!("usage: ubusd [--socket PATH]");
                return ExitCode::from(2);
            }
        }
    }
    match run(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ubusd: {}: {e}", socket.display());
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &Path) -> std::io::Result<()> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let broker = Broker::new(|| fastrand::u32(..));
    smol::block_on(async { serve(UnixListener::bind(socket)?, broker).await })
}
