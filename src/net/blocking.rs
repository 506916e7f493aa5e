//! Does one HTTP request on the calling thread, and looks names up; only the worker process calls it.
//!
//! ureq does the HTTP; the sockets, the names and TLS are ours. Redirects are not followed, proxies
//! from the environment are not used, and no connection is kept: each probe must see the path anew.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::http::{CertCheck, FetchError, Method, Request, Response, TlsFault};
use super::socket::Egress;

/// ureq's buffers each way. A probe's answer is small, and so is our memory.
const BUFFER: usize = 8 * 1024;
/// What an answer may have beside its body: its header, and interim answers (100 Continue), of
/// which ureq reads any number.
const BESIDE_BODY: u64 = 64 * 1024;
/// As much as a body can grow by its framing: chunks of one byte take six.
const FRAMING: u64 = 8;

/// Looks a name up. In the order the resolver prefers.
pub fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|a| a.ip()).collect())
}

/// Does a request, at most for its time-out.
pub fn fetch(request: &Request) -> Result<Response, FetchError> {
    let began = Instant::now();
    let deadline = began.checked_add(request.timeout).unwrap_or(began);
    let config = ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .user_agent(concat!("tailover/", env!("CARGO_PKG_VERSION")))
        .build();
    let way = Way {
        egress: request.egress.clone(),
        addresses: request.addresses.clone(),
        certificate: request.certificate.clone(),
        ca_file: request.ca_file.clone(),
        deadline,
        answer_limit: request
            .body_limit
            .saturating_mul(FRAMING)
            .saturating_add(BESIDE_BODY),
    };
    let agent = ureq::Agent::with_parts(config, way.clone(), way);
    let response = match request.method {
        Method::Get => with_headers(agent.get(&request.url), &request.headers).call(),
        Method::Post => {
            with_headers(agent.post(&request.url), &request.headers).send(&request.body[..])
        }
    };
    let (parts, mut body) = response.map_err(translate)?.into_parts();
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_string(), value.to_string()))
    });
    Ok(Response {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: body
            .with_config()
            .limit(request.body_limit)
            .read_to_vec()
            .map_err(translate)?,
    })
}

fn with_headers<B>(
    builder: ureq::RequestBuilder<B>,
    headers: &[(String, String)],
) -> ureq::RequestBuilder<B> {
    headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(name, value)
    })
}

/// Finds our own error inside ureq's, or the nearest of ours.
fn translate(error: ureq::Error) -> FetchError {
    match error {
        ureq::Error::Other(inner) => match inner.downcast::<FetchError>() {
            Ok(ours) => *ours,
            Err(other) => FetchError::Http(other.to_string()),
        },
        ureq::Error::Io(e) => broken(&e),
        ureq::Error::Timeout(_) => FetchError::Timeout,
        ureq::Error::BodyExceedsLimit(limit) => FetchError::TooBig(limit),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => FetchError::BadRequest(error.to_string()),
        other => FetchError::Http(other.to_string()),
    }
}

/// The error of a connection that broke after it was made.
fn broken(error: &io::Error) -> FetchError {
    if is_timeout(error) {
        return FetchError::Timeout;
    }
    #[cfg(feature = "tls")]
    if let Some(fault) = super::tls::fault(error) {
        return FetchError::Tls(fault);
    }
    FetchError::Http(error.to_string())
}

/// SO_RCVTIMEO and SO_SNDTIMEO end in EAGAIN (socket(7)).
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

fn unconnected(error: io::Error) -> FetchError {
    if is_timeout(&error) {
        return FetchError::Timeout;
    }
    FetchError::Connect {
        kind: error.kind(),
        text: error.to_string(),
    }
}

