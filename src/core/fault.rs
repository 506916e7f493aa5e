//! The faults: stable identifiers, one sentence each, what can be cured and what a person can do.

use super::uplink::Family;

/// A fault, or a state that is none of ours to cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// F1: tailscaled's packets leave by a dead way while another is open.
    PinnedRoute {
        family: Family,
        device: Option<String>,
        open: Vec<String>,
        /// The way is not dead, but control cannot be made anew over it, for this reason.
        flaw: Option<String>,
        /// A drill counts the way as dead.
        drill: bool,
    },
    /// F2: the control connection sits on a flow that the path no longer carries.
    StuckControl { evidence: String },
    /// F3: DERP, NAT mappings and endpoints belong to the old way.
    StalePaths { evidence: String },
    /// F4: rules, routes, the address or firewall chains that tailscaled put into the kernel are
    /// gone or at the wrong place.
    LostState {
        /// What is missing, a line each.
        lost: Vec<String>,
        /// True when they can be put back exactly as tailscaled had them, or all but firewall
        /// chains: those are left for a restart.
        mendable: bool,
    },
    /// F5: old flows of tailscaled are held on a dead uplink by conntrack, while a fresh one passes.
    ConntrackPin { family: Family, evidence: String },
    /// tailscaled does not run.
    DaemonGone,
    /// tailscaled ends by itself again and again. Its supervisor's respawn is left alone.
    CrashLoop { ends: u32 },
    /// tailscaled runs and does not answer.
    DaemonHung { why: String },
    /// tailscaled answers every question with a refusal.
    ApiRefuses { why: String },
    /// No uplink reaches the outside.
    OutsideDown { portal: Option<String> },
    /// The outside is reached, the control server is not.
    ControlDown { why: String },
    /// The outside is reached, but no resolver answers over this way.
    NamesDead { why: String },
    /// TCP connections open on this uplink, TLS does not.
    TlsBroken { uplink: String, why: String },
    /// Small packets pass this uplink, large ones do not.
    MtuBlackHole { uplink: String, why: String },
    /// The router's clock is before the start of every certificate: TLS cannot work yet.
    ClockWrong { why: String },
    /// Somebody else keeps restarting tailscaled.
    OtherHand { why: String },
    /// The user stopped it, or it needs a person.
    NeedsPerson { what: &'static str },
    /// tailscaled sets no mark; its packets obey the router's ordinary rules.
    Userspace,
}

/// The identifiers of all faults, but the one of a drill, which is none.
pub const IDS: [&str; 19] = [
    "F1-pinned-route",
    "F2-stuck-control",
    "F3-stale-paths",
    "F4-lost-state",
    "F5-conntrack-pin",
    "daemon-gone",
    "crash-loop",
    "api-refuses",
    "names-dead",
    "tls-broken",
    "mtu-black-hole",
    "clock-wrong",
    "other-hand",
    "daemon-hung",
    "outside-down",
    "portal",
    "control-down",
    "needs-person",
    "userspace-networking",
];

impl Fault {
    /// Stable identifier, as in `status --json`, the history and docs/faults.md.
    pub fn id(&self) -> &'static str {
        match self {
            Fault::PinnedRoute { drill: true, .. } => "drill",
            Fault::PinnedRoute { .. } => "F1-pinned-route",
            Fault::StuckControl { .. } => "F2-stuck-control",
            Fault::StalePaths { .. } => "F3-stale-paths",
            Fault::LostState { .. } => "F4-lost-state",
            Fault::ConntrackPin { .. } => "F5-conntrack-pin",
            Fault::DaemonGone => "daemon-gone",
            Fault::CrashLoop { .. } => "crash-loop",
            Fault::ApiRefuses { .. } => "api-refuses",
            Fault::NamesDead { .. } => "names-dead",
            Fault::TlsBroken { .. } => "tls-broken",
            Fault::MtuBlackHole { .. } => "mtu-black-hole",
            Fault::ClockWrong { .. } => "clock-wrong",
            Fault::OtherHand { .. } => "other-hand",
            Fault::DaemonHung { .. } => "daemon-hung",
            Fault::OutsideDown { portal: None } => "outside-down",
            Fault::OutsideDown { portal: Some(_) } => "portal",
            Fault::ControlDown { .. } => "control-down",
            Fault::NeedsPerson { .. } => "needs-person",
            Fault::Userspace => "userspace-networking",
        }
    }

    /// The family whose mark has to be moved.
    pub fn moves(&self) -> Option<Family> {
        match self {
            Fault::PinnedRoute { family, .. } | Fault::ConntrackPin { family, .. } => Some(*family),
            _ => None,
        }
    }

    /// True when one of our cures can help.
    pub fn curable(&self) -> bool {
        matches!(
            self,
            Fault::PinnedRoute { .. }
                | Fault::StuckControl { .. }
                | Fault::StalePaths { .. }
                | Fault::LostState { .. }
                | Fault::ConntrackPin { .. }
                | Fault::DaemonGone
                | Fault::DaemonHung { .. }
        )
    }
}

impl Fault {
    /// True for what tailscaled does by itself, or others do to it, and is not cured.
    pub fn is_of_tailscaled(&self) -> bool {
        matches!(
            self,
            Fault::ApiRefuses { .. } | Fault::CrashLoop { .. } | Fault::OtherHand { .. }
        )
    }

