//! Which faults the evidence shows. One pure function over what is known; nothing is decided here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::fault::Fault;
use super::tailnet::{Api, Backend, Flow, Purpose, Respawn, Standing};
use super::uplink::{Family, Uplink};
use super::verdict::Verdict;
use super::{Knowledge, Time};

/// A path that is right, yet `Self.Online` stays false for this long: control is stuck.
/// After `start {}` it is false for 0.6 s (measured), a cold start takes 3-5 s.
pub const OFFLINE_TOO_LONG: Duration = Duration::from_secs(15);

/// A segment resent this often over an open path is not lost by chance (one in 50 at 30 % loss each
/// way): the connection is dead. The kernel's pauses make that 6 s at least (RFC 6298).
const RESENT_TOO_OFTEN: u32 = 5;

/// Both families are asked at once. An older answer of the one says nothing of the instant at which
/// the other was found silent.
const ASKED_TOGETHER: Duration = Duration::from_secs(5);

/// tailscaled is gone for longer than procd's respawn delay (5 s in OpenWrt's package).
const GONE_TOO_LONG: Duration = Duration::from_secs(10);

/// What a start takes, on top of a respawn delay that procd names.
const START_TAKES: Duration = Duration::from_secs(5);

/// procd has given up. It says so at once; the time is for somebody who is just at work there.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// Between the stop and the start of a restart by hand procd holds no instance of the service; the
/// init script's `tailscaled --cleanup` lies there. One that is gone for longer was stopped.
const LEFT_ALONE_FOR_SURE: Duration = Duration::from_secs(5);

/// A stopped process (SIGSTOP) cannot answer. Debuggers stop it for shorter than this.
const HALTED_TOO_LONG: Duration = Duration::from_secs(5);

/// LocalAPI silent for this long, where each question waits 2 s, and the process rests: hung.
const HUNG_TOO_LONG: Duration = Duration::from_secs(10);

/// The same where nothing is known of the process.
const SILENT_TOO_LONG: Duration = Duration::from_secs(15);

/// A process that works all the time and says nothing is taken for busy until then: a slow router
/// with a large tailnet takes a while, a loop without end takes for ever.
const BUSY_TOO_LONG: Duration = Duration::from_secs(120);

/// A process that uses less of one CPU than this part is not busy with what it was asked.
const REST: u32 = 5;

/// LocalAPI refuses for this long; while tailscaled starts it may do so for a moment.
pub const REFUSES_TOO_LONG: Duration = Duration::from_secs(10);

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
        faults.extend(of_tailscaled(k, now));
        return faults;
    }
    if !k.tailnet.tun && k.tailnet.api == Api::Answers {
        // Its flows take the router's ordinary rules; the marked path says nothing of them.
        faults.push(Fault::Userspace);
        faults.extend(of_tailscaled(k, now));
        faults.extend(shown(k));
        return faults;
    }
    // What ends soon after its start has no flows to judge, and is its supervisor's to start.
    let looping = k.starts.crash_loop(now).is_some();
    if gone(k, now) && !looping {
        faults.push(Fault::DaemonGone);
    }
    faults.extend(hung(k, now).map(|why| Fault::DaemonHung { why }));
    for family in Family::BOTH {
        faults.extend(pinned(k, now, family, since));
        faults.extend(held(k, family, since));
    }
    let pinned = faults.iter().any(|f| f.moves().is_some());
    if k.tailnet.api == Api::Answers && !looping {
        let control_down = control_down(k, now, since, pinned);
        faults.extend(stuck_control(k, now, since));
        faults.extend(control_down);
        faults.extend(stale_paths(k));
    }
    faults.extend(of_tailscaled(k, now));
    faults.extend(shown(k));
    faults
}

/// What is wrong with tailscaled itself and none of ours to cure.
pub fn of_tailscaled(k: &Knowledge, now: Time) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Api::Refuses(why) = &k.tailnet.api {
        if now.saturating_sub(k.api_since) >= REFUSES_TOO_LONG {
            faults.push(Fault::ApiRefuses { why: why.clone() });
        }
    }
    let ends = k.starts.crash_loop(now);
    faults.extend(ends.map(|ends| Fault::CrashLoop { ends }));
    if let Some((starts, within)) = k.starts.other_hand(now) {
        let minutes = within.as_secs() / 60;
        let hands = match k.hands.is_empty() {
            true => "nothing on the router that names tailscale was found".into(),
            false => format!("{} names tailscale", k.hands.join(", ")),
        };
        faults.push(Fault::OtherHand {
            why: format!("{starts} times in {minutes} minutes; {hands}"),
        });
    }
    faults
}

