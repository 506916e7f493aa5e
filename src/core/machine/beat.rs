//! The heartbeat: when the path is asked, in which family, and what spares the question.

use std::net::SocketAddr;

use super::*;

/// A heartbeat due within this part of `interval` is sent now: a look of its own would cost more.
const SOON: u32 = 10;

impl Core {
    /// Looks at everything each `interval`. When a heartbeat is due, by what is known, the kernel is
    /// asked what tailscaled has heard. After a sign the path itself is asked, whatever was heard.
    pub(super) fn look_and_beat(&mut self, now: Time) {
        if self.beat_at.min(self.look_at) > now {
            return;
        }
        let interval = self.policy.interval;
        let soon = now + interval / SOON;
        let (look, beat) = (self.look_at <= soon, self.beat_at <= soon);
        if look {
            self.look_at = now + interval;
            self.out.push(Action::Look(Look::All));
            // While nothing is under way, connections are read with this look only.
            self.out.push(Action::Look(Look::Pulse));
        } else {
            self.out.push(Action::Look(Look::Paths));
        }
        if !beat {
            return;
        }
        self.beat_at = now + interval;
        self.out.push(Action::Look(Look::Beat));
        if std::mem::take(&mut self.sign_of_idle) && self.suspicion.is_none() {
            for f in Family::BOTH {
                if self.k.path(f).route.is_some() {
                    self.ask_path(now, f);
                }
            }
        }
    }

    /// Data that came by itself proves the path as an answer does. Asks the families that were not
    /// proved lately, and sets when the next heartbeat is due.
    pub(super) fn beat(&mut self, now: Time, heard: &[Heard]) {
        if self.sign_of_idle || self.suspicion.is_some() {
            // A path that is being asked because of a sign needs no heartbeat.
            return;
        }
        for h in heard {
            if let Some(at) = self.k.proof(now, h) {
                self.take_proof(at, h);
            }
        }
        let soon = now + self.policy.interval / SOON;
        for _ in Family::BOTH {
            match self.next_beat(now) {
                Some((at, family)) if at <= soon => self.ask_path(now, family),
                _ => break,
            }
        }
        let next = self.next_beat(now).map(|(at, _)| at);
        self.beat_at = next.unwrap_or(now + self.policy.interval).max(soon);
    }

    /// When the next heartbeat is due and which family it asks, if there is a path at all.
    ///
    /// A dark uplink takes both families with it, and each question costs (tests/quiet_month.rs): an
    /// uplink that carries both is proved by either of them every `interval`, and each of them every
    /// second time, because one may die alone.
    fn next_beat(&self, now: Time) -> Option<(Time, Family)> {
        let interval = self.policy.interval;
        let shared = self.families_share();
        let patience = if shared { interval * 2 } else { interval };
        let open = |f: &Family| self.k.path(*f).judgement.verdict.is_open();
        let none_open = !self.families_in_use().any(|f| open(&f));
        let told = |f: Family| self.told_at(now, f);
        let each = self.families_in_use().map(|f| {
            // Only a question tells of a changed public address.
            let asked = self.k.path(f).asked_at + self.policy.other_interval.max(patience);
            (asked.min(told(f) + patience), f)
        });
        let speaking = || self.families_in_use().filter(|f| none_open || open(f));
        let oldest = speaking().min_by_key(|f| told(*f)).filter(|_| shared);
        let newest = speaking().map(told).max();
        let either = newest.zip(oldest).map(|(t, f)| (t + interval, f));
        each.chain(either).min()
    }

    fn ask_path(&mut self, now: Time, family: Family) {
        self.probe_path(now, family, Effort::Beat);
        let path = &mut self.k.paths[family.at()];
        path.beat_at = Some(now);
        path.asked_at = now;
    }

    /// The path of this family and its uplink are as good as having answered at `at`.
    fn take_proof(&mut self, at: Time, heard: &Heard) {
        let family = Family::of(&heard.local.ip());
        let text = format!("{} has sent tailscaled data", heard.remote);
        let path = &mut self.k.paths[family.at()].judgement;
        path.vouch(at, text.clone(), path.rtt);
        self.vouch(at, family, text);
    }

    fn families_in_use(&self) -> impl Iterator<Item = Family> + '_ {
        let used = |f: &Family| self.k.path(*f).route.is_some();
        Family::BOTH.into_iter().filter(used)
    }

    /// True when one device carries both families.
    fn families_share(&self) -> bool {
        let device = |f: Family| self.k.path(f).route.as_ref().map(|r| r.device.as_str());
        let [v4, v6] = Family::BOTH.map(device);
        v4.is_some() && v4 == v6
    }

    /// When the path of this family was last told open or not; now, while it is asked.
    fn told_at(&self, now: Time, family: Family) -> Time {
        let j = &self.k.path(family).judgement;
        match j.pending() {
            true => now,
            false => j.judged_at.unwrap_or_default(),
        }
    }
}

