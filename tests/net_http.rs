//! The HTTP client against small servers on loopback: plain and with TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tailover::net::blocking::fetch;
use tailover::net::http::{FetchError, Request, Response};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Reads a request up to the end of its header and, if it has one, its body.
fn read_request(stream: &mut impl Read) -> String {
    let mut seen = Vec::new();
    let mut byte = [0u8; 1];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the request's header");
        seen.extend(byte);
    }
    let header = String::from_utf8(seen).expect("a header in ASCII");
    let length = header.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).expect("the request's body");
    header + std::str::from_utf8(&body).expect("a body in ASCII")
}

/// Serves one connection with fixed bytes and returns the request it got.
fn serve(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let request = read_request(&mut stream);
        stream.write_all(answer).expect("the answer is sent");
        request
    });
    (address, thread)
}

fn get(request: Request) -> Result<Response, FetchError> {
    fetch(&request)
}

/// A URL with a name that no resolver knows, which must lead to the given address all the same.
fn at(address: SocketAddr, url: String) -> Request {
    Request {
        addresses: vec![address.ip()],
        ..Request::get(url)
    }
}

#[test]
fn gets_from_a_given_address_without_dns() {
    let (address, thread) =
        serve(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Answer: yes\r\n\r\nhello\n");
    let url = format!("http://probe.invalid:{}/generate", address.port());
    let mut request = at(address, url);
    request.headers = vec![("X-Tailscale-Challenge".into(), "ts_probe".into())];
    let response = get(request).expect("a response");
    assert_eq!(response.status, 200);
    assert_eq!(response.text(), "hello");
    assert_eq!(response.header("x-answer"), Some("yes"));
    let seen = thread.join().expect("the server").to_ascii_lowercase();
    assert!(seen.starts_with("get /generate http/1.1\r\n"), "{seen}");
    assert!(
        seen.contains(&format!("host: probe.invalid:{}\r\n", address.port())),
        "{seen}"
    );
    assert!(
        seen.contains("x-tailscale-challenge: ts_probe\r\n"),
        "{seen}"
    );
}

#[test]
fn posts_a_body_and_takes_an_empty_answer() {
    let (address, thread) = serve(b"HTTP/1.1 204 No Content\r\n\r\n");
    let response = get(Request::post(format!("http://{address}/start"), "{}")).expect("a response");
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert!(thread.join().expect("the server").ends_with("\r\n\r\n{}"));
}

#[test]
fn redirects_and_refusals_come_back_as_they_are() {
    let (address, thread) = serve(
        b"HTTP/1.1 302 Found\r\nLocation: http://portal.invalid/\r\nContent-Length: 0\r\n\r\n",
    );
    let response = get(Request::get(format!("http://{address}/"))).expect("a response");
    assert_eq!(response.status, 302);
    assert_eq!(response.header("location"), Some("http://portal.invalid/"));
    thread.join().expect("the server");
    let (address, thread) = serve(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied");
    let response = get(Request::get(format!("http://{address}/"))).expect("a response");
    assert_eq!((response.status, response.text().as_str()), (403, "denied"));
    thread.join().expect("the server");
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let (address, thread) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789");
    let mut request = Request::get(format!("http://{address}/"));
    request.body_limit = 9;
    assert_eq!(get(request), Err(FetchError::TooBig(9)));
    thread.join().expect("the server");
}

#[test]
fn what_is_no_http_is_said_to_be_none() {
    let (address, thread) = serve(b"SSH-2.0-dropbear\r\n");
    let error = get(Request::get(format!("http://{address}/"))).expect_err("no HTTP");
    assert!(matches!(error, FetchError::Http(_)), "{error:?}");
    thread.join().expect("the server");
}

#[test]
fn silence_ends_at_the_time_out() {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    let mut request = Request::get(format!("http://{address}/"));
    request.timeout = Duration::from_millis(200);
    let started = Instant::now();
    assert_eq!(get(request), Err(FetchError::Timeout));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_drip_feeding_server_ends_at_the_time_out() {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // Until the client has gone: the write then fails.
        while stream.write_all(b"H").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut request = Request::get(format!("http://{address}/"));
    request.timeout = Duration::from_millis(200);
    let error = get(request).expect_err("never a whole answer");
    assert!(
        matches!(error, FetchError::Timeout | FetchError::Http(_)),
        "{error:?}"
    );
    thread.join().expect("the server");
}

/// What a server does that begins so and then says the same again until the client has gone.
fn without_end(begin: &'static str, again: &'static str) -> Result<Response, FetchError> {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        read_request(&mut stream);
        let again = again.repeat(1 + 4096 / again.len());
        let mut sent = stream.write_all(begin.as_bytes());
        while sent.is_ok() {
            sent = stream.write_all(again.as_bytes());
        }
    });
    let mut request = Request::get(format!("http://{address}/"));
    // Far longer than the bound takes: what ends the request is the bound.
    request.timeout = Duration::from_secs(60);
    let result = get(request);
    thread.join().expect("the server");
    result
}

#[test]
fn an_endless_body_ends_at_the_bound_however_it_is_framed() {
    let bound = Request::get("").body_limit;
    for (begin, again) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "x"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
            "x",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
    ] {
        let told = without_end(begin, again);
        assert_eq!(told, Err(FetchError::TooBig(bound)), "{begin}");
    }
}

