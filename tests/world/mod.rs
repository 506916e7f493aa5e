//! A double of the router and the outside: a small model, driven by the real core, in invented time.
//!
//! It answers probes, looks and cures the way docs/faults.md measured them on real parts: a flow
//! lives only on the uplink whose address it has, a moved mark does not heal control, `start {}`
//! does when control answers, a restart loses the tailnet while control is down.

// Each test program uses a part of the model.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tailover::core::budget::Limits;
use tailover::core::ladder::Allowed;
use tailover::core::prefix::Prefix;
use tailover::core::signs::{Heard, Pulse, Resending, Traffic};
use tailover::core::starts::Word;
use tailover::core::tailnet::{
    Abilities, Api, Backend, Flow, Lost, Process, Purpose, Respawn, Tailnet,
};
use tailover::core::{
    Action, By, Core, Cure, Effort, Event, Family, Finding, Input, Look, Moment, Notice, Policy,
    Report, Route, Scope, Stage, Steering, Uplink, Way, LEAVE_FOR,
};

pub const MS: Duration = Duration::from_millis(1);
pub const S: Duration = Duration::from_secs(1);

const DEVICES: [&str; 2] = ["eth1", "eth2"];
const NAMES: [&str; 2] = ["wan", "wanb"];

pub fn policy() -> Policy {
    Policy {
        allowed: Allowed::ALL,
        limits: Limits {
            min: 60 * S,
            max: 3600 * S,
            per_hour: 3,
        },
        hold: 30 * S,
        settle: 200 * MS,
        interval: 30 * S,
        other_interval: 300 * S,
        probe_timeout: 2 * S,
    }
}

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

