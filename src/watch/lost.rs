//! Sees what the kernel has lost of what tailscaled put there: its rules, its table 52, its
//! device's addresses, its firewall chains; and whether mwan3's rules swallow what goes to the
//! tailnet.
//!
//! The kernel is read before tailscaled is asked, because tailscaled changes its own mind first:
//! what it took away itself is no loss.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use smol::{Async, Timer};
use socket2::SockAddr;

use crate::core::prefix::network;
use crate::core::tailnet::Lost;
use crate::core::Family;
use crate::net::rtnetlink::{Client, Error, Link};
use crate::net::socket::{within, Egress};
use crate::tailscale::kernel::{self, Claims, Held, Missing, Record, Table};
use crate::tailscale::localapi::LocalApi;
use crate::tailscale::types::{BackendState, Prefs, Status};

use super::chains::ChainWatch;

/// While nothing was heard from the kernel it is read this often at most.
const READ_EVERY: Duration = Duration::from_secs(25);

/// tailscaled's device where nothing tells another name.
const DEVICE: &str = "tailscale0";

/// Marks that are followed through the kernel's rules; mwan3 has one for each uplink.
const MARKS: usize = 16;

/// How long tailscaled's own resolver may take. Nothing lies between: it answers in a millisecond
/// or two, or it was not reached.
const ANSWER: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Asked the other way, it gets so many times what it took just now, and this at least.
const TIMES: u32 = 10;
const LEAST: Duration = Duration::from_millis(250);

/// How long it holds that nothing is swallowed, while the rules stay as they are: mwan3's marks
/// can change without them.
const SPARED_FOR: Duration = Duration::from_secs(300);

/// Where mwan3's configuration is looked for by tailscaled.
const MWAN3_CONFIG: &str = "/etc/config/mwan3";

/// Reads the kernel and keeps the record.
pub struct KernelWatch {
    /// mwan3's mask; a mark of all its bits keeps its hands off.
    mmx_mask: u32,
    /// Something of tailscaled's has changed since the last reading.
    changed: Cell<bool>,
    read_at: Cell<Option<Instant>>,
    chains: ChainWatch,
    seen: RefCell<Seen>,
}

/// What is known of the tailscaled with this process.
#[derive(Default)]
struct Seen {
    pid: Option<u32>,
    record: Option<Record>,
    lost: Lost,
    /// Nothing was swallowed with these rules, at that time.
    spared: Option<(Vec<u32>, Instant)>,
}

impl KernelWatch {
    pub fn new(mmx_mask: u32) -> KernelWatch {
        KernelWatch {
            mmx_mask,
            changed: Cell::new(true),
            read_at: Cell::new(None),
            chains: ChainWatch::default(),
            seen: RefCell::default(),
        }
    }

    /// The kernel told of a change: the next look reads it.
    pub fn changed(&self) {
        self.changed.set(true);
    }

    /// Reads the kernel if that is due. To be called before tailscaled is asked.
    ///
    /// # Errors
    /// What rtnetlink refused.
    pub fn read(&self) -> Result<Option<Held>, Error> {
        let fresh = self.read_at.get().is_some_and(|t| t.elapsed() < READ_EVERY);
        let calm = self.seen.borrow().lost.what.is_empty();
        if fresh && calm && !self.changed.replace(false) {
            return Ok(None);
        }
        self.read_now().map(Some)
    }

    fn read_now(&self) -> Result<Held, Error> {
        self.changed.set(false);
        self.read_at.set(Some(Instant::now()));
        let seen = self.seen.borrow();
        let held = read(seen.record.as_ref().map(Record::device), &self.chains);
        // What could not be read now is read at the next look.
        self.changed.set(held.is_err());
        held
    }

