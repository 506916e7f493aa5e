//! Looks at tailscaled: LocalAPI, process, TCP flows. Learns from it whom the probes can ask.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::{Host, Url};
use crate::core::tailnet::{Abilities, Api, Backend, Flow, Purpose, Tailnet};
use crate::net::resolve::resolve;
use crate::tailscale::localapi::{Error, LocalApi};
use crate::tailscale::process;
use crate::tailscale::types::{BackendState, Prefs};

use super::hands;
use super::lost::KernelWatch;
use super::sockets::{self, Entry, State};
use super::targets::Targets;

/// The DERP map and the control server's addresses change rarely; read again after this long. Each
/// time costs two lookups on the wire where the router's resolver has forgotten them.
const LEARN_EVERY: Duration = Duration::from_secs(1800);

/// While nothing was learnt yet, or the control server's name did not resolve.
const LEARN_SOON: Duration = Duration::from_secs(10);

/// How long a name lookup may take. It holds up nothing, so it may take long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections that were read before serve a look within this time.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Reads tailscaled and keeps what changes rarely.
pub struct TailnetWatch {
    /// With the socket in use: the configured one, unless tailscaled was found elsewhere.
    api: RefCell<LocalApi>,
    configured: PathBuf,
    /// Somebody has answered on the configured socket.
    known: Cell<bool>,
    /// The process of the last answer, and what its build has.
    pid: Cell<Option<u32>>,
    debug: Cell<Ability>,
    bus: Cell<Option<bool>>,
    /// The bus has said something since the last look.
    spoke: Cell<bool>,
    targets: Rc<RefCell<Targets>>,
    kernel: KernelWatch,
    prefs: RefCell<Option<Prefs>>,
    learnt: Cell<Option<Instant>>,
    /// What was learnt may be of no use any more.
    outdated: Cell<bool>,
    /// At the last look tailscaled had a netmap: it runs.
    runs: Cell<bool>,
    /// TCP connections as they were read for somebody else, of that process, and when.
    lent: RefCell<Option<(u32, Vec<Entry>, Instant)>>,
}

/// Whether a build can do something.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ability {
    #[default]
    NotAsked,
    /// `None`: the answer told nothing.
    Asked(Option<bool>),
}

impl TailnetWatch {
    pub fn new(api: LocalApi, targets: Rc<RefCell<Targets>>, kernel: KernelWatch) -> TailnetWatch {
        TailnetWatch {
            configured: api.socket.clone(),
            api: RefCell::new(api),
            known: Cell::new(false),
            pid: Cell::new(None),
            debug: Cell::default(),
            bus: Cell::new(None),
            spoke: Cell::new(false),
            targets,
            kernel,
            prefs: RefCell::new(None),
            learnt: Cell::new(None),
            lent: RefCell::default(),
            outdated: Cell::new(false),
            runs: Cell::new(false),
        }
    }

    /// tailscaled behind the socket in use.
    pub fn api(&self) -> LocalApi {
        self.api.borrow().clone()
    }

    /// The bus has said something, whatever it was: tailscaled lives.
    pub fn heard_bus(&self) {
        self.spoke.set(true);
    }

    /// Whether tailscaled has a bus; `None` while that is not known.
    pub fn set_bus(&self, has: Option<bool>) {
        self.bus.set(has);
    }

    pub fn has_bus(&self) -> Option<bool> {
        self.bus.get()
    }

    /// What tailscaled put into the kernel.
    pub fn kernel(&self) -> &KernelWatch {
        &self.kernel
    }

