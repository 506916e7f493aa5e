//! The evidence behind a named fault, in sentences: what was seen, not what follows from it.

use super::fault::Fault;
use super::tailnet::{Api, Purpose};
use super::uplink::{Family, Uplink};
use super::verdict::{Judgement, Verdict};
use super::{Knowledge, Time};

/// Most sentences for one fault: a router may have sixty uplinks.
const SENTENCES: usize = 40;

/// What was seen that speaks for `fault`, the nearest to it first.
pub fn evidence(k: &Knowledge, fault: &Fault, now: Time) -> Vec<String> {
    let mut seen = match fault {
        Fault::PinnedRoute { family, .. } => {
            [path(k, *family, now), uplinks(k, *family, now)].concat()
        }
        Fault::OutsideDown { .. } => everywhere(k, now),
        Fault::StuckControl { evidence } => [
            vec![evidence.clone()],
            flows(k, Purpose::Control),
            online(k, now),
            control(k, now),
        ]
        .concat(),
        Fault::StalePaths { evidence } => {
            let mut seen = [vec![evidence.clone()], flows(k, Purpose::Derp)].concat();
            seen.push(match k.epoch.peer_answered {
                true => {
                    "a peer has answered a ping through the tunnel since the path changed".into()
                }
                false => {
                    "no peer has answered a ping through the tunnel since the path changed".into()
                }
            });
            seen
        }
        Fault::LostState { lost, .. } => lost.clone(),
        Fault::ConntrackPin { evidence, .. } => vec![evidence.clone()],
        Fault::DaemonGone | Fault::DaemonHung { .. } | Fault::CrashLoop { .. } => api(k, now),
        Fault::ApiRefuses { why } | Fault::ClockWrong { why } | Fault::OtherHand { why } => {
            [vec![why.clone()], api(k, now)].concat()
        }
        Fault::ControlDown { why } => [
            vec![why.clone()],
            control(k, now),
            flows(k, Purpose::Control),
            online(k, now),
        ]
        .concat(),
        Fault::NamesDead { why } => vec![why.clone()],
        Fault::TlsBroken { uplink, why } | Fault::MtuBlackHole { uplink, why } => {
            let named = k.uplinks.iter().filter(|u| u.name == *uplink);
            let both = named.flat_map(|u| Family::BOTH.map(|f| by_uplink(k, u, f, now)));
            std::iter::once(why.clone()).chain(both.flatten()).collect()
        }
        Fault::NeedsPerson { .. } => person(k),
        Fault::Userspace => vec!["LocalAPI's status says TUN: false".into()],
    };
    seen.truncate(SENTENCES);
    seen
}

/// The way that the kernel gives tailscaled's packets, and what came back over it.
fn path(k: &Knowledge, family: Family, now: Time) -> Vec<String> {
    let path = k.path(family);
    let Some(route) = &path.route else {
        return vec![format!(
            "the kernel gives no {family} route for tailscaled's mark"
        )];
    };
    let via = route
        .gateway
        .map(|g| format!(" via {g}"))
        .unwrap_or_default();
    let from = route
        .source
        .map(|s| format!(" from {s}"))
        .unwrap_or_default();
    let by = match &k.steering(family).to {
        Some(hop) if hop.device == route.device => "tailover's rules say",
        _ => "the main table says",
    };
    let way = k.name_device(&route.device);
    let mut seen = vec![format!(
        "the kernel sends tailscaled's {family} packets by {way}{via}{from}, as {by}"
    )];
    seen.extend(results(
        &format!("{family} path by {way}"),
        &path.judgement,
        now,
    ));
    seen
}

/// What came back over each uplink that has that family.
fn uplinks(k: &Knowledge, family: Family, now: Time) -> Vec<String> {
    let each = k.uplinks.iter();
    each.flat_map(|u| by_uplink(k, u, family, now)).collect()
}

fn by_uplink(k: &Knowledge, u: &Uplink, family: Family, now: Time) -> Vec<String> {
    if u.way(family).is_none() {
        return Vec::new();
    }
    let what = format!("{} ({}) {family}", u.name, u.device);
    match k.verdict(&u.name, family) {
        Some(j) => results(&what, j, now),
        None => vec![format!("{what} was not probed")],
    }
}

fn everywhere(k: &Knowledge, now: Time) -> Vec<String> {
    let family = |f: &Family| [path(k, *f, now), uplinks(k, *f, now)].concat();
    let used =
        |f: &&Family| k.path(**f).route.is_some() || k.uplinks.iter().any(|u| u.way(**f).is_some());
    let families = Family::BOTH;
    let seen: Vec<String> = families.iter().filter(used).flat_map(family).collect();
    match seen.is_empty() {
        true => vec!["the router has no default route".into()],
        false => seen,
    }
}

