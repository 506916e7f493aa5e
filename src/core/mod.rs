//! The decisions, as a pure function of time and input: `Core::step(moment, input) -> actions`.
//!
//! No clock, socket, file or random source is in here. Time, results and dice come in with each
//! input; all that is to be done goes out as an [`Action`]. So a recorded history replays to the
//! same decisions, and thousands of invented ones run in a second.

pub mod budget;
pub mod diagnosis;
pub mod episode;
pub mod evidence;
pub mod fault;
mod finding;
pub mod flaws;
mod knowledge;
pub mod ladder;
mod machine;
pub mod prefix;
#[cfg(test)]
mod sample;
pub mod signs;
pub mod starts;
pub mod tailnet;
pub mod timeline;
pub mod uplink;
pub mod verdict;

pub use fault::Fault;
pub use finding::{By, Finding, Scope};
pub use knowledge::{Drilled, Knowledge, Path};
pub use ladder::Cure;
pub use machine::{Core, Stage, LEAVE_FOR};
pub use uplink::{Family, Route, Uplink, Way};
pub use verdict::{Judgement, Verdict};

use std::net::IpAddr;
use std::time::Duration;

/// Time since the daemon started, from a clock that never steps back.
pub type Time = Duration;

/// When an input came, and a random number drawn with it (for jitter).
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Time,
    pub dice: u32,
}

/// What the core needs of the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    pub allowed: ladder::Allowed,
    pub limits: budget::Limits,
    /// A better uplink must be open this long without a break before the mark goes back.
    pub hold: Duration,
    /// Events closer together than this are one.
    pub settle: Duration,
    /// Between two looks at the path in use.
    pub interval: Duration,
    /// Between two looks at the other uplinks.
    pub other_interval: Duration,
    /// A burst without any answer for this long means closed.
    pub probe_timeout: Duration,
}

/// Something that happened on the router and that may mean a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// netifd or mwan3 says that an interface went down or lost the outside.
    Down { interface: String, source: String },
    /// netifd or mwan3 says that an interface came up or reaches the outside again.
    Up { interface: String, source: String },
    /// Something else happened that may matter (an address, an unknown action).
    Changed { what: String },
    /// Kernel rules, routes, links or addresses changed: look at the path, probe only if it moved.
    Kernel { what: String },
    /// tailscaled's state may have changed: its bus or procd said so, or what it has in the kernel
    /// did.
    Tailscaled { what: String },
    /// procd said what became of tailscaled's process.
    Service(starts::Word),
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    Event(Event),
    /// The router's uplinks, the preferred first.
    Uplinks(Vec<Uplink>),
    /// The kernel's routes for tailscaled's mark, IPv4 and IPv6.
    Paths([Option<Route>; 2]),
    /// Boxed: it is by far the largest, and inputs wait in a queue.
    Tailnet(Box<tailnet::Tailnet>),
    /// One result of the probes of a round.
    Probed {
        round: u32,
        scope: Scope,
        finding: Finding,
    },
    /// Rules of ours that an earlier run left in the kernel: the device to which the mark is steered,
    /// and that on which old flows are kept.
    Adopt {
        family: Family,
        to: Option<String>,
        keep: Option<String>,
    },
    /// Restarts that earlier runs of the daemon have ordered: how long ago each was, the oldest first.
    Restarted(Vec<Duration>),
    /// What the kernel counts for nothing.
    Pulse(signs::Pulse),
    /// A cure has ended; the text says what was seen.
    Cured {
        cure: Cure,
        result: Result<Report, String>,
    },
    /// Flows of tailscaled that mwan3 holds on an uplink; none where the kernel does not tell.
    Pins(Vec<Pin>),
    /// A time that was asked for by [`Action::Wake`] has come.
    Wake,
    /// What is odd about the router, without being a fault: all of it, a sentence each.
    Warnings(Vec<String>),
    /// The owner asks to look and cure now; `force` renews even what looks well.
    Recover {
        force: bool,
    },
    Policy(Policy),
    /// The owner asks to rehearse the loss of an uplink, by its name.
    Drill {
        uplink: String,
        /// How long to stay away once the tailnet is well.
        stay: Duration,
    },
    /// The owner wants the drill to end now.
    DrillStop,
    /// The daemon is asked to end.
    Stop,
}

/// What a cure reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was done, for the log.
    pub text: String,
    /// tailscaled lacks the call (404): do not try it again in this episode.
    pub missing: bool,
    /// A peer answered a ping through the tunnel over the path of now.
    pub peer_answered: bool,
}

/// An old flow of tailscaled, and the device by which mwan3's mark on it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub device: String,
}

/// How hard to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A single datagram, while nothing reaches the outside: only an answer says anything.
    Lookout,
    /// The cheapest exchange that proves the outside.
    Beat,
    /// A burst of datagrams to several targets and nothing that costs more: because of a sign, or
    /// because the uplink is metered and not in use.
    Suspect,
    /// All targets side by side, and the control server.
    Burst,
}

/// Where the mark of one family is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// `None`: by the main table, as without tailover.
    pub to: Option<Hop>,
    /// Flows bound to this uplink's addresses stay on it until they are renewed.
    pub keep: Option<Hop>,
}

/// A default route to put into a table of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    pub device: String,
    pub way: Way,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read uplinks, paths and tailscaled; each comes back as an input.
    Look(Look),
    Probe {
        round: u32,
        scope: Scope,
        effort: Effort,
    },
    Steer(Family, Steering),
    Nudge,
    Renew,
    Mend,
    Restart,
    /// Ping peers through the tunnel, those in use first: this tailscaled is new and they do not know it yet.
    PingPeers,
    /// Read the kernel's table of connections; [`Input::Pins`] comes of it.
    ReadPins,
    /// Have peers stop sending to these devices, for a while; none: end that now.
    Leave(Vec<String>),
    /// Call again with [`Input::Wake`] at this time; replaces an earlier one.
    Wake(Time),
    Tell(Notice),
    /// All is left as it should be; end.
    Exit,
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Uplinks, paths, tailscaled.
    All,
    /// Only the kernel's routes for the mark.
    Paths,
    /// Only tailscaled.
    Tailnet,
    /// Only the kernel's counters, and the TCP connections that resend.
    Pulse,
    /// Only the kernel's counters, and when data last came on tailscaled's connections ([`Knowledge::speakers`]).
    Beat,
    /// Only the kernel's counters: the table of connections takes 10 ms where there is much memory.
    Counters,
}

/// A line for people and for ubus subscribers.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// An assessment begins.
    Trigger(String),
    Fault {
        id: &'static str,
        text: String,
        curable: bool,
    },
    Cure {
        cure: Cure,
        text: String,
    },
    /// What came of a cure.
    Done {
        cure: Cure,
        result: Result<String, String>,
    },
    /// An assessment found nothing wrong.
    Well,
    Healed {
        seconds: f64,
        text: String,
    },
    Uplink {
        name: String,
        family: Family,
        verdict: Verdict,
        evidence: String,
    },
    Waiting(String),
    /// Peers are moved off an uplink that the mark has left.
    Leaving {
        name: String,
    },
    /// A step of a drill; nothing in it is a fault.
    Drill {
        uplink: String,
        text: String,
    },
    /// Something worth a line that is no fault: an upgrade, another socket.
    Remark(String),
}