/// What the newest full rounds over the path show to be wrong although it is open. None of it can
/// be cured here.
pub fn shown(k: &Knowledge) -> Vec<Fault> {
    let mut faults = Vec::new();
    if needs_person(k).is_some() {
        return faults;
    }
    let mut add = |fault: Fault| {
        // One cable carries both families: once is enough.
        if !faults.iter().any(|f: &Fault| f.id() == fault.id()) {
            faults.push(fault);
        }
    };
    for family in Family::BOTH {
        let path = k.path(family);
        let Some(route) = path.route.as_ref() else {
            continue;
        };
        if !path.judgement.verdict.is_open() {
            continue;
        }
        if let Some(why) = &path.judgement.flaws.names {
            add(Fault::NamesDead { why: why.clone() });
        }
        let flaws = k.way_flaws(family);
        let uplink = k.name_device(&route.device);
        if let Some(why) = flaws.clock.clone() {
            add(Fault::ClockWrong { why });
        }
        if let Some(why) = flaws.tls.clone() {
            let uplink = uplink.clone();
            add(Fault::TlsBroken { uplink, why });
        }
        if let Some(why) = flaws.large.clone() {
            add(Fault::MtuBlackHole { uplink, why });
        }
    }
    faults
}

fn gone(k: &Knowledge, now: Time) -> bool {
    let patience = match k.tailnet.respawn {
        Respawn::Unknown => GONE_TOO_LONG,
        Respawn::After(delay) => GONE_TOO_LONG.max(delay.saturating_add(START_TAKES)),
        Respawn::GaveUp => GIVEN_UP,
    };
    // It may have been started, and ended again, before it could be asked.
    let since = k.starts.last_end().unwrap_or_default().max(k.api_since);
    k.tailnet.api == Api::Gone && looked_at(k, now).saturating_sub(since) >= patience
}

/// Up to when tailscaled was seen to be as it is. Where the daemon did not run for a while nobody looked.
fn looked_at(k: &Knowledge, now: Time) -> Time {
    k.tailnet_read.unwrap_or(now)
}

/// Why a tailscaled that takes questions and answers none, and whose bus is silent too, is not
/// merely busy.
fn hung(k: &Knowledge, now: Time) -> Option<String> {
    if k.tailnet.api != Api::Hung {
        return None;
    }
    let now = looked_at(k, now);
    let silent = now.saturating_sub(k.api_since);
    let seconds = silent.as_secs();
    let Some(process) = &k.tailnet.process else {
        return (silent >= SILENT_TOO_LONG).then(|| format!("silent for {seconds} s"));
    };
    let halted = k.halted_since.map(|t| now.saturating_sub(t));
    if halted.is_some_and(|t| t >= HALTED_TOO_LONG) {
        return Some("its process is stopped (SIGSTOP or a debugger)".into());
    }
    let used = process.cpu.saturating_sub(k.cpu_then);
    let busy = process.at_work || used > silent / REST;
    if silent >= BUSY_TOO_LONG {
        return Some(format!("silent for {seconds} s, whatever it is busy with"));
    }
    (silent >= HUNG_TOO_LONG && !busy).then(|| format!("silent for {seconds} s, and it rests"))
}

/// What a look without any packet of ours shows to be wrong. `control_down`: the control server is
/// known not to answer, so that an old control connection is no news.
pub fn suspicion(k: &Knowledge, now: Time, control_down: bool) -> Option<String> {
    let news = |f: &Fault| match f {
        Fault::PinnedRoute { .. } => false,
        Fault::StuckControl { .. } => !control_down,
        f => f.curable(),
    };
    let faults = diagnose(k, now, now + Duration::from_nanos(1));
    let offline = || {
        let well_otherwise = k.tailnet.api == Api::Answers && needs_person(k).is_none();
        offline_for(k, now).filter(|_| well_otherwise && !control_down)
    };
    let named = faults.into_iter().find(news).map(|f| f.to_string());
    named.or_else(|| {
        Some(format!(
            "tailscaled is offline for {} s",
            offline()?.as_secs()
        ))
    })
}

/// How long tailscaled says that it is offline, where that is too long for the path of now.
pub fn offline_for(k: &Knowledge, now: Time) -> Option<Duration> {
    // `start {}` makes it false for 0.6 s, and nobody may look again for a while.
    let seen = looked_at(k, now);
    let since = k.offline_since?.max(k.epoch.since);
    Some(seen.saturating_sub(since)).filter(|t| *t >= OFFLINE_TOO_LONG)
}

/// True for a fault that [`shown`] gives.
pub fn is_shown(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::NamesDead { .. }
            | Fault::TlsBroken { .. }
            | Fault::MtuBlackHole { .. }
            | Fault::ClockWrong { .. }
    )
}

