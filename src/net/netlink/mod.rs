//! netlink(7) of any family: requests, dumps and notifications as messages.
//!
//! Requests are synchronous: the kernel answers them before it returns to us, in well under a
//! millisecond on tables of a router's size. Only the [`Listener`] waits, and it is async.

mod frame;
mod uapi;

use std::fmt;
use std::io;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use smol::Async;
use socket2::{SockFilter, SockRef};

pub(super) use frame::*;
pub(super) use uapi::*;

/// A request that failed.
#[derive(Debug)]
pub struct Error {
    /// What was tried, as a verb phrase: "adding IPv4 rule 990".
    pub tried: String,
    pub source: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_permission() {
            write!(f, "{} needs CAP_NET_ADMIN: run as root", self.tried)
        } else {
            write!(f, "{}: {}", self.tried, self.source)
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Error {
    /// Whether the right to do it is missing.
    pub fn is_permission(&self) -> bool {
        self.is(Errno::PERM)
    }

    /// Whether the kernel gave this reason.
    pub(in crate::net) fn is(&self, errno: Errno) -> bool {
        Errno::from_io_error(&self.source) == Some(errno)
    }
}

/// The kernel answers at once; this only keeps a fault in our reading from hanging the daemon.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kernel fills dumps in pieces of at most this (net/netlink/af_netlink.c, netlink_dump).
const DUMP_PIECE: usize = 32 * 1024;
/// A dump that a change ran into is read again, at most this often.
const DUMP_TRIES: u32 = 3;

/// A connection for requests.
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    /// Opens a connection to one of the kernel's families (NETLINK_ROUTE and others). `tried` says
    /// that as a verb phrase.
    pub(in crate::net) fn open(protocol: isize, tried: &str) -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Self {
                socket,
                sequence: 0,
            }),
            Err(source) => Err(Error {
                tried: tried.into(),
                source,
            }),
        }
    }

    /// Sends a change and waits for the kernel's word on it.
    pub(in crate::net) fn change(
        &mut self,
        tried: &str,
        build: impl FnOnce(u32) -> Option<Builder>,
    ) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let outcome = match build(self.sequence) {
            Some(request) => self
                .send(request)
                .and_then(|()| self.receive(|message| (message.kind == NLMSG_DONE).then_some(()))),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "addresses of both families in one",
            )),
        };
        outcome.map(drop).map_err(|source| Error {
            tried: tried.into(),
            source,
        })
    }

    /// Sends a request for one object and returns its payload.
    pub(in crate::net) fn request(
        &mut self,
        tried: &str,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Builder),
    ) -> Result<Vec<u8>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Builder::new(kind, NLM_F_REQUEST, self.sequence, header);
        fill(&mut request);
        self.send(request)
            .and_then(|()| self.receive(|message| Some(message.payload.to_vec())))
            .and_then(|payload| payload.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .map_err(|source| Error {
                tried: tried.into(),
                source,
            })
    }

    /// Lists objects, and again when a change ran into the listing. `body` is the family header
    /// with the attributes that narrow the listing, `answer` the kind of message of an object.
    pub(in crate::net) fn dump<T, C: Default + Extend<T>>(
        &mut self,
        tried: &str,
        kind: u16,
        body: &[u8],
        answer: u16,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<C, Error> {
        let mut tries = 0;
        loop {
            tries = u32::saturating_add(tries, 1);
            self.sequence = self.sequence.wrapping_add(1);
            let request = Builder::new(kind, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, body);
            let (mut all, mut torn) = (C::default(), false);
            let done = self.send(request).and_then(|()| {
                self.receive(|message| {
                    torn |= message.flags & NLM_F_DUMP_INTR != 0;
                    if message.kind == answer {
                        all.extend(parse(message.payload));
                    }
                    (message.kind == NLMSG_DONE).then_some(())
                })
            });
            match done {
                Ok(_) if torn && tries < DUMP_TRIES => {}
                Ok(_) => return Ok(all),
                Err(source) => {
                    return Err(Error {
                        tried: tried.into(),
                        source,
                    })
                }
            }
        }
    }

    fn send(&self, request: Builder) -> io::Result<()> {
        self.socket.send(&request.finish(), 0).map(drop)
    }

    /// Reads answers to the last request until `take` is satisfied, or the kernel acknowledges it
    /// (`None`) or refuses it.
    fn receive<T>(&self, mut take: impl FnMut(&Message) -> Option<T>) -> io::Result<Option<T>> {
        let mut buffer = vec![0; DUMP_PIECE];
        loop {
            let length = self.socket.recv(&mut &mut buffer[..], 0)?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                // A late answer to a request that timed out.
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    return match u32_at(message.payload, 0).map(|code| code.cast_signed()) {
                        Some(0) => Ok(None),
                        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        None => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                if let Some(taken) = take(&message) {
                    return Ok(Some(taken));
                }
            }
        }
    }
}

/// A datagram of notifications is smaller than this; one that is not counts as an overrun. The
/// kernel makes them a page long at most, and 8 KiB on the largest pages (NLMSG_GOODSIZE).
const NOTIFICATION: usize = 8 * 1024;

/// Listens to what the kernel tells a multicast group.
pub(super) struct Listener {
    socket: Async<Socket>,
    buffer: Vec<u8>,
}

/// What was heard.
pub(super) enum Heard<'a> {
    /// A datagram: see [`messages`].
    Datagram(&'a [u8]),
    /// Notifications were lost because they came faster than they were read.
    Overrun,
}

impl Listener {
    /// Starts listening. Notifications from now on that `filter` lets pass are kept by the kernel
    /// until read; an empty filter lets all pass.
    pub(in crate::net) fn open(
        protocol: isize,
        groups: &[u32],
        filter: &[SockFilter],
    ) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        if !filter.is_empty() {
            SockRef::from(&socket).attach_filter(filter)?;
        }
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Self {
            socket: Async::new(socket)?,
            buffer: vec![0; NOTIFICATION],
        })
    }

    /// Waits for the next datagram. Nothing is lost when the future is dropped before it ends.
    pub(in crate::net) async fn next(&mut self) -> io::Result<Heard<'_>> {
        loop {
            let buffer = &mut self.buffer;
            let read = self
                .socket
                .read_with(|socket| socket.recv(&mut &mut buffer[..], 0));
            match read.await {
                Ok(length) if length >= NOTIFICATION => return Ok(Heard::Overrun),
                Ok(length) => {
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    return Ok(Heard::Datagram(datagram));
                }
                Err(e) if Errno::from_io_error(&e) == Some(Errno::NOBUFS) => {
                    return Ok(Heard::Overrun)
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
