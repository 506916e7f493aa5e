//! Asks the outside by one uplink or by the path, all targets side by side, and reports findings.
//!
//! A TCP connection is tried before each TLS or HTTP exchange. It is a probe of its own, costs no
//! thread, and keeps the few threads for ways that carry something.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use smol::lock::Semaphore;

use crate::config::{Host, Settings, Url};
use crate::core::flaws::Tls;
use crate::core::{By, Effort, Family, Finding};
use crate::net::dns;
use crate::net::http::{FetchError, Request, Response, TlsFault};
use crate::net::resolve::resolve;
use crate::net::socket::{tcp_connect, Egress};
use crate::net::stun::{self, payload_of, REQUEST_LEN};
use crate::net::together::{join, Task};
use crate::net::volley::{Schedule, Volley};
use crate::net::worker::fetch;
use crate::tailscale::types::DerpNode;

use super::targets::{router_resolvers, Targets, DERP_WITHOUT_MAP};

/// Datagrams of a burst. With 30 % loss each way a single exchange fails half the time; 16 fail
/// together once in 48,000 bursts.
pub const BURST: Schedule = Schedule {
    count: 16,
    spacing: Duration::from_millis(60),
};

/// Datagrams of a heartbeat: the next goes out only when the one before stays unanswered.
pub const BEAT: Schedule = Schedule {
    count: 5,
    spacing: Duration::from_millis(300),
};

/// Queries to resolvers: as many as datagrams, for the same reason. A resolver that has to ask
/// others needs longer than a server that knows.
pub const NAMES: Schedule = Schedule {
    count: 16,
    spacing: Duration::from_millis(150),
};

/// An IP packet of this length passes wherever a tailnet works well: WireGuard's own are at most
/// 1,340 bytes long (1,280 within, plus 60), and links below 1,400 are rare.
pub const LARGE: usize = 1400;

/// Resolvers asked in one round at most.
const RESOLVERS: usize = 4;

/// A clock before 2025-01-01 was never set since the router's start.
const CLOCK_UNSET: Duration = Duration::from_secs(1_735_689_600);

/// STUN servers and TCP targets asked in one round at most.
const SERVERS: usize = 4;

/// DERP nodes asked by TLS in one round at most: each costs a certificate chain.
const TLS_NODES: usize = 2;

/// Requests and lookups at once; each is a thread of the worker.
const THREADS: usize = 14;