#[test]
fn an_endless_header_ends_at_a_bound_too() {
    for (begin, again) in [
        ("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"),
        ("HTTP/1.1 200 OK\r\nX-Long: ", "x"),
        ("HTTP/1.1 200 ", "OK"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let told = without_end(begin, again);
        assert!(
            matches!(told, Err(FetchError::Http(_) | FetchError::TooBig(_))),
            "{begin}{again}: {told:?}"
        );
    }
}

#[test]
fn a_refused_connection_and_an_unknown_name_are_told_apart() {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    match get(Request::get(format!("http://{address}/"))) {
        Err(FetchError::Connect { kind, .. }) => assert_eq!(kind, ErrorKind::ConnectionRefused),
        other => panic!("{other:?}"),
    }
    let error = get(Request::get("http://a..b/")).expect_err("no such name");
    assert!(
        matches!(error, FetchError::Dns(_) | FetchError::BadRequest(_)),
        "{error:?}"
    );
    let error = get(Request::get("no url at all")).expect_err("no URL");
    assert!(matches!(error, FetchError::BadRequest(_)), "{error:?}");
}

#[test]
fn the_second_address_is_tried_when_the_first_refuses() {
    let (address, thread) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let mut request = Request::get(format!("http://probe.invalid:{}/", address.port()));
    // The listener is bound to 127.0.0.1 only.
    request.addresses = vec![IpAddr::from([127, 0, 0, 2]), address.ip()];
    assert_eq!(get(request).expect("a response").text(), "ok");
    thread.join().expect("the server");
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_without_the_feature_says_so() {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    let error = get(Request::get(format!("https://{address}/"))).expect_err("no TLS here");
    assert_eq!(
        error.to_string(),
        "https needs a build with the feature `tls`"
    );
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use std::sync::{Arc, OnceLock};

    use rcgen::{
        date_time_ymd, BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    };
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use tailover::net::http::{CertCheck, TlsFault};

    const NAME: &str = "derp.example";

    /// The CA of these tests. Its certificate is what SSL_CERT_FILE names from then on.
    fn issuer() -> &'static Issuer<'static, KeyPair> {
        static ISSUER: OnceLock<Issuer<'static, KeyPair>> = OnceLock::new();
        ISSUER.get_or_init(|| {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(Vec::new()).expect("CA parameters");
            // Else rcgen gives every certificate the same subject, this and the self-signed ones.
            params
                .distinguished_name
                .push(DnType::CommonName, "CA of the tests");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).expect("the CA's certificate");
            let named =
                std::env::temp_dir().join(format!("tailover-ca-{}.pem", std::process::id()));
            let mut file = std::fs::File::create(&named).expect("the CA file is made");
            // Without a name from here on: nothing is left behind, however this process ends.
            std::fs::remove_file(&named).expect("its name is taken away");
            let pem = certificate.pem();
            file.write_all(pem.as_bytes())
                .expect("the CA file is written");
            let open = std::os::fd::IntoRawFd::into_raw_fd(file);
            std::env::set_var("SSL_CERT_FILE", format!("/proc/self/fd/{open}"));
            Issuer::new(params, key)
        })
    }

    /// A server certificate for `name`, valid from `from` to `to` (years).
    fn certificate(name: &str, from: i32, to: i32) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("parameters");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let signed = params.signed_by(&key, issuer()).expect("a certificate");
        (signed.der().clone(), key)
    }

    fn serve(certificate: CertificateDer<'static>, key: &KeyPair) -> SocketAddr {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a server configuration");
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let connection = ServerConnection::new(Arc::new(config)).expect("a connection");
            let mut tls = StreamOwned::new(connection, stream);
            let mut byte = [0u8; 1];
            let mut seen = Vec::new();
            // A client that refuses the certificate ends the read with an error.
            while !seen.ends_with(b"\r\n\r\n") && tls.read_exact(&mut byte).is_ok() {
                seen.extend(byte);
            }
            // No length and no close_notify, as simple servers do.
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nsecret");
        });
        address
    }

    fn ask(address: SocketAddr, host: &str, check: CertCheck) -> Result<String, FetchError> {
        issuer();
        let mut request = at(address, format!("https://{host}:{}/", address.port()));
        request.certificate = check;
        get(request).map(|response| response.text())
    }

    #[test]
    fn a_good_certificate_passes() {
        let (certificate, key) = certificate(NAME, 2000, 2999);
        let address = serve(certificate, &key);
        assert_eq!(ask(address, NAME, CertCheck::Host), Ok("secret".into()));
    }

    #[test]
    fn an_address_can_be_the_name() {
        let (certificate, key) = certificate("127.0.0.1", 2000, 2999);
        let address = serve(certificate, &key);
        assert_eq!(
            ask(address, "127.0.0.1", CertCheck::Host),
            Ok("secret".into())
        );
    }

    #[test]
    fn a_wrong_name_is_told() {
        let (certificate, key) = certificate("portal.example", 2000, 2999);
        let address = serve(certificate, &key);
        match ask(address, NAME, CertCheck::Host) {
            Err(FetchError::Tls(TlsFault::WrongName(_))) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_name_can_be_another_than_the_host() {
        let (certificate, key) = certificate("cert.example", 2000, 2999);
        let address = serve(certificate, &key);
        let check = CertCheck::Name("cert.example".into());
        assert_eq!(ask(address, NAME, check), Ok("secret".into()));
    }

    #[test]
    fn the_dates_are_told_apart() {
        let (certificate_, key) = certificate(NAME, 2900, 2999);
        let address = serve(certificate_, &key);
        let early = FetchError::Tls(TlsFault::NotYetValid);
        assert_eq!(ask(address, NAME, CertCheck::Host), Err(early));
        let (certificate, key) = certificate(NAME, 1999, 2000);
        let address = serve(certificate, &key);
        let late = FetchError::Tls(TlsFault::Expired);
        assert_eq!(ask(address, NAME, CertCheck::Host), Err(late));
    }

    #[test]
    fn an_unknown_issuer_is_told_and_can_be_waived() {
        let own = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_string()]);
            let made = made.expect("a self-signed certificate");
            (made.cert.der().clone(), made.signing_key)
        };
        let (certificate, key) = own(NAME);
        let address = serve(certificate, &key);
        let unknown = FetchError::Tls(TlsFault::UnknownIssuer);
        assert_eq!(ask(address, NAME, CertCheck::Host), Err(unknown));
        let (certificate, key) = own(NAME);
        let address = serve(certificate, &key);
        assert_eq!(ask(address, NAME, CertCheck::Anything), Ok("secret".into()));
    }

    #[test]
    fn a_pin_counts_the_whole_certificate() {
        let (certificate, key) = certificate(NAME, 2000, 2999);
        let address = serve(certificate.clone(), &key);
        let wrong = CertCheck::Sha256("00".repeat(32));
        match ask(address, NAME, wrong) {
            Err(FetchError::Tls(TlsFault::BadCertificate(_))) => {}
            other => panic!("{other:?}"),
        }
        let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let hash = suite.tls13().expect("a TLS 1.3 suite").common.hash_provider;
        let pin: String = hash
            .hash(&certificate)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let address = serve(certificate, &key);
        assert_eq!(
            ask(address, NAME, CertCheck::Sha256(pin)),
            Ok("secret".into())
        );
    }

    /// How often it is asked at all, and how: a TLS record of a handshake begins with 22.
    #[test]
    fn what_fails_by_tls_is_not_asked_again_without() {
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
        let address = listener.local_addr().expect("its address");
        let thread = std::thread::spawn(move || {
            let mut first = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a first byte");
                if byte[0] == b'.' {
                    return first;
                }
                first.push(byte[0]);
                // A fatal alert: handshake_failure.
                let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        match ask(address, NAME, CertCheck::Host) {
            Err(FetchError::Tls(_)) => {}
            other => panic!("{other:?}"),
        }
        let mut last = std::net::TcpStream::connect(address).expect("the test's own connection");
        last.write_all(b".").expect("its mark");
        assert_eq!(thread.join().expect("the server"), [22]);
    }

    #[test]
    fn plain_http_on_the_tls_port_is_a_protocol_fault() {
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a loopback listener");
        let address = listener.local_addr().expect("its address");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).expect("the answer is sent");
            // Hold it open until the client has gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        match ask(address, NAME, CertCheck::Host) {
            Err(FetchError::Tls(TlsFault::Protocol(_))) => {}
            other => panic!("{other:?}"),
        }
        thread.join().expect("the server");
    }
}
