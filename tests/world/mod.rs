//! A double of the router and the outside: a small model, driven by the real core, in invented time.
//!
//! It answers probes, looks and cures the way docs/faults.md measured them on real parts: a flow
//! lives only on the uplink whose address it has, a moved mark does not heal control, `start {}`
//! does when control answers, a restart loses the tailnet while control is down.

// Each test program uses a part of the model.
#![allow(dead_code)]

mod daemon;
mod fault;
mod hands;
mod health;
mod probes;
mod promises;
mod router;
mod time;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use fault::{Fault, Hung};
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

/// tailscaled gives a relay up that it has not heard for so long (tailscale, derp: Client.Recv).
pub const RELAY_PATIENCE: Duration = Duration::from_secs(120);

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

#[derive(Clone, Debug)]
struct Isp {
    alive: bool,
    portal: bool,
    carrier: bool,
    /// The families it has, and those that are dark by themselves: IPv4, IPv6.
    has: [bool; 2],
    dead: [bool; 2],
    /// Since when large packets are lost, so that no handshake comes to its end.
    narrow: Option<Duration>,
    /// When they passed again.
    wide: Option<Duration>,
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
    Reconnect {
        control: bool,
        derp: bool,
    },
    Data,
    /// The relay of that port was not heard for long.
    Unheard(u16),
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
    /// Looks, probes and wake-ups are not kept among the acts.
    pub lean: bool,
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
    /// The device that each mark was last ordered to.
    ordered: [Option<String>; 2],
    /// The port of the relay whose silence is timed.
    deaf_relay: u16,
    /// The port of a relay that no look had seen when its public address went out of date. Whether it was made
    /// before or after that nobody can tell the daemon.
    unknown_relay: u16,
    /// When each family of each uplink was last seen not to get out.
    shut_at: [[Option<Duration>; 2]; 2],
    /// Of a hundred events so many are lost, as many come twice, and as many come late and out of order.
    pub unruly: u32,
    chance: u32,
    /// The router's clock is behind the certificates' start.
    pub clock_behind: bool,
    /// Inputs that the core has taken.
    pub steps: u64,
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
    /// Boxed: what waits is large, and a map moves it about.
    queue: BTreeMap<(Duration, u64), Box<Ev>>,
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
    /// A new control client and new connections bring nothing: only a restart does.
    pub stubborn: bool,
    /// A new control client makes the connection to its home relay anew.
    pub renew_moves_derp: bool,
    /// tailscaled gives a relay up after [`RELAY_PATIENCE`], as the real one does. Off in most stories, so that
    /// the daemon has to do it.
    pub gives_relays_up: bool,
    /// Just now the kernel has no way for the mark.
    pub no_way: bool,
    /// When it last had one again.
    way_again: Option<Duration>,
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
            narrow: None,
            wide: None,
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
            lean: false,
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
            stubborn: false,
            renew_moves_derp: false,
            gives_relays_up: false,
            ordered: [None, None],
            deaf_relay: 0,
            unknown_relay: 0,
            shut_at: Default::default(),
            unruly: 0,
            chance: dice,
            clock_behind: false,
            steps: 0,
            no_way: false,
            way_again: None,
            drill_until: Duration::ZERO,
        };
        w.reconnect(true, true);
        w.begin();
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
                self.happen(*ev);
            } else {
                self.wake = None;
                self.step(Input::Wake);
            }
        }
        self.broken.push(format!("busy loop at {:?}", self.now));
        self.now = end;
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
