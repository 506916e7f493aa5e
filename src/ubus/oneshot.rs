//! One blocking call with a deadline, for commands that run and end.
//!
//! The hotplug command may hold up netifd's scripts, so nothing here waits longer than the
//! deadline, connecting included. No executor and no thread is started.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket};

use super::blobmsg::{Table, Value};
use super::session::{Incident, ObjectInfo, Outcome, Request, Session};
use super::{Error, Status};

/// Calls `method` of the object at `path` and gives its first answer, a table.
///
/// `deadline` is for everything together: connecting, greeting, lookup, call.
///
/// # Errors
/// [`Error::Io`] when ubusd cannot be reached (kind `NotFound` or `ConnectionRefused`: it does not
/// run; `PermissionDenied`: no rights), "Not found" when there is no such object,
/// [`Error::Timeout`] past the deadline.
pub fn call(
    socket: &Path,
    path: &str,
    method: &str,
    data: Table,
    deadline: Duration,
) -> Result<Value, Error> {
    let mut connection = Connection::open(socket, deadline)?;
    let id = connection.object(path)?;
    let outcome = connection.request(Request::Invoke {
        id,
        method: method.to_owned(),
        data,
    })?;
    let answer = outcome.answers.first().and_then(|a| a.data()).cloned();
    Ok(Value::Table(answer.unwrap_or_default()))
}

/// Calls `method` and is content when ubusd has the call: it goes on to the object even when this
/// process has ended. The answer is waited for until `deadline`, so that a refusal is told.
///
/// # Errors
/// As [`call`]; [`Error::Timeout`] only when the call could not be handed over.
pub fn tell(
    socket: &Path,
    path: &str,
    method: &str,
    data: Table,
    deadline: Duration,
) -> Result<(), Error> {
    let mut connection = Connection::open(socket, deadline)?;
    let id = connection.object(path)?;
    let method = method.to_owned();
    let seq = connection.send(Request::Invoke { id, method, data })?;
    match connection.outcome(seq) {
        Ok(_) | Err(Error::Timeout) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Sends an event.
///
/// # Errors
/// As [`call`].
pub fn send_event(socket: &Path, id: &str, data: Table, deadline: Duration) -> Result<(), Error> {
    let event = id.to_owned();
    Connection::open(socket, deadline)?
        .request(Request::Send { event, data })
        .map(drop)
}

/// Objects by path, by prefix (`*` at its end), or all (`*`).
///
/// # Errors
/// As [`call`].
pub fn lookup(socket: &Path, path: &str, deadline: Duration) -> Result<Vec<ObjectInfo>, Error> {
    let path = (path != "*").then(|| path.to_owned());
    let outcome = Connection::open(socket, deadline)?.request(Request::Lookup(path))?;
    Ok(outcome
        .answers
        .iter()
        .filter_map(ObjectInfo::read)
        .collect())
}

/// A blocking connection with the time at which all must be done.
struct Connection {
    stream: UnixStream,
    session: Session,
    until: Instant,
    incidents: Vec<Incident>,
}

impl Connection {
    fn open(socket: &Path, deadline: Duration) -> Result<Self, Error> {
        let now = Instant::now();
        let until = now.checked_add(deadline).unwrap_or(now);
        // A blocking connect waits without limit when ubusd's backlog is full; this one fails
        // with EAGAIN then (unix(7)), which is as good as an ubusd that does not answer.
        let socket_end = Socket::new(Domain::UNIX, socket2::Type::STREAM, None)?;
        socket_end.set_nonblocking(true)?;
        match socket_end.connect(&SockAddr::unix(socket)?) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(Error::Timeout),
            connected => connected?,
        }
        socket_end.set_nonblocking(false)?;
        let mut connection = Connection {
            stream: UnixStream::from(socket_end),
            session: Session::new(),
            until,
            incidents: Vec::new(),
        };
        while !connection.incidents.contains(&Incident::Hello) {
            connection.read()?;
        }
        Ok(connection)
    }

    /// The number of the object at `path`.
    fn object(&mut self, path: &str) -> Result<u32, Error> {
        let found = self.request(Request::Lookup(Some(path.to_owned())))?;
        let object = found.answers.first().and_then(ObjectInfo::read);
        object.map(|o| o.id).ok_or(Error::Status(Status::NotFound))
    }

    /// Sends a request and waits for its end, which must be success.
    fn request(&mut self, request: Request) -> Result<Outcome, Error> {
        let seq = self.send(request)?;
        self.outcome(seq)
    }

    /// Hands a request to ubusd; gives its number.
    fn send(&mut self, request: Request) -> Result<u16, Error> {
        let seq = self.session.request(request)?;
        let bytes = self.session.take_output();
        self.write(&bytes)?;
        self.incidents.clear();
        Ok(seq)
    }

    /// Waits for the end of request `seq`, which must be success.
    fn outcome(&mut self, seq: u16) -> Result<Outcome, Error> {
        loop {
            for incident in self.incidents.drain(..) {
                match incident {
                    Incident::Done(done, outcome) if done == seq => {
                        return match outcome.status {
                            Status::Ok => Ok(outcome),
                            status => Err(Error::Status(status)),
                        }
                    }
                    _ => {}
                }
            }
            self.read()?;
        }
    }

    fn left(&self) -> Result<Duration, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        // A time-out of zero would mean none at all.
        if left.is_zero() {
            Err(Error::Timeout)
        } else {
            Ok(left)
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        self.stream.set_read_timeout(Some(self.left()?))?;
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Error::Io(ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or(&[]);
                Ok(self.session.receive(bytes, &mut self.incidents)?)
            }
            Err(e) => soft(e),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(rest) {
                Ok(0) => return Err(Error::Io(ErrorKind::WriteZero.into())),
                Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
                Err(e) => soft(e)?,
            }
        }
        Ok(())
    }
}

/// A time-out becomes [`Error::Timeout`]; an interruption is nothing; the rest stays.
fn soft(e: std::io::Error) -> Result<(), Error> {
    match e.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Error::Timeout),
        _ => Err(Error::Io(e)),
    }
}
