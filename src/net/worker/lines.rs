//! The lines between daemon and worker: one JSON array each, its first member the request's number.
//!
//! Both ends are built and installed together, so there are no versions: whatever does not fit is refused.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{json, Value};

use super::super::http::{CertCheck, FetchError, Method, Request, Response, TlsFault};
use super::super::socket::Egress;
use super::{Ask, Told};

/// The kinds of a failed connection that are told apart; all others arrive as `Other`.
const KINDS: [ErrorKind; 7] = [
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::PermissionDenied,
    ErrorKind::NetworkUnreachable,
    ErrorKind::HostUnreachable,
    ErrorKind::AddrNotAvailable,
    ErrorKind::NotFound,
];

/// The line of a request.
pub(super) fn ask(id: u64, ask: &Ask) -> Vec<u8> {
    line(match ask {
        Ask::Resolve(name) => json!([id, "resolve", name]),
        Ask::Fetch(r) => json!([id, "fetch", request(r)]),
    })
}

/// Reads a request's line; `None` when it is none.
pub(super) fn read_ask(line: &[u8]) -> Option<(u64, Ask)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let body = value.get(2)?;
    let ask = match value.get(1)?.as_str()? {
        "resolve" => Ask::Resolve(text(body)?),
        "fetch" => Ask::Fetch(Box::new(read_request(body)?)),
        _ => return None,
    };
    Some((value.get(0)?.as_u64()?, ask))
}

/// The line of an answer.
pub(super) fn told(id: u64, told: &Told) -> Vec<u8> {
    line(match told {
        Told::Resolved(Ok(found)) => json!([id, "addresses", addresses(found)]),
        Told::Resolved(Err(why)) => json!([id, "unresolved", why]),
        Told::Fetched(Ok(r)) => {
            let answer = json!([r.status, pairs(&r.headers), bytes(&r.body)]);
            json!([id, "response", answer])
        }
        Told::Fetched(Err(e)) => json!([id, "error", error(e)]),
    })
}

/// Reads an answer's line; `None` when it is none.
pub(super) fn read_told(line: &[u8]) -> Option<(u64, Told)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let body = value.get(2)?;
    let told = match value.get(1)?.as_str()? {
        "addresses" => Told::Resolved(Ok(read_addresses(body)?)),
        "unresolved" => Told::Resolved(Err(text(body)?)),
        "response" => Told::Fetched(Ok(Response {
            status: u16::try_from(body.get(0)?.as_u64()?).ok()?,
            headers: read_pairs(body.get(1)?)?,
            body: read_bytes(body.get(2)?)?,
        })),
        "error" => Told::Fetched(Err(read_error(body)?)),
        _ => return None,
    };
    Some((value.get(0)?.as_u64()?, told))
}

