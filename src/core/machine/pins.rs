//! F5: finds flows that are held on a dead uplink although fresh ones leave by another.

use super::*;

/// Flows that mwan3 may hold, as long as the signs for it last.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins {
    /// When the kernel's table of connections was asked for.
    asked: Option<Time>,
    /// They were read, and no assessment has begun because of them.
    news: bool,
}

impl Core {
    /// After each step: where a path is open although the uplink of its route is dead, marks of
    /// another hand lead packets elsewhere, and old flows may have an old mark.
    pub(super) fn mind_pins(&mut self, now: Time) {
        let Some((family, since)) = self.rerouted(now) else {
            self.pins = Pins::default();
            self.k.pins.clear();
            return;
        };
        let asked = self.pins.asked;
        if asked.is_none_or(|t| now.saturating_sub(t) >= self.policy.interval) {
            self.pins.asked = Some(now);
            self.out.push(Action::ReadPins);
        }
        let held = self.k.held(family, since).next().is_some();
        if held && self.pins.news && self.stage == Stage::Quiet {
            self.pins.news = false;
            // All is judged already; only what is read has to be read once more.
            let why = format!("{family} flows of tailscaled are held on a dead uplink");
            self.begin_episode(now, Origin::Path, why);
            self.enter_proving(now, since);
        }
    }

    pub(super) fn take_pins(&mut self, pins: Vec<Pin>) {
        self.k.pins = pins;
        self.pins.news = true;
    }