#[derive(Clone, Debug)]
struct Isp {
    alive: bool,
    portal: bool,
    carrier: bool,
    /// The families it has, and those that are dark by themselves: IPv4, IPv6.
    has: [bool; 2],
    dead: [bool; 2],
    public: u8,
    /// Counts the gateways that its DHCP server has handed out.
    lease: u8,
    /// Stretches of life, for the promises: (from, to).
    open_since: Option<Duration>,
    opened: Duration,
    last_open: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
struct Link {
    device: usize,
    family: Family,
    public: u8,
    port: u16,
}

impl Link {
    fn local(&self) -> SocketAddr {
        SocketAddr::new(World::address(self.device, self.family), self.port)
    }
}

#[derive(Clone, Debug)]
enum Ev {
    Tell(Input),
    Applied(Family, Steering),
    Reconnect { control: bool, derp: bool },
    Data,
    Started,
}

/// An act as it was ordered.
#[derive(Clone, Debug)]
pub struct Act {
    pub at: Duration,
    pub action: Action,
}

pub struct World {
    pub now: Duration,
    pub core: Core,
    pub acts: Vec<Act>,
    pub notices: Vec<(Duration, Notice)>,
    /// Broken promises, in words.
    pub broken: Vec<String>,
    isps: [Isp; 2],
    control_up: bool,
    /// From the question to the control server's answer.
    pub control_delay: Duration,
    /// The router's resolver answers.
    pub names_up: bool,
    /// The uplink that costs by volume.
    pub metered: Option<usize>,
    /// The first uplink is a tunnel that has main's default by halves, so the order has it last.
    pub tunnel: bool,
    /// The router has an IPv6 default, and nobody is known who could be asked over it.
    pub v6_untold: bool,
    last_control: Duration,
    steering: [Steering; 2],
    /// Devices that peers are kept off, and until when the kernel does so.
    pub left: (Vec<String>, Duration),
    running: bool,
    hung: bool,
    unhung: Option<Duration>,
    pub how_hung: Hung,
    hung_at: Duration,
    /// The restart script fails, and the hung process stays.
    pub restart_fails: bool,
    /// LocalAPI answers each question with this refusal.
    pub refuses: Option<String>,
    /// What procd would do about a tailscaled that has ended.
    pub respawn: Respawn,
    /// procd holds an instance of the service.
    held: bool,
    /// Files that name tailscale, found with the next process.
    pub hands: Vec<String>,
    pub debug: Option<bool>,
    user_stopped: Option<Duration>,
    /// The core was told that the user stopped Tailscale.
    stop_known: bool,
    pid: u32,
    ports: u16,
    control: Option<Link>,
    derp: Option<Link>,
    control_lost: Option<Duration>,
    restarting: bool,
    queue: BTreeMap<(Duration, u64), Ev>,
    seq: u64,
    wake: Option<Duration>,
    dice: u32,
    restarts: Vec<Duration>,
    mild_since_health: bool,
    only_restart: bool,
    /// From the order of a nudge to its report: it waits for peers.
    pub nudge_takes: Duration,
    /// A peer pings this router four times a second.
    pub peer_talks: bool,
    /// Control and relay send something so often by themselves, on the flow that is carried.
    pub data_every: Option<Duration>,
    /// One more flow of tailscaled's, on which data came a second ago whenever that is asked.
    pub spare: Option<Flow>,
    /// What needs no gateway on wan.
    pub on_link: Vec<Prefix>,
    /// A segment of control's is resent twice, for a reason of its own.
    pub resends: bool,
    /// When data last came, by the port of the flow.
    data: BTreeMap<u16, Duration>,
    counted: Counted,
    /// What the kernel has lost of tailscaled's: whether that can be mended.
    lost: Option<bool>,
    /// Firewall chains are lost with it, which a mending leaves as they are.
    pub chains_lost: bool,
    /// When nothing was lost any more.
    whole_since: Option<Duration>,
    /// Mending puts nothing back (the kernel refuses).
    pub mending_fails: bool,
    /// Just now the kernel has no way for the mark.
    pub no_way: bool,
    /// Until when a drill that was asked for may go back without the hold.
    drill_until: Duration,
}

/// The kernel's packet counters, and when they were brought up to date.
#[derive(Clone, Debug, Default)]
struct Counted {
    at: Duration,
    devices: [Traffic; 2],
    tunnel: Traffic,
}

impl World {
    pub fn new(policy: Policy, dice: u32) -> World {
        let isp = Isp {
            alive: true,
            portal: false,
            carrier: true,
            has: [true, false],
            dead: [false; 2],
            public: 1,
            lease: 0,
            open_since: Some(Duration::ZERO),
            opened: Duration::ZERO,
            last_open: None,
        };
        let only_restart = policy.allowed.restart && !policy.allowed.renew;
        let mut w = World {
            now: Duration::ZERO,
            core: Core::new(policy),
            acts: vec![],
            notices: vec![],
            broken: vec![],
            isps: [isp.clone(), isp],
            control_up: true,
            control_delay: 90 * MS,
            names_up: true,
            metered: None,
            tunnel: false,
            v6_untold: false,
            last_control: Duration::ZERO,
            steering: Default::default(),
            left: Default::default(),
            running: true,
            hung: false,
            unhung: None,
            how_hung: Hung::default(),
            hung_at: Duration::ZERO,
            restart_fails: false,
            refuses: None,
            respawn: Respawn::After(5 * S),
            held: true,
            hands: vec![],
            debug: Some(true),
            user_stopped: None,
            stop_known: false,
            pid: 100,
            ports: 40000,
            control: None,
            derp: None,
            control_lost: None,
            restarting: false,
            queue: BTreeMap::new(),
            seq: 0,
            wake: None,
            dice,
            restarts: vec![],
            nudge_takes: 50 * MS,
            peer_talks: false,
            data_every: None,
            spare: None,
            on_link: vec![],
            resends: false,
            data: BTreeMap::new(),
            counted: Counted::default(),
            mild_since_health: false,
            only_restart,
            lost: None,
            chains_lost: false,
            whole_since: None,
            mending_fails: false,
            no_way: false,
            drill_until: Duration::ZERO,
        };
        w.reconnect(true, true);
        let start = Event::Changed {
            what: "started".into(),
        };
        w.step(Input::Uplinks(w.uplinks()));
        w.step(Input::Event(start));
        w
    }

