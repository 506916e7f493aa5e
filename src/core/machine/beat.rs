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
}
