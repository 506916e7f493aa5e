//! TLS by rustls and ring, with the system's CA file read for each connection and dropped after it.
//!
//! A hundred and fifty trust anchors kept for good would be a tenth of the memory the idle daemon
//! may use, and a probe a minute can afford to read a file.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{ring, CryptoProvider, KeyProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SigningKey;
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct};
use rustls::{RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::{self, PemObject};

use super::http::{CertCheck, TlsFault};

/// Where distributions keep the CA bundle: OpenWrt's ca-bundle and Debian, then BSD-like places.
const CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// What a handshake over `S` becomes.
pub(super) type Stream<S> = StreamOwned<ClientConnection, S>;

/// Shakes hands with `host` over a connected stream.
///
/// The time-out is the stream's own: an error of kind `TimedOut` comes back as it is.
pub(super) fn handshake<S: io::Read + io::Write>(
    mut stream: S,
    host: &str,
    check: &CertCheck,
    ca_file: Option<&Path>,
) -> Result<Stream<S>, HandshakeError> {
    let protocol = |e: &dyn fmt::Display| HandshakeError::Tls(TlsFault::Protocol(e.to_string()));
    // A URL writes an IPv6 address in brackets; a server name does not.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_string()).map_err(|e| protocol(&e))?;
    let config = config(check, ca_file).map_err(HandshakeError::Tls)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|e| protocol(&e))?;
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|e| match fault(&e) {
                Some(fault) => HandshakeError::Tls(fault),
                None => HandshakeError::Io(e),
            })?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Why a handshake failed.
#[derive(Debug)]
pub(super) enum HandshakeError {
    /// The connection failed under it.
    Io(io::Error),
    /// TLS itself failed.
    Tls(TlsFault),
}

/// The TLS fault inside an I/O error, if there is one: rustls packs its own errors like that.
pub(super) fn fault(error: &io::Error) -> Option<TlsFault> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match inner {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::WrongName(reason.to_string())
            }
            CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFault::NotYetValid
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFault::Expired
            }
            other => TlsFault::BadCertificate(other.to_string()),
        },
        // Somebody on the way who does not let it through, or a server that will not have us.
        rustls::Error::AlertReceived(_) => TlsFault::Broken(inner.to_string()),
        other => TlsFault::Protocol(other.to_string()),
    })
}

fn config(check: &CertCheck, ca_file: Option<&Path>) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(CryptoProvider {
        key_provider: &NoKeys,
        ..ring::default_provider()
    });
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsFault::Protocol(e.to_string()))?;
    let verifier = Verifier {
        rule: match check {
            CertCheck::Host => Rule::Chain(roots(ca_file)?, None),
            CertCheck::Name(name) => {
                let name = ServerName::try_from(name.clone())
                    .map_err(|e| TlsFault::Protocol(format!("{name}: {e}")))?;
                Rule::Chain(roots(ca_file)?, Some(name))
            }
            CertCheck::Sha256(pin) => Rule::Pin(pin.clone()),
            CertCheck::Anything => Rule::Anything,
        },
        provider,
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// No client certificates: nothing here signs, and what would is left out of the program.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        _key: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("no private keys here".into()))
    }
}

/// Reads the CA file: the owner's if there is one, else SSL_CERT_FILE if set, as Go and OpenSSL do,
/// else the first that is there.
fn roots(owners: Option<&Path>) -> Result<RootCertStore, TlsFault> {
    let (path, file) = match owners {
        Some(path) => open_ca_file("ca_file", path.to_path_buf())?,
        None => ca_file()?,
    };
    let mut roots = RootCertStore::empty();
    // Read as a stream: the whole bundle is 200 kB. One certificate that does not parse must not
    // cost us the others; a file that cannot be read further ends the list.
    let certificates = CertificateDer::pem_reader_iter(file)
        .take_while(|item| !matches!(item, Err(pem::Error::Io(_))))
        .filter_map(Result::ok);
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let text = format!("{} holds no certificate", path.display());
        return Err(TlsFault::NoRoots(text));
    }
    Ok(roots)
}

fn ca_file() -> Result<(PathBuf, File), TlsFault> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|p| !p.is_empty()) {
        return open_ca_file("SSL_CERT_FILE", PathBuf::from(path));
    }
    let open = |path: &&str| Some((PathBuf::from(path), File::open(path).ok()?));
    CA_FILES.iter().find_map(open).ok_or_else(|| {
        TlsFault::NoRoots(format!(
            "no CA file: none of {} can be read",
            CA_FILES.join(", ")
        ))
    })
}

fn open_ca_file(named_by: &str, path: PathBuf) -> Result<(PathBuf, File), TlsFault> {
    match File::open(&path) {
        Ok(file) => Ok((path, file)),
        Err(e) => {
            let text = format!("{named_by}={}: {e}", path.display());
            Err(TlsFault::NoRoots(text))
        }
    }
}

/// What a certificate is held against.
#[derive(Debug)]
enum Rule {
    /// The trust anchors, and the given name instead of the one connected to.
    Chain(RootCertStore, Option<ServerName<'static>>),
    /// The SHA-256 of the whole certificate, in lower-case hexadecimal.
    Pin(String),
    /// Nothing: for probes that only ask whether TLS is spoken.
    Anything,
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        connected_to: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.rule {
            // rustls's own verifier without lists of revoked certificates, which nobody gives us.
            Rule::Chain(roots, name) => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                let known = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    roots,
                    intermediates,
                    now,
                    known,
                )?;
                verify_server_name(&parsed, name.as_ref().unwrap_or(connected_to))?;
                Ok(ServerCertVerified::assertion())
            }
            Rule::Pin(pin) if sha256_hex(certificate).as_ref() == Some(pin) => {
                Ok(ServerCertVerified::assertion())
            }
            Rule::Pin(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Rule::Anything => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// SHA-256 by way of the cipher suite that carries it, which saves a crate for one hash.
fn sha256_hex(bytes: &[u8]) -> Option<String> {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    let digest = suite.common.hash_provider.hash(bytes);
    Some(
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_test_vector() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            sha256_hex(b"abc").as_deref(),
            Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        );
    }
}
