//! What can happen to the world.

use super::*;

/// What can happen to the world. Uplinks by number: 0 is wan, 1 is wanb.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The ISP is dark, the link stays up; `told` is what mwan3 takes to say so, if it does.
    Dark {
        uplink: usize,
        told: Option<u16>,
    },
    Back {
        uplink: usize,
        told: Option<u16>,
    },
    Portal {
        uplink: usize,
    },
    Carrier {
        uplink: usize,
        up: bool,
    },
    NewPublic {
        uplink: usize,
    },
    /// The DHCP server hands out another gateway; the kernel tells of the new default.
    NewGateway {
        uplink: usize,
    },
    /// One family of an uplink is dark, the other goes on.
    Half {
        uplink: usize,
        family: Family,
        dead: bool,
    },
    Control {
        up: bool,
    },
    UserStops,
    UserStarts,
    Crash,
    Hang,
    /// Another hand takes tailscaled's routes (mendable) or its place among the rules (not).
    Lose {
        mendable: bool,
    },
    /// The owner rehearses the loss of that uplink, and stays away for `stay` seconds.
    Drill {
        uplink: usize,
        stay: u8,
    },
    DrillStop,
}

/// How a tailscaled that does not answer spends its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hung {
    /// Deadlocked: alive, and at rest.
    #[default]
    Deadlock,
    /// Stopped by SIGSTOP.
    Halted,
    /// Working without a pause.
    Busy,
}

impl World {
    pub fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::Dark { uplink, told } => {
                self.isps[uplink].alive = false;
                if let Some(ms) = told {
                    self.say(uplink, false, ms);
                }
            }
            Fault::Back { uplink, told } => {
                self.isps[uplink].alive = true;
                self.isps[uplink].portal = false;
                if let Some(ms) = told {
                    self.say(uplink, true, ms);
                }
            }
            Fault::Portal { uplink } => self.isps[uplink].portal = true,
            Fault::Carrier { uplink, up } => {
                self.isps[uplink].carrier = up;
                self.say(uplink, up, 30);
            }
            Fault::NewPublic { uplink } => {
                let seen = &self.core.knowledge().tailnet.flows;
                let relay = self.derp.as_ref().filter(|l| l.device == uplink);
                let unseen = relay.filter(|l| !seen.iter().any(|f| f.local == l.local()));
                self.unknown_relay = unseen.map_or(self.unknown_relay, |l| l.port);
                self.isps[uplink].public = self.isps[uplink].public.wrapping_add(1);
            }
            Fault::NewGateway { uplink } => {
                self.isps[uplink].lease += 1;
                let what = "IPv4 default route in table 254".to_string();
                self.after(MS, Ev::Tell(Input::Event(Event::Kernel { what })));
            }
            Fault::Half {
                uplink,
                family,
                dead,
            } => self.isps[uplink].dead[family.at_index()] = dead,
            Fault::Control { up } => {
                self.last_control = self.now;
                self.control_up = up;
            }
            Fault::UserStops if self.running && !self.hung => {
                self.user_stopped = Some(self.now);
                self.make_whole();
                let what = "Stopped".to_string();
                self.after(50 * MS, Ev::Tell(Input::Event(Event::Tailscaled { what })));
            }
            // `tailscale down` needs a tailscaled that answers.
            Fault::UserStops => {}
            Fault::UserStarts => {
                self.user_stopped = None;
                // Somebody who finds it hung kills it first.
                if std::mem::take(&mut self.hung) {
                    self.unhung = Some(self.now);
                }
                self.after(
                    S,
                    Ev::Reconnect {
                        control: true,
                        derp: true,
                    },
                );
            }
            Fault::Crash => {
                self.running = false;
                self.hung = false;
                self.make_whole();
                self.drop_flows();
                // procd's respawn
                self.after(5 * S, Ev::Started);
            }
            // Once it hangs nobody can learn what the user wants: only after a start was seen.
            Fault::Hang => {
                self.hung = self.running && !self.stop_known;
                self.hung_at = self.now;
            }
            // tailscaled puts it all there anew when it starts or is started by its user.
            Fault::Lose { mendable } if self.running && self.user_stopped.is_none() => {
                self.lost = Some(mendable && self.lost.unwrap_or(true));
                let what = "table 52".to_string();
                let tell = Ev::Tell(Input::Event(Event::Tailscaled { what }));
                self.after(400 * MS, tell);
            }
            Fault::Lose { .. } => {}
            Fault::Drill { uplink, stay } => {
                let stay = S * u32::from(stay);
                // Its limit, the acts before and after, and the way back.
                self.drill_until = self.now + stay + 120 * S;
                let uplink = NAMES[uplink].to_string();
                self.step(Input::Drill { uplink, stay });
            }
            Fault::DrillStop => self.step(Input::DrillStop),
        }
        self.note_life();
    }
}
