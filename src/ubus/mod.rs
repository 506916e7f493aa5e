//! ubus, OpenWrt's message bus: wire format, client, and one-shot calls.
//!
//! - [`blobmsg`]: the typed tree that messages carry, its bytes and its JSON.
//! - [`wire`]: frames and their attributes.
//! - [`session`]: one connection's protocol, without a socket.
//! - [`client`]: the connection that stays, on smol.
//! - [`oneshot`]: one blocking call with a deadline, for commands.
//!
//! # What comes from the crate ubus-rs 0.1.0, and what does not
//!
//! Used: the numbers of attributes, message types and blobmsg types, `MsgType`, and `BlobBuf`,
//! which writes every scalar attribute of every frame that is sent.
//!
//! Not used, and written here instead:
//! - `UbusClient` blocks without a time limit: `connect` waits for the greeting before a read
//!   time-out can be set, and a time-out would apply to each read, not to the call.
//! - It takes the next DATA or STATUS for its answer without looking at the sequence number, and
//!   throws away what else arrives meanwhile (calls, events).
//! - It allocates whatever length a frame claims, up to 16 MiB; ubusd's bound is 1 MiB.
//! - It has no lookup, invoke, subscribe, event registration or reply, and `add_object` sends an
//!   empty signature.
//! - Its asynchronous client needs tokio.
//! - `BlobBuf` has two of blobmsg's nine types and cannot take ready bytes, so [`blobmsg`] writes
//!   the trees. Its `nest_end` panics on a wrong offset and its lengths are not checked against
//!   24 bits; [`wire`] calls it with offsets it just got and lengths it has checked.
//! - It reads nothing but one number out of a frame (`parse_attr_u32`).

pub mod blobmsg;
pub mod client;
pub mod oneshot;
pub mod session;
pub mod wire;

use std::fmt;

pub use blobmsg::{Table, Type, Value};
pub use client::{Call, Client, Handle, Happening};
pub use session::{Method, ObjectInfo};

/// Where ubusd listens on OpenWrt.
pub const DEFAULT_SOCKET: &str = "/var/run/ubus/ubus.sock";

/// How a request ended, `enum ubus_msg_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0
    Ok,
    /// 1
    InvalidCommand,
    /// 2
    InvalidArgument,
    /// 3
    MethodNotFound,
    /// 4: no such object.
    NotFound,
    /// 5
    NoData,
    /// 6
    PermissionDenied,
    /// 7
    Timeout,
    /// 8
    NotSupported,
    /// 9
    UnknownError,
    /// 10
    ConnectionFailed,
    /// 11
    NoMemory,
    /// 12
    ParseError,
    /// 13
    SystemError,
    /// A number that ubus does not name.
    Other(u32),
}

/// Names in the order of their numbers, the words of libubus's `ubus_strerror`.
const STATUSES: [(Status, &str); 14] = [
    (Status::Ok, "Success"),
    (Status::InvalidCommand, "Invalid command"),
    (Status::InvalidArgument, "Invalid argument"),
    (Status::MethodNotFound, "Method not found"),
    (Status::NotFound, "Not found"),
    (Status::NoData, "No response"),
    (Status::PermissionDenied, "Permission denied"),
    (Status::Timeout, "Request timed out"),
    (Status::NotSupported, "Operation not supported"),
    (Status::UnknownError, "Unknown error"),
    (Status::ConnectionFailed, "Connection failed"),
    (Status::NoMemory, "Out of memory"),
    (Status::ParseError, "Parsing message data failed"),
    (Status::SystemError, "System error"),
];

impl Status {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Status::Other(n) => n,
            known => STATUSES
                .iter()
                .zip(0..)
                .find_map(|((s, _), n)| (*s == known).then_some(n))
                .unwrap_or(u32::MAX),
        }
    }
}

impl From<u32> for Status {
    fn from(number: u32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|n| STATUSES.get(n))
            .map_or(Status::Other(number), |(status, _)| *status)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match STATUSES.iter().find(|(s, _)| s == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "status {}", self.number()),
        }
    }
}

/// Why an operation failed.
#[derive(Debug)]
pub enum Error {
    /// There is no connection to ubusd just now.
    Down,
    /// No answer in time. The request may still take effect.
    Timeout,
    /// ubusd or the object called refused.
    Status(Status),
    /// What came in, or was to go out, is not a ubus message.
    Wire(wire::WireError),
    /// The socket failed.
    Io(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Down => f.write_str("not connected to ubusd"),
            Error::Timeout => f.write_str("no answer over ubus in time"),
            Error::Status(status) => write!(f, "{status}"),
            Error::Wire(e) => write!(f, "ubus: {e}"),
            Error::Io(e) => write!(f, "ubus socket: {e}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Wire(e) => Some(e),
            Error::Io(e) => Some(e),
            _ => None,
        }
    }
}

impl From<wire::WireError> for Error {
    fn from(e: wire::WireError) -> Self {
        Error::Wire(e)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::Io(e)
    }
}
