//! Asks the outside by one uplink or by the path, all targets side by side, and reports findings.
//!
//! A TCP connection is tried before each TLS or HTTP exchange. It is a probe of its own, costs no
//! thread, and keeps the few threads for ways that carry something.

mod datagrams;
mod judge;
mod web;

pub use datagrams::{BEAT, BURST, LARGE, NAMES};

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use smol::lock::Semaphore;

use crate::config::{Host, Settings, Url};
use crate::core::{By, Effort, Family, Finding};
use crate::net::resolve::resolve;
use crate::net::socket::{tcp_connect, Egress};
use crate::net::together::{join, Task};

use super::targets::Targets;

/// STUN datagrams sent, and the bytes of their IP packets.
pub type Sent = Rc<Cell<(u64, u64)>>;

/// STUN servers and TCP targets asked in one round at most.
const SERVERS: usize = 4;

/// DERP nodes asked by TLS in one round at most: each costs a certificate chain.
const TLS_NODES: usize = 2;

/// Requests and lookups at once; each is a thread of the worker.
const THREADS: usize = 14;

/// How long each kind of probe waits, and whom it trusts.
#[derive(Clone, Debug)]
pub struct Manner {
    pub probe: Duration,
    pub tcp: Duration,
    pub tls: Duration,
    pub http: Duration,
    /// CA file; `None` is the system's.
    pub ca_file: Option<PathBuf>,
}

impl Manner {
    pub fn new(s: &Settings) -> Manner {
        Manner {
            probe: s.probe_timeout,
            tcp: s.tcp_timeout,
            tls: s.tls_timeout,
            http: s.http_timeout,
            ca_file: s.ca_file.clone(),
        }
    }
}

/// One round of probes over one way.
#[derive(Clone)]
pub struct Round {
    pub egress: Egress,
    pub family: Family,
    pub effort: Effort,
    /// Also ask the control server, and whether large packets pass. The path of an uplink leaves
    /// that to the uplink's own round.
    pub control: bool,
    /// Also ask the external-address services.
    pub external: bool,
    pub resolvers: Resolvers,
    /// From the moment's dice; datagrams need an unguessable id.
    pub seed: [u8; 12],
    /// Where STUN datagrams and the bytes of their IP packets are counted.
    pub sent: Sent,
}

/// Which resolvers a full round asks.
#[derive(Clone, Debug)]
pub enum Resolvers {
    Nobody,
    /// The uplink's own, over it.
    Own(Vec<IpAddr>),
    /// The router's, the way its own programs ask them, and only for a name that is needed.
    Router,
}

/// Runs rounds. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    targets: Rc<RefCell<Targets>>,
    manner: Manner,
    threads: Rc<Semaphore>,
}

impl Prober {
    pub fn new(targets: Rc<RefCell<Targets>>, manner: Manner) -> Prober {
        Prober {
            targets,
            manner,
            threads: Rc::new(Semaphore::new(THREADS)),
        }
    }

    pub fn set_manner(&mut self, manner: Manner) {
        self.manner = manner;
    }

    /// Runs one round to its end; `tell` gets each finding as it comes, `Over` last; only `Nobody`
    /// before it when no target of the family is known.
    pub async fn run(&self, round: Round, tell: impl Fn(Finding)) {
        let targets = self.targets.borrow().clone();
        let servers = targets.stun_servers(round.family);
        let mut tasks: Vec<Task> = Vec::new();
        if round.effort != Effort::Burst && !servers.is_empty() {
            tasks.push(Box::pin(self.stun(&round, servers, &tell)));
        } else if round.effort != Effort::Lookout {
            self.all(&round, &targets, servers, &tell, &mut tasks);
        }
        if tasks.is_empty() {
            tell(Finding::Nobody);
        }
        if round.effort == Effort::Burst {
            self.control_too(&round, &targets, &tell, &mut tasks);
            self.names_too(&round, &targets, &tell, &mut tasks);
        }
        join(tasks).await;
        tell(Finding::Over);
    }

