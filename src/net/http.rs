//! One HTTP request: over TCP by a chosen way out, or over a unix socket; plain or with TLS.
//!
//! ureq does the HTTP; the sockets, the names and TLS are ours. ureq blocks, so [`fetch`] runs each
//! request on a thread of its own, which ends with the request. Redirects are not followed, proxies
//! from the environment are not used, and no connection is kept: each probe must see the path anew.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::socket::Egress;
use super::{thread, worker};

/// ureq's buffers each way. A probe's answer is small, and so is our memory.
const BUFFER: usize = 8 * 1024;

/// The body bound of a request that sets none.
pub const DEFAULT_BODY_LIMIT: u64 = 64 * 1024;

/// GET or POST, which is all that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// The way a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// TCP to these addresses in turn, or where it is empty to those the host's name resolves to.
    /// The lookup itself goes the way the system's resolver goes, not by `egress`.
    Tcp {
        egress: Egress,
        addresses: Vec<IpAddr>,
    },
    /// The unix socket at this path. The URL's host then only becomes the Host header.
    Unix(PathBuf),
}

/// What the server's certificate must show. Only for https URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CertCheck {
    /// A known issuer and the URL's host.
    #[default]
    Host,
    /// A known issuer and this name, while the URL's host is still the one asked for (SNI):
    /// a DERP node's CertName.
    Name(String),
    /// This SHA-256 of the whole certificate, lower-case hexadecimal: a DERP node's CertName of the
    /// form `sha256-raw:…`.
    Sha256(String),
    /// Nothing: a DERP node's InsecureForTests.
    Anything,
}

/// A request. [`Request::get`] and [`Request::post`] fill in the usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// `http://…` or `https://…`, with a host.
    pub url: String,
    /// Headers beyond those HTTP itself needs.
    pub headers: Vec<(String, String)>,
    /// Sent with POST; ignored with GET.
    pub body: Vec<u8>,
    pub via: Via,
    pub certificate: CertCheck,
    /// The CA file to trust; `None` is the system's.
    pub ca_file: Option<PathBuf>,
    /// For the whole request, from lookup to the last byte.
    pub timeout: Duration,
    /// Most bytes of a body; a longer one is an error.
    pub body_limit: u64,
}

impl Request {
    /// A GET by no particular way, with 5 s and [`DEFAULT_BODY_LIMIT`].
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: Method::Get,
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            via: Via::Tcp {
                egress: Egress::default(),
                addresses: Vec::new(),
            },
            certificate: CertCheck::default(),
            ca_file: None,
            timeout: Duration::from_secs(5),
            body_limit: DEFAULT_BODY_LIMIT,
        }
    }

    /// A POST with this body, else as [`Request::get`].
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: Method::Post,
            body: body.into(),
            ..Self::get(url)
        }
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, given in lower case. `None` too if it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name)?;
        Some(&found.1)
    }

    /// The body as text, with what is not UTF-8 replaced, trimmed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_string()
    }
}

/// Why TLS failed. They are told apart because they mean different faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate is for other names: often a portal.
    WrongName(String),
    /// Signed by nobody we know: often a portal, or a missing private CA.
    UnknownIssuer,
    /// Not valid yet: nearly always our own clock is behind.
    NotYetValid,
    Expired,
    /// Anything else wrong with the certificate.
    BadCertificate(String),
    /// There is no CA file to check against.
    NoRoots(String),
    /// What came back is no TLS we understand: often a portal that speaks plain HTTP.
    Protocol(String),
    /// This build has no TLS (feature `tls`).
    NotBuilt,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongName(text) => write!(f, "the certificate is for another name ({text})"),
            Self::UnknownIssuer => f.write_str("the certificate's issuer is unknown"),
            Self::NotYetValid => {
                f.write_str("the certificate is not valid yet: is the clock right?")
            }
            Self::Expired => f.write_str("the certificate has expired"),
            Self::BadCertificate(text) => write!(f, "bad certificate: {text}"),
            Self::NoRoots(text) => f.write_str(text),
            Self::Protocol(text) => write!(f, "TLS failed: {text}"),
            Self::NotBuilt => f.write_str("https needs a build with the feature `tls`"),
        }
    }
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The name was not resolved.
    Dns(String),
    /// No connection: refused, unreachable, no right to set the mark, no such socket.
    Connect { kind: io::ErrorKind, text: String },
    /// No complete answer in time.
    Timeout,
    /// TLS failed.
    Tls(TlsFault),
    /// The connection broke or what came is no HTTP.
    Http(String),
    /// The body is longer than the request allows (bytes).
    TooBig(u64),
    /// The request itself is wrong: its URL or a header.
    BadRequest(String),
    /// Not started: too many blocking calls are under way.
    Busy(String),
    /// The process that does the requests failed: not started, or ended before the answer.
    Worker(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) => write!(f, "name not resolved: {text}"),
            Self::Connect { text, .. } => write!(f, "no connection: {text}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Tls(fault) => fault.fmt(f),
            Self::Http(text) => write!(f, "bad HTTP answer: {text}"),
            Self::TooBig(limit) => write!(f, "the answer is longer than {limit} bytes"),
            Self::BadRequest(text) => write!(f, "bad request: {text}"),
            Self::Busy(text) => f.write_str(text),
            Self::Worker(text) => write!(f, "the fetch worker failed: {text}"),
        }
    }
}