    /// What is lost. `held` is what was read before `status` and `prefs` were asked for; without
    /// it the last finding stands.
    pub async fn judge(
        &self,
        api: &LocalApi,
        pid: Option<u32>,
        status: &Status,
        prefs: Option<&Prefs>,
        held: Option<Held>,
    ) -> Lost {
        let Some(prefs) = prefs else {
            self.changed();
            return self.seen.borrow().lost.clone();
        };
        let running = status.backend == BackendState::Running && status.tun;
        let wanted = prefs.want_running && !prefs.logged_out;
        let (true, true, Some(pid)) = (running, wanted, pid) else {
            // What it has in the kernel in this state is its own affair.
            self.seen.replace(Seen::default());
            self.changed();
            return Lost::default();
        };
        if self.seen.borrow().pid != Some(pid) {
            self.chains.again();
            self.seen.replace(Seen {
                pid: Some(pid),
                ..Seen::default()
            });
        }
        let Some(held) = held else {
            return self.seen.borrow().lost.clone();
        };
        let Some(missing) = self.look(api, status, prefs, &held).await else {
            // tailscaled would not say; the next look asks again.
            self.changed();
            return self.seen.borrow().lost.clone();
        };
        let lost = match missing.is_empty() {
            true => Lost::default(),
            false => Lost {
                what: missing.words(),
                mendable: missing.mendable(),
            },
        };
        let mut seen = self.seen.borrow_mut();
        if missing.is_empty() {
            seen.record = Record::of(&held);
        }
        seen.lost = lost.clone();
        lost
    }

    /// What is missing now, with everything read and asked afresh.
    ///
    /// # Errors
    /// Says what could not be read, or that tailscaled does not run any more.
    pub async fn missing(&self, api: &LocalApi) -> Result<Missing, String> {
        let held = self.read_now().map_err(|e| e.to_string())?;
        let status = api.status(false).await.map_err(|e| e.to_string())?;
        let prefs = api.prefs().await.map_err(|e| e.to_string())?;
        if status.backend != BackendState::Running || !prefs.want_running {
            return Err(format!("tailscaled is {}", status.backend.name()));
        }
        self.changed();
        let missing = self.look(api, &status, &prefs, &held).await;
        missing.ok_or_else(|| "tailscaled did not tell its peers".to_string())
    }

    /// What is missing or, when nothing is, at the wrong place; `None` when tailscaled would not say.
    async fn look(
        &self,
        api: &LocalApi,
        status: &Status,
        prefs: &Prefs,
        held: &Held,
    ) -> Option<Missing> {
        let missing = self.compare(api, status, prefs, held).await?;
        if !missing.is_empty() {
            return Some(missing);
        }
        let way = self.swallowed(status, held).await;
        Some(way.map_or(missing, |way| kernel::misplaced(held, &way)))
    }

    async fn compare(
        &self,
        api: &LocalApi,
        status: &Status,
        prefs: &Prefs,
        held: &Held,
    ) -> Option<Missing> {
        let record = self.seen.borrow().record.clone();
        let record = record.as_ref();
        let mut claims = Claims {
            addresses: status.tailscale_ips.clone(),
            route_all: prefs.route_all,
            exit_node: prefs.exit_node,
            netfilter_mode: prefs.netfilter_mode,
            no_snat: prefs.no_snat,
            ..Claims::default()
        };
        if kernel::routes_in_doubt(record, held, &claims) {
            claims.networks = api.networks().await.ok()?;
        }
        Some(kernel::missing(record, held, &claims))
    }

    /// The device by which packets to the tailnet leave, when rules that are asked before
    /// tailscaled's catch them.
    ///
    /// The kernel says where a packet with their mark would go; whether packets to the tailnet get
    /// that mark only a packet can say. So tailscaled's own resolver is asked twice: straight into
    /// the device, and as any program here would ask it. It must answer the first alone.
    async fn swallowed(&self, status: &Status, held: &Held) -> Option<String> {
        let (service, marks) = (kernel::service(Family::V4), kernel::ahead(&held.rules));
        let device = held.device.as_ref()?;
        let has_v4 = status.tailscale_ips.iter().any(IpAddr::is_ipv4);
        // Another place would help only where tailscaled itself would take it.
        let has_better = kernel::mwan3_shows(&held.rules) && Path::new(MWAN3_CONFIG).exists();
        if marks.is_empty() || !has_v4 || !has_better {
            return None;
        }
        let spared = self.seen.borrow().spared.clone();
        if spared.is_some_and(|(of, at)| of == marks && at.elapsed() < SPARED_FOR) {
            return None;
        }
        let way = other_way(service, &marks, device)?;
        let straight = Egress {
            mark: Some(self.mmx_mask),
            device: Some(device.name.clone()),
            source: None,
        };
        let peer = SocketAddr::new(service, 53);
        // Without an answer nothing can be said, for instance of a build without the resolver.
        let took = ask(&straight, peer, ANSWER).await.ok()?;
        let patience = LEAST.max(took.saturating_mul(TIMES));
        if ask(&Egress::default(), peer, patience).await.is_ok() {
            self.seen.borrow_mut().spared = Some((marks, Instant::now()));
            return None;
        }
        Some(way)
    }
}