fn line(value: Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn text(value: &Value) -> Option<String> {
    Some(value.as_str()?.to_string())
}

/// Bytes as the characters of the same numbers: text stays text, and nothing is lost.
fn bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn read_bytes(value: &Value) -> Option<Vec<u8>> {
    let byte = |c: char| u8::try_from(u32::from(c)).ok();
    value.as_str()?.chars().map(byte).collect()
}

fn pairs(list: &[(String, String)]) -> Value {
    list.iter()
        .map(|(name, value)| json!([name, value]))
        .collect()
}

fn read_pairs(value: &Value) -> Option<Vec<(String, String)>> {
    let pair = |v: &Value| Some((text(v.get(0)?)?, text(v.get(1)?)?));
    value.as_array()?.iter().map(pair).collect()
}

fn addresses(list: &[IpAddr]) -> Value {
    list.iter().map(IpAddr::to_string).collect()
}

fn read_addresses(value: &Value) -> Option<Vec<IpAddr>> {
    let address = |v: &Value| v.as_str()?.parse().ok();
    value.as_array()?.iter().map(address).collect()
}

fn request(r: &Request) -> Value {
    let egress = &r.egress;
    let certificate = match &r.certificate {
        CertCheck::Host => json!(["host", ""]),
        CertCheck::Name(name) => json!(["name", name]),
        CertCheck::Sha256(pin) => json!(["sha256", pin]),
        CertCheck::Anything => json!(["anything", ""]),
    };
    json!({
        "post": r.method == Method::Post,
        "url": r.url,
        "headers": pairs(&r.headers),
        "body": bytes(&r.body),
        "mark": egress.mark,
        "device": egress.device,
        "source": egress.source.map(|ip| ip.to_string()),
        "addresses": addresses(&r.addresses),
        "certificate": certificate,
        "ca_file": r.ca_file.as_ref().map(|path| path.to_string_lossy()),
        "timeout_ms": u64::try_from(r.timeout.as_millis()).unwrap_or(u64::MAX),
        "body_limit": r.body_limit,
    })
}

fn read_request(value: &Value) -> Option<Request> {
    // A key that is null is one not set.
    let optional = |key: &str| value.get(key).and_then(Value::as_str);
    let certificate = value.get("certificate")?;
    let named = text(certificate.get(1)?)?;
    Some(Request {
        method: match value.get("post")?.as_bool()? {
            true => Method::Post,
            false => Method::Get,
        },
        url: text(value.get("url")?)?,
        headers: read_pairs(value.get("headers")?)?,
        body: read_bytes(value.get("body")?)?,
        egress: Egress {
            mark: match value.get("mark")? {
                Value::Null => None,
                mark => Some(u32::try_from(mark.as_u64()?).ok()?),
            },
            device: optional("device").map(str::to_string),
            source: match optional("source") {
                Some(source) => Some(source.parse().ok()?),
                None => None,
            },
        },
        addresses: read_addresses(value.get("addresses")?)?,
        certificate: match certificate.get(0)?.as_str()? {
            "host" => CertCheck::Host,
            "name" => CertCheck::Name(named),
            "sha256" => CertCheck::Sha256(named),
            "anything" => CertCheck::Anything,
            _ => return None,
        },
        ca_file: optional("ca_file").map(Into::into),
        timeout: Duration::from_millis(value.get("timeout_ms")?.as_u64()?),
        body_limit: value.get("body_limit")?.as_u64()?,
    })
}

fn error(error: &FetchError) -> Value {
    match error {
        FetchError::Dns(text) => json!(["dns", text]),
        FetchError::Connect { kind, text } => {
            let kind = KINDS.iter().position(|k| k == kind);
            json!(["connect", text, kind])
        }
        FetchError::Timeout => json!(["timeout", ""]),
        FetchError::Tls(fault) => match fault {
            TlsFault::WrongName(text) => json!(["wrong-name", text]),
            TlsFault::UnknownIssuer => json!(["unknown-issuer", ""]),
            TlsFault::NotYetValid => json!(["not-yet-valid", ""]),
            TlsFault::Expired => json!(["expired", ""]),
            TlsFault::BadCertificate(text) => json!(["bad-certificate", text]),
            TlsFault::NoRoots(text) => json!(["no-roots", text]),
            TlsFault::Protocol(text) => json!(["tls", text]),
            TlsFault::Broken(text) => json!(["tls-broken", text]),
            TlsFault::NotBuilt => json!(["not-built", ""]),
        },
        FetchError::Http(text) => json!(["http", text]),
        FetchError::TooBig(limit) => json!(["too-big", "", limit]),
        FetchError::BadRequest(text) => json!(["bad-request", text]),
        FetchError::Busy(text) => json!(["busy", text]),
        FetchError::Worker(text) => json!(["worker", text]),
        FetchError::NotInstalled => json!(["not-installed", ""]),
    }
}

fn read_error(value: &Value) -> Option<FetchError> {
    let text = text(value.get(1)?)?;
    let number = value.get(2).and_then(Value::as_u64);
    Some(match value.get(0)?.as_str()? {
        "dns" => FetchError::Dns(text),
        "connect" => {
            let place = number.and_then(|n| usize::try_from(n).ok());
            let kind = place.and_then(|n| KINDS.get(n)).copied();
            FetchError::Connect {
                kind: kind.unwrap_or(ErrorKind::Other),
                text,
            }
        }
        "timeout" => FetchError::Timeout,
        "wrong-name" => FetchError::Tls(TlsFault::WrongName(text)),
        "unknown-issuer" => FetchError::Tls(TlsFault::UnknownIssuer),
        "not-yet-valid" => FetchError::Tls(TlsFault::NotYetValid),
        "expired" => FetchError::Tls(TlsFault::Expired),
        "bad-certificate" => FetchError::Tls(TlsFault::BadCertificate(text)),
        "no-roots" => FetchError::Tls(TlsFault::NoRoots(text)),
        "tls" => FetchError::Tls(TlsFault::Protocol(text)),
        "tls-broken" => FetchError::Tls(TlsFault::Broken(text)),
        "not-built" => FetchError::Tls(TlsFault::NotBuilt),
        "http" => FetchError::Http(text),
        "too-big" => FetchError::TooBig(number?),
        "bad-request" => FetchError::BadRequest(text),
        "busy" => FetchError::Busy(text),
        "worker" => FetchError::Worker(text),
        "not-installed" => FetchError::NotInstalled,
        _ => return None,
    })
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    if let Some((id, what)) = read_ask(bytes) {
        assert!(read_ask(&ask(id, &what)).is_some());
    }
    if let Some((id, what)) = read_told(bytes) {
        assert!(read_told(&told(id, &what)).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_arrive_as_they_were() {
        let mut full = Request::post("https://derp.example:444/x", vec![0, 10, 34, 255]);
        full.headers = vec![("X-Challenge".into(), "ts_\"1\"".into())];
        full.egress = Egress {
            mark: Some(0x80000),
            device: Some("eth1".into()),
            source: Some(IpAddr::from([192, 0, 2, 1])),
        };
        full.addresses = vec!["2001:db8::1".parse().expect("an address")];
        full.certificate = CertCheck::Sha256("ab".into());
        full.ca_file = Some("/etc/ca.pem".into());
        for asked in [
            Ask::Fetch(Box::new(full)),
            Ask::Fetch(Box::new(Request::get("http://a"))),
            Ask::Resolve("a.example".into()),
        ] {
            assert_eq!(read_ask(&ask(7, &asked)), Some((7, asked)));
        }
    }

    #[test]
    fn answers_arrive_as_they_were() {
        let response = Response {
            status: 204,
            headers: vec![("x".into(), "y".into())],
            body: (0..=255).collect(),
        };
        let errors = [
            FetchError::Connect {
                kind: ErrorKind::ConnectionRefused,
                text: "no".into(),
            },
            FetchError::Tls(TlsFault::WrongName("other".into())),
            FetchError::TooBig(5),
            FetchError::Timeout,
        ];
        let mut all = vec![
            Told::Fetched(Ok(response)),
            Told::Resolved(Ok(vec![IpAddr::from([192, 0, 2, 1])])),
            Told::Resolved(Err("unknown".into())),
        ];
        all.extend(errors.into_iter().map(|e| Told::Fetched(Err(e))));
        for answer in all {
            assert_eq!(read_told(&told(7, &answer)), Some((7, answer)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "{}", "[1]", "[1,\"fetch\",null]", "[1,\"x\",\"\"]"] {
            assert_eq!(read_ask(line.as_bytes()), None, "{line}");
            assert_eq!(read_told(line.as_bytes()), None, "{line}");
        }
    }
}
