//! The smallest router that lets the real core decide, in invented time.
//!
//! A look is answered after a millisecond and a probe after a round trip, or never where the uplink is dark.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tailover::config::Settings;
use tailover::core::signs::{Pulse, Traffic};
use tailover::core::tailnet::{Api, Backend, Flow, Purpose, Tailnet};
use tailover::core::{
    Action, By, Core, Event, Family, Finding, Input, Look, Moment, Route, Scope, Uplink, Way,
};
use tailover::daemon;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const LOOK: Duration = MS;
const ROUND_TRIP: Duration = Duration::from_millis(20);
const CONTROL: &str = "198.51.100.10:443";
const RELAY: &str = "198.51.100.20:443";

/// The core with a router of `uplinks` uplinks around it, IPv4 alone.
pub struct Router {
    pub core: Core,
    pub now: Duration,
    /// How many inputs the core was given.
    pub inputs: u32,
    /// The device that the mark was moved to, once it was.
    pub steered: Option<String>,
    uplinks: Vec<Uplink>,
    dark: bool,
    wake: Option<Duration>,
    /// What comes, by its time and in the order in which it was asked for.
    coming: BTreeMap<(Duration, u64), Input>,
    asked: u64,
}

fn address(uplink: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, uplink, 2).into()
}

impl Router {
    /// A router whose uplinks are all open, looked at and found well.
    pub fn settled(uplinks: u8) -> Router {
        let policy = daemon::policy(&Settings::default());
        let uplink = |number: u8| Uplink {
            name: format!("wan{number}"),
            aliases: vec![format!("wan{number}")],
            device: format!("eth{number}"),
            v4: Some(Way {
                addresses: vec![address(number)],
                metric: Some(10 * (u32::from(number) + 1)),
                ..Way::default()
            }),
            ..Uplink::default()
        };
        let mut router = Router {
            core: Core::new(policy),
            now: Duration::ZERO,
            inputs: 0,
            steered: None,
            uplinks: (0..uplinks).map(uplink).collect(),
            dark: false,
            wake: None,
            coming: BTreeMap::new(),
            asked: 0,
        };
        router.give(Input::Uplinks(router.uplinks.clone()));
        let what = "started".to_string();
        router.give(Input::Event(Event::Changed { what }));
        router.run(60 * S);
        router
    }

    /// The first uplink goes dark, and mwan3 says so; runs until the mark is moved.
    pub fn fail_over(&mut self) {
        self.dark = true;
        self.tell("wan0", false);
        let end = self.now + 30 * S;
        while self.steered.is_none() && self.now < end {
            self.run(10 * MS);
        }
    }

    /// One event of the uplink of that name.
    pub fn tell(&mut self, interface: &str, up: bool) {
        let (interface, source) = (interface.to_string(), "hotplug".to_string());
        let event = if up {
            Event::Up { interface, source }
        } else {
            Event::Down { interface, source }
        };
        self.give(Input::Event(event));
    }

    /// What the core reads most often: the kernel's counters.
    pub fn pulse(&self) -> Input {
        let traffic = |u: &Uplink| Traffic {
            device: u.device.clone(),
            received: self.inputs.into(),
            sent: self.inputs.into(),
        };
        Input::Pulse(Pulse {
            uplinks: self.uplinks.iter().map(traffic).collect(),
            ..Pulse::default()
        })
    }

    /// Gives one input.
    pub fn give(&mut self, input: Input) {
        self.inputs += 1;
        let moment = Moment {
            now: self.now,
            dice: self.inputs,
        };
        for action in self.core.step(moment, input) {
            self.act(action);
        }
    }

    /// Lets so much time pass, with all that comes in it.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let comes = self.coming.keys().next().map(|key| key.0);
            let due = [comes, self.wake].into_iter().flatten().min();
            let Some(at) = due.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            if comes.is_some_and(|comes| comes <= at) {
                let (_, input) = self.coming.pop_first().expect("something comes");
                self.give(input);
            } else {
                self.wake = None;
                self.give(Input::Wake);
            }
        }
    }

    fn after(&mut self, delay: Duration, input: Input) {
        self.asked += 1;
        self.coming.insert((self.now + delay, self.asked), input);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Look(Look::Pulse | Look::Beat | Look::Counters) => {
                let pulse = self.pulse();
                self.after(LOOK, pulse);
            }
            Action::Look(look) => self.look(look),
            Action::Probe { round, scope, .. } => self.probe(round, &scope),
            Action::Wake(at) => self.wake = Some(at),
            Action::Steer(Family::V4, steering) => {
                self.steered = steering.to.map(|hop| hop.device).or(self.steered.take());
            }
            _ => {}
        }
    }

    fn look(&mut self, look: Look) {
        if look == Look::All {
            let uplinks = self.uplinks.clone();
            self.after(LOOK, Input::Uplinks(uplinks));
        }
        if look != Look::Tailnet {
            let route = Route {
                device: self.uplinks[0].device.clone(),
                gateway: None,
                source: Some(address(0)),
            };
            self.after(LOOK, Input::Paths([Some(route), None]));
        }
        if look != Look::Paths {
            self.after(LOOK, Input::Tailnet(tailnet().into()));
        }
    }

    fn probe(&mut self, round: u32, scope: &Scope) {
        let uplink = match scope {
            Scope::Path(_) => Some(0),
            Scope::Uplink(name, _) => {
                let mut numbered = (0u8..).zip(&self.uplinks);
                numbered.find(|(_, u)| u.name == *name).map(|(n, _)| n)
            }
        };
        let findings = match (scope.family(), uplink) {
            (Family::V6, _) | (_, None) => vec![Finding::Nobody],
            // Its round runs into the core's own time-out.
            (Family::V4, Some(0)) if self.dark => return,
            (Family::V4, Some(number)) => vec![
                Finding::Answer {
                    by: By::Stun,
                    target: "STUN".into(),
                    rtt: ROUND_TRIP,
                    public: Some(address(number)),
                },
                Finding::Control(Ok(())),
            ],
        };
        for finding in findings.into_iter().chain([Finding::Over]) {
            let scope = scope.clone();
            let input = Input::Probed {
                round,
                scope,
                finding,
            };
            self.after(ROUND_TRIP, input);
        }
    }
}

fn tailnet() -> Tailnet {
    let flow = |purpose, port, remote: &str| Flow {
        purpose,
        local: SocketAddr::new(address(0), port),
        remote: remote.parse().expect("an address"),
        established: true,
    };
    Tailnet {
        api: Api::Answers,
        pid: Some(100),
        backend: Backend::Running,
        wanted: Some(true),
        tun: true,
        online: Some(true),
        flows: vec![
            flow(Purpose::Control, 40000, CONTROL),
            flow(Purpose::Derp, 40001, RELAY),
        ],
        ..Tailnet::default()
    }
}
