//! Time passes: what happens next, and what the acts of the core bring about.

use super::*;

impl World {
    pub(super) fn after(&mut self, delay: Duration, ev: Ev) {
        let delay = match &ev {
            Ev::Tell(Input::Event(event)) if self.unruly > 0 => {
                // Of its own dice, so that the core's do not change with it.
                self.chance = self.chance.wrapping_mul(1664525).wrapping_add(1013904223);
                let (of_100, late) = ((self.chance >> 16) % 100, MS * (self.chance >> 20));
                let again = Ev::Tell(Input::Event(event.clone()));
                match of_100 / self.unruly {
                    0 => return,
                    1 => {
                        self.seq += 1;
                        self.queue
                            .insert((self.now + delay + late, self.seq), Box::new(again));
                        delay
                    }
                    2 => delay + late,
                    _ => delay,
                }
            }
            _ => delay,
        };
        self.seq += 1;
        self.queue
            .insert((self.now + delay, self.seq), Box::new(ev));
    }

    pub(super) fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Tell(input) => self.step(input),
            Ev::Applied(f, s) => {
                self.steering[f.at_index()] = s;
                self.note_life();
                let done = Report {
                    text: "moved".into(),
                    ..Report::default()
                };
                self.step(Input::Cured {
                    cure: Cure::Steer(f),
                    result: Ok(done),
                });
                self.step(Input::Event(Event::Kernel {
                    what: "rules".into(),
                }));
            }
            Ev::Reconnect { control, derp } => self.reconnect(control, derp),
            Ev::Data => self.send_data(),
            Ev::Unheard(port) => {
                self.deaf_relay = 0;
                let same = self
                    .derp
                    .as_ref()
                    .is_some_and(|l| l.port == port && !self.carries(l));
                if same {
                    self.reconnect(false, true);
                }
            }
            Ev::Started => {
                self.held = true;
                if !self.running {
                    self.stubborn = false;
                    self.running = true;
                    self.pid += 1;
                    self.after(
                        2 * S,
                        Ev::Reconnect {
                            control: true,
                            derp: true,
                        },
                    );
                }
            }
        }
        self.note_life();
    }

    pub(super) fn step(&mut self, input: Input) {
        if matches!(
            &input,
            Input::Cured {
                cure: Cure::Restart,
                ..
            }
        ) {
            self.restarting = false;
        }
        if let Input::Tailnet(t) = &input {
            if t.api == Api::Answers {
                self.stop_known = t.backend == Backend::Stopped;
            }
        }
        self.dice = self.dice.wrapping_mul(1664525).wrapping_add(1013904223);
        let moment = Moment {
            now: self.now,
            dice: self.dice,
        };
        self.steps += 1;
        let actions = self.core.step(moment, input);
        let told: Vec<Cure> = actions
            .iter()
            .filter_map(|a| match a {
                Action::Tell(Notice::Cure { cure, .. }) => Some(*cure),
                _ => None,
            })
            .collect();
        for action in actions {
            self.judge(&action, &told);
            if let Action::Steer(f, s) = &action {
                self.ordered[f.at_index()] = s.to.as_ref().map(|hop| hop.device.clone());
            }
            self.carry_out(action);
        }
        let used = self.core.knowledge().steering[0].to.as_ref();
        if used.is_some_and(|hop| self.left.0.contains(&hop.device)) && self.now < self.left.1 {
            let text = format!("peers are kept off the uplink in use at {:?}", self.now);
            self.broken.push(text);
        }
        if *self.core.stage() == Stage::Quiet && self.core.faults().is_empty() {
            self.mild_since_health = false;
        }
    }

    #[allow(clippy::too_many_lines, reason = "one line or two for each action")]
    pub(super) fn carry_out(&mut self, action: Action) {
        match &action {
            Action::Look(look) => {
                if *look == Look::All {
                    self.after(MS, Ev::Tell(Input::Uplinks(self.uplinks())));
                }
                if matches!(look, Look::Pulse | Look::Beat | Look::Counters) {
                    let mut pulse = self.pulse();
                    pulse.heard = (*look == Look::Beat).then(|| self.heard());
                    pulse.resending = pulse.resending.filter(|_| *look == Look::Pulse);
                    self.after(Duration::ZERO, Ev::Tell(Input::Pulse(pulse)));
                    return;
                }
                if *look != Look::Tailnet {
                    let route = |f| {
                        self.path(f).filter(|_| !self.no_way).map(|i| Route {
                            device: DEVICES[i].into(),
                            gateway: None,
                            source: Some(World::address(i, f)),
                        })
                    };
                    let untold = self.v6_untold.then(|| Route {
                        device: "eth1".into(),
                        gateway: None,
                        source: None,
                    });
                    let routes = [route(Family::V4), untold.or_else(|| route(Family::V6))];
                    self.after(2 * MS, Ev::Tell(Input::Paths(routes)));
                }
                if *look != Look::Paths {
                    let delay = if self.hung { 2 * S } else { 10 * MS };
                    self.after(delay, Ev::Tell(Input::Tailnet(self.tailnet().into())));
                }
            }
            Action::Probe {
                round,
                scope,
                effort,
            } => self.probe(*round, scope, *effort),
            Action::Steer(f, s) => {
                // Later orders for the same family replace earlier ones in order of time.
                self.after(5 * MS, Ev::Applied(*f, s.clone()));
            }
            Action::Nudge => {
                self.mild_since_health = true;
                self.reconnect(false, true);
                self.cured(self.nudge_takes, Cure::Nudge);
            }
            Action::Mend => {
                self.mild_since_health = true;
                if !self.mending_fails && self.lost == Some(true) {
                    match self.chains_lost {
                        true => self.lost = Some(false),
                        false => self.make_whole(),
                    }
                }
                self.cured(20 * MS, Cure::Mend);
            }
            Action::Renew => {
                self.mild_since_health = true;
                self.control = None;
                // A new control client makes the connection to its home relay anew.
                let derp = self.renew_moves_derp;
                self.after(
                    600 * MS,
                    Ev::Reconnect {
                        control: true,
                        derp,
                    },
                );
                self.cured(20 * MS, Cure::Renew);
            }
            Action::Restart if self.restart_fails => {
                self.restarting = true;
                self.restarts.push(self.now);
                let result = Err("no new tailscaled answered".into());
                let cure = Cure::Restart;
                self.after(20 * S, Ev::Tell(Input::Cured { cure, result }));
            }
            Action::Restart => {
                self.restarting = true;
                self.make_whole();
                self.restarts.push(self.now);
                self.drop_flows();
                self.hung = false;
                self.stubborn = false;
                self.running = true;
                self.pid += 1;
                self.after(
                    3 * S,
                    Ev::Reconnect {
                        control: true,
                        derp: true,
                    },
                );
                self.cured(S, Cure::Restart);
            }
            Action::Wake(at) => self.wake = Some(*at),
            Action::Tell(n) => self.notices.push((self.now, n.clone())),
            Action::ReadPins => self.after(MS, Ev::Tell(Input::Pins(Vec::new()))),
            // The model's peers ask for a new session themselves.
            Action::PingPeers => {}
            Action::Leave(devices) => self.left = (devices.clone(), self.now + LEAVE_FOR),
            Action::Exit => {}
        }
        let small = matches!(
            action,
            Action::Look(_) | Action::Probe { .. } | Action::Wake(_) | Action::Tell(_)
        );
        if !(self.lean && small) {
            self.acts.push(Act {
                at: self.now,
                action,
            });
        }
    }

    pub(super) fn cured(&mut self, delay: Duration, cure: Cure) {
        let result = Ok(Report {
            text: "done".into(),
            ..Report::default()
        });
        self.after(delay, Ev::Tell(Input::Cured { cure, result }));
    }
}