/// The device, not tailscaled's, by which a packet with one of the marks would leave.
fn other_way(to: IpAddr, marks: &[u32], device: &Link) -> Option<String> {
    let mut client = Client::open().ok()?;
    let mut ways = marks
        .iter()
        .take(MARKS)
        .filter_map(|mark| client.route_get(to, Some(*mark), None).ok().flatten())
        .filter(|way| way.oif != device.index);
    ways.next().map(|way| way.device)
}

/// How long tailscaled's resolver takes to answer a question that is sent this way.
async fn ask(egress: &Egress, peer: SocketAddr, patience: Duration) -> io::Result<Duration> {
    let began = Instant::now();
    let exchange = async {
        let socket = Async::new(egress.udp(peer)?)?;
        socket.get_ref().connect(&SockAddr::from(peer))?;
        let question = question(fastrand::u16(..));
        let mut answer = [0; 512];
        let send = async {
            loop {
                // One that cannot be sent is not answered either.
                socket.write_with(|s| s.send(&question)).await?;
                Timer::after(ASK_AGAIN).await;
            }
        };
        let receive = async {
            loop {
                let length = socket
                    .read_with(|s| io::Read::read(&mut &*s, &mut answer))
                    .await?;
                if length > 2 && answer.get(..2) == question.get(..2) {
                    return Ok(began.elapsed());
                }
            }
        };
        smol::future::or(receive, send).await
    };
    within(patience, exchange).await
}

/// A DNS question that tailscaled answers from its own table (net/dns/resolver, dnsSymbolicFQDN).
fn question(id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion desired, one question (RFC 1035, section 4.1.1).
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["magicdns", "localhost-tailscale-daemon"] {
        bytes.extend(u8::try_from(label.len()));
        bytes.extend(label.bytes());
    }
    // The root, type A, class IN.
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Reads everything that tailscaled puts into the kernel. `device` is what its device was called.
fn read(device: Option<&str>, chains: &ChainWatch) -> Result<Held, Error> {
    let mut client = Client::open()?;
    let mut held = Held {
        chains: chains.read()?,
        ..Held::default()
    };
    for family in Family::BOTH {
        let routes: Table = client.routes(family, kernel::TABLE)?;
        held.routes.join(routes);
        // A kernel built without rules of a family has none of tailscaled's either.
        held.rules.extend(client.rules(family).unwrap_or_default());
    }
    let by_route = held.routes.device();
    let links = client.links()?;
    let called = |l: &&Link| match device {
        Some(name) => l.name == name,
        None => by_route.map_or(l.name == DEVICE, |index| l.index == index),
    };
    held.device = links.iter().find(called).cloned();
    let own = held.device.as_ref().map(|l| l.index);
    for a in client.addresses(None)? {
        match Some(a.index) == own {
            true => held.addresses.push(a.address),
            false => held.near.push(network(a.address, a.prefix)),
        }
    }
    held.ipv6_off = held.device.as_ref().is_some_and(|l| ipv6_is_off(&l.name));
    Ok(held)
}

/// No file means no IPv6 on the device; one that cannot be read tells nothing.
fn ipv6_is_off(device: &str) -> bool {
    let file = Path::new("/proc/sys/net/ipv6/conf")
        .join(device)
        .join("disable_ipv6");
    match fs::read_to_string(file) {
        Ok(text) => text.trim() == "1",
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}
