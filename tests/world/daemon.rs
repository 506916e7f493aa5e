//! The daemon itself ends, begins anew, or is not given the CPU for a while; the router boots.

use tailover::core::Hop;

use super::*;

impl World {
    /// Killed and started again: what it asked for is answered to nobody, what it put into the kernel
    /// stays, and what it noted of its restarts is read.
    pub fn restart_daemon(&mut self) {
        self.queue
            .retain(|_, e| !matches!(**e, Ev::Tell(_) | Ev::Applied(..)));
        self.wake = None;
        self.restarting = false;
        self.mild_since_health = false;
        // Not known to this run: a tailscaled that is offline and has no flow, and was not seen online.
        self.stubborn = false;
        self.left = Default::default();
        self.core = Core::new(self.core.policy().clone());
        let ages = self.restarts.iter().map(|t| self.now - *t).collect();
        self.step(Input::Restarted(ages));
        for family in Family::BOTH {
            let left = self.steering[family.at_index()].clone();
            let device = |hop: &Hop| hop.device.clone();
            let (to, keep) = (left.to.as_ref().map(device), left.keep.as_ref().map(device));
            // What was ordered and not done is known to nobody.
            self.ordered[family.at_index()].clone_from(&to);
            if to.is_some() || keep.is_some() {
                self.step(Input::Adopt { family, to, keep });
            }
        }
        self.begin();
    }

    /// The router boots: the kernel is empty, tailscaled and the daemon begin anew, and nothing that
    /// was counted before holds.
    pub fn reboot(&mut self) {
        self.drop_flows();
        self.queue.retain(|_, e| matches!(**e, Ev::Data));
        self.steering = Default::default();
        self.restarts.clear();
        self.pid += 1;
        self.hung = false;
        self.stubborn = false;
        self.running = true;
        self.held = true;
        self.make_whole();
        self.after(
            3 * S,
            Ev::Reconnect {
                control: true,
                derp: true,
            },
        );
        self.restart_daemon();
    }

    /// The daemon does not run for so long, as on a router that is out of memory or was suspended: what
    /// happens meanwhile is heard afterwards, all at once.
    pub fn stall(&mut self, span: Duration) {
        self.now += span;
        self.send_data_now();
    }

    /// A healthy stretch in which nothing happens is passed in one step. The daemon notices it as a late
    /// wake-up. What it has asked is answered before; for what is not there is [`World::stall`].
    pub fn pass(&mut self, until: Duration) {
        for _ in 0..1000 {
            let told = self
                .queue
                .iter()
                .find(|(_, ev)| matches!(***ev, Ev::Tell(_)));
            match told.map(|(key, _)| key.0) {
                Some(at) if at < until => self.run(at.saturating_sub(self.now)),
                _ => break,
            }
        }
        self.now = self.now.max(until);
        self.send_data_now();
    }

    /// The owner asks for a look and a cure.
    pub fn recover(&mut self, force: bool) {
        self.step(Input::Recover { force });
    }

    /// How much the core holds, in characters of its own account.
    pub fn size(&self) -> usize {
        format!("{:?}{:?}", self.core.knowledge(), self.core.history()).len()
    }

    /// What happened so far is forgotten, but for its promises.
    pub fn forget(&mut self) {
        self.acts.clear();
        self.notices.clear();
    }

    pub(super) fn begin(&mut self) {
        let what = "started".into();
        self.step(Input::Uplinks(self.uplinks()));
        self.step(Input::Event(Event::Changed { what }));
    }

    /// Keepalives come whether the daemon looks or not.
    fn send_data_now(&mut self) {
        if self.data_every.is_some() {
            let carried: Vec<u16> = [&self.control, &self.derp]
                .into_iter()
                .flatten()
                .filter(|l| self.carries(l))
                .map(|l| l.port)
                .collect();
            for port in carried {
                self.data.insert(port, self.now);
            }
        }
    }
}
