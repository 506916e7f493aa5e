//! Looks at tailscaled: LocalAPI, process, TCP flows. Learns from it whom the probes can ask.

use std::cell::RefCell;
use std::net::{IpAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::{Host, Url};
use crate::core::tailnet::{Api, Backend, Flow, Purpose, Tailnet};
use crate::tailscale::localapi::{Error, LocalApi};
use crate::tailscale::types::{BackendState, Prefs};

use super::sockets::{self, State};
use super::targets::Targets;

/// The DERP map and the control server's addresses change rarely; read again after this long.
const LEARN_EVERY: Duration = Duration::from_secs(600);

/// While nothing was learnt yet, or the control server's name did not resolve.
const LEARN_SOON: Duration = Duration::from_secs(10);

/// Stack of a name lookup: musl's getaddrinfo keeps some KiB of packets on it.
const LOOKUP_STACK: usize = 64 * 1024;

/// Reads tailscaled and keeps what changes rarely.
pub struct TailnetWatch {
    api: LocalApi,
    targets: Rc<RefCell<Targets>>,
    prefs: Option<Prefs>,
    learnt: Option<Instant>,
}

impl TailnetWatch {
    pub fn new(api: LocalApi, targets: Rc<RefCell<Targets>>) -> TailnetWatch {
        TailnetWatch {
            api,
            targets,
            prefs: None,
            learnt: None,
        }
    }

    pub fn api(&self) -> &LocalApi {
        &self.api
    }

    /// One look. `thorough` also reads what the user wants and, when due, whom the probes can ask.
    pub async fn look(&mut self, thorough: bool) -> Tailnet {
        let pid = sockets::tailscaled(&self.api.socket);
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
        if thorough || self.prefs.is_none() {
            if let Ok(prefs) = self.api.prefs().await {
                self.prefs = Some(prefs);
            }
            self.learn().await;
        }
        let prefs = self.prefs.as_ref();
        Tailnet {
            api: Api::Answers,
            pid,
            service_stopped: false,
            backend: backend(status.backend),
            wanted: prefs.map(|p| p.want_running),
            logged_out: prefs.is_some_and(|p| p.logged_out),
            key_expired: status.key_expired,
            tun: status.tun,
            online: status.online,
            flows: pid.map(|p| self.flows(p)).unwrap_or_default(),
        }
    }

    fn flows(&self, pid: u32) -> Vec<Flow> {
        let targets = self.targets.borrow();
        let mut flows = Vec::new();
        for f in sockets::flows(pid).unwrap_or_default() {
            if !matches!(f.state, State::Established | State::SynSent) || f.remote.ip().is_loopback()
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
            let (control, derp) = (is_control(&targets, &ip, f.remote.port()), targets.is_derp(&ip));
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
    async fn learn(&mut self) {
        let complete = {
            let t = self.targets.borrow();
            !t.derp.is_empty() && !t.control_addresses.is_empty()
        };
        let due = if complete { LEARN_EVERY } else { LEARN_SOON };
        if self.learnt.is_some_and(|t| t.elapsed() < due) {
            return;
        }
        self.learnt = Some(Instant::now());
        if let Ok(Some(map)) = self.api.derpmap().await {
            self.targets.borrow_mut().derp = map.nodes;
        }
        let Some(url) = self.prefs.as_ref().and_then(|p| control_url(&p.control_url)) else {
            return;
        };
        let host = url.host.clone();
        let port = url.port;
        {
            let mut t = self.targets.borrow_mut();
            if t.control.as_ref() != Some(&url) {
                t.control = Some(url);
                t.control_addresses.clear();
            }
        }
        match host {
            Host::Ip(ip) => self.targets.borrow_mut().control_addresses = vec![ip],
            Host::Name(name) => {
                let targets = Rc::clone(&self.targets);
                // Never waited for: with a dead resolver this takes many seconds.
                let found = resolve(name, port);
                smol_detach(async move {
                    let found = found.await;
                    if !found.is_empty() {
                        targets.borrow_mut().control_addresses = found;
                    }
                });
            }
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