impl Knowledge {
    /// Connections of tailscaled to control and relays, local and remote end, on which data could
    /// prove the path of now: made since it last changed, by an address of its uplink, to somebody
    /// beyond the gateway.
    pub fn speakers(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let speaks = |f: &Flow| {
            let (local, remote) = (f.local.ip(), f.remote.ip());
            let near = |u: &Uplink| u.on_link(&remote) || u.owns(&remote);
            f.purpose != Purpose::Other
                && f.established
                && self.on_path(&local)
                && !self.epoch.doomed(f)
                && self.resends(f) == 0
                && !self.uplinks.iter().any(near)
        };
        let mut all = Vec::new();
        for f in &self.tailnet.flows {
            let ends = (f.local, f.remote);
            // One that may be for both is listed twice.
            if speaks(f) && !all.contains(&ends) {
                all.push(ends);
            }
        }
        all
    }

    /// When data proved the path of now, if what was heard does so.
    fn proof(&self, now: Time, heard: &Heard) -> Option<Time> {
        let at = now.checked_sub(heard.ago)?;
        let speaks = self.speakers().contains(&(heard.local, heard.remote));
        (speaks && at >= self.epoch.since).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample::{well, MS, NOW, S};
    use crate::core::Way;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// wan in use since 100 s, with one flow to a relay.
    fn knowledge() -> Knowledge {
        let local = address("192.0.2.2:40000");
        let way = Way {
            addresses: vec![local.ip()],
            ..Way::default()
        };
        let mut k = Knowledge {
            uplinks: vec![Uplink {
                name: "wan".into(),
                device: "eth1".into(),
                v4: Some(way),
                ..Uplink::default()
            }],
            ..Knowledge::default()
        };
        k.paths[0].route = Some(Route {
            device: "eth1".into(),
            gateway: None,
            source: Some(local.ip()),
        });
        k.tailnet.flows = vec![Flow {
            purpose: Purpose::Derp,
            local,
            remote: address("198.51.100.20:443"),
            established: true,
        }];
        k.epoch.since = Duration::from_secs(100);
        k
    }

    fn heard(k: &Knowledge, ago: u64) -> Heard {
        let flow = &k.tailnet.flows[0];
        Heard {
            local: flow.local,
            remote: flow.remote,
            ago: Duration::from_secs(ago),
        }
    }

    /// When data of `ago` seconds before 120 s proved the path.
    fn proof(k: &Knowledge, ago: u64) -> Option<Time> {
        k.proof(Duration::from_secs(120), &heard(k, ago))
    }

    #[test]
    fn data_proves_the_instant_it_came_and_not_the_path_before() {
        let k = knowledge();
        assert_eq!(proof(&k, 20), Some(Duration::from_secs(100)));
        // The path was another one, or we did not run yet.
        assert_eq!(proof(&k, 21), None);
        assert_eq!(proof(&k, 500), None);
        let other = Heard {
            remote: address("198.51.100.21:443"),
            ..heard(&k, 1)
        };
        assert_eq!(k.proof(Duration::from_secs(120), &other), None);
    }

    #[test]
    fn a_flow_that_cannot_be_trusted_proves_nothing() {
        type Spoil = fn(&mut Knowledge);
        let spoils: [Spoil; 5] = [
            |k| k.epoch = Epoch::begin(k.epoch.since, &k.tailnet.flows, true),
            |k| {
                k.resending = vec![Resending {
                    local: k.tailnet.flows[0].local,
                    remote: k.tailnet.flows[0].remote,
                    times: 1,
                }];
            },
            |k| k.uplinks[0].on_link = vec![(address("198.51.100.0:0").ip(), 24)],
            // A server on the router itself.
            |k| {
                let own = address("198.51.100.20:0").ip();
                k.uplinks[0].v4.as_mut().expect("a way").addresses.push(own);
            },
            |k| k.paths[0].route = None,
        ];
        for (n, spoil) in spoils.iter().enumerate() {
            let mut k = knowledge();
            assert!(proof(&k, 1).is_some());
            spoil(&mut k);
            assert_eq!(proof(&k, 1), None, "{n}");
        }
    }

    /// What a look at that time comes to: what is looked at, and which families are asked.
    fn looked(change: impl FnOnce(&mut Core)) -> (Vec<Look>, Vec<Family>) {
        let mut core = Core::knowing(well());
        (core.look_at, core.beat_at) = (NOW + S * 60, NOW + S * 60);
        change(&mut core);
        core.look_and_beat(NOW);
        outcome(&mut core)
    }

    fn outcome(core: &mut Core) -> (Vec<Look>, Vec<Family>) {
        let (mut looks, mut asked) = (Vec::new(), Vec::new());
        for action in core.ordered() {
            match action {
                Action::Look(look) => looks.push(look),
                Action::Probe {
                    scope: Scope::Path(f),
                    effort: Effort::Beat,
                    ..
                } => asked.push(f),
                other => panic!("{other:?}"),
            }
        }
        (looks, asked)
    }

    #[test]
    fn a_look_and_a_heartbeat_that_are_due_about_the_same_time_come_together() {
        let soon = S * 3;
        let full = || vec![Look::All, Look::Pulse];
        let at = |look: Time, beat: Time| looked(|c| (c.look_at, c.beat_at) = (look, beat)).0;
        assert_eq!(at(NOW + MS, NOW + MS), vec![]);
        assert_eq!(at(NOW, NOW + S * 60), full());
        assert_eq!(at(NOW + S * 60, NOW), [Look::Paths, Look::Beat]);
        let both = [full(), vec![Look::Beat]].concat();
        assert_eq!(at(NOW, NOW + soon), both);
        assert_eq!(at(NOW + soon, NOW), both);
        assert_eq!(at(NOW, NOW + soon + MS), full());
        assert_eq!(at(NOW + soon + MS, NOW), [Look::Paths, Look::Beat]);
        let mut core = Core::knowing(well());
        (core.look_at, core.beat_at) = (NOW, NOW);
        core.look_and_beat(NOW);
        assert_eq!((core.look_at, core.beat_at), (NOW + S * 30, NOW + S * 30));
        let mut core = Core::knowing(well());
        (core.look_at, core.beat_at) = (NOW, NOW + S * 10);
        core.look_and_beat(NOW);
        assert_eq!((core.look_at, core.beat_at), (NOW + S * 30, NOW + S * 10));
    }

    #[test]
    fn after_a_sign_of_an_idle_time_the_path_itself_is_asked() {
        let asked = |change: fn(&mut Core)| {
            let sign = |c: &mut Core| {
                c.beat_at = NOW;
                c.sign_of_idle = true;
                change(c);
            };
            looked(sign).1
        };
        assert_eq!(asked(|_| ()), Family::BOTH);
        assert_eq!(asked(|c| c.k.paths[0].route = None), [Family::V6]);
        assert_eq!(asked(|c| c.sign_of_idle = false), []);
        let suspected = |c: &mut Core| c.suspicion = Some(suspect::Suspicion::test(NOW));
        assert_eq!(asked(suspected), [], "it is being asked");
        let mut core = Core::knowing(well());
        (core.beat_at, core.sign_of_idle) = (NOW, true);
        core.look_and_beat(NOW);
        assert!(!core.sign_of_idle);
        assert_eq!(core.k.paths[0].beat_at, Some(NOW));
        assert_eq!(core.k.paths[1].asked_at, NOW);
    }

    /// A core whose paths were told at these seconds before now, and asked lately.
    fn told(ago: [u32; 2]) -> Core {
        let mut core = Core::knowing(well());
        for f in Family::BOTH {
            let path = &mut core.k.paths[f.at()];
            path.judgement.judged_at = Some(NOW - S * ago[f.at()]);
            path.asked_at = NOW - S;
        }
        core
    }

    /// When the next heartbeat is due, and whom it asks.
    fn next(change: impl FnOnce(&mut Core), ago: [u32; 2]) -> Option<(i64, Family)> {
        let mut core = told(ago);
        change(&mut core);
        let (at, family) = core.next_beat(NOW)?;
        let seconds = |t: Duration| i64::try_from(t.as_secs()).unwrap();
        Some((seconds(at) - seconds(NOW), family))
    }

    #[test]
    fn an_uplink_that_carries_both_families_is_proved_by_either() {
        let (v4, v6) = (Family::V4, Family::V6);
        // By the one that was not asked for longer; each of them every second time.
        assert_eq!(next(|_| (), [10, 20]), Some((20, v6)));
        assert_eq!(next(|_| (), [20, 10]), Some((20, v4)));
        assert_eq!(next(|_| (), [5, 50]), Some((10, v6)));
        // Each by itself where two devices carry them.
        let apart = |c: &mut Core| c.k.paths[1].route.as_mut().unwrap().device = "eth2".into();
        assert_eq!(next(apart, [10, 20]), Some((10, v6)));
        assert_eq!(next(apart, [25, 20]), Some((5, v4)));
        let alone = |c: &mut Core| c.k.paths[1].route = None;
        assert_eq!(next(alone, [10, 20]), Some((20, v4)));
        let none = |c: &mut Core| c.k.paths.iter_mut().for_each(|p| p.route = None);
        assert_eq!(next(none, [10, 20]), None);
        // One that is shut does not speak for the uplink, unless both are.
        let shut = |c: &mut Core| c.k.paths[1].judgement.verdict = Verdict::Closed;
        assert_eq!(next(shut, [10, 25]), Some((20, v4)));
        let both = |c: &mut Core| {
            shut(c);
            c.k.paths[0].judgement.verdict = Verdict::Closed;
        };
        assert_eq!(next(both, [10, 25]), Some((20, v6)));
        // One that is being asked is told now.
        let asked = |c: &mut Core| c.k.paths[1].judgement.begin(9, NOW + S, Effort::Beat);
        assert_eq!(next(asked, [10, 25]), Some((30, v4)));
    }

    #[test]
    fn what_was_heard_by_itself_is_asked_for_its_public_address_now_and_then() {
        let asked = |span: u32| {
            move |c: &mut Core| {
                c.k.paths
                    .iter_mut()
                    .for_each(|p| p.asked_at = NOW - S * span);
            }
        };
        assert_eq!(next(asked(290), [0, 0]), Some((10, Family::V4)));
        assert_eq!(next(asked(200), [0, 0]), Some((30, Family::V4)));
        // Never more often than the heartbeat itself.
        let rare = |c: &mut Core| {
            asked(50)(c);
            c.policy.other_interval = S * 10;
        };
        assert_eq!(next(rare, [0, 0]), Some((10, Family::V4)));
    }

    /// What a pulse with this news asks, and when the next heartbeat is due.
    fn beaten(core: &mut Core, heard: &[Heard]) -> (Vec<Family>, Duration) {
        core.beat(NOW, heard);
        (outcome(core).1, core.beat_at - NOW)
    }

    #[test]
    fn families_that_are_due_are_asked_and_data_spares_the_question() {
        let (v4, v6) = (Family::V4, Family::V6);
        assert_eq!(beaten(&mut told([10, 20]), &[]), (vec![], S * 20));
        assert_eq!(beaten(&mut told([40, 27]), &[]), (vec![v4], S * 30));
        assert_eq!(beaten(&mut told([26, 26]), &[]), (vec![], S * 4));
        assert_eq!(beaten(&mut told([70, 70]), &[]), (vec![v4, v6], S * 30));
        // The next comes no sooner than a look of its own is worth.
        assert_eq!(beaten(&mut told([28, 60]), &[]).0, [v6]);
        let mut core = told([27, 56]);
        core.k.epoch.since = NOW - S * 100;
        let flow = core.k.tailnet.flows[1].clone();
        let data = Heard {
            local: flow.local,
            remote: flow.remote,
            ago: S * 2,
        };
        assert_eq!(
            beaten(&mut core, std::slice::from_ref(&data)),
            (vec![], S * 4)
        );
        let judged = core.k.paths[0].judgement.judged_at;
        assert_eq!(judged, Some(NOW - S * 2));
        assert_eq!(core.k.verdict("wan", v4).unwrap().judged_at, Some(NOW - S));
        let text = "203.0.113.2:443 has sent tailscaled data";
        assert_eq!(core.k.paths[0].judgement.evidence, text);
        // Data speaks for the uplink too, where that has said nothing newer.
        core.k
            .judgement_mut(&Scope::Uplink("wan".into(), v4))
            .judged_at = None;
        core.beat(NOW, &[data]);
        assert_eq!(
            core.k.verdict("wan", v4).unwrap().judged_at,
            Some(NOW - S * 2)
        );
    }

    #[test]
    fn a_path_that_is_asked_because_of_a_sign_needs_no_heartbeat() {
        let idle = |change: fn(&mut Core)| {
            let mut core = told([70, 70]);
            core.beat_at = NOW + S * 60;
            change(&mut core);
            beaten(&mut core, &[])
        };
        let nothing = (vec![], S * 60);
        assert_eq!(idle(|c| c.sign_of_idle = true), nothing);
        let suspected = |c: &mut Core| c.suspicion = Some(suspect::Suspicion::test(NOW));
        assert_eq!(idle(suspected), nothing);
        let mut none = told([70, 70]);
        none.k.paths.iter_mut().for_each(|p| p.route = None);
        assert_eq!(beaten(&mut none, &[]), (vec![], S * 30));
    }

    #[test]
    fn speakers_are_control_and_relays_each_once() {
        let mut k = well();
        let ends = |k: &Knowledge| k.speakers().len();
        assert_eq!(ends(&k), 2);
        let twice = k.tailnet.flows[0].clone();
        k.tailnet.flows.push(Flow {
            purpose: Purpose::Derp,
            ..twice
        });
        assert_eq!(ends(&k), 2);
        k.tailnet.flows[1].purpose = Purpose::Other;
        assert_eq!(ends(&k), 1);
        k.tailnet.flows[0].established = false;
        k.tailnet.flows[2].established = false;
        assert_eq!(ends(&k), 0);
    }
}
