//! What probes find.

use super::*;
use tailover::core::flaws::Tls;

impl World {
    pub(super) fn probe(&mut self, round: u32, scope: &Scope, effort: Effort) {
        let device = match scope {
            Scope::Uplink(name, _) => NAMES.iter().position(|n| n == name),
            Scope::Path(f) => self.path(*f),
        };
        let family = scope.family().at_index();
        let mut tell = |delay: Duration, finding: Finding| {
            let (scope, round) = (scope.clone(), round);
            self.seq += 1;
            self.queue.insert(
                (self.now + delay, self.seq),
                Box::new(Ev::Tell(Input::Probed {
                    round,
                    scope,
                    finding,
                })),
            );
        };
        let answer = |by, public| Finding::Answer {
            by,
            target: "derp".into(),
            rtt: 30 * MS,
            public,
        };
        if self.v6_untold && *scope == Scope::Path(Family::V6) {
            tell(MS, Finding::Nobody);
            tell(MS, Finding::Over);
            return;
        }
        let Some((i, isp)) = device.map(|i| (i, &self.isps[i])) else {
            tell(MS, Finding::Over);
            return;
        };
        if !isp.alive || !isp.carrier || !isp.has[family] || isp.dead[family] {
            // Silence: the round ends by its own deadline.
            return;
        }
        if effort == Effort::Lookout {
            if !isp.portal {
                tell(30 * MS, answer(By::Stun, None));
            }
            return tell(40 * MS, Finding::Over);
        }
        if isp.portal {
            tell(20 * MS, answer(By::Tcp, None));
            tell(
                40 * MS,
                Finding::Intercepted {
                    target: "derp".into(),
                    what: "a login page".into(),
                },
            );
            tell(50 * MS, Finding::Over);
            return;
        }
        let public = match scope.family() {
            Family::V4 => IpAddr::from([203, 0, 113 + i as u8, isp.public]),
            Family::V6 => World::address(i, Family::V6),
        };
        tell(30 * MS, answer(By::Stun, Some(public)));
        if effort == Effort::Burst && matches!(scope, Scope::Path(_)) {
            // A resolver that fails is waited for longer than for any other.
            match self.names_up {
                true => tell(10 * MS, Finding::Names(Ok(()))),
                false => {
                    tell(5 * S, Finding::Names(Err("no answer".into())));
                    return tell(5 * S, Finding::Over);
                }
            }
        }
        if effort == Effort::Burst {
            let control = match (self.control_up, self.clock_behind) {
                (true, false) => Ok(()),
                (true, true) => Err("the certificate is not valid yet".to_string()),
                (false, _) => Err("connection refused".to_string()),
            };
            let end = match self.clock_behind {
                true => Tls::NotYetValid { early: true },
                false => Tls::Spoken,
            };
            if let Scope::Uplink(..) = scope {
                match isp.narrow.is_some() {
                    true => tell(
                        900 * MS,
                        Finding::Large(Err("16 packets of 1400 bytes unanswered".into())),
                    ),
                    false => tell(60 * MS, Finding::Large(Ok(()))),
                }
            }
            let target = "derp".to_string();
            tell(60 * MS, Finding::Tls { target, end });
            // The uplink's own round asks it; the path's does not (src/daemon/act.rs).
            if let Scope::Uplink(..) = scope {
                tell(self.control_delay, Finding::Control(control));
            }
        }
        let end = match isp.narrow.is_some() {
            true => self.control_delay.max(S),
            false => self.control_delay,
        };
        tell(end + 10 * MS, Finding::Over);
    }
}
