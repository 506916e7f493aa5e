//! Asks the running daemon over ubus, and explains why that did not work.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use crate::daemon::OBJECT;
use crate::ubus::blobmsg::Table;
use crate::ubus::{oneshot, Error, Status};

use super::{NO_DAEMON, NO_RIGHTS, SYSTEM};

/// The daemon answers in milliseconds; a busy router may take longer.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Calls a method of the daemon. On failure the reason is printed and the exit code given.
pub fn ask(socket: &Path, method: &str, data: Table) -> Result<Json, u8> {
    match oneshot::call(socket, OBJECT, method, data, PATIENCE) {
        Ok(answer) => Ok(answer.to_json()),
        Err(e) => {
            let (text, code) = explain(&e, socket);
            eprintln!("tailover: {text}");
            Err(code)
        }
    }
}

/// Why the daemon could not be asked, and the exit code for that.
pub fn explain(e: &Error, socket: &Path) -> (String, u8) {
    match e {
        Error::Status(Status::NotFound) => (
            "the daemon does not run (`service tailover start` starts it; `tailover check` works \
             without it)"
                .into(),
            NO_DAEMON,
        ),
        Error::Io(e) if e.kind() == ErrorKind::PermissionDenied => (
            format!("no right to use {}: run as root", socket.display()),
            NO_RIGHTS,
        ),
        Error::Io(e) => (
            format!("ubusd cannot be asked at {}: {e}", socket.display()),
            NO_DAEMON,
        ),
        Error::Status(Status::PermissionDenied) => (
            "ubus does not let you ask that: run as root".into(),
            NO_RIGHTS,
        ),
        Error::Timeout => ("the daemon does not answer".into(), NO_DAEMON),
        other => (other.to_string(), SYSTEM),
    }
}
