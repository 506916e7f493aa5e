//! What an answer over HTTP or TLS is worth.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::core::flaws::Tls;
use crate::core::Finding;
use crate::net::http::{FetchError, Response, TlsFault};

/// A clock before 2025-01-01 was never set since the router's start.
const CLOCK_UNSET: Duration = Duration::from_secs(1_735_689_600);

/// True when a connection opened and nobody talked on it. What failed for a reason of our own is
/// nobody's silence.
pub(super) fn is_mute(result: &Result<Response, FetchError>, tls: bool) -> bool {
    match result {
        Err(FetchError::Timeout | FetchError::Connect { .. }) => true,
        Err(FetchError::Tls(TlsFault::Broken(_))) => true,
        // Over TLS the handshake was done by then.
        Err(FetchError::Http(_)) => !tls,
        _ => false,
    }
}

/// Tells how TLS went, where the request got as far as that.
pub(super) fn tell_tls(
    result: &Result<Response, FetchError>,
    target: &str,
    tell: &dyn Fn(Finding),
) {
    let end = match result {
        Ok(_) | Err(FetchError::Http(_) | FetchError::TooBig(_)) => Tls::Spoken,
        Err(FetchError::Tls(fault)) => match fault {
            TlsFault::WrongName(_)
            | TlsFault::UnknownIssuer
            | TlsFault::Expired
            | TlsFault::BadCertificate(_) => Tls::Spoken,
            TlsFault::NotYetValid => Tls::NotYetValid {
                early: clock_unset(),
            },
            TlsFault::Broken(why) => Tls::Broken(why.clone()),
            TlsFault::Protocol(_) | TlsFault::NoRoots(_) | TlsFault::NotBuilt => return,
        },
        Err(_) => return,
    };
    let target = target.to_string();
    tell(Finding::Tls { target, end });
}

fn clock_unset() -> bool {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.is_ok_and(|t| t < CLOCK_UNSET)
}

/// The URL of a path that no server has, beside `url`.
pub(super) fn invented_beside(url: &str, word: &str) -> String {
    let after_scheme = url.find("://").map_or(0, |at| at.saturating_add(3));
    let end = url.get(after_scheme..).and_then(|rest| rest.find('/'));
    let origin = end.and_then(|at| url.get(..after_scheme.checked_add(at)?));
    format!("{}/{word}", origin.unwrap_or(url))
}

/// Whether a target that gave these answers, the second for a path nobody has, is what it is taken for.
pub(super) fn genuine(told: u16, invented: u16) -> Result<(), String> {
    match (told, invented) {
        (300..=399, _) => Err(format!("HTTP {told}: it leads elsewhere, as a portal does")),
        (200..=299, 400..=499) => Ok(()),
        (200..=299, other) => Err(format!(
            "HTTP {other} for a path that nobody has: whoever answers may be anybody"
        )),
        _ => Err(format!("HTTP {told}")),
    }
}

/// A certificate for somebody else, or no TLS at all where TLS was asked for.
pub(super) fn is_portal(fault: &TlsFault) -> bool {
    matches!(
        fault,
        TlsFault::WrongName(_) | TlsFault::UnknownIssuer | TlsFault::Protocol(_)
    )
}

/// derper takes letters, digits, `.`, `-` and `_`, at most 64 (isChallengeChar).
pub(super) fn challenge_word(seed: &[u8]) -> String {
    let hex: String = seed.iter().map(|b| format!("{b:02x}")).collect();
    format!("ts_{hex}")
}

pub(super) fn challenged(r: &Response, challenge: &str) -> Result<(), String> {
    let told = r.header("x-tailscale-response");
    match (r.status, told) {
        (204, Some(text)) if text == format!("response {challenge}") => Ok(()),
        (204, _) => Err("204 without the answer to the challenge".into()),
        (status, _) => Err(format!("HTTP {status} in the place of 204")),
    }
}

/// `{"ip":"…"}` or the bare address.
pub(super) fn public_address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.trim().parse() {
        return Some(ip);
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    json.get("ip")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, header: Option<&str>) -> Response {
        Response {
            status,
            headers: header
                .map(|h| ("x-tailscale-response".to_string(), h.to_string()))
                .into_iter()
                .collect(),
            body: vec![],
        }
    }

    #[test]
    fn only_the_node_itself_meets_the_challenge() {
        assert_eq!(
            challenged(&reply(204, Some("response ts_1")), "ts_1"),
            Ok(())
        );
        for fake in [
            reply(200, Some("response ts_1")),
            reply(204, None),
            reply(204, Some("response ts_2")),
            reply(302, None),
        ] {
            assert!(challenged(&fake, "ts_1").is_err());
        }
    }

    #[test]
    fn an_address_comes_as_json_or_bare() {
        let ip: IpAddr = "203.0.113.7".parse().expect("an address");
        assert_eq!(public_address("{\"ip\":\"203.0.113.7\"}"), Some(ip));
        assert_eq!(public_address("203.0.113.7\n"), Some(ip));
        assert_eq!(public_address("<html>log in</html>"), None);
    }
}