    /// What a person can do where tailover cannot, or `None` when nobody has to do anything.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Fault::PinnedRoute { .. }
            | Fault::StuckControl { .. }
            | Fault::StalePaths { .. }
            | Fault::LostState { .. }
            | Fault::ConntrackPin { .. }
            | Fault::DaemonHung { .. } => return None,
            Fault::DaemonGone | Fault::CrashLoop { .. } => "see why it ends: logread -e tailscale",
            Fault::ApiRefuses { .. } => "run tailover as root, and look at tailscaled's log",
            Fault::OutsideDown { portal: None } => "wait for an uplink, or mend one",
            Fault::OutsideDown { portal: Some(_) } => {
                "open any web page over that uplink and log in"
            }
            Fault::ControlDown { .. } => {
                "mend the control server; do not restart tailscaled meanwhile"
            }
            Fault::NamesDead { .. } => "give the router a resolver that answers on every uplink",
            Fault::TlsBroken { .. } => "ask the provider, or look for a filter in between",
            Fault::MtuBlackHole { .. } => {
                "lower that interface's MTU (option mtu in /etc/config/network)"
            }
            Fault::ClockWrong { .. } => "let NTP through, or set the clock with date",
            Fault::OtherHand { .. } => "take that script or watchdog out; tailover does its work",
            Fault::NeedsPerson { .. } => "run `tailscale status` and do what it says",
            Fault::Userspace => "run tailscaled with a kernel device, if steering is wanted",
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Fault::PinnedRoute {
                family,
                device: Some(device),
                open,
                drill: true,
                ..
            } => write!(
                f,
                "tailscaled's {family} packets are turned away from {device} for a drill; {} is open",
                open.join(", ")
            ),
            Fault::PinnedRoute {
                family,
                device: Some(device),
                open,
                flaw,
                drill: false,
            } => write!(
                f,
                "tailscaled's {family} packets leave by {device}, where {}; {} is open",
                flaw.as_deref().unwrap_or("nothing answers"),
                open.join(", ")
            ),
            Fault::PinnedRoute { family, open, .. } => write!(
                f,
                "the kernel has no {family} route for tailscaled's packets; {} is open",
                open.join(", ")
            ),
            Fault::StuckControl { evidence } => {
                write!(f, "the control connection is stuck: {evidence}")
            }
            Fault::StalePaths { evidence } => {
                write!(f, "tailscaled's relay and paths are stale: {evidence}")
            }
            Fault::LostState { lost, .. } => write!(
                f,
                "the kernel has lost what tailscaled put there: {}",
                lost.join(", ")
            ),
            Fault::ConntrackPin { evidence, .. } => {
                write!(f, "old flows are held on a dead uplink: {evidence}")
            }
            Fault::DaemonGone => f.write_str("tailscaled does not run"),
            Fault::CrashLoop { ends } => write!(
                f,
                "tailscaled has ended by itself {ends} times within minutes; see its log"
            ),
            Fault::ApiRefuses { why } => write!(f, "tailscaled refuses to be asked: {why}"),
            Fault::NamesDead { why } => write!(f, "names cannot be resolved: {why}"),
            Fault::TlsBroken { uplink, why } => {
                write!(f, "TCP opens on {uplink} but TLS does not work: {why}")
            }
            Fault::MtuBlackHole { uplink, why } => {
                write!(f, "large packets do not pass {uplink}: {why}")
            }
            Fault::ClockWrong { why } => {
                write!(f, "the router's clock is wrong: {why}; waiting for the time")
            }
            Fault::OtherHand { why } => {
                write!(f, "tailscaled is being restarted by something else: {why}")
            }
            Fault::DaemonHung { why } => {
                write!(f, "tailscaled runs but does not answer: {why}")
            }
            Fault::OutsideDown { portal: None } => {
                f.write_str("no uplink reaches the outside; waiting for one")
            }
            Fault::OutsideDown {
                portal: Some(uplink),
            } => write!(
                f,
                "a captive portal holds {uplink}; somebody has to log in there"
            ),
            Fault::ControlDown { why } => write!(
                f,
                "the control server does not answer ({why}); the tailnet goes on without it"
            ),
            Fault::NeedsPerson { what } => write!(f, "tailscale {what}; nothing is done"),
            Fault::Userspace => f.write_str(
                "tailscaled runs with userspace networking and sets no mark; it cannot be steered",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_where_a_person_must_act() {
        assert_eq!(
            Fault::DaemonGone.advice(),
            Some("see why it ends: logread -e tailscale")
        );
        let portal = Fault::OutsideDown { portal: None };
        assert_eq!(portal.advice(), Some("wait for an uplink, or mend one"));
    }

    #[test]
    fn the_list_has_every_identifier() {
        let source = include_str!("fault.rs");
        let (_, rest) = source.split_once("pub fn id(").expect("the method");
        let (body, _) = rest.split_once("\n    }\n").expect("its end");
        let named = body.lines().filter_map(|l| l.split('"').nth(1));
        let mut named: Vec<&str> = named.filter(|id| *id != "drill").collect();
        assert!(named.len() > 10, "{named:?}");
        let mut listed = IDS.to_vec();
        named.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, named);
    }
}
