//! What the core knows of tailscaled: its state, and which of its flows are fresh.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Time;

/// How LocalAPI behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// Not asked yet.
    #[default]
    Unknown,
    Answers,
    /// No socket, or nobody listens on it.
    Gone,
    /// It accepts a connection and says nothing in time (SIGSTOP, deadlock).
    Hung,
    /// It answers with an error; the text says which.
    Refuses(String),
}

/// tailscaled's own state (ipn.State).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    #[default]
    Unknown,
    NoState,
    NeedsLogin,
    NeedsMachineAuth,
    Stopped,
    Starting,
    Running,
}

/// What a TCP flow of tailscaled is for, by its remote address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Control,
    Derp,
    Other,
}

/// One TCP flow of tailscaled (from /proc/net/tcp and its file descriptors).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub purpose: Purpose,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub established: bool,
}

/// What the kernel does not hold any more of what tailscaled put there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// What is missing or at the wrong place, in words; empty when nothing is.
    pub what: Vec<String>,
    /// It can be put back as tailscaled had it, or all of it but firewall chains can.
    pub mendable: bool,
}

/// What the kernel says of tailscaled's process, whether that answers or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Stopped by a signal or a debugger: it cannot answer anything.
    pub halted: bool,
    /// One of its threads runs, or waits for the CPU or a disk, just now.
    pub at_work: bool,
    /// CPU time that it has used since its start.
    pub cpu: Duration,
    /// Since its start.
    pub age: Duration,
    /// Its program file was replaced since (an upgrade that needs a restart).
    pub replaced: bool,
}

/// What procd means to do about a tailscaled that does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Respawn {
    /// Nobody says.
    #[default]
    Unknown,
    /// It is started again so long after its end.
    After(Duration),
    /// It has ended too often; nobody starts it again.
    GaveUp,
}

/// What this build of tailscaled has. Asked once for each process, never guessed by its version;
/// `None` as long as that gave no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// LocalAPI's debug actions, which a nudge needs.
    pub debug: Option<bool>,
    /// LocalAPI's bus.
    pub bus: Option<bool>,
}

/// One look at tailscaled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tailnet {
    pub api: Api,
    pub pid: Option<u32>,
    pub backend: Backend,
    /// Why a tailscaled that does not run is left alone: somebody stopped the service, or nobody
    /// says that it should run. `None` means that its supervisor wants it to run.
    pub left_alone: Option<&'static str>,
    /// Of a tailscaled that does not run and is not left alone.
    pub respawn: Respawn,
    pub process: Option<Process>,
    /// Its bus said something since the look before.
    pub spoke: bool,
    pub abilities: Abilities,
    /// As tailscaled says it, `1.102.2-t0123abcd`; empty while it does not answer.
    pub version: String,
    /// The LocalAPI socket in use, when it is not the one that is configured.
    pub elsewhere: Option<String>,
    /// Files on the router that name tailscale and may restart it. Looked for when the process has
    /// changed, else empty.
    pub hands: Vec<String>,
    /// The user wants Tailscale up (`prefs`); `None` when it could not be read.
    pub wanted: Option<bool>,
    pub logged_out: bool,
    pub key_expired: bool,
    /// False with `--tun=userspace-networking`: tailscaled then sets no mark at all.
    pub tun: bool,
    /// `Self.Online`: a map poll is open. Stays true for 76-110 s on a dead path.
    pub online: Option<bool>,
    /// Code of the home relay's region (`Self.Relay`); empty without one.
    pub relay: String,
    pub flows: Vec<Flow>,
    pub lost: Lost,
}

/// The stretch since the path last changed. Flows that are older than it are stale.
///
/// The path changes when the kernel's route for the mark does, when the router's address on it
/// does, when we move the mark, or when the ISP gives another public address.
#[derive(Clone, Debug, Default)]
pub struct Epoch {
    pub since: Time,
    /// Flows that already existed when the path changed under them without another local address.
    doomed: Vec<(SocketAddr, SocketAddr)>,
    /// DERP was connected when the path changed, so it should be again.
    pub had_derp: bool,
    pub had_control: bool,
    /// A peer answered a ping through the tunnel since.
    pub peer_answered: bool,
}

impl Epoch {
    /// A new stretch. With `doom` all flows of now count as stale whatever their address.
    pub fn begin(now: Time, flows: &[Flow], doom: bool) -> Epoch {
        let has = |p| flows.iter().any(|f| f.purpose == p);
        Epoch {
            since: now,
            doomed: match doom {
                true => flows.iter().map(|f| (f.local, f.remote)).collect(),
                false => Vec::new(),
            },
            had_derp: has(Purpose::Derp),
            had_control: has(Purpose::Control),
            peer_answered: false,
        }
    }

    /// Also counts the flows of now with that local address as stale: two uplinks have it, and the
    /// path went from the one to the other.
    pub fn doom(&mut self, flows: &[Flow], address: IpAddr) {
        let there = flows.iter().filter(|f| f.local.ip() == address);
        self.doomed.extend(there.map(|f| (f.local, f.remote)));
    }

    /// True when `flow` cannot have been made since the path changed.
    pub fn doomed(&self, flow: &Flow) -> bool {
        self.doomed.contains(&(flow.local, flow.remote))
    }
}

/// How the flows of one purpose stand against the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Established, with an address of the path's uplink, made since the path changed.
    pub fresh: usize,
    /// Local address of one that is stale.
    pub stale: Option<IpAddr>,
    /// Remote address of one whose segments are resent again and again, and how often. It is not
    /// counted as fresh.
    pub unheard: Option<(SocketAddr, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample::{flow, well, S};

    #[test]
    fn a_new_stretch_remembers_which_connections_there_were() {
        let control = flow(Purpose::Control, "192.0.2.18:1");
        let relay = flow(Purpose::Derp, "192.0.2.18:2");
        for (flows, had) in [
            (vec![], [false, false]),
            (vec![control.clone()], [true, false]),
            (vec![relay.clone()], [false, true]),
            (vec![control, relay], [true, true]),
        ] {
            let epoch = Epoch::begin(S, &flows, false);
            assert_eq!([epoch.had_control, epoch.had_derp], had);
            assert_eq!((epoch.since, epoch.peer_answered), (S, false));
            assert!(!flows.iter().any(|f| epoch.doomed(f)));
            let epoch = Epoch::begin(S, &flows, true);
            assert!(flows.iter().all(|f| epoch.doomed(f)));
        }
    }

    #[test]
    fn the_flows_of_one_address_are_doomed_alone() {
        let mut flows = well().tailnet.flows;
        flows.push(flow(Purpose::Control, "192.0.2.34:5001"));
        let mut epoch = Epoch::default();
        epoch.doom(&flows, flows[0].local.ip());
        let doomed: Vec<bool> = flows.iter().map(|f| epoch.doomed(f)).collect();
        assert_eq!(doomed, [true, true, false]);
        // Another port is another flow.
        let mut later = flows[0].clone();
        later.local.set_port(5009);
        assert!(!epoch.doomed(&later));
    }
}