    /// Runs for `span`.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        // Bounded: a machine that spins is a defect of its own.
        for _ in 0..2_000_000 {
            let event = self.queue.keys().next().copied();
            let at = [event.map(|k| k.0), self.wake]
                .into_iter()
                .flatten()
                .min()
                .filter(|t| *t <= end);
            let Some(at) = at else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            if event.is_some_and(|k| k.0 <= at) {
                let (_, ev) = self.queue.pop_first().expect("a first key was seen");
                self.happen(ev);
            } else {
                self.wake = None;
                self.step(Input::Wake);
            }
        }
        self.broken.push(format!("busy loop at {:?}", self.now));
        self.now = end;
    }

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
                self.isps[uplink].public = self.isps[uplink].public.wrapping_add(1)
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

    /// What was lost is there again by another hand than ours.
    pub fn find_again(&mut self) {
        self.make_whole();
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

    /// The tailnet works: control and relay sit on flows that the path carries.
    pub fn well(&self) -> bool {
        let live = |l: &Option<Link>| l.as_ref().is_some_and(|l| self.carries(l));
        let whole = self.lost.is_none();
        self.running && !self.hung && whole && live(&self.control) && live(&self.derp)
    }

    pub fn steered(&self) -> bool {
        self.steering
            .iter()
            .any(|s| s.to.is_some() || s.keep.is_some())
    }

    pub fn cures(&self) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(|a| {
            matches!(
                a.action,
                Action::Steer(..) | Action::Nudge | Action::Renew | Action::Mend | Action::Restart
            )
        })
    }