/// A body that says more than an address or a challenge is not the one asked for.
const BODY_LIMIT: u64 = 4 * 1024;

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
        } else {
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

    /// The control server says nothing of a way: it may be down by itself. So it is no target.
    fn control_too<'a>(
        &'a self,
        round: &'a Round,
        targets: &'a Targets,
        tell: &'a dyn Fn(Finding),
        tasks: &mut Vec<Task<'a>>,
    ) {
        if round.control {
            if let Some(url) = &targets.control {
                let addresses = of_family(&targets.control_addresses, round.family);
                if !addresses.is_empty() {
                    tasks.push(Box::pin(self.control(round, url, addresses, tell)));
                }
            }
        }
    }

    async fn stun(&self, round: &Round, servers: Vec<SocketAddr>, tell: &dyn Fn(Finding)) {
        let servers: Vec<SocketAddr> = servers.into_iter().take(SERVERS).collect();
        let schedule = match round.effort {
            Effort::Beat => BEAT,
            Effort::Suspect | Effort::Burst => BURST,
        };
        let failed = |why: String| failed(By::Stun, "STUN".into(), why);
        let burst = match self.datagrams(round, &servers, schedule, REQUEST_LEN).await {
            Ok(burst) => burst,
            Err(e) => return tell(failed(e.to_string())),
        };
        let Some(a) = burst.answer else {
            return tell(failed(match burst.refusal {
                Some(e) => e.to_string(),
                None => format!("no answer to {} datagrams", burst.sent),
            }));
        };
        let target = format!("STUN {}", a.server);
        tell(answer(By::Stun, target, a.rtt, Some(a.what.ip())));
        if round.effort == Effort::Burst && round.control {
            if let Some(result) = self.large(round, a.server).await {
                tell(Finding::Large(result));
            }
        }
    }

    async fn datagrams(
        &self,
        round: &Round,
        servers: &[SocketAddr],
        schedule: Schedule,
        length: usize,
    ) -> io::Result<Volley<SocketAddr>> {
        let (egress, limit) = (&round.egress, self.manner.probe);
        stun::burst(servers, egress, round.seed, schedule, limit, length).await
    }

    /// Whether large packets pass to a server that has just answered a small one. `None` where that
    /// cannot be told: the link itself is smaller, or the line went dead meanwhile.
    ///
    /// As many are lost by chance as in any burst: once in 48,000 at 30 % loss each way. Six would
    /// be once in 57.
    async fn large(&self, round: &Round, server: SocketAddr) -> Option<Result<(), String>> {
        let length = payload_of(LARGE, server.is_ipv4());
        let servers = [server];
        let large = self.datagrams(round, &servers, BURST, length).await.ok()?;
        if large.answer.is_some() {
            return Some(Ok(()));
        }
        if large.too_long() || large.sent < u32::from(BURST.count) {
            return None;
        }
        let small = self.datagrams(round, &servers, BURST, REQUEST_LEN).await;
        small.ok()?.answer?;
        Some(Err(format!(
            "{} packets of {LARGE} bytes to {server} were lost, while small ones pass",
            large.sent
        )))
    }

    /// Asks the resolvers of the round for a name: those of each family together, because a socket
    /// serves one.
    fn names_too<'a>(
        &'a self,
        round: &'a Round,
        targets: &'a Targets,
        tell: &'a dyn Fn(Finding),
        tasks: &mut Vec<Task<'a>>,
    ) {
        let (name, resolvers, egress) = match &round.resolvers {
            Resolvers::Nobody => return,
            Resolvers::Own(list) => (targets.some_name(), list.clone(), round.egress.clone()),
            Resolvers::Router => match targets.control_name() {
                Some(name) => (name, router_resolvers(), Egress::default()),
                None => return tell(Finding::Names(Ok(()))),
            },
        };
        let usable = resolvers.into_iter().filter(has_no_zone).take(RESOLVERS);
        let usable: Vec<IpAddr> = usable.collect();
        if usable.is_empty() && matches!(round.resolvers, Resolvers::Router) {
            // Only tailscaled's own is left, which is no judge.
            return tell(Finding::Names(Ok(())));
        }
        for family in Family::BOTH {
            let servers = of_family(&usable, family);
            if !servers.is_empty() {
                let egress = egress.clone();
                tasks.push(Box::pin(self.names(round, name, servers, egress, tell)));
            }
        }
    }

    async fn names(
        &self,
        round: &Round,
        name: &str,
        resolvers: Vec<IpAddr>,
        egress: Egress,
        tell: &dyn Fn(Finding),
    ) {
        let [a, b, ..] = round.seed;
        let (seed, limit) = (u16::from_be_bytes([a, b]), self.manner.http);
        let servers: Vec<SocketAddr> = resolvers
            .iter()
            .map(|ip| SocketAddr::new(*ip, dns::PORT))
            .collect();
        let asked = dns::ask(&servers, &egress, name, seed, NAMES, limit).await;
        tell(Finding::Names(asked.map(drop).map_err(|why| {
            let asked: Vec<String> = resolvers.iter().map(IpAddr::to_string).collect();
            format!("{} asked for {name}: {why}", asked.join(" and "))
        })));
    }

    async fn tcp(&self, round: &Round, to: SocketAddr, tell: &dyn Fn(Finding)) {
        let target = format!("TCP {to}");
        tell(match self.connect(round, to).await {
            Ok(rtt) => answer(By::Tcp, target, rtt, None),
            Err(e) => failed(By::Tcp, target, e.to_string()),
        });
    }

    async fn tcp_by_name(&self, round: &Round, name: &str, port: u16, tell: &dyn Fn(Finding)) {
        match self.lookup(round, name).await {
            Ok(ip) => self.tcp(round, SocketAddr::new(ip, port), tell).await,
            Err(why) => tell(failed(By::Tcp, format!("TCP {name}:{port}"), why)),
        }
    }

    /// TLS to a DERP node, with its certificate checked the way tailscale does.
    async fn derp(&self, round: &Round, node: &DerpNode, ip: IpAddr, tell: &dyn Fn(Finding)) {
        let target = format!("DERP {}", node.hostname);
        let to = SocketAddr::new(ip, node.derp_port);
        match self.connect(round, to).await {
            Ok(_) => {}
            Err(e) => return tell(failed(By::Derp, target, e.to_string())),
        }
        let url = format!(
            "https://{}:{}/derp/probe",
            bracketed(&node.hostname),
            node.derp_port
        );
        let mut request = self.request(round, url, vec![ip]);
        request.certificate = node.cert_check();
        let by = match node.insecure_for_tests {
            // With an unchecked certificate TLS proves no more than a connection does.
            true => By::Tcp,
            false => By::Derp,
        };
        self.https(request, by, target, tell).await;
    }

    async fn derp_by_name(&self, round: &Round, tell: &dyn Fn(Finding)) {
        let target = format!("DERP {DERP_WITHOUT_MAP}");
        match self.lookup(round, DERP_WITHOUT_MAP).await {
            Ok(ip) => {
                if let Err(e) = self.connect(round, SocketAddr::new(ip, 443)).await {
                    return tell(failed(By::Derp, target, e.to_string()));
                }
                let url = format!("https://{DERP_WITHOUT_MAP}/derp/probe");
                let request = self.request(round, url, vec![ip]);
                self.https(request, By::Derp, target, tell).await;
            }
            Err(why) => tell(failed(By::Derp, target, why)),
        }
    }

    /// Any HTTP answer over checked TLS proves the outside, whatever its status.
    async fn https(&self, request: Box<Request>, by: By, target: String, tell: &dyn Fn(Finding)) {
        let began = Instant::now();
        tell(match self.talk(request, &target, tell).await {
            Ok(_) => answer(by, target, began.elapsed(), None),
            Err(FetchError::Tls(fault)) if is_portal(&fault) => Finding::Intercepted {
                target,
                what: fault.to_string(),
            },
            Err(e) => failed(by, target, e.to_string()),
        });
    }

    /// Plain HTTP to a configured target: it must have what it is asked for, and refuse what nobody
    /// can have. A portal that answers or redirects whatever is asked gives itself away.
    async fn http(
        &self,
        round: &Round,
        request: Box<Request>,
        target: String,
        tell: &dyn Fn(Finding),
    ) {
        let mut invented = request.clone();
        invented.url = invented_beside(&request.url, &challenge_word(&round.seed));
        let began = Instant::now();
        let told = match self.talk(request, &target, tell).await {
            Ok(r) => r.status,
            Err(e) => return tell(failed(By::Http, target, e.to_string())),
        };
        let rtt = began.elapsed();
        let refused = match self.talk(invented, &target, tell).await {
            Ok(r) => r.status,
            Err(e) => return tell(failed(By::Http, target, e.to_string())),
        };
        tell(match genuine(told, refused) {
            Ok(()) => answer(By::Http, target, rtt, None),
            Err(why) => failed(By::Http, target, why),
        });
    }

    /// `generate_204` with a challenge that only the node itself answers rightly
    /// (derper, serveNoContent). Silence is unknown, not portal.
    async fn challenge(&self, round: &Round, node: &DerpNode, ip: IpAddr, tell: &dyn Fn(Finding)) {
        let target = format!("generate_204 of {}", node.hostname);
        if let Err(e) = self.connect(round, SocketAddr::new(ip, 80)).await {
            return tell(failed(By::Challenge, target, e.to_string()));
        }
        let challenge = challenge_word(&round.seed);
        let url = format!("http://{}/generate_204", bracketed(&node.hostname));
        let mut request = self.request(round, url, vec![ip]);
        request
            .headers
            .push(("X-Tailscale-Challenge".into(), challenge.clone()));
        let began = Instant::now();
        tell(match self.talk(request, &target, tell).await {
            Ok(r) => match challenged(&r, &challenge) {
                Ok(()) => answer(By::Challenge, target, began.elapsed(), None),
                Err(what) => Finding::Intercepted { target, what },
            },
            Err(e) => failed(By::Challenge, target, e.to_string()),
        });
    }

    async fn web(&self, round: &Round, url: &Url, tell: &dyn Fn(Finding)) {
        let target = url.to_string();
        let ip = match self.open(round, url).await {
            Ok(ip) => ip,
            Err(why) => return tell(failed(by_scheme(url), target, why)),
        };
        let request = self.request(round, target.clone(), vec![ip]);
        match url.tls {
            true => self.https(request, By::Https, target, tell).await,
            false => self.http(round, request, target, tell).await,
        }
    }

    async fn control(
        &self,
        round: &Round,
        url: &Url,
        addresses: Vec<IpAddr>,
        tell: &dyn Fn(Finding),
    ) {
        let mut last = "no address".to_string();
        for ip in addresses.iter().take(2) {
            match self.connect(round, SocketAddr::new(*ip, url.port)).await {
                Ok(_) => {
                    // The key that tailscaled itself asks for first (control/ts2021).
                    let mut to = url.clone();
                    to.path = "/key?v=142".into();
                    let mut request = self.request(round, to.to_string(), vec![*ip]);
                    request.body_limit = 64 * 1024;
                    let result = self.fetch(request).await;
                    if url.tls {
                        tell_tls(&result, &url.to_string(), tell);
                    }
                    match result {
                        Ok(r) if r.status < 500 => return tell(Finding::Control(Ok(()))),
                        Ok(r) => last = format!("HTTP {}", r.status),
                        // Without the worker's program the connection is all there is to go by,
                        // and without the control server's word nothing would be renewed.
                        Err(FetchError::NotInstalled) => return tell(Finding::Control(Ok(()))),
                        Err(e) => last = e.to_string(),
                    }
                }
                Err(e) => last = e.to_string(),
            }
        }
        tell(Finding::Control(Err(last)));
    }

    async fn external(&self, round: &Round, url: &Url, tell: &dyn Fn(Finding)) {
        let (target, by) = (url.to_string(), by_scheme(url));
        let ip = match self.open(round, url).await {
            Ok(ip) => ip,
            Err(why) => return tell(failed(by, target, why)),
        };
        let began = Instant::now();
        let request = self.request(round, target.clone(), vec![ip]);
        tell(match self.talk(request, &target, tell).await {
            Ok(r) => match public_address(&r.text()) {
                Some(ip) => answer(by, target, began.elapsed(), Some(ip)),
                None => Finding::Intercepted {
                    target,
                    what: format!("HTTP {} without an address", r.status),
                },
            },
            Err(FetchError::Tls(fault)) if is_portal(&fault) => Finding::Intercepted {
                target,
                what: fault.to_string(),
            },
            Err(e) => failed(by, target, e.to_string()),
        });
    }

    // ---- pieces ----------------------------------------------------------------------------

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

    fn request(&self, round: &Round, url: String, addresses: Vec<IpAddr>) -> Box<Request> {
        let mut request = Box::new(Request::get(url));
        request.egress = round.egress.clone();
        request.addresses = addresses;
        request.timeout = self.manner.tls.max(self.manner.http);
        request.body_limit = BODY_LIMIT;
        request.ca_file = self.manner.ca_file.clone();
        request
    }

    /// A request on a connection that is known to open, with word of how far the talk came.
    async fn talk(
        &self,
        request: Box<Request>,
        target: &str,
        tell: &dyn Fn(Finding),
    ) -> Result<Response, FetchError> {
        let tls = request.url.starts_with("https:");
        tell(Finding::Opened);
        let result = self.fetch(request).await;
        if !is_mute(&result, tls) {
            tell(Finding::Talked);
        }
        if tls {
            tell_tls(&result, target, tell);
        }
        result
    }

    async fn fetch(&self, request: Box<Request>) -> Result<Response, FetchError> {
        let _place = self.threads.acquire().await;
        fetch(request).await
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

fn by_scheme(url: &Url) -> By {
    match url.tls {
        true => By::Https,
        false => By::Http,
    }
}

fn of_family(ips: &[IpAddr], family: Family) -> Vec<IpAddr> {
    ips.iter()
        .filter(|ip| Family::of(ip) == family)
        .copied()
        .collect()
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_string(),
    }
}