    /// One look at state, wishes, flows and what is in the kernel.
    pub async fn look(&self) -> Tailnet {
        let held = self.kernel.read().unwrap_or_else(|e| {
            log::debug!("{e}");
            None
        });
        if self.elsewhere().is_some() && process::listener(&self.configured).is_some() {
            self.api.borrow_mut().socket.clone_from(&self.configured);
        }
        let api = self.api();
        let pid = process::tailscaled(&api.socket);
        let spoke = self.spoke.take();
        let status = match api.status(false).await {
            Ok(status) => status,
            Err(e) => {
                let pid = pid.filter(|_| !matches!(e, Error::NotRunning(_)));
                return Tailnet {
                    api: api_state(&e),
                    pid,
                    tun: true,
                    process: pid.and_then(|p| process::vitals(p, true)),
                    spoke,
                    elsewhere: self.elsewhere(),
                    ..Tailnet::default()
                };
            }
        };
        if api.socket == self.configured {
            self.known.set(true);
        }
        let hands = self.meet(&api, pid).await;
        let asked = api.prefs().await.ok();
        let lost = self.kernel.judge(&api, pid, &status, asked.as_ref(), held);
        let lost = lost.await;
        if asked.is_some() {
            *self.prefs.borrow_mut() = asked;
        }
        self.runs.set(status.backend == BackendState::Running);
        let prefs = self.prefs.borrow();
        let prefs = prefs.as_ref();
        Tailnet {
            api: Api::Answers,
            pid,
            left_alone: None,
            backend: backend(status.backend),
            process: pid.and_then(|p| process::vitals(p, false)),
            spoke,
            abilities: Abilities {
                debug: match self.debug.get() {
                    Ability::Asked(has) => has,
                    Ability::NotAsked => None,
                },
                bus: self.bus.get(),
            },
            version: status.version,
            elsewhere: self.elsewhere(),
            hands,
            wanted: prefs.map(|p| p.want_running),
            logged_out: prefs.is_some_and(|p| p.logged_out),
            key_expired: status.key_expired,
            tun: status.tun,
            online: status.online,
            relay: status.relay.clone(),
            flows: pid.map(|p| self.flows(p)).unwrap_or_default(),
            lost,
            ..Tailnet::default()
        }
    }

    /// The socket in use, when it is not the configured one.
    fn elsewhere(&self) -> Option<String> {
        let socket = &self.api.borrow().socket;
        (*socket != self.configured).then(|| socket.display().to_string())
    }

    /// A new process may be another build: asks it once what it has. Gives the files that may be
    /// behind a restart.
    async fn meet(&self, api: &LocalApi, pid: Option<u32>) -> Vec<String> {
        let before = self.pid.replace(pid.or(self.pid.get()));
        let other = pid.is_some() && before != pid;
        if other {
            self.debug.set(Ability::NotAsked);
        }
        if self.debug.get() == Ability::NotAsked {
            match api.has_debug().await {
                Ok(has) => self.debug.set(Ability::Asked(Some(has))),
                // It did not get to answer.
                Err(Error::Timeout | Error::NotRunning(_)) => {}
                Err(_) => self.debug.set(Ability::Asked(None)),
            }
        }
        match other && before.is_some() {
            true => hands::suspects(Path::new("/")),
            false => Vec::new(),
        }
    }

    /// Looks for a tailscaled that listens elsewhere, when nobody is behind the configured socket,
    /// and uses that socket from then on. `kept` is the process that procd holds for the service.
    ///
    /// Without procd's word only a lone tailscaled is taken, and only where nobody ever answered on
    /// the configured socket: another one on the router may belong to another tailnet.
    pub fn find_elsewhere(&self, kept: Option<u32>) -> bool {
        let all = process::named("tailscaled");
        let lone = match all.as_slice() {
            [pid] if !self.known.get() => Some(*pid),
            _ => None,
        };
        let pid = kept.filter(|pid| all.contains(pid)).or(lone);
        let Some(socket) = pid.and_then(process::socket_of) else {
            return false;
        };
        let moved = socket != self.api.borrow().socket;
        self.api.borrow_mut().socket = socket;
        moved
    }

    /// The next look uses these connections of a process if it comes at once.
    pub fn lend(&self, pid: u32, connections: Vec<Entry>) {
        self.lent.replace(Some((pid, connections, Instant::now())));
    }