    pub fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.acts.iter().filter(|a| which(&a.action)).count()
    }

    // ---- the router --------------------------------------------------------------------------

    /// Gives each uplink the families it has (IPv4, IPv6) and has the core look at them.
    pub fn families(&mut self, has: [[bool; 2]; 2]) {
        for (isp, has) in self.isps.iter_mut().zip(has) {
            isp.has = has;
        }
        self.drop_flows();
        self.reconnect(true, true);
        self.murmur();
    }

    /// The local address of control's flow, while there is one.
    pub fn control_from(&self) -> Option<IpAddr> {
        let link = self.control.as_ref()?;
        Some(World::address(link.device, link.family))
    }

    /// Where control and relay are.
    fn server(family: Family) -> SocketAddr {
        let text = match family {
            Family::V4 => "198.51.100.10:443",
            Family::V6 => "[2001:db8:100::10]:443",
        };
        text.parse().expect("an address")
    }

    /// The router's address on an uplink.
    pub fn address(device: usize, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([192, 0, 2, [2, 66][device]]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, device as u16 + 1, 0, 0, 0, 0, 2]),
        }
    }

    fn uplinks(&self) -> Vec<Uplink> {
        let is_tunnel = |i| self.tunnel && i == 0;
        let mut uplinks: Vec<Uplink> = (0..2)
            .filter(|i| self.isps[*i].carrier)
            .map(|i| Uplink {
                on_link: match i {
                    0 => self.on_link.clone(),
                    _ => vec![],
                },
                name: NAMES[i].into(),
                aliases: vec![NAMES[i].into()],
                device: DEVICES[i].into(),
                v4: self.isps[i].has[0].then(|| Way {
                    gateway: Some(IpAddr::from([192, 0, 2, [1, 65][i] + self.isps[i].lease])),
                    addresses: vec![World::address(i, Family::V4)],
                    metric: Some([10, 20][i]),
                    sliced: is_tunnel(i),
                    ..Way::default()
                }),
                v6: self.isps[i].has[1].then(|| Way {
                    addresses: vec![World::address(i, Family::V6)],
                    metric: Some([10, 20][i]),
                    ..Way::default()
                }),
                metered: self.metered == Some(i),
                vpn: is_tunnel(i),
            })
            .collect();
        uplinks.sort_by_key(|u| u.vpn);
        uplinks
    }

    /// The device of a packet with the mark.
    fn path(&self, family: Family) -> Option<usize> {
        let f = family.at_index();
        let has = |i: &usize| self.isps[*i].carrier && self.isps[*i].has[f];
        let steered = self.steering[f]
            .to
            .as_ref()
            .and_then(|h| DEVICES.iter().position(|d| *d == h.device))
            .filter(has);
        steered.or_else(|| (0..2).find(has))
    }

    /// An uplink gets out, by at least one family.
    fn open(&self, device: usize) -> bool {
        Family::BOTH.into_iter().any(|f| self.opens(device, f))
    }

    fn opens(&self, device: usize, family: Family) -> bool {
        let (i, f) = (&self.isps[device], family.at_index());
        i.alive && i.carrier && !i.portal && i.has[f] && !i.dead[f]
    }

    /// True when packets of a flow with this local address still get through.
    fn carries(&self, l: &Link) -> bool {
        let kept = self.steering[l.family.at_index()]
            .keep
            .as_ref()
            .is_some_and(|h| h.device == DEVICES[l.device]);
        (kept || self.path(l.family) == Some(l.device))
            && self.opens(l.device, l.family)
            && self.isps[l.device].public == l.public
    }

    fn note_life(&mut self) {
        for i in 0..2 {
            let open = self.open(i);
            let isp = &mut self.isps[i];
            match (open, isp.open_since) {
                // A break shorter than two looks at the uplink cannot be known.
                (true, None) => {
                    let short = isp.last_open.is_some_and(|t| self.now - t < 10 * S);
                    isp.open_since = Some(match short {
                        true => isp.opened,
                        false => self.now,
                    });
                    isp.opened = isp.open_since.unwrap_or_default();
                }
                (false, Some(_)) => {
                    isp.open_since = None;
                    isp.last_open = Some(self.now);
                }
                _ => {}
            }
        }
        if self.control.as_ref().is_some_and(|l| !self.carries(l)) || self.control.is_none() {
            self.control_lost.get_or_insert(self.now);
        } else {
            self.control_lost = None;
        }
    }

    fn reconnect(&mut self, control: bool, derp: bool) {
        if !self.running || self.hung || self.user_stopped.is_some() {
            return;
        }
        // All addresses of a server are tried side by side; whichever answers is taken.
        let way = Family::BOTH.into_iter().find_map(|f| {
            let device = self.path(f).filter(|d| self.opens(*d, f))?;
            Some((device, f))
        });
        self.ports = self.ports.wrapping_add(1).max(1024);
        let link = way.map(|(device, family)| Link {
            device,
            family,
            public: self.isps[device].public,
            port: self.ports,
        });
        if control {
            self.control = link.clone().filter(|_| self.control_up);
        }
        // Without a netmap there is no tailnet at all: measured for a restart without control.
        if derp {
            self.derp = link.filter(|_| self.control.is_some() || self.control_up || !control);
        }
        let missing_control = control && self.control.is_none();
        let missing_derp = derp && self.derp.is_none();
        if missing_control || missing_derp {
            self.after(
                2 * S,
                Ev::Reconnect {
                    control: missing_control,
                    derp: missing_derp,
                },
            );
        }
        self.note_life();
    }

    fn make_whole(&mut self) {
        self.chains_lost = false;
        if self.lost.take().is_some() {
            self.whole_since = Some(self.now);
        }
    }

    fn drop_flows(&mut self) {
        self.control = None;
        self.derp = None;
        self.queue.retain(|_, e| !matches!(e, Ev::Reconnect { .. }));
    }

    /// Counters as the kernel would show them; pings go both ways, what nobody answers is resent.
    fn pulse(&mut self) -> Pulse {
        let passed = (self.now - self.counted.at).as_millis() as u64;
        self.counted.at = self.now;
        let pings = if self.peer_talks { passed / 250 } else { 0 };
        // Peers are reached by the family that works; with none, by the one that there is.
        let by = |f: &Family| self.path(*f).is_some_and(|i| self.opens(i, *f));
        let there = |f: &Family| self.path(*f).is_some();
        let family = Family::BOTH.into_iter().find(by);
        let family = family.or_else(|| Family::BOTH.into_iter().find(there));
        let path = family.and_then(|f| self.path(f));
        let dead = family.is_some_and(|f| path.is_some_and(|i| self.isps[i].dead[f.at_index()]));
        for (i, name) in DEVICES.iter().enumerate() {
            let c = &mut self.counted.devices[i];
            c.device = (*name).into();
            if path == Some(i) {
                let alive = self.isps[i].alive && self.isps[i].carrier && !dead;
                c.sent += pings;
                c.received += if alive { pings } else { 0 };
            }
        }
        let heard = path.is_some_and(|i| self.open(i)) && self.well();
        let c = &mut self.counted.tunnel;
        c.device = "tailscale0".into();
        c.received += if heard { pings } else { 0 };
        c.sent += if heard { pings } else { 0 };
        // The kernel's pauses begin with 200 ms and double (RFC 6298).
        let server_gone = (!self.control_up).then_some(self.last_control);
        let resending = match (&self.control, self.control_lost.or(server_gone)) {
            (Some(l), Some(lost)) if self.peer_talks && self.now > lost => {
                let waits = (self.now - lost).as_secs_f64() / 0.2 + 1.0;
                vec![Resending {
                    local: SocketAddr::new(World::address(l.device, l.family), l.port),
                    remote: World::server(l.family),
                    times: waits.log2() as u32,
                }]
            }
            (Some(l), _) if self.resends => vec![Resending {
                local: l.local(),
                remote: World::server(l.family),
                times: 2,
            }],
            _ => vec![],
        };
        Pulse {
            uplinks: self.counted.devices.to_vec(),
            tunnel: Some(self.counted.tunnel.clone()),
            resending: Some(resending),
            heard: None,
            halted: self.hung && self.how_hung == Hung::Halted,
        }
    }

    /// From now on control and relay send something so often, both at once.
    pub fn keepalives(&mut self, every: Duration) {
        self.data_every = Some(every);
        self.after(every, Ev::Data);
    }

    fn send_data(&mut self) {
        let Some(every) = self.data_every else {
            return;
        };
        for link in [&self.control, &self.derp].into_iter().flatten() {
            if self.carries(link) {
                self.data.insert(link.port, self.now);
            }
        }
        self.after(every, Ev::Data);
    }

    /// When data last came on any of tailscaled's flows.
    pub fn data_came(&self) -> Option<Duration> {
        self.data.values().max().copied()
    }

    fn heard(&self) -> Vec<Heard> {
        let links = [&self.control, &self.derp].into_iter().flatten();
        let told = links.filter_map(|l| {
            Some(Heard {
                local: l.local(),
                remote: World::server(l.family),
                ago: self.now - *self.data.get(&l.port)?,
            })
        });
        let spare = self.spare.iter().map(|f| Heard {
            local: f.local,
            remote: f.remote,
            ago: S,
        });
        told.chain(spare).collect()
    }

    fn tailnet(&self) -> Tailnet {
        if !self.running {
            return Tailnet {
                api: Api::Gone,
                left_alone: (!self.held).then_some("service was stopped"),
                respawn: self.respawn.clone(),
                tun: true,
                ..Tailnet::default()
            };
        }
        if self.hung {
            return Tailnet {
                api: Api::Hung,
                pid: Some(self.pid),
                process: Some(Process {
                    halted: self.how_hung == Hung::Halted,
                    cpu: match self.how_hung {
                        Hung::Busy => self.now - self.hung_at,
                        _ => Duration::ZERO,
                    },
                    ..Process::default()
                }),
                tun: true,
                ..Tailnet::default()
            };
        }
        if let Some(why) = &self.refuses {
            return Tailnet {
                api: Api::Refuses(why.clone()),
                pid: Some(self.pid),
                tun: true,
                ..Tailnet::default()
            };
        }
        let flow = |purpose, l: &Link| Flow {
            purpose,
            local: SocketAddr::new(World::address(l.device, l.family), l.port),
            remote: World::server(l.family),
            established: true,
        };
        let stopped = self.user_stopped.is_some();
        // Self.Online stays true for about 100 s on a dead path.
        let online = self
            .control_lost
            .is_none_or(|t| self.control.is_some() && self.now - t < 100 * S);
        Tailnet {
            api: Api::Answers,
            pid: Some(self.pid),
            backend: if stopped {
                Backend::Stopped
            } else {
                Backend::Running
            },
            wanted: Some(!stopped),
            tun: true,
            hands: self.hands.clone(),
            abilities: Abilities {
                debug: self.debug,
                bus: Some(true),
            },
            online: Some(online && !stopped),
            flows: self
                .control
                .iter()
                .map(|l| flow(Purpose::Control, l))
                .chain(self.derp.iter().map(|l| flow(Purpose::Derp, l)))
                .chain(self.spare.clone())
                .collect(),
            lost: self.lost.map_or_else(Lost::default, |mendable| Lost {
                what: vec!["table 52".into()],
                mendable,
            }),
            ..Tailnet::default()
        }
    }

    fn say(&mut self, uplink: usize, up: bool, after_ms: u16) {
        let (interface, source) = (NAMES[uplink].to_string(), "mwan3".to_string());
        let event = match up {
            true => Event::Up { interface, source },
            false => Event::Down { interface, source },
        };
        let input = Input::Event(event);
        self.after(MS * u32::from(after_ms), Ev::Tell(input));
    }

    // ---- time and events ---------------------------------------------------------------------

    fn after(&mut self, delay: Duration, ev: Ev) {
        self.seq += 1;
        self.queue.insert((self.now + delay, self.seq), ev);
    }

    fn happen(&mut self, ev: Ev) {
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
            Ev::Started => {
                self.held = true;
                if !self.running {
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

    fn step(&mut self, input: Input) {
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
        for action in self.core.step(moment, input) {
            self.judge(&action);
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

    fn carry_out(&mut self, action: Action) {
        match &action {
            Action::Look(look) => {
                if *look == Look::All {
                    self.after(MS, Ev::Tell(Input::Uplinks(self.uplinks())));
                }
                if matches!(look, Look::Pulse | Look::Beat | Look::Counters) {
                    let mut pulse = self.pulse();
                    pulse.heard = (*look == Look::Beat).then(|| self.heard());
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
                self.after(
                    600 * MS,
                    Ev::Reconnect {
                        control: true,
                        derp: false,
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
            Action::Leave(devices) => self.left = (devices.clone(), self.now + LEAVE_FOR),
            Action::Exit => {}
        }
        self.acts.push(Act {
            at: self.now,
            action,
        });
    }

    fn cured(&mut self, delay: Duration, cure: Cure) {
        let result = Ok(Report {
            text: "done".into(),
            ..Report::default()
        });
        self.after(delay, Ev::Tell(Input::Cured { cure, result }));
    }

    fn probe(&mut self, round: u32, scope: &Scope, effort: Effort) {
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
                Ev::Tell(Input::Probed {
                    round,
                    scope,
                    finding,
                }),
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
            let control = match self.control_up {
                true => Ok(()),
                false => Err("connection refused".to_string()),
            };
            tell(self.control_delay, Finding::Control(control));
        }
        tell(self.control_delay + 10 * MS, Finding::Over);
    }

    // ---- the promises ------------------------------------------------------------------------

    fn judge(&mut self, action: &Action) {
        let recently =
            |t: Option<Duration>, span: Duration| t.is_some_and(|t| self.now - t <= span);
        let outside = (0..2).any(|i| self.open(i) || recently(self.isps[i].last_open, 20 * S));
        let cure = match action {
            Action::Nudge | Action::Renew | Action::Restart => true,
            // A way that is only brought up to date, as with a new gateway, is no move.
            Action::Steer(f, s) => {
                let device = |s: &Steering| s.to.as_ref().map(|h| h.device.clone());
                s.to.is_some() && device(s) != device(&self.steering[f.at_index()])
            }
            _ => false,
        };
        let mut found: Vec<&str> = Vec::new();
        let mut broken = |what| found.push(what);
        if cure && !outside {
            broken("promise 1: a cure while no uplink reaches the outside");
        }
        let stopped = self.user_stopped.is_some() && self.stop_known;
        if matches!(action, Action::Nudge | Action::Renew | Action::Restart) && stopped {
            broken("promise 1: a cure although the user stopped Tailscale");
        }
        match action {
            Action::Mend if stopped => broken("promise 1: mended although the user stopped it"),
            // A look is 10 ms old when its word is heard.
            Action::Mend if self.lost.is_none() && !recently(self.whole_since, S) => {
                broken("mended although nothing is lost");
            }
            Action::Restart => {
                // A look at a silent tailscaled takes 2 s; its recovery is known after that.
                let alive = self.running && !self.hung && !recently(self.unhung, 5 * S);
                let control = self.control_up || self.now - self.last_control <= 10 * S;
                if alive && !control {
                    broken("promise 1: a restart while the control server is down");
                }
                let unmendable = self.lost == Some(false) || recently(self.whole_since, 40 * S);
                if alive && !self.mild_since_health && !self.only_restart && !unmendable {
                    broken("promise 2: a restart before a milder cure");
                }
                let limits = self.core.policy().limits.clone();
                let hour = 3600 * S;
                if self.restarting {
                    broken("promise 3: two restarts at once");
                }
                let recent = self
                    .restarts
                    .iter()
                    .filter(|t| self.now - **t < hour)
                    .count();
                if recent >= limits.per_hour as usize {
                    broken("promise 3: more restarts in an hour than allowed");
                }
                if self
                    .restarts
                    .last()
                    .is_some_and(|t| self.now - *t < limits.min)
                {
                    broken("promise 3: no pause between two restarts");
                }
            }
            Action::Steer(f, s) => {
                // Back to the better uplink while the other still works: only after the hold.
                let from = self.steering[f.at_index()]
                    .to
                    .as_ref()
                    .map(|h| h.device.as_str());
                let to = match &s.to {
                    Some(hop) => hop.device.as_str(),
                    None => (0..2)
                        .find(|i| self.isps[*i].carrier)
                        .map_or("", |i| DEVICES[i]),
                };
                let back = from == Some("eth2") && to == "eth1";
                let hold = self.core.policy().hold;
                let stable = self.isps[0]
                    .open_since
                    .is_some_and(|t| self.now - t + S >= hold)
                    || recently(self.isps[0].last_open, S);
                if back
                    && self.open(1)
                    && self.isps[1]
                        .open_since
                        .is_some_and(|t| self.now - t > 10 * S)
                    && !stable
                    && !(self.now <= self.drill_until && self.open(0))
                {
                    broken("promise 7: back to an uplink that was not stable");
                }
            }
            _ => {}
        }
        for what in found {
            let text = format!("{what} at {:?}: {action:?}", self.now);
            self.broken.push(text);
        }
    }
}

/// The core keeps its indices to itself; the model needs its own.
trait AtIndex {
    fn at_index(self) -> usize;
}
impl AtIndex for Family {
    fn at_index(self) -> usize {
        match self {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }
}
