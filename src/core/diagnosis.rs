//! Which faults the evidence shows. One pure function over what is known; nothing is decided here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::fault::Fault;
use super::tailnet::{Api, Backend, Flow, Purpose, Standing};
use super::uplink::Family;
use super::verdict::Verdict;
use super::{Knowledge, Time};

/// A path that is right, yet `Self.Online` stays false for this long: control is stuck.
/// After `start {}` it is false for 0.6 s (measured), a cold start takes 3-5 s.
const OFFLINE_TOO_LONG: Duration = Duration::from_secs(15);

/// A segment resent this often over an open path is not lost by chance (one in 50 at 30 % loss each
/// way): the connection is dead. The kernel's pauses make that 6 s at least (RFC 6298).
const RESENT_TOO_OFTEN: u32 = 5;

/// Both families are asked at once. An older answer of the one says nothing of the instant at which
/// the other was found silent.
const ASKED_TOGETHER: Duration = Duration::from_secs(5);

/// tailscaled is gone for longer than procd's respawn delay (5 s in OpenWrt's package).
const GONE_TOO_LONG: Duration = Duration::from_secs(10);

/// LocalAPI silent for this long, where each question waits 2 s: hung, not busy.
const HUNG_TOO_LONG: Duration = Duration::from_secs(15);

/// What the kernel lost is lost when it was not back after this. tailscaled puts its IPv4 rules
/// back within 250 ms, and for a moment of its own start and end it has less than it says.
pub const LOST_FOR_SURE: Duration = Duration::from_millis(500);

/// All faults that the evidence of the assessment begun at `since` shows, the one to cure first first.
pub fn diagnose(k: &Knowledge, now: Time, since: Time) -> Vec<Fault> {
    if let Some(what) = needs_person(k) {
        return vec![Fault::NeedsPerson { what }];
    }
    let mut faults = Vec::new();
    // The only one that is cured without the outside.
    faults.extend(lost_state(k, now));
    let open = k.anything_open(since);
    if !open && k.everything_shut(since) {
        faults.push(Fault::OutsideDown {
            portal: k.portal_uplink(),
        });
        return faults;
    }
    if !k.tailnet.tun && k.tailnet.api == Api::Answers {
        // Its flows take the router's ordinary rules; the marked path says nothing of them.
        return vec![Fault::Userspace];
    }
    match &k.tailnet.api {
        Api::Gone if now.saturating_sub(k.api_since) >= GONE_TOO_LONG => {
            faults.push(Fault::DaemonGone);
        }
        Api::Hung if now.saturating_sub(k.api_since) >= HUNG_TOO_LONG => {
            faults.push(Fault::DaemonHung);
        }
        _ => {}
    }
    for family in Family::BOTH {
        faults.extend(pinned(k, family, since));
    }
    let pinned = faults
        .iter()
        .any(|f| matches!(f, Fault::PinnedRoute { .. }));
    if k.tailnet.api == Api::Answers {
        let control_down = control_down(k, now, since, pinned);
        faults.extend(stuck_control(k, now, since));
        faults.extend(control_down);
        faults.extend(stale_paths(k));
    }
    faults
}

/// Why nothing is to be done before a person acts.
pub fn needs_person(k: &Knowledge) -> Option<&'static str> {
    let t = &k.tailnet;
    if t.api == Api::Gone && t.left_alone.is_some() {
        return t.left_alone;
    }
    if t.key_expired {
        return Some("has an expired key: log in again");
    }
    if t.logged_out || t.backend == Backend::NeedsLogin {
        return Some("is logged out: run `tailscale up`");
    }
    match t.backend {
        Backend::NeedsMachineAuth => Some("waits for an administrator to approve this machine"),
        Backend::Stopped => Some("was stopped by the user"),
        _ if t.wanted == Some(false) => Some("was stopped by the user"),
        _ => None,
    }
}

fn lost_state(k: &Knowledge, now: Time) -> Option<Fault> {
    let lost = &k.tailnet.lost;
    let long = now.saturating_sub(k.lost_since?) >= LOST_FOR_SURE;
    (long && !lost.what.is_empty()).then(|| Fault::LostState {
        lost: lost.what.clone(),
        mendable: lost.mendable,
    })
}

fn pinned(k: &Knowledge, family: Family, since: Time) -> Option<Fault> {
    let path = k.path(family);
    // No path at all is a dead way too, if tailscaled had a use for that family.
    if path.route.is_some() && !k.path_is_shut(family, since) {
        return None;
    }
    let open: Vec<String> = k
        .open_uplinks(family, since)
        .into_iter()
        .map(|u| u.name.clone())
        .collect();
    if open.is_empty() {
        return None;
    }
    Some(Fault::PinnedRoute {
        family,
        device: path.route.as_ref().map(|r| k.name_device(&r.device)),
        open,
        drill: k.path_drilled(family),
    })
}