impl std::error::Error for FetchError {}

/// Does a request and waits for it, at most the request's time-out: over TCP in the calling thread's
/// worker process where [`worker::use_process`] was called, else on a thread of its own.
///
/// A thread still blocked at the time-out is left to end by itself.
pub async fn fetch(request: Request) -> Result<Response, FetchError> {
    let request = match &request.via {
        Via::Unix(_) => request,
        Via::Tcp { .. } => match worker::fetch(request).await {
            Ok(result) => return result,
            Err(request) => request,
        },
    };
    match thread::run(request.timeout, move || fetch_blocking(&request)).await {
        Ok(result) => result,
        Err(thread::Error::Timeout) => Err(FetchError::Timeout),
        Err(thread::Error::Busy(text)) => Err(FetchError::Busy(text)),
    }
}

/// Does a request on the calling thread, which must not be the daemon's.
pub fn fetch_blocking(request: &Request) -> Result<Response, FetchError> {
    let deadline = Instant::now() + request.timeout;
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
        via: request.via.clone(),
        certificate: request.certificate.clone(),
        ca_file: request.ca_file.clone(),
        deadline,
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
    via: Via,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS looks"))]
    certificate: CertCheck,
    ca_file: Option<PathBuf>,
    deadline: Instant,
}

impl Way {
    fn connect_tcp(&self, egress: &Egress, addresses: &[SocketAddr]) -> Result<Socket, FetchError> {
        let mut last = FetchError::Dns("no address".into());
        for (n, address) in addresses.iter().enumerate() {
            // A dead first address must leave time for the second.
            let shares = u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
            let share = remaining(self.deadline).map_err(unconnected)? / shares;
            let connected = egress.tcp(*address).and_then(|socket| {
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

    fn connect_unix(&self, path: &PathBuf) -> Result<Socket, FetchError> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // unix(7): connect blocks while the backlog is full, at most for SO_SNDTIMEO.
            socket.set_write_timeout(Some(remaining(self.deadline)?))?;
            socket.connect(&SockAddr::unix(path)?)?;
            Ok(socket)
        };
        connect().map_err(unconnected)
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
        let fixed: Vec<SocketAddr> = match &self.via {
            // ureq wants an address; the unix socket does not.
            Via::Unix(_) => vec![SocketAddr::from(([127, 0, 0, 1], port))],
            Via::Tcp { addresses, .. } if !addresses.is_empty() => addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, port))
                .collect(),
            Via::Tcp { .. } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let looked_up = (bare, port)
                    .to_socket_addrs()
                    .map_err(|e| own(FetchError::Dns(format!("{bare}: {e}"))))?;
                looked_up.collect()
            }
        };
        // ureq's list holds sixteen and panics beyond.
        fixed.into_iter().take(16).for_each(|a| found.push(a));
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
        let socket = match &self.via {
            Via::Tcp { egress, .. } => self.connect_tcp(egress, &details.addrs),
            Via::Unix(path) => self.connect_unix(path),
        };
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
            Err(HandshakeError::Io(e)) if is_timeout(&e) => Err(FetchError::Timeout),
            // It was connected and then cut off: nobody there speaks TLS with us.
            Err(HandshakeError::Io(e)) => Err(FetchError::Tls(TlsFault::Protocol(e.to_string()))),
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
