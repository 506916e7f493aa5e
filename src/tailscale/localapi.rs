//! The client of tailscaled's LocalAPI: HTTP on a unix socket, and the endless bus of messages.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::Async;

use super::frame::Frame;
use super::networks::{Networks, Reader};
use super::pieces::Cutter;
use super::types::{DerpMap, Notify, Peer, Ping, Prefs, Status};
use crate::net::http::Method;
use crate::net::socket::within;

/// The only host name tailscaled accepts besides an empty one; any other gets 403.
const HOST: &str = "local-tailscaled.sock";

/// An answer that is kept whole and is longer than this is cut off with an error. What lists the
/// peers, 1.5 kB each, is read as it comes.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// Bits of the bus's mask (ipn.NotifyWatchOpt).
pub mod mask {
    /// Counters of the engine, whenever they change.
    pub const ENGINE: u32 = 1;
    pub const INITIAL_STATE: u32 = 2;
    /// At most one message every few seconds.
    pub const RATE_LIMIT: u32 = 256;
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Nobody listens on the socket, or the connection was closed.
    NotRunning(String),
    /// The socket or the call needs root.
    Permission(String),
    /// No answer in time: tailscaled hangs.
    Timeout,
    /// An answer that is a refusal, with its text.
    Http { status: u16, text: String },
    /// An answer that makes no sense.
    Bad(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(text) => write!(f, "tailscaled does not run ({text})"),
            Self::Permission(text) => write!(f, "no right to ask tailscaled ({text}): run as root"),
            Self::Timeout => f.write_str("tailscaled does not answer"),
            Self::Http { status, text } => write!(f, "tailscaled refused: {status} {text}"),
            Self::Bad(text) => write!(f, "tailscaled's answer makes no sense: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    fn from_connect(kind: io::ErrorKind, text: String) -> Self {
        match kind {
            io::ErrorKind::PermissionDenied => Self::Permission(text),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            // unix(7): the queue of connections is full, so nobody has taken one for long. The
            // non-blocking connect is refused, and the first write finds no connection.
            io::ErrorKind::NotConnected => Self::Timeout,
            // No socket, nobody behind it, or closed while we spoke.
            _ => Self::NotRunning(text),
        }
    }

    fn from_status(status: u16, text: String) -> Self {
        match status {
            401 | 403 => Self::Permission(text),
            _ => Self::Http { status, text },
        }
    }
}

/// What came of a debug action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debug {
    Done,
    /// This build of tailscaled has no such action, or no debug at all.
    Unsupported,
}

/// tailscaled behind a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalApi {
    /// Usually `/var/run/tailscale/tailscaled.sock`.
    pub socket: PathBuf,
    /// For each call; for the bus until it begins to answer.
    pub timeout: Duration,
}

impl LocalApi {
    /// The state of this node, and of its peers if asked for.
    pub async fn status(&self, peers: bool) -> Result<Status, Error> {
        let json = self
            .json(Method::Get, &format!("status?peers={peers}"))
            .await?;
        Status::from_json(&json).ok_or_else(|| no_object("status"))
    }

    /// The networks of all peers. The answer is read as it comes and never kept whole.
    pub async fn networks(&self) -> Result<Networks, Error> {
        let path = "status?peers=true";
        let mut reader = Reader::default();
        let exchange = self.exchange(Method::Get, path, "", |data| reader.feed(data));
        match within(self.timeout, exchange).await.map_err(io_error)? {
            200..=299 => reader
                .end()
                .map_err(|wrong| Error::Bad(format!("{path}: {wrong}"))),
            status => Err(Error::from_status(status, path.into())),
        }
    }

    /// Hands each peer to `each` as it comes: with a thousand of them the answer is 1.5 MB, and a
    /// small router has no room for that.
    ///
    /// # Errors
    /// As any call; the peers that came before it were handed over.
    pub async fn each_peer(&self, mut each: impl FnMut(Peer)) -> Result<(), Error> {
        self.each_peer_json(&mut |peer| each(Peer::from_json(peer)))
            .await
    }

