//! What tailover tells of itself, as JSON: the state, the diagnosis, the history.
//!
//! The ubus object, `status --json`, `check --json` and `history --json` all give these shapes.
//! Times are seconds; ages count back from now.

use serde_json::{json, Map, Value};

use crate::core::episode::{Drill, Episode};
use crate::core::evidence::evidence;
use crate::core::tailnet::{Api, Purpose};
use crate::core::timeline::{into_slot, SLOT};
use crate::core::{Core, Cure, Family, Fault, Judgement, Stage, Time, Uplink};

/// The whole state.
pub fn status(core: &Core, now: Time) -> Value {
    let k = core.knowledge();
    let t = &k.tailnet;
    json!({
        "stage": core.stage().word(),
        "sentence": sentence(core, now),
        "uptime": seconds(now),
        "uplinks": k.uplinks.iter().map(|u| uplink(core, u, now)).collect::<Vec<_>>(),
        "path": families(|f| path(core, f, now)),
        "steering": families(|f| steering(core, f)),
        "tailnet": {
            "api": api(&t.api),
            "backend": format!("{:?}", t.backend),
            "online": t.online,
            "home_relay": t.relay,
            "pid": t.pid,
            "tun": t.tun,
            "lost": t.lost.what,
            "version": t.version,
            "debug": t.abilities.debug,
            "bus": t.abilities.bus,
            "replaced": t.process.as_ref().map(|p| p.replaced),
            "elsewhere": t.elsewhere,
            "control": flows(core, Purpose::Control),
            "derp": flows(core, Purpose::Derp),
        },
        "faults": core.faults().iter().map(|f| fault(core, f, now)).collect::<Vec<_>>(),
        "warnings": k.warnings,
        "episode": core.episode().map(|e| episode(e, now)),
        "last": core.history().iter().next_back().map(|e| episode(e, now)),
        "next": next(core, now),
        "restarts_last_hour": core.restarts(now),
        "restarts_per_hour": core.policy().limits.per_hour,
    })
}

/// Ended episodes of this run, newest first.
pub fn history(core: &Core, now: Time) -> Vec<Value> {
    let newest = core.history().iter().rev();
    newest.map(|e| episode(e, now)).collect()
}

/// What each way out was seen to be in the last day of this run; see [`timeline`](crate::core::timeline).
///
/// `slots` has a character for each slot, the oldest first: 48 plus its bits (1 open, 2 dns-dead,
/// 4 portal, 8 closed, 16 in use). The last slot is not over yet; it began `age` seconds ago.
pub fn timeline(core: &Core, now: Time) -> Value {
    let sign = |bits: &u8| char::from(b'0'.saturating_add(*bits));
    let rows = core.timeline().rows().iter();
    let ways = rows.map(|row| {
        json!({
            "uplink": row.uplink,
            "family": row.family.to_string(),
            "slots": row.slots.iter().map(sign).collect::<String>(),
        })
    });
    json!({
        "slot": SLOT.as_secs(),
        "age": into_slot(now).as_secs(),
        "ways": ways.collect::<Vec<_>>(),
    })
}

/// What is wrong, or that nothing is, in one sentence.
pub fn sentence(core: &Core, now: Time) -> String {
    let k = core.knowledge();
    let steered = Family::BOTH.iter().find_map(|f| {
        let hop = k.steering(*f).to.as_ref()?;
        Some(k.name_device(&hop.device))
    });
    if let Some((e, drill)) = core.episode().and_then(|e| Some((e, e.drill.as_ref()?))) {
        return drill_sentence(core, e, drill, now);
    }
    let wrong = wrong(core, now);
    match core.stage() {
        Stage::Quiet if wrong.is_empty() => match (&k.tailnet.api, steered) {
            (Api::Unknown, _) => "tailover has just started".into(),
            (Api::Answers, Some(way)) => {
                format!("the tailnet is well; its packets are steered by {way}")
            }
            (Api::Answers, None) => "the tailnet is well".into(),
            (api, _) => format!("tailscaled cannot be asked: {}", self::api(api)),
        },
        Stage::Resting { until, why } => format!(
            "{why}; next try in {} s",
            until.saturating_sub(now).as_secs()
        ),
        Stage::Verifying { .. } if wrong.is_empty() => "waiting for the tailnet".into(),
        Stage::Proving { .. } if wrong.is_empty() => "proving which uplink is open".into(),
        _ => wrong.join("; "),
    }
}

