//! One HTTP request over TCP by a chosen way out, plain or with TLS: what it is, and what comes of it.
//!
//! The daemon has them done by a worker process ([`super::worker`]); what does them there is
//! [`super::blocking`].

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::socket::Egress;

/// The body bound of a request that sets none.
pub const DEFAULT_BODY_LIMIT: u64 = 64 * 1024;

/// GET or POST, which is all that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
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
    /// How its connection leaves. The lookup goes the way the system's resolver goes.
    pub egress: Egress,
    /// Tried in turn; where it is empty, those that the URL's host resolves to.
    pub addresses: Vec<IpAddr>,
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
            egress: Egress::default(),
            addresses: Vec::new(),
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
    /// The connection opened, and the handshake met silence, was cut off or refused.
    Broken(String),
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
            Self::Broken(text) => write!(f, "no TLS handshake: {text}"),
            Self::NotBuilt => f.write_str("https needs a build with the feature `tls`"),
        }
    }
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The name was not resolved.
    Dns(String),
    /// No connection: refused, unreachable, no right to set the mark.
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
    /// The program of that process is not there.
    NotInstalled,
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
            Self::NotInstalled => f.write_str(
                "tailover-fetch is not installed: HTTP, HTTPS and DERP probes and name lookups are off",
            ),
        }
    }
}

impl std::error::Error for FetchError {}