fn stuck_control(k: &Knowledge, now: Time, since: Time) -> Option<Fault> {
    let control = k.standing(Purpose::Control);
    // Up to the last look: `start {}` makes it false for 0.6 s, and nobody may look again for a while.
    let seen = k.tailnet_read.unwrap_or(now);
    let offline_since = k.offline_since.unwrap_or(seen).max(k.epoch.since);
    let offline = seen.saturating_sub(offline_since) >= OFFLINE_TOO_LONG;
    if control.fresh > 0 && !offline {
        return None;
    }
    let evidence = match (control.stale, offline) {
        (Some(ip), _) if control.fresh == 0 => stale_text(k, ip),
        // Resent into the void of a control server that is down, it is nobody's fault here.
        _ if control.fresh == 0 && control.unheard.is_some() && k.control_answers(since) => {
            unheard_text(control.unheard)
        }
        (_, true) => format!(
            "offline for {} s although the path is open",
            seen.saturating_sub(offline_since).as_secs()
        ),
        _ => return None,
    };
    Some(Fault::StuckControl { evidence })
}

fn stale_paths(k: &Knowledge) -> Option<Fault> {
    let derp = k.standing(Purpose::Derp);
    if derp.fresh > 0 || k.epoch.peer_answered {
        return None;
    }
    let ip = derp.stale?;
    Some(Fault::StalePaths {
        evidence: stale_text(k, ip),
    })
}

fn unheard_text(unheard: Option<(SocketAddr, u32)>) -> String {
    match unheard {
        Some((to, times)) => {
            format!(
                "its packets to {to} were resent {times} times, while the server answers others"
            )
        }
        None => String::new(),
    }
}

fn stale_text(k: &Knowledge, ip: IpAddr) -> String {
    match k.uplinks.iter().find(|u| u.owns(&ip)) {
        Some(u) if !k.on_path(&ip) => {
            format!("it still uses {}'s address {ip}", u.name)
        }
        Some(_) if k.half_dead(Family::of(&ip)) => {
            format!("nothing answers its {} packets ({ip})", Family::of(&ip))
        }
        Some(_) => format!("it is older than the last change of the path ({ip})"),
        None => format!("it still uses {ip}, which is on no uplink any more"),
    }
}

/// Control does not answer over a way that is open. Never said while the path itself is dead.
fn control_down(k: &Knowledge, now: Time, since: Time, pinned: bool) -> Option<Fault> {
    if pinned || k.control_answers(since) {
        return None;
    }
    let offline = k.tailnet.online == Some(false) || k.standing(Purpose::Control).fresh == 0;
    if !offline || now < since {
        return None;
    }
    k.control_failure(since)
        .map(|why| Fault::ControlDown { why })
}

impl Knowledge {
    /// How the flows of one purpose stand against the path of now.
    pub fn standing(&self, purpose: Purpose) -> Standing {
        let mut s = Standing::default();
        for f in self.tailnet.flows.iter().filter(|f| f.purpose == purpose) {
            let ip = f.local.ip();
            if self.on_path(&ip) && !self.half_dead(Family::of(&ip)) && !self.epoch.doomed(f) {
                match self.resends(f) {
                    times if times >= RESENT_TOO_OFTEN => s.unheard = Some((f.remote, times)),
                    _ => s.fresh += usize::from(f.established),
                }
            } else {
                s.stale = Some(ip);
            }
        }
        s
    }

    /// True when nothing answers over the path of this family while the other's is open: what hangs
    /// on it has to be made anew over the other.
    pub fn half_dead(&self, family: Family) -> bool {
        let dead = &self.path(family).judgement;
        let other = match family {
            Family::V4 => &self.path(Family::V6).judgement,
            Family::V6 => &self.path(Family::V4).judgement,
        };
        let together = |t: Time| other.open_since(t.saturating_sub(ASKED_TOGETHER));
        matches!(dead.verdict, Verdict::Closed | Verdict::Portal)
            && dead.judged_at.is_some_and(together)
    }

    /// How often the oldest unacknowledged segment of a flow was resent, at the last pulse.
    fn resends(&self, flow: &Flow) -> u32 {
        self.resending
            .iter()
            .find(|r| (r.local, r.remote) == (flow.local, flow.remote))
            .map_or(0, |r| r.times)
    }

    /// True when `ip` is an address that the path of its family uses.
    pub fn on_path(&self, ip: &IpAddr) -> bool {
        let Some(route) = &self.path(Family::of(ip)).route else {
            return false;
        };
        route.source == Some(*ip)
            || self
                .uplinks
                .iter()
                .any(|u| u.device == route.device && u.owns(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_counts_up_to_the_last_look_only() {
        let at = Duration::from_secs;
        let mut k = Knowledge::default();
        k.tailnet.api = Api::Answers;
        k.tailnet.backend = Backend::Running;
        k.tailnet.tun = true;
        k.tailnet.online = Some(false);
        k.offline_since = Some(at(10));
        // Seen in the moment that `start {}` takes; nobody has looked since.
        k.tailnet_read = Some(at(10));
        assert_eq!(diagnose(&k, at(60), at(60)), []);
        k.tailnet_read = Some(at(26));
        let named = diagnose(&k, at(60), at(60));
        assert!(
            matches!(named.as_slice(), [Fault::StuckControl { .. }]),
            "{named:?}"
        );
    }
}
