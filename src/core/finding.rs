//! What a probe can ask, of what, and what it can find.

use std::net::IpAddr;
use std::time::Duration;

use super::flaws::Tls;
use super::Family;

/// What is probed: one uplink (bound to its device), or the path as the kernel chooses it now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Uplink(String, Family),
    Path(Family),
}

impl Scope {
    pub fn family(&self) -> Family {
        match self {
            Scope::Uplink(_, f) | Scope::Path(f) => *f,
        }
    }
}

/// How a probe asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// TCP connect to a target. A portal that redirects everything completes it too.
    Tcp,
    /// STUN to a DERP node (RFC 8489). The answer carries the public address.
    Stun,
    /// TLS to a DERP node with its certificate checked.
    Derp,
    /// HTTPS with a checked certificate, or an external-address service over HTTPS.
    Https,
    /// Plain HTTP target that refuses a path it does not know; still, a portal can answer it.
    Http,
    /// `generate_204` with the challenge header answered rightly.
    Challenge,
    /// The control server over TLS with its certificate checked. It is no target: its silence says nothing, and
    /// a portal may let it alone pass.
    Control,
}

impl By {
    /// True when an answer proves the outside whatever stands in between.
    pub(super) fn proves(self) -> bool {
        matches!(self, By::Derp | By::Https)
    }

    /// True when an answer proves the outside unless a portal was seen in the same round.
    pub(super) fn likely(self) -> bool {
        matches!(self, By::Stun | By::Challenge | By::Control)
    }
}

/// One result of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An answer from `target` after `rtt`.
    Answer {
        by: By,
        target: String,
        rtt: Duration,
        public: Option<IpAddr>,
    },
    /// Something else answered in the target's place.
    Intercepted { target: String, what: String },
    /// No answer, or a refusal.
    Failed { by: By, target: String, why: String },
    /// TCP opened to a target, and a conversation on it begins. Whatever stands in between can
    /// complete a connection, so that alone proves nothing.
    Opened,
    /// Somebody talked on an opened connection, or the conversation was not tried for a reason of
    /// our own, such as a program that is not installed.
    Talked,
    /// How TLS went on a connection to `target`.
    Tls { target: String, end: Tls },
    /// Whether a resolver of this scope answers: the uplink's own, or for the path the router's.
    /// The path says yes too where tailscaled needs no name.
    Names(Result<(), String>),
    /// Whether a packet of 1,400 bytes passes, where small ones do just then.
    Large(Result<(), String>),
    /// Whether the control server answered a TLS handshake and a request over this scope.
    Control(Result<(), String>),
    /// There is nobody to ask in this family: the round says nothing.
    Nobody,
    /// No packet of ours can be sent this way, through no fault of the uplink; the text says why.
    NoWay(String),
    /// All probes of the round have ended.
    Over,
}

impl Finding {
    /// Whom the probe asked and what was seen, where it was a probe.
    pub(super) fn words(&self) -> Option<(String, String)> {
        let (target, outcome) = match self {
            // `Finding::Control` tells of it.
            Finding::Answer {
                by: By::Control, ..
            } => return None,
            Finding::Answer { target, rtt, .. } => (
                target.as_str(),
                format!("answered in {} ms", rtt.as_millis()),
            ),
            Finding::Intercepted { target, what } => {
                (target.as_str(), format!("somebody else answered: {what}"))
            }
            Finding::Failed { target, why, .. } => (target.as_str(), why.clone()),
            Finding::Control(Ok(())) => ("the control server", "answered".into()),
            Finding::Control(Err(why)) => ("the control server", why.clone()),
            Finding::Names(Ok(())) => ("names", "a resolver answers".into()),
            Finding::Names(Err(why)) => ("names", why.clone()),
            Finding::Large(Ok(())) => ("a large packet", "passed".into()),
            Finding::Large(Err(why)) => ("a large packet", why.clone()),
            // What came of the conversation is told by itself.
            Finding::Opened | Finding::Talked | Finding::Tls { .. } => return None,
            Finding::NoWay(why) => ("nobody", why.clone()),
            Finding::Nobody | Finding::Over => return None,
        };
        Some((target.to_string(), outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_told_with_whom_it_asked_and_what_it_saw() {
        let pair = |whom: &str, what: &str| Some((whom.to_string(), what.to_string()));
        assert_eq!(
            Finding::Control(Err("timeout".into())).words(),
            pair("the control server", "timeout")
        );
        let control = |by| Finding::Answer {
            by,
            target: "t".into(),
            rtt: Duration::from_millis(5),
            public: None,
        };
        assert_eq!(control(By::Control).words(), None, "it is told once");
        assert_eq!(control(By::Https).words(), pair("t", "answered in 5 ms"));
        assert_eq!(
            Finding::Names(Ok(())).words(),
            pair("names", "a resolver answers")
        );
        assert_eq!(
            Finding::NoWay("no gateway".into()).words(),
            pair("nobody", "no gateway")
        );
        assert_eq!(Finding::Over.words(), None);
    }
}
