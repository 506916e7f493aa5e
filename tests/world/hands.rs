//! What other hands than the daemon's do to the world: break it in more ways than a fault, and mend it.

use super::*;

impl World {
    /// What was lost is there again by another hand than ours.
    pub fn find_again(&mut self) {
        self.make_whole();
    }

    /// Large packets are lost on that uplink, or pass again. The control server's own handshake is small enough to
    /// be answered; what tailscaled says in its own is not.
    pub fn narrow(&mut self, uplink: usize, on: bool) {
        let since = self.isps[uplink].narrow.unwrap_or(self.now);
        self.isps[uplink].narrow = on.then_some(since);
        self.isps[uplink].wide = (!on).then_some(self.now);
    }

    /// The kernel has no way for the mark, or has one again.
    pub fn lose_way(&mut self, on: bool) {
        if self.no_way && !on {
            self.way_again = Some(self.now);
        }
        self.no_way = on;
    }

    /// The clock jumps back before the certificates' start, or is right again.
    pub fn set_clock(&mut self, behind: bool) {
        if self.reachable() {
            self.last_control = self.now;
        }
        self.clock_behind = behind;
    }

    /// The control server's connection is reset; tailscaled tries to make a new one.
    pub fn cut_control(&mut self) {
        self.control = None;
        self.control_lost = Some(self.now.saturating_sub(100 * S));
        self.reconnect(true, false);
    }

    /// A hung tailscaled goes on as if nothing had been (SIGCONT).
    pub fn go_on(&mut self) {
        if std::mem::take(&mut self.hung) {
            self.unhung = Some(self.now);
            // What it would have tried meanwhile it tries now.
            let (control, derp) = (self.control.is_none(), self.derp.is_none());
            self.after(S, Ev::Reconnect { control, derp });
            self.note_life();
        }
    }

    /// Another hand restarts tailscaled, and procd says so. Its stop takes the instance away.
    pub fn restart_by_hand(&mut self) {
        self.stop_service();
        self.after(S, Ev::Started);
        self.after(S, Ev::Tell(Input::Event(Event::Service(Word::Started))));
    }

    /// Somebody stops the service: procd holds no instance of it any more.
    pub fn stop_service(&mut self) {
        self.drop_flows();
        self.running = false;
        self.held = false;
    }

    /// tailscaled ends by itself, and procd says what it does about that.
    pub fn end_by_itself(&mut self) {
        self.running = false;
        self.drop_flows();
        let word = match self.respawn {
            Respawn::After(delay) => {
                self.after(delay, Ev::Started);
                self.after(delay, Ev::Tell(Input::Event(Event::Service(Word::Started))));
                Word::Ended
            }
            _ => Word::GaveUp,
        };
        self.step(Input::Event(Event::Service(word)));
    }

    /// Another hand takes our rules away.
    pub fn flush_rules(&mut self) {
        self.steering = Default::default();
        let what = "a rule is gone".to_string();
        self.after(MS, Ev::Tell(Input::Event(Event::Kernel { what })));
    }

    /// Something happens that concerns no uplink.
    pub fn murmur(&mut self) {
        let what = "something".to_string();
        self.step(Input::Event(Event::Changed { what }));
    }

    /// Somebody on the router says something now.
    pub fn tell(&mut self, event: Event) {
        self.step(Input::Event(event));
    }

    /// Everything that can be put right by others is put right.
    pub fn mend_all(&mut self) {
        self.refuses = None;
        self.names_up = true;
        self.lose_way(false);
        self.restart_fails = false;
        self.mending_fails = false;
        self.resends = false;
        self.set_clock(false);
        for isp in &mut self.isps {
            isp.dead = [false; 2];
            if isp.narrow.take().is_some() {
                isp.wide = Some(self.now);
            }
        }
        for uplink in 0..2 {
            self.inject(Fault::Carrier { uplink, up: true });
            self.inject(Fault::Back {
                uplink,
                told: Some(5000),
            });
        }
        self.inject(Fault::Control { up: true });
        if self.user_stopped.is_some() {
            self.inject(Fault::UserStarts);
        }
    }

    /// A person does what the daemon may not do, or cannot: starts a service that was stopped, and where
    /// restarts are not allowed restarts tailscaled.
    pub fn mend_by_hand(&mut self) {
        self.mend_all();
        let policy = self.core.policy();
        let forbidden = !policy.allowed.restart || policy.limits.per_hour == 0;
        let ill = self.hung || self.stubborn || self.lost.is_some() || !self.well();
        if !self.held || !self.running || ((forbidden || !self.known()) && ill) {
            self.hung = false;
            self.make_whole();
            self.restart_by_hand();
        }
    }
}