fn own(error: FetchError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// Resolves and connects for ureq.
#[derive(Debug, Clone)]
struct Way {
    egress: Egress,
    addresses: Vec<IpAddr>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS looks"))]
    certificate: CertCheck,
    // Only TLS looks at it.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    ca_file: Option<PathBuf>,
    deadline: Instant,
    /// How long an answer may be, with its header and framing.
    answer_limit: u64,
}

impl Way {
    fn connect_tcp(&self, addresses: &[SocketAddr]) -> Result<Socket, FetchError> {
        let mut last = FetchError::Dns("no address".into());
        for (n, address) in addresses.iter().enumerate() {
            // A dead first address must leave time for the second.
            let shares = u32::try_from(addresses.len().saturating_sub(n)).unwrap_or(u32::MAX);
            let left = remaining(self.deadline).map_err(unconnected)?;
            let share = left.checked_div(shares).unwrap_or(left);
            let connected = self.egress.tcp(*address).and_then(|socket| {
                socket.connect_timeout(&SockAddr::from(*address), share)?;
                Ok(socket)
            });
            match connected {
                Ok(socket) => {
                    // Without this a probe may wait for a delayed acknowledgement; it works without.
                    let _ = socket.set_tcp_nodelay(true);
                    return Ok(socket);
                }
                Err(e) => last = unconnected(e),
            }
        }
        Err(last)
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // A time-out of zero means none at all (socket(7)), also after rounding to microseconds.
    Ok(left.max(Duration::from_millis(1)))
}

impl Resolver for Way {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let default = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(default);
        let mut found = self.empty();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let addresses = match self.addresses.is_empty() {
            true => look_up(bare).map_err(|e| own(FetchError::Dns(format!("{bare}: {e}"))))?,
            false => self.addresses.clone(),
        };
        // ureq's list holds sixteen and panics beyond.
        let addresses = addresses.into_iter().take(16);
        addresses.for_each(|ip| found.push(SocketAddr::new(ip, port)));
        if found.is_empty() {
            return Err(own(FetchError::Dns(format!("{host}: no address"))));
        }
        Ok(found)
    }
}

impl Connector<()> for Way {
    type Out = Wire;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Wire>, ureq::Error> {
        let socket = self.connect_tcp(&details.addrs);
        let timed = Timed {
            socket: socket.map_err(own)?,
            deadline: self.deadline,
        };
        let stream = if details.needs_tls() {
            self.secure(timed, details.uri.host().unwrap_or_default())
                .map_err(own)?
        } else {
            Stream::Plain(timed)
        };
        Ok(Some(Wire {
            stream,
            buffers: LazyBuffers::new(BUFFER, BUFFER),
            limit: self.answer_limit,
            taken: 0,
        }))
    }
}

impl Way {
    #[cfg(feature = "tls")]
    fn secure(&self, timed: Timed, host: &str) -> Result<Stream, FetchError> {
        use super::tls::{handshake, HandshakeError};
        match handshake(timed, host, &self.certificate, self.ca_file.as_deref()) {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(HandshakeError::Tls(fault)) => Err(FetchError::Tls(fault)),
            // It was connected all the same: that is no slow or silent way.
            Err(HandshakeError::Io(e)) => {
                Err(FetchError::Tls(TlsFault::Broken(match is_timeout(&e) {
                    true => "no answer in time".into(),
                    false => e.to_string(),
                })))
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self, _: Timed, _: &str) -> Result<Stream, FetchError> {
        Err(FetchError::Tls(TlsFault::NotBuilt))
    }
}

/// A connected socket whose every read and write ends at the request's deadline.
#[derive(Debug)]
struct Timed {
    socket: Socket,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket
                .set_read_timeout(Some(remaining(self.deadline)?))?;
            match self.socket.read(buffer) {
                // With a time-out set, a signal handler ends even a restartable read (signal(7)).
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket
            .set_write_timeout(Some(remaining(self.deadline)?))?;
        self.socket.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

enum Stream {
    Plain(Timed),
    #[cfg(feature = "tls")]
    Tls(Box<super::tls::Stream<Timed>>),
}

/// A connection as ureq wants it.
struct Wire {
    stream: Stream,
    buffers: LazyBuffers,
    /// How much is read at most, all in all.
    limit: u64,
    taken: u64,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.buffers.output();
        let output = output.get(..amount).unwrap_or_default();
        let written = match &mut self.stream {
            Stream::Plain(plain) => plain.write_all(output),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.write_all(output).and_then(|()| tls.flush()),
        };
        written.map_err(|e| own(broken(&e)))
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let input = self.buffers.input_append_buf();
        let read = match &mut self.stream {
            Stream::Plain(plain) => plain.read(input),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => match tls.read(input) {
                // Many servers close without close_notify. ureq itself notices a short body.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        };
        let amount = read.map_err(|e| own(broken(&e)))?;
        self.taken = self.taken.saturating_add(amount as u64);
        if self.taken > self.limit {
            return Err(own(FetchError::TooBig(self.limit)));
        }
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Only asked before a connection is used again, which never happens here.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        !matches!(self.stream, Stream::Plain(_))
    }
}