/// A verdict with its age, and what came of each probe of its round.
fn results(what: &str, j: &Judgement, now: Time) -> Vec<String> {
    let verdict = match (j.verdict, j.judged_at) {
        (Verdict::Unknown, _) | (_, None) => format!("{what} has no verdict yet"),
        (verdict, Some(t)) => {
            let age = now.saturating_sub(t).as_secs_f64();
            format!("{what} was found {verdict} {age:.1} s ago: {}", j.evidence)
        }
    };
    let each = j.results.iter();
    let each = each.map(|(target, outcome)| format!("{what}: {target}: {outcome}"));
    std::iter::once(verdict).chain(each).collect()
}

/// tailscaled's flows of that purpose against the address of the path.
fn flows(k: &Knowledge, purpose: Purpose) -> Vec<String> {
    let name = match purpose {
        Purpose::Control => "control",
        Purpose::Derp => "relay",
        Purpose::Other => "other",
    };
    let own = k.tailnet.flows.iter().filter(|f| f.purpose == purpose);
    let mut seen: Vec<String> = own
        .map(|f| {
            let state = match f.established {
                true => "established",
                false => "not established",
            };
            let stand = match (k.on_path(&f.local.ip()), k.epoch.doomed(f)) {
                (false, _) => "not an address of the path",
                (true, true) => "older than the last change of the path",
                (true, false) => "an address of the path",
            };
            format!(
                "{name} flow from {} to {}, {state}: {stand}",
                f.local, f.remote
            )
        })
        .collect();
    if seen.is_empty() {
        seen.push(format!("tailscaled has no {name} flow"));
    }
    let sources = Family::BOTH.map(|f| k.path(f).route.as_ref().and_then(|r| r.source));
    for (f, source) in Family::BOTH.into_iter().zip(sources) {
        seen.extend(source.map(|ip| format!("the {f} path's address is {ip}")));
    }
    seen
}

fn online(k: &Knowledge, now: Time) -> Vec<String> {
    let text = match (k.tailnet.online, k.offline_since) {
        (Some(true), _) => "tailscaled says that it is online".to_string(),
        (_, Some(t)) => format!(
            "tailscaled says for {} s that it is offline",
            now.saturating_sub(t).as_secs()
        ),
        _ => return Vec::new(),
    };
    vec![text]
}

/// Whether the control server answered over the path's uplinks.
fn control(k: &Knowledge, now: Time) -> Vec<String> {
    let asked = Family::BOTH.into_iter().filter_map(|f| {
        let u = k.path_uplink(f)?;
        let (result, t) = k.verdict(&u.name, f)?.control.as_ref()?;
        let outcome = match result {
            Ok(()) => "answered",
            Err(why) => why.as_str(),
        };
        let age = now.saturating_sub(*t).as_secs_f64();
        Some(format!(
            "the control server over {} {f}, {age:.1} s ago: {outcome}",
            u.name
        ))
    });
    asked.collect()
}

fn api(k: &Knowledge, now: Time) -> Vec<String> {
    let what = match &k.tailnet.api {
        Api::Unknown => "LocalAPI was not asked yet",
        Api::Answers => "LocalAPI answers",
        Api::Gone => "LocalAPI's socket is missing, or nobody listens on it",
        Api::Hung => "LocalAPI takes a connection and says nothing",
        Api::Refuses(why) => why.as_str(),
    };
    let secs = now.saturating_sub(k.api_since).as_secs();
    let pid = match k.tailnet.pid {
        Some(pid) => format!("the process is {pid}"),
        None => "no process of tailscaled was found".into(),
    };
    vec![format!("{what}, for {secs} s"), pid]
}

fn person(k: &Knowledge) -> Vec<String> {
    let t = &k.tailnet;
    let mut seen = vec![format!("LocalAPI's BackendState is {:?}", t.backend)];
    seen.extend(t.left_alone.map(|why| format!("the service {why}")));
    if t.wanted == Some(false) {
        seen.push("the preferences say WantRunning: false".into());
    }
    if t.logged_out {
        seen.push("the preferences say LoggedOut: true".into());
    }
    if t.key_expired {
        seen.push("LocalAPI's status says Expired: true".into());
    }
    seen
}

#[cfg(test)]
mod tests;