    /// A family whose path is open while the uplink of its route is dead, and since when both, and
    /// another open uplink, are known.
    fn rerouted(&self, now: Time) -> Option<(Family, Time)> {
        let oldest = now.saturating_sub(self.policy.interval + self.policy.probe_timeout);
        let fresh = |j: &Judgement| j.judged_at.filter(|t| *t >= oldest);
        Family::BOTH.into_iter().find_map(|f| {
            let path = &self.k.path(f).judgement;
            let uplink = self.k.uplink_in_use(f)?;
            if path.verdict != Verdict::Open || !uplink.shut_since(oldest) {
                return None;
            }
            let other = self.k.open_uplinks(f, oldest).first().copied()?;
            let other = self.k.verdict(&other.name, f)?;
            let since = fresh(path)?.min(fresh(uplink)?).min(fresh(other)?);
            Some((f, since))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample::{judged, policy, well, ASKED, MS, NOW, S};
    use crate::core::uplink::Way;
    use crate::core::By;
    use std::net::IpAddr;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn uplink(name: &str, device: &str, last: u8, metric: u32) -> Uplink {
        Uplink {
            name: name.into(),
            device: device.into(),
            v4: Some(Way {
                gateway: Some(address(last - 1)),
                addresses: vec![address(last)],
                from: None,
                metric: Some(metric),
                sliced: false,
            }),
            ..Uplink::default()
        }
    }

    /// The core after mwan3 has moved to wanb: the path, routed by wan, answers; wan does not.
    fn moved_by_mwan3() -> (Core, Vec<Action>) {
        let mut core = Core::new(Policy {
            settle: S,
            ..policy()
        });
        let at = |now| Moment { now, dice: 0 };
        let uplinks = vec![uplink("wan", "eth1", 2, 10), uplink("wanb", "eth2", 66, 20)];
        core.step(at(S), Input::Uplinks(uplinks));
        let what = "test".into();
        let mut acts = core.step(at(S), Input::Event(Event::Changed { what }));
        let route = Route {
            device: "eth1".into(),
            gateway: None,
            source: Some(address(2)),
        };
        acts.extend(core.step(at(S), Input::Paths([Some(route), None])));
        let tailnet = Tailnet {
            api: Api::Answers,
            backend: Backend::Running,
            pid: Some(1),
            tun: true,
            ..Tailnet::default()
        };
        core.step(at(S), Input::Tailnet(tailnet.into()));
        for action in acts {
            let Action::Probe { round, scope, .. } = action else {
                continue;
            };
            if scope == Scope::Uplink("wan".into(), Family::V4) {
                continue;
            }
            let finding = Finding::Answer {
                by: By::Https,
                target: "test".into(),
                rtt: S / 100,
                public: None,
            };
            let input = Input::Probed {
                round,
                scope,
                finding,
            };
            core.step(at(2 * S), input);
        }
        // wan's round ends without an answer.
        let acts = core.step(at(4 * S), Input::Wake);
        (core, acts)
    }

    fn pin(device: &str) -> Pin {
        Pin {
            local: address(2),
            remote: address(200),
            device: device.into(),
        }
    }

    fn steers(acts: &[Action]) -> bool {
        acts.iter().any(|a| {
            matches!(a, Action::Steer(Family::V4, s) if s.to.as_ref().is_some_and(|h| h.device == "eth2"))
        })
    }

    /// What comes of these pins, with the look that follows them.
    fn with(pins: Vec<Pin>) -> (Core, Vec<Action>) {
        let (mut core, asked) = moved_by_mwan3();
        assert!(asked.contains(&Action::ReadPins), "{asked:?}");
        let moment = Moment {
            now: 4 * S,
            dice: 0,
        };
        let mut acts = core.step(moment, Input::Pins(pins));
        let route = core.knowledge().path(Family::V4).route.clone();
        acts.extend(core.step(moment, Input::Paths([route, None])));
        (core, acts)
    }

    #[test]
    fn a_flow_held_on_a_dead_uplink_is_named_and_the_mark_is_moved() {
        let (core, acts) = with(vec![pin("eth1")]);
        assert!(steers(&acts), "{acts:?}");
        let named: Vec<_> = core.faults().iter().map(Fault::id).collect();
        assert_eq!(named, ["F5-conntrack-pin"]);
    }

    #[test]
    fn without_a_flow_on_the_dead_uplink_nothing_is_named_or_done() {
        for pins in [vec![], vec![pin("eth2")]] {
            let (core, acts) = with(pins);
            assert!(!steers(&acts), "{acts:?}");
            assert!(core.faults().is_empty());
        }
    }

    /// The same, known as of `NOW`: the path is open, its uplink is dead, the other is open.
    fn rerouted() -> Core {
        let mut k = well();
        let dead = judged(Verdict::Closed);
        k.verdicts.insert(("wan".into(), Family::V4), dead);
        let held = "192.0.2.18".parse().unwrap();
        k.pins = vec![Pin {
            local: held,
            remote: address(200),
            device: "eth1".into(),
        }];
        let mut core = Core::knowing(k);
        core.pins.news = true;
        core
    }

    /// What minding comes to: whether connections are asked for, and whether an assessment begins.
    fn minded(change: impl FnOnce(&mut Core)) -> (bool, bool) {
        let mut core = rerouted();
        change(&mut core);
        core.mind_pins(NOW);
        let asked = core.ordered().contains(&Action::ReadPins);
        (asked, core.stage == Stage::Proving { since: ASKED })
    }

    #[test]
    fn connections_are_read_once_in_an_interval_while_the_signs_last() {
        assert_eq!(minded(|_| ()), (true, true));
        assert!(minded(|c| c.pins.asked = Some(NOW - S * 30)).0);
        assert!(!minded(|c| c.pins.asked = Some(NOW - S * 30 + MS)).0);
    }

    #[test]
    fn held_flows_begin_an_assessment_once_and_in_quiet_times() {
        assert!(!minded(|c| c.pins.news = false).1);
        assert!(!minded(|c| c.k.pins.clear()).1);
        let rest = |c: &mut Core| {
            c.stage = Stage::Resting {
                until: NOW + S,
                why: String::new(),
            };
        };
        assert!(!minded(rest).1);
    }

    #[test]
    fn without_a_dead_uplink_under_an_open_path_nothing_is_minded() {
        let verdict = |name: &'static str, verdict| {
            move |c: &mut Core| {
                let key = (name.to_string(), Family::V4);
                c.k.verdicts.insert(key, judged(verdict));
            }
        };
        let (nothing, all) = ((false, false), (true, true));
        assert_eq!(minded(verdict("wan", Verdict::Open)), nothing);
        assert_eq!(minded(verdict("wan", Verdict::Portal)), all);
        assert_eq!(minded(verdict("wanb", Verdict::Closed)), nothing);
        for closed in [Verdict::Closed, Verdict::DnsDead] {
            let path = |c: &mut Core| c.k.paths[0].judgement = judged(closed);
            assert_eq!(minded(path), nothing, "{closed}");
        }
        // All three must have been found so lately: within an interval and the time of a round.
        let oldest = NOW - S * 32;
        for place in 0..3 {
            for (at, lately) in [(oldest, true), (oldest - MS, false)] {
                let mut core = rerouted();
                let judgement = match place {
                    0 => &mut core.k.paths[0].judgement,
                    1 => core
                        .k
                        .judgement_mut(&Scope::Uplink("wan".into(), Family::V4)),
                    _ => core
                        .k
                        .judgement_mut(&Scope::Uplink("wanb".into(), Family::V4)),
                };
                judgement.judged_at = Some(at);
                let since = core.rerouted(NOW).map(|(_, since)| since);
                assert_eq!(since, lately.then_some(at), "{place}");
            }
        }
        let mut core = rerouted();
        core.k.verdicts.remove(&("wan".into(), Family::V4));
        core.mind_pins(NOW);
        assert!(core.k.pins.is_empty() && !core.pins.news, "forgotten");
    }
}
