//! A double of netifd's, mwan3's and procd's ubus objects: `netifd --state FILE [--socket PATH]`.
//!
//! FILE is read again at each call; see `netifd.rs` of the library for its form. Prints `ready`
//! once all objects are there. `lab.netifd` steers it: `event {id, data}`,
//! `notify {object, method, data}`, `change {action, interface}` (event and notifications as
//! netifd sends them, from FILE as it is then), `reload` (objects for new interfaces).

use std::path::PathBuf;
use std::process::ExitCode;

use tailover::ubus::DEFAULT_SOCKET;

fn main() -> ExitCode {
    let mut socket = PathBuf::from(DEFAULT_SOCKET);
    let mut state = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--socket" | "-s", Some(path)) => socket = path.into(),
            ("--state", Some(path)) => state = Some(PathBuf::from(path)),
            _ => return usage(),
        }
    }
    let Some(state) = state else {
        return usage();
    };
    let serve = tailover_lab_doubles::netifd::serve(&socket, state, || println!("ready"));
    match smol::block_on(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("netifd: {e}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: netifd --state FILE [--socket PATH]");
    ExitCode::from(2)
}