fn drill_sentence(core: &Core, e: &Episode, drill: &Drill, now: Time) -> String {
    let Drill { uplink, .. } = drill;
    match (drill.over, drill.well) {
        (Some(_), _) => format!("the drill of {uplink} is over; going back to it"),
        (None, Some(well)) => format!(
            "drill of {uplink}: well over {} after {:.1} s; going back in {} s",
            drill.by,
            well.saturating_sub(e.began).as_secs_f64(),
            well.saturating_add(drill.stay)
                .saturating_sub(now)
                .as_secs()
        ),
        (None, None) => {
            let doing: Vec<String> = core.faults().iter().map(Fault::to_string).collect();
            match doing.is_empty() {
                true => format!("drill of {uplink}: proving another uplink"),
                false => doing.join("; "),
            }
        }
    }
}

/// A way of tailscaled's packets that is of no use to it, without its family.
#[derive(PartialEq)]
struct Dead<'a> {
    device: Option<&'a str>,
    open: &'a [String],
    flaw: Option<&'a str>,
}

impl Dead<'_> {
    fn of(fault: &Fault) -> Option<(Family, Dead<'_>)> {
        match fault {
            Fault::PinnedRoute {
                family,
                device,
                open,
                flaw,
                ..
            } => Some((
                *family,
                Dead {
                    device: device.as_deref(),
                    open,
                    flaw: flaw.as_deref(),
                },
            )),
            _ => None,
        }
    }
}

/// What is wrong, a clause each. The families of one dead way are one clause.
fn wrong(core: &Core, now: Time) -> Vec<String> {
    let k = core.knowledge();
    let mut clauses: Vec<String> = Vec::new();
    let pinned: Vec<(Family, Dead)> = core.faults().iter().filter_map(Dead::of).collect();
    let same = pinned.windows(2).all(|w| match w {
        [(_, a), (_, b)] => a == b,
        _ => true,
    });
    let moved = moved(core, now);
    match pinned.first() {
        Some((
            family,
            Dead {
                device: Some(device),
                open,
                flaw,
            },
        )) if same => {
            let whose = match pinned.len() {
                1 => format!("tailscaled's {family} packets"),
                _ => "tailscaled's packets".into(),
            };
            let j = &k.path(*family).judgement;
            let dead = match (flaw, j.shut_since(Time::ZERO)) {
                (Some(flaw), _) => format!("where {flaw}"),
                (None, true) => format!("dead for {} s", now.saturating_sub(j.since).as_secs()),
                (None, false) => "where nothing answers".into(),
            };
            let open = open.join(", ");
            clauses.push(format!("{whose} leave by {device}, {dead}; {open} is open"));
            clauses.extend(moved.map(|s| format!("moved them {s} s ago")));
        }
        Some(_) => clauses.extend(
            core.faults()
                .iter()
                .filter(|f| matches!(f, Fault::PinnedRoute { .. }))
                .map(Fault::to_string),
        ),
        None => {
            let by = Family::BOTH.iter().find_map(|f| k.path_uplink(*f));
            clauses.extend(moved.zip(by).map(|(s, u)| {
                format!(
                    "moved tailscaled's packets to {} ({}) {s} s ago",
                    u.name, u.device
                )
            }));
        }
    }
    let others = core.faults().iter();
    let others = others.filter(|f| !matches!(f, Fault::PinnedRoute { .. }));
    let before = clauses.len();
    clauses.extend(others.map(Fault::to_string));
    // A move alone is no fault.
    if pinned.is_empty() && clauses.len() == before {
        clauses.clear();
    }
    clauses
}

/// Seconds since the mark was moved in the episode that is under way.
fn moved(core: &Core, now: Time) -> Option<u64> {
    let acts = core.episode()?.acts.iter().rev();
    let mut steers = acts.filter(|a| matches!(a.cure, Cure::Steer(_)));
    let act = steers.find(|a| matches!(a.result, Some(Ok(_))))?;
    Some(now.saturating_sub(act.at).as_secs())
}

fn next(core: &Core, now: Time) -> Value {
    let (what, at) = core.outlook(now);
    json!({ "what": what, "in": at.map(|t| seconds(t.saturating_sub(now))) })
}

fn uplink(core: &Core, u: &Uplink, now: Time) -> Value {
    json!({
        "name": u.name,
        "device": u.device,
        "interfaces": u.aliases,
        "metered": u.metered,
        "vpn": u.vpn,
        "ipv4": way(core, u, Family::V4, now),
        "ipv6": way(core, u, Family::V6, now),
    })
}

fn way(core: &Core, u: &Uplink, family: Family, now: Time) -> Value {
    let Some(way) = u.way(family) else {
        return Value::Null;
    };
    let mut map = match core.knowledge().verdict(&u.name, family) {
        Some(j) => judgement(j, now),
        None => judgement(&Judgement::default(), now),
    };
    map.insert("gateway".into(), json!(way.gateway.map(|g| g.to_string())));
    map.insert("metric".into(), json!(way.metric));
    Value::Object(map)
}