    /// Every kind of probe of a burst; also of a heartbeat where no STUN server is known.
    fn all<'a>(
        &'a self,
        round: &'a Round,
        targets: &'a Targets,
        servers: Vec<SocketAddr>,
        tell: &'a dyn Fn(Finding),
        tasks: &mut Vec<Task<'a>>,
    ) {
        if !servers.is_empty() {
            tasks.push(Box::pin(self.stun(round, servers, tell)));
        }
        for to in targets
            .tcp_addresses(round.family)
            .into_iter()
            .take(SERVERS)
        {
            tasks.push(Box::pin(self.tcp(round, to, tell)));
        }
        for (name, port) in targets.tcp_names() {
            tasks.push(Box::pin(self.tcp_by_name(round, name, port, tell)));
        }
        if round.effort == Effort::Suspect && !tasks.is_empty() {
            return;
        }
        let nodes = targets.derp_nodes(round.family);
        for (node, ip) in nodes.iter().take(TLS_NODES) {
            tasks.push(Box::pin(self.derp(round, node, *ip, tell)));
        }
        if let Some((node, ip)) = nodes.iter().find(|(n, _)| n.can_port80) {
            tasks.push(Box::pin(self.challenge(round, node, *ip, tell)));
        }
        if targets.use_derp && targets.derp.is_empty() {
            tasks.push(Box::pin(self.derp_by_name(round, tell)));
        }
        for url in &targets.web {
            tasks.push(Box::pin(self.web(round, url, tell)));
        }
        if round.external {
            for url in &targets.external {
                tasks.push(Box::pin(self.external(round, url, tell)));
            }
        }
    }

    /// That the control server is silent says nothing of a way: it may be down by itself. So it is no target. As long
    /// as no relay is known, as at a boot, its answer is the best proof there is, for the path too.
    fn control_too<'a>(
        &'a self,
        round: &'a Round,
        targets: &'a Targets,
        tell: &'a dyn Fn(Finding),
        tasks: &mut Vec<Task<'a>>,
    ) {
        let best = targets.derp.is_empty();
        let Some(url) = targets.control.as_ref().filter(|_| round.control || best) else {
            return;
        };
        let addresses = of_family(&targets.control_addresses, round.family);
        if !addresses.is_empty() {
            tasks.push(Box::pin(self.control(round, url, addresses, best, tell)));
        }
    }

    async fn connect(&self, round: &Round, to: SocketAddr) -> io::Result<Duration> {
        tcp_connect(to, &round.egress, self.manner.tcp).await
    }

    /// Looks a URL's host up and connects, so that a thread is only used where that works.
    async fn open(&self, round: &Round, url: &Url) -> Result<IpAddr, String> {
        let ip = match &url.host {
            Host::Ip(ip) => *ip,
            Host::Name(name) => self.lookup(round, name).await?,
        };
        self.connect(round, SocketAddr::new(ip, url.port))
            .await
            .map(|_| ip)
            .map_err(|e| e.to_string())
    }

    async fn lookup(&self, round: &Round, name: &str) -> Result<IpAddr, String> {
        let _place = self.threads.acquire().await;
        let found = resolve(name, self.manner.http).await?;
        of_family(&found, round.family)
            .first()
            .copied()
            .ok_or_else(|| format!("{name} has no {} address", round.family))
    }
}

fn answer(by: By, target: String, rtt: Duration, public: Option<IpAddr>) -> Finding {
    Finding::Answer {
        by,
        target,
        rtt,
        public,
    }
}

fn failed(by: By, target: String, why: String) -> Finding {
    Finding::Failed { by, target, why }
}

fn of_family(ips: &[IpAddr], family: Family) -> Vec<IpAddr> {
    ips.iter()
        .filter(|ip| Family::of(ip) == family)
        .copied()
        .collect()
}

/// A prober's egress for one uplink: bound to its device, and marked so that neither mwan3's
/// policy nor a rule for tailscale's mark takes the packet elsewhere: tailscale's mark with all of
/// mwan3's bits.
pub fn by_uplink(device: &str, mark: u32) -> Egress {
    Egress {
        mark: Some(mark),
        device: Some(device.to_string()),
        source: None,
    }
}

/// A prober's egress for the path as it is now: the bare mark and nothing else.
pub fn by_path(mark: u32) -> Egress {
    Egress {
        mark: Some(mark),
        ..Egress::default()
    }
}
