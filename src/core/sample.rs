//! A router on which all is well, and what can be wrong with it, for the unit tests: two uplinks with both families,
//! control and a relay.

use std::net::SocketAddr;
use std::time::Duration;

use super::budget::Limits;
use super::ladder::Allowed;
use super::tailnet::{Api, Backend, Flow, Purpose};
use super::uplink::{Family, Route, Uplink, Way};
use super::verdict::{Judgement, Verdict};
use super::{Drilled, Effort, Knowledge, Moment, Policy, Time};

pub const S: Duration = Duration::from_secs(1);
pub const MS: Duration = Duration::from_millis(1);
/// The assessment begins at `SINCE`, all was asked at `ASKED`, and it is `NOW`.
pub const SINCE: Time = Duration::from_secs(1000);
pub const ASKED: Time = Duration::from_secs(1001);
pub const NOW: Time = Duration::from_secs(1002);

pub const CONTROL: &str = "203.0.113.1:443";
pub const RELAY: &str = "203.0.113.2:443";

/// That instant, without chance.
pub fn moment(now: Time) -> Moment {
    Moment { now, dice: 0 }
}

/// The package's own.
pub fn policy() -> Policy {
    Policy {
        allowed: Allowed::ALL,
        limits: Limits {
            min: S * 60,
            max: S * 3600,
            per_hour: 3,
        },
        hold: S * 30,
        settle: S / 5,
        interval: S * 30,
        other_interval: S * 300,
        probe_timeout: S * 2,
    }
}

/// What a round that ended at `ASKED` says.
pub fn judged(verdict: Verdict) -> Judgement {
    let mut j = Judgement::default();
    j.verdict = verdict;
    j.judged_at = Some(ASKED);
    j.evidence = "t answered".into();
    if verdict.is_open() {
        j.control = Some((Ok(()), ASKED));
        j.resolved = Some(ASKED);
    }
    j
}

/// That uplink is being asked over IPv4, by round 9.
pub fn ask(k: &mut Knowledge, name: &str, effort: Effort) {
    let uplink = k.verdicts.get_mut(&(name.to_string(), Family::V4));
    uplink.unwrap().begin(9, NOW + S, effort);
}

pub fn flow(purpose: Purpose, local: &str) -> Flow {
    let remote = match purpose {
        Purpose::Derp => RELAY,
        _ => CONTROL,
    };
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    Flow {
        purpose,
        local: address(local),
        remote: address(remote),
        established: true,
    }
}

fn way(address: &str, gateway: &str, metric: u32) -> Way {
    Way {
        gateway: Some(gateway.parse().unwrap()),
        addresses: vec![address.parse().unwrap()],
        metric: Some(metric),
        ..Way::default()
    }
}

fn uplink(name: &str, device: &str, number: u32) -> Uplink {
    let v4 = |host: u32| format!("192.0.2.{}", number * 16 + host);
    let v6 = |host: u32| format!("2001:db8:{number}::{host}");
    Uplink {
        name: name.into(),
        aliases: vec![format!("{name}6")],
        device: device.into(),
        v4: Some(way(&v4(2), &v4(1), number * 10)),
        v6: Some(way(&v6(2), &v6(1), number * 10)),
        ..Uplink::default()
    }
}

/// `wan` (eth1, 192.0.2.18, 2001:db8:1::2) is in use, `wanb` (eth2, 192.0.2.34, 2001:db8:2::2) is open too.
pub fn well() -> Knowledge {
    let mut k = Knowledge {
        uplinks: vec![uplink("wan", "eth1", 1), uplink("wanb", "eth2", 2)],
        paths_read: Some(ASKED),
        tailnet_read: Some(NOW),
        online_seen: true,
        ..Knowledge::default()
    };
    for f in Family::BOTH {
        for name in ["wan", "wanb"] {
            k.verdicts.insert((name.into(), f), judged(Verdict::Open));
        }
        k.paths[f.at()].judgement = judged(Verdict::Open);
        route_by(&mut k, f, 0);
    }
    let t = &mut k.tailnet;
    t.api = Api::Answers;
    t.backend = Backend::Running;
    t.wanted = Some(true);
    t.tun = true;
    t.online = Some(true);
    t.pid = Some(77);
    t.flows = vec![
        flow(Purpose::Control, "192.0.2.18:5001"),
        flow(Purpose::Derp, "192.0.2.18:5002"),
    ];
    k
}

/// The path of that family goes by the uplink of that number.
pub fn route_by(k: &mut Knowledge, family: Family, uplink: usize) {
    let uplink = &k.uplinks[uplink];
    let way = uplink.way(family).unwrap();
    k.paths[family.at()].route = Some(Route {
        device: uplink.device.clone(),
        gateway: way.gateway,
        source: way.addresses.first().copied(),
    });
}

/// The same with this change.
pub fn with(mut k: Knowledge, change: impl FnOnce(&mut Knowledge)) -> Knowledge {
    change(&mut k);
    k
}

/// Changes what is known of each uplink and of each path.
pub fn everywhere(k: &mut Knowledge, change: impl FnMut(&mut Judgement)) {
    let paths = k.paths.iter_mut().map(|p| &mut p.judgement);
    k.verdicts.values_mut().chain(paths).for_each(change);
}

/// Nothing is known yet of whether the control server answers.
pub fn unasked(k: &mut Knowledge) {
    everywhere(k, |j| j.control = None);
}

/// The control server does not answer, over whatever family and uplink, for that reason.
pub fn control_silent(k: &mut Knowledge, why: &str) {
    everywhere(k, |j| j.control = Some((Err(why.into()), ASKED)));
}

/// Control uses an address that the path has left.
pub fn stuck() -> Knowledge {
    with(well(), |k| {
        k.tailnet.flows[0] = flow(Purpose::Control, "192.0.2.34:5001");
    })
}

/// The relay is stale, control is well.
pub fn stale() -> Knowledge {
    with(well(), |k| {
        k.tailnet.flows[1] = flow(Purpose::Derp, "192.0.2.34:5002");
    })
}

/// The kernel has lost a rule since `SINCE`.
pub fn lost(mendable: bool) -> Knowledge {
    with(well(), |k| {
        k.tailnet.lost.what = vec!["rule 5270".into()];
        k.tailnet.lost.mendable = mendable;
        k.lost_since = Some(SINCE);
    })
}

/// A drill turns these families away from `wan`.
pub fn drill_of_wan(families: [bool; 2]) -> Drilled {
    Drilled {
        name: "wan".into(),
        device: "eth1".into(),
        families,
    }
}

/// `wan` is dead in both families, path and uplink.
pub fn dark(mut k: Knowledge) -> Knowledge {
    for f in Family::BOTH {
        k.verdicts
            .insert(("wan".into(), f), judged(Verdict::Closed));
        k.paths[f.at()].judgement = judged(Verdict::Closed);
    }
    k
}

/// So is `wanb`, with that verdict.
pub fn all_dark(k: Knowledge, other: Verdict) -> Knowledge {
    let mut k = dark(k);
    for f in Family::BOTH {
        k.verdicts.insert(("wanb".into(), f), judged(other));
    }
    k
}