    /// As [`each_peer`](Self::each_peer), with all that tailscaled says of it.
    ///
    /// # Errors
    /// As [`each_peer`](Self::each_peer).
    pub async fn each_peer_json(&self, each: &mut dyn FnMut(&Value)) -> Result<(), Error> {
        let path = "status?peers=true";
        let mut cutter = Cutter::default();
        let take = |data: &[u8]| {
            cutter.feed(data, |piece| {
                let peer: Result<Value, _> = serde_json::from_slice(piece);
                each(&peer.unwrap_or_default());
            });
            Ok(())
        };
        let exchange = self.exchange(Method::Get, path, "", take);
        match within(self.timeout, exchange).await.map_err(io_error)? {
            200..=299 => Ok(()),
            status => Err(Error::from_status(status, path.into())),
        }
    }

    /// What the user wants.
    pub async fn prefs(&self) -> Result<Prefs, Error> {
        let json = self.json(Method::Get, "prefs").await?;
        Prefs::from_json(&json).ok_or_else(|| no_object("prefs"))
    }

    /// The relays. `None` while tailscaled has no map yet.
    pub async fn derpmap(&self) -> Result<Option<DerpMap>, Error> {
        let json = self.json(Method::Get, "derpmap").await?;
        match json {
            Value::Null => Ok(None),
            json => DerpMap::from_json(&json)
                .map(Some)
                .ok_or_else(|| no_object("derpmap")),
        }
    }

    /// One of `restun`, `rebind`, `break-derp-conns`, `force-netmap-update`.
    pub async fn debug(&self, action: &str) -> Result<Debug, Error> {
        let path = format!("debug?action={action}");
        match self.call(Method::Post, &path, "").await {
            Ok(_) => Ok(Debug::Done),
            Err(error) if is_unsupported(&error) => Ok(Debug::Unsupported),
            Err(error) => Err(error),
        }
    }