/// Why nothing is to be done before a person acts.
pub fn needs_person(k: &Knowledge) -> Option<&'static str> {
    let t = &k.tailnet;
    if t.api == Api::Gone && t.left_alone.is_some() {
        let seen = k.tailnet_read.zip(k.left_alone_since);
        let long = seen.is_some_and(|(to, from)| to.saturating_sub(from) >= LEFT_ALONE_FOR_SURE);
        return t.left_alone.filter(|_| long);
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

fn pinned(k: &Knowledge, now: Time, family: Family, since: Time) -> Option<Fault> {
    let path = k.path(family);
    // No path at all is a dead way too, if tailscaled had a use for that family.
    let dead = path.route.is_none() || k.path_is_shut(family, since);
    let flaw = match dead {
        true => None,
        false => Some(hindered(k, now, family, since)?),
    };
    // From one flawed way to another nothing is won.
    let sound = |u: &&Uplink| {
        let judgement = k.verdict(&u.name, family);
        judgement.is_some_and(|j| !j.gathering() && j.flaws.hinders().is_none())
    };
    let open: Vec<String> = k
        .open_uplinks(family, since)
        .into_iter()
        .filter(|u| flaw.is_none() || sound(u))
        .map(|u| u.name.clone())
        .collect();
    if open.is_empty() {
        return None;
    }
    Some(Fault::PinnedRoute {
        family,
        device: path.route.as_ref().map(|r| k.name_device(&r.device)),
        open,
        flaw,
        drill: k.path_drilled(family),
    })
}

/// What keeps control from being made anew over an open way, where it has to be made anew. A control
/// connection of before may live on there for long, and is let alone.
fn hindered(k: &Knowledge, now: Time, family: Family, since: Time) -> Option<String> {
    let flaw = k.way_flaws(family).hinders()?;
    let control = k.standing(Purpose::Control);
    let lost = control.fresh == 0 && (control.stale.is_some() || control.unheard.is_some());
    let missed = lost || offline_for(k, now).is_some();
    (missed && k.path_is_open(family, since)).then_some(flaw)
}

/// Fresh flows pass, old ones are held where nothing answers. A moved mark passes by what holds them,
/// as our rules stand before mwan3's.
fn held(k: &Knowledge, family: Family, since: Time) -> Option<Fault> {
    let open = !k.open_uplinks(family, since).is_empty();
    if !open || !k.path(family).judgement.open_since(since) {
        return None;
    }
    let pin = k.held(family, since).next()?;
    Some(Fault::ConntrackPin {
        family,
        evidence: format!(
            "{} to {} leaves by {}, by the mark that mwan3 keeps for it",
            pin.local,
            pin.remote,
            k.name_device(&pin.device)
        ),
    })
}

/// A flow of another way is stuck for sure. Being offline is so only where the control server
/// answers: else it is down, and tailscaled is right.
fn stuck_control(k: &Knowledge, now: Time, since: Time) -> Option<Fault> {
    let control = k.standing(Purpose::Control);
    let offline = offline_for(k, now).filter(|_| k.control_answers(since));
    let evidence = match (control.stale, offline) {
        (Some(ip), _) if control.fresh == 0 => stale_text(k, ip),
        // Resent into the void of a control server that is down, it is nobody's fault here.
        _ if control.fresh == 0 && control.unheard.is_some() && k.control_answers(since) => {
            unheard_text(control.unheard)
        }
        _ if waits(k) && k.control_answers(since) => {
            "there is none, and tailscaled waits before it tries again, while the server answers"
                .into()
        }
        (_, Some(t)) => format!(
            "offline for {} s although the control server answers",
            t.as_secs()
        ),
        _ => return None,
    };
    Some(Fault::StuckControl { evidence })
}

/// True while tailscaled has no connection to control after a time when nothing reached the outside, as at
/// a boot whose uplinks come late.
fn waits(k: &Knowledge) -> bool {
    let t = &k.tailnet;
    let tries = matches!(
        t.backend,
        Backend::NoState | Backend::Starting | Backend::Running
    );
    let none = t
        .flows
        .iter()
        .all(|f| f.purpose != Purpose::Control || !f.established);
    k.kept_waiting && tries && none && t.online != Some(true)
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
    // Where no handshake succeeds, the control server's says nothing of the control server.
    let unspoken = |f: &Family| {
        let flaws = k.way_flaws(*f);
        flaws.tls_doubt || flaws.clock.is_some() || flaws.large.is_some()
    };
    if Family::BOTH.iter().any(unspoken) {
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
    pub(super) fn resends(&self, flow: &Flow) -> u32 {
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
mod tests;