    fn flows(&self, pid: u32) -> Vec<Flow> {
        let targets = self.targets.borrow();
        let mut flows = Vec::new();
        let found = match self.lent.take() {
            Some((of, list, at)) if of == pid && at.elapsed() <= AT_ONCE => sockets::own(pid, list),
            _ => sockets::flows(pid),
        };
        for f in found.unwrap_or_default() {
            if !matches!(f.state, State::Established | State::SynSent)
                || f.remote.ip().is_loopback()
            {
                continue;
            }
            let mut add = |purpose| {
                flows.push(Flow {
                    purpose,
                    local: f.local,
                    remote: f.remote,
                    established: f.state == State::Established,
                });
            };
            let ip = f.remote.ip();
            let (control, derp) = (
                is_control(&targets, &ip, f.remote.port()),
                targets.is_derp(&ip),
            );
            // Headscale's own DERP shares the control server's address: the flow may be either.
            match (control, derp) {
                (false, false) => add(Purpose::Other),
                (c, d) => {
                    c.then(|| add(Purpose::Control));
                    d.then(|| add(Purpose::Derp));
                }
            }
        }
        flows
    }

    /// The path takes another uplink, whose resolvers may give the control server other addresses:
    /// behind a NAT64 those of its DNS64.
    pub fn moved(&self) {
        self.outdated.set(true);
        self.learnt.set(None);
    }

    /// Reads the DERP map and resolves the control server, when that is due.
    ///
    /// With a dead resolver this takes many seconds: it runs beside everything else.
    pub async fn learn(&self) {
        // The map has come with the netmap. Without it there is hardly anybody to ask, and asking for it costs nothing.
        let unknown = self.runs.get() && self.targets.borrow().derp.is_empty();
        if unknown {
            self.learn_relays().await;
        }
        let complete = {
            let t = self.targets.borrow();
            !t.derp.is_empty() && !t.control_addresses.is_empty() && !self.outdated.get()
        };
        let due = if complete { LEARN_EVERY } else { LEARN_SOON };
        if self.learnt.get().is_some_and(|t| t.elapsed() < due) {
            return;
        }
        self.learnt.set(Some(Instant::now()));
        // The path may move again meanwhile.
        let outdated = self.outdated.replace(false);
        if !unknown {
            self.learn_relays().await;
        }
        let url = self
            .prefs
            .borrow()
            .as_ref()
            .and_then(|p| control_url(&p.control_url));
        let Some(url) = url else {
            // tailscaled has not answered yet; ask at the next look.
            self.learnt.set(None);
            return;
        };
        {
            let mut t = self.targets.borrow_mut();
            if t.control.as_ref() != Some(&url) {
                t.control = Some(url.clone());
                t.control_addresses.clear();
            }
        }
        let found = match url.host {
            Host::Ip(ip) => vec![ip],
            Host::Name(name) => resolve(&name, LOOKUP_TIMEOUT).await.unwrap_or_default(),
        };
        match found.is_empty() {
            true => self.outdated.set(outdated || self.outdated.get()),
            false => self.targets.borrow_mut().control_addresses = found,
        }
    }

    async fn learn_relays(&self) {
        if let Ok(Some(map)) = self.api().derpmap().await {
            self.targets.borrow_mut().derp = map.nodes;
        }
    }
}

/// An empty ControlURL means the default server (ipn/prefs.go, DefaultControlURL).
fn control_url(text: &str) -> Option<Url> {
    match text {
        "" => Url::parse("https://controlplane.tailscale.com"),
        text => Url::parse(text),
    }
}

/// While the control server's addresses are unknown its port has to do.
fn is_control(targets: &Targets, ip: &IpAddr, port: u16) -> bool {
    match targets.control_addresses.is_empty() {
        true => !targets.is_derp(ip) && matches!(port, 80 | 443),
        false => targets.control_addresses.contains(ip),
    }
}

fn api_state(e: &Error) -> Api {
    match e {
        Error::NotRunning(_) => Api::Gone,
        Error::Timeout => Api::Hung,
        other => Api::Refuses(other.to_string()),
    }
}

fn backend(state: BackendState) -> Backend {
    match state {
        BackendState::NoState => Backend::NoState,
        BackendState::NeedsLogin => Backend::NeedsLogin,
        BackendState::NeedsMachineAuth => Backend::NeedsMachineAuth,
        BackendState::Stopped => Backend::Stopped,
        BackendState::Starting => Backend::Starting,
        BackendState::Running => Backend::Running,
        _ => Backend::Unknown,
    }
}
