//! Looks at tailscaled: LocalAPI, process, TCP flows. Learns from it whom the probes can ask.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::{Host, Url};
use crate::core::tailnet::{Api, Backend, Flow, Purpose, Tailnet};
use crate::net::resolve::resolve;
use crate::tailscale::localapi::{Error, LocalApi};
use crate::tailscale::process;
use crate::tailscale::types::{BackendState, Prefs};

use super::lost::KernelWatch;
use super::sockets::{self, State};
use super::targets::Targets;

/// The DERP map and the control server's addresses change rarely; read again after this long.
const LEARN_EVERY: Duration = Duration::from_secs(600);

/// While nothing was learnt yet, or the control server's name did not resolve.
const LEARN_SOON: Duration = Duration::from_secs(10);

/// How long a name lookup may take. It holds up nothing, so it may take long.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Reads tailscaled and keeps what changes rarely.
pub struct TailnetWatch {
    api: LocalApi,
    targets: Rc<RefCell<Targets>>,
    kernel: KernelWatch,
    prefs: RefCell<Option<Prefs>>,
    learnt: Cell<Option<Instant>>,
}

impl TailnetWatch {
    pub fn new(api: LocalApi, targets: Rc<RefCell<Targets>>, kernel: KernelWatch) -> TailnetWatch {
        TailnetWatch {
            api,
            targets,
            kernel,
            prefs: RefCell::new(None),
            learnt: Cell::new(None),
        }
    }

    pub fn api(&self) -> &LocalApi {
        &self.api
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
        let pid = process::tailscaled(&self.api.socket);
        let status = match self.api.status(false).await {
            Ok(status) => status,
            Err(e) => {
                return Tailnet {
                    api: api_state(&e),
                    pid: pid.filter(|_| !matches!(e, Error::NotRunning(_))),
                    tun: true,
                    ..Tailnet::default()
                }
            }
        };
        let asked = self.api.prefs().await.ok();
        let lost = self
            .kernel
            .judge(&self.api, pid, &status, asked.as_ref(), held);
        let lost = lost.await;
        if asked.is_some() {
            *self.prefs.borrow_mut() = asked;
        }
        let prefs = self.prefs.borrow();
        let prefs = prefs.as_ref();
        Tailnet {
            api: Api::Answers,
            pid,
            left_alone: None,
            backend: backend(status.backend),
            wanted: prefs.map(|p| p.want_running),
            logged_out: prefs.is_some_and(|p| p.logged_out),
            key_expired: status.key_expired,
            tun: status.tun,
            online: status.online,
            relay: status.relay.clone(),
            flows: pid.map(|p| self.flows(p)).unwrap_or_default(),
            lost,
        }
    }

    fn flows(&self, pid: u32) -> Vec<Flow> {
        let targets = self.targets.borrow();
        let mut flows = Vec::new();
        for f in sockets::flows(pid).unwrap_or_default() {
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

    /// Reads the DERP map and resolves the control server, when that is due.
    ///
    /// With a dead resolver this takes many seconds: it runs beside everything else.
    pub async fn learn(&self) {
        let complete = {
            let t = self.targets.borrow();
            !t.derp.is_empty() && !t.control_addresses.is_empty()
        };
        let due = if complete { LEARN_EVERY } else { LEARN_SOON };
        if self.learnt.get().is_some_and(|t| t.elapsed() < due) {
            return;
        }
        self.learnt.set(Some(Instant::now()));
        if let Ok(Some(map)) = self.api.derpmap().await {
            self.targets.borrow_mut().derp = map.nodes;
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
        if !found.is_empty() {
            self.targets.borrow_mut().control_addresses = found;
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