/// A link-local address needs a device to go with it, which netifd does not tell.
fn has_no_zone(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// True when a connection opened and nobody talked on it. What failed for a reason of our own is
/// nobody's silence.
fn is_mute(result: &Result<Response, FetchError>, tls: bool) -> bool {
    match result {
        Err(FetchError::Timeout | FetchError::Connect { .. }) => true,
        Err(FetchError::Tls(TlsFault::Broken(_))) => true,
        // Over TLS the handshake was done by then.
        Err(FetchError::Http(_)) => !tls,
        _ => false,
    }
}

/// Tells how TLS went, where the request got as far as that.
fn tell_tls(result: &Result<Response, FetchError>, target: &str, tell: &dyn Fn(Finding)) {
    let end = match result {
        Ok(_) | Err(FetchError::Http(_) | FetchError::TooBig(_)) => Tls::Spoken,
        Err(FetchError::Tls(fault)) => match fault {
            TlsFault::WrongName(_)
            | TlsFault::UnknownIssuer
            | TlsFault::Expired
            | TlsFault::BadCertificate(_) => Tls::Spoken,
            TlsFault::NotYetValid => Tls::NotYetValid {
                early: clock_unset(),
            },
            TlsFault::Broken(why) => Tls::Broken(why.clone()),
            TlsFault::Protocol(_) | TlsFault::NoRoots(_) | TlsFault::NotBuilt => return,
        },
        Err(_) => return,
    };
    let target = target.to_string();
    tell(Finding::Tls { target, end });
}

fn clock_unset() -> bool {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.is_ok_and(|t| t < CLOCK_UNSET)
}

/// The URL of a path that no server has, beside `url`.
fn invented_beside(url: &str, word: &str) -> String {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(after_scheme..).and_then(|rest| rest.find('/'));
    let origin = end.and_then(|at| url.get(..after_scheme + at));
    format!("{}/{word}", origin.unwrap_or(url))
}

/// Whether a target that gave these answers, the second for a path nobody has, is what it is taken for.
fn genuine(told: u16, invented: u16) -> Result<(), String> {
    match (told, invented) {
        (300..=399, _) => Err(format!("HTTP {told}: it leads elsewhere, as a portal does")),
        (200..=299, 400..=499) => Ok(()),
        (200..=299, other) => Err(format!(
            "HTTP {other} for a path that nobody has: whoever answers may be anybody"
        )),
        _ => Err(format!("HTTP {told}")),
    }
}

/// A certificate for somebody else, or no TLS at all where TLS was asked for.
fn is_portal(fault: &TlsFault) -> bool {
    matches!(
        fault,
        TlsFault::WrongName(_) | TlsFault::UnknownIssuer | TlsFault::Protocol(_)
    )
}

/// derper takes letters, digits, `.`, `-` and `_`, at most 64 (isChallengeChar).
fn challenge_word(seed: &[u8]) -> String {
    let hex: String = seed.iter().map(|b| format!("{b:02x}")).collect();
    format!("ts_{hex}")
}

fn challenged(r: &Response, challenge: &str) -> Result<(), String> {
    let told = r.header("x-tailscale-response");
    match (r.status, told) {
        (204, Some(text)) if text == format!("response {challenge}") => Ok(()),
        (204, _) => Err("204 without the answer to the challenge".into()),
        (status, _) => Err(format!("HTTP {status} in the place of 204")),
    }
}

/// `{"ip":"…"}` or the bare address.
fn public_address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.trim().parse() {
        return Some(ip);
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    json.get("ip")?.as_str()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, header: Option<&str>) -> Response {
        Response {
            status,
            headers: header
                .map(|h| ("x-tailscale-response".to_string(), h.to_string()))
                .into_iter()
                .collect(),
            body: vec![],
        }
    }

    #[test]
    fn only_the_node_itself_meets_the_challenge() {
        assert_eq!(
            challenged(&reply(204, Some("response ts_1")), "ts_1"),
            Ok(())
        );
        for fake in [
            reply(200, Some("response ts_1")),
            reply(204, None),
            reply(204, Some("response ts_2")),
            reply(302, None),
        ] {
            assert!(challenged(&fake, "ts_1").is_err());
        }
    }

    #[test]
    fn an_address_comes_as_json_or_bare() {
        let ip: IpAddr = "203.0.113.7".parse().expect("an address");
        assert_eq!(public_address("{\"ip\":\"203.0.113.7\"}"), Some(ip));
        assert_eq!(public_address("203.0.113.7\n"), Some(ip));
        assert_eq!(public_address("<html>log in</html>"), None);
    }
}