    /// Whether this build has the debug actions. Asks for one that does not exist.
    pub async fn has_debug(&self) -> Result<bool, Error> {
        match self.call(Method::Post, "debug?action=none", "").await {
            Ok(_) => Ok(true),
            Err(Error::Http { status: 400, .. }) => Ok(true),
            Err(error) if is_unsupported(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Throws the control client away and makes a new one; the preferences stay as they are.
    pub async fn start(&self) -> Result<(), Error> {
        self.call(Method::Post, "start", "{}").await.map(drop)
    }

    /// One ping through the tunnel to a peer's tailnet address, answered by its tailscaled (TSMP).
    /// A peer that does not answer is [`Error::Timeout`] or a [`Ping`] with an error text.
    pub async fn ping(&self, ip: IpAddr) -> Result<Ping, Error> {
        let path = format!("ping?ip={ip}&type=TSMP");
        let json = self.json(Method::Post, &path).await?;
        Ping::from_json(&json).ok_or_else(|| no_object("ping"))
    }

    /// Starts listening to the bus; `mask` is made of the bits in [`mask`].
    pub async fn watch_bus(&self, mask: u32) -> Result<Bus, Error> {
        let begin = async {
            let mut stream = Async::<UnixStream>::connect(&self.socket).await?;
            let request = format!(
                "GET /localapi/v0/watch-ipn-bus?mask={mask} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut bus = Bus {
                stream,
                decoder: Decoder::default(),
                lines: VecDeque::new(),
                buffer: vec![0; BUS_READ],
            };
            while bus.decoder.status().is_none() {
                if !bus.read().await? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(bus)
        };
        let bus = within(self.timeout, begin).await.map_err(io_error)?;
        match bus.decoder.status() {
            Some(200) | None => Ok(bus),
            // 404: built without it.
            Some(status) => Err(Error::from_status(status, "no bus".into())),
        }
    }

    /// What a path answers, as it is: `status?peers=false`, `prefs`.
    ///
    /// # Errors
    /// As any call.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.json(Method::Get, path).await
    }

    async fn json(&self, method: Method, path: &str) -> Result<Value, Error> {
        let body = self.call(method, path, "").await?;
        serde_json::from_slice(&body).map_err(|e| Error::Bad(format!("{path}: {e}")))
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> Result<Vec<u8>, Error> {
        let mut answer = Vec::new();
        let exchange = self.exchange(method, path, body, |data| {
            answer.extend_from_slice(data);
            match answer.len() > BODY_LIMIT {
                true => Err("an endless body"),
                false => Ok(()),
            }
        });
        let status = within(self.timeout, exchange).await.map_err(io_error)?;
        match status {
            200..=299 => Ok(answer),
            status => {
                let text = String::from_utf8_lossy(&answer).trim().to_string();
                Err(Error::from_status(status, text))
            }
        }
    }

    /// One request on a connection of its own. Hands the answer's body to `take`, which may refuse
    /// it, and gives its status.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> io::Result<u16> {
        let verb = match method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let length = body.len();
        let request = format!(
            "{verb} /localapi/v0/{path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = Async::<UnixStream>::connect(&self.socket).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut frame = Frame::default();
        let mut buffer = vec![0; READ];
        while !frame.is_ended() {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                frame.close().map_err(nonsense)?;
                break;
            }
            let bytes = buffer.get(..length).unwrap_or_default();
            let mut taken = Ok(());
            let fed = frame.feed(bytes, |data| {
                if taken.is_ok() {
                    taken = take(data);
                }
            });
            fed.and(taken).map_err(nonsense)?;
        }
        frame
            .status()
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn no_object(what: &str) -> Error {
    Error::Bad(format!("{what} is no JSON object"))
}

/// 404 or 501: built without debug. 400 `unknown action`: built with it, but not with this one.
fn is_unsupported(error: &Error) -> bool {
    match error {
        Error::Http {
            status: 404 | 501, ..
        } => true,
        Error::Http { status: 400, text } => text.starts_with("unknown action"),
        _ => false,
    }
}

fn nonsense(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn io_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData => Error::Bad(error.to_string()),
        kind => Error::from_connect(kind, error.to_string()),
    }
}

/// Bytes read at a time; of the bus, whose buffer stays, fewer: its messages are mostly counters.
const READ: usize = 8 * 1024;
const BUS_READ: usize = 2 * 1024;

/// The endless stream of messages.
pub struct Bus {
    stream: Async<UnixStream>,
    decoder: Decoder,
    lines: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Bus {
    /// Waits for the next message. [`Error::NotRunning`] means that tailscaled has closed it.
    ///
    /// Nothing is lost when the future is dropped before it ends.
    pub async fn next(&mut self) -> Result<Notify, Error> {
        loop {
            while let Some(line) = self.lines.pop_front() {
                match Notify::from_line(&line) {
                    Some(notify) => return Ok(notify),
                    None => log::debug!("a bus line of {} bytes is no message", line.len()),
                }
            }
            if self.decoder.is_ended() || !self.read().await.map_err(io_error)? {
                return Err(Error::NotRunning("it closed the bus".into()));
            }
        }
    }

    /// Reads once. `false` at the end of the stream.
    async fn read(&mut self) -> io::Result<bool> {
        let length = self.stream.read(&mut self.buffer).await?;
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let lines = &mut self.lines;
        self.decoder
            .feed(bytes, |line| lines.push_back(line))
            .map_err(nonsense)?;
        Ok(length > 0)
    }
}

/// A longer line is skipped. Network maps of large tailnets are such lines, and nothing here
/// needs them.
pub const MAX_LINE: usize = 1024 * 1024;
/// A line buffer above this is given back when its line is done.
const KEEP: usize = 16 * 1024;

/// Turns the bytes of an HTTP/1.1 answer into the lines of its body.
#[derive(Debug, Default)]
pub struct Decoder {
    frame: Frame,
    lines: Lines,
}

impl Decoder {
    /// The HTTP status, once the header is complete.
    pub fn status(&self) -> Option<u16> {
        self.frame.status()
    }

    /// Whether the answer is complete.
    pub fn is_ended(&self) -> bool {
        self.frame.is_ended()
    }

    /// Takes the next bytes and hands each complete line (without its LF) to `take`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Vec<u8>),
    ) -> Result<(), &'static str> {
        let lines = &mut self.lines;
        self.frame.feed(bytes, |data| lines.feed(data, &mut take))
    }
}

/// Puts lines together.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    skipping: bool,
}

impl Lines {
    fn feed(&mut self, mut data: &[u8], take: &mut impl FnMut(Vec<u8>)) {
        while !data.is_empty() {
            let mut parts = data.splitn(2, |b| *b == b'\n');
            let part = parts.next().unwrap_or_default();
            let rest = parts.next();
            data = rest.unwrap_or_default();
            if self.line.len().saturating_add(part.len()) > MAX_LINE {
                self.skipping = true;
                self.line = Vec::new();
            }
            if !self.skipping {
                self.line.extend_from_slice(part);
            }
            if rest.is_none() {
                continue;
            }
            if !self.skipping && !self.line.is_empty() {
                take(self.line.clone());
            }
            self.skipping = false;
            self.line.clear();
            self.line.shrink_to(KEEP);
        }
    }
}