fn judgement(j: &Judgement, now: Time) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("verdict".into(), json!(j.verdict.to_string()));
    map.insert("evidence".into(), json!(j.evidence));
    let age = j.judged_at.map(|t| seconds(now.saturating_sub(t)));
    map.insert("age".into(), json!(age));
    map.insert("since".into(), json!(seconds(now.saturating_sub(j.since))));
    map.insert(
        "rtt_ms".into(),
        json!(j
            .rtt
            .map(|r| u64::try_from(r.as_millis()).unwrap_or(u64::MAX))),
    );
    map.insert("public".into(), json!(j.public.map(|p| p.to_string())));
    let control = j.control.as_ref().map(|(result, _)| match result {
        Ok(()) => "answers".to_string(),
        Err(why) => why.clone(),
    });
    map.insert("control".into(), json!(control));
    let results = j.results.iter();
    let results = results.map(|(target, outcome)| json!({ "target": target, "outcome": outcome }));
    map.insert("results".into(), results.collect());
    map
}

fn path(core: &Core, family: Family, now: Time) -> Value {
    let k = core.knowledge();
    let p = k.path(family);
    let Some(route) = &p.route else {
        return Value::Null;
    };
    let mut map = judgement(&p.judgement, now);
    map.insert("device".into(), json!(route.device));
    map.insert(
        "uplink".into(),
        json!(k.path_uplink(family).map(|u| u.name.clone())),
    );
    map.insert(
        "gateway".into(),
        json!(route.gateway.map(|g| g.to_string())),
    );
    map.insert("source".into(), json!(route.source.map(|s| s.to_string())));
    Value::Object(map)
}

fn steering(core: &Core, family: Family) -> Value {
    let s = core.knowledge().steering(family);
    json!(s.to.as_ref().map(|hop| hop.device.clone()))
}

fn flows(core: &Core, purpose: Purpose) -> Value {
    let s = core.knowledge().standing(purpose);
    json!({ "fresh": s.fresh, "stale": s.stale.map(|ip| ip.to_string()) })
}

fn api(api: &Api) -> String {
    match api {
        Api::Unknown => "not asked yet".into(),
        Api::Answers => "answers".into(),
        Api::Gone => "does not run".into(),
        Api::Hung => "runs but does not answer".into(),
        Api::Refuses(text) => text.clone(),
    }
}

fn fault(core: &Core, f: &Fault, now: Time) -> Value {
    json!({
        "id": f.id(),
        "text": f.to_string(),
        "curable": f.curable(),
        "evidence": evidence(core.knowledge(), f, now),
        "advice": f.advice(),
    })
}

/// One episode.
pub fn episode(e: &Episode, now: Time) -> Value {
    let acts: Vec<Value> = e
        .acts
        .iter()
        .map(|a| {
            let (ok, text) = match &a.result {
                Some(Ok(text)) => (Some(true), text.as_str()),
                Some(Err(text)) => (Some(false), text.as_str()),
                None => (None, ""),
            };
            json!({
                "cure": a.cure.to_string(),
                "after": seconds(a.at.saturating_sub(e.began)),
                "why": a.why,
                "ok": ok,
                "result": text,
            })
        })
        .collect();
    let faults: Vec<Value> = e
        .faults
        .iter()
        .map(|(id, text)| json!({ "id": id, "text": text }))
        .collect();
    json!({
        "trigger": e.trigger,
        "began_ago": seconds(now.saturating_sub(e.began)),
        "seconds": seconds(e.lasted(now)),
        "outcome": e.ended.map(|(_, o)| o.word()),
        "faults": faults,
        "acts": acts,
        "drill": e.drill.as_ref().map(|d| drill(d, e.began)),
    })
}

/// Seconds after the drill was asked for; `back` after it was over.
fn drill(d: &Drill, began: Time) -> Value {
    let after = |t: Option<Time>| t.map(|t| seconds(t.saturating_sub(began)));
    json!({
        "uplink": d.uplink,
        "by": d.by,
        "stay": seconds(d.stay),
        "control": after(d.control),
        "tailnet": after(d.well),
        "over": after(d.over),
        "back": d.back.zip(d.over).map(|(t, over)| seconds(t.saturating_sub(over))),
        "cut": d.cut,
        "passed": d.passed(),
        "summary": d.summary(began),
    })
}

fn families(of: impl Fn(Family) -> Value) -> Value {
    json!({ "ipv4": of(Family::V4), "ipv6": of(Family::V6) })
}

/// Milliseconds are enough for people.
fn seconds(t: Time) -> f64 {
    (t.as_secs_f64() * 1000.0).round() / 1000.0
}
