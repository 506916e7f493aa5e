//! The one loop, on one thread: joins `watch`, `core` and `cure`, and speaks for them on ubus.

mod act;
mod hear;
mod hooks;
mod journal;
mod lines;
mod listen;
mod look;
mod moment;
mod restarts;
mod words;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use log::{debug, error, info, warn};
use smol::channel::{self, Receiver, Sender};
use smol::lock::Mutex;
use smol::{LocalExecutor, Timer};

use crate::config::{self, Mark, Settings};
use crate::core::budget::Limits;
use crate::core::ladder::Allowed;
use crate::core::tailnet::{Api, Tailnet};
use crate::core::{
    Action, Core, Cure, Effort, Event, Family, Finding, Hop, Input, Knowledge, Look, Moment,
    Notice, Pin, Policy, Route, Scope, Stage, Steering, Uplink, Way, LEAVE_FOR,
};
use crate::cure::steer::{self, Found, Place};
use crate::cure::{leave, mend, restart, tailscaled};
use crate::metrics::{self, Tally};
use crate::net::nftables;
use crate::net::rtnetlink::{Client as Netlink, Error as NetlinkError, Monitor};
use crate::net::socket::Egress;
use crate::net::thread;
use crate::net::worker;
use crate::tailscale::localapi::{mask, Bus, Error, LocalApi};
use crate::tailscale::process;
use crate::ubus::blobmsg::{table_from_json, Table, Type, Value};
use crate::ubus::client::{Call, Client, Handle, Happening};
use crate::ubus::session::Method;
use crate::ubus::Status;
use crate::view;
use crate::watch::chains;
use crate::watch::conntrack;
use crate::watch::events::{self, Kept};
use crate::watch::heard::Ear;
use crate::watch::kernel::{self, Calm};
use crate::watch::lost::KernelWatch;
use crate::watch::mwan3;
use crate::watch::oddities::oddities;
use crate::watch::probe::{by_path, by_uplink, Manner, Prober, Resolvers, Round};
use crate::watch::pulse;
use crate::watch::sockets;
use crate::watch::tailnet::TailnetWatch;
use crate::watch::targets::Targets;
use crate::watch::uplinks::{self, Choice, Interface};

use hooks::Hooks;
use journal::Journal;

/// What stands in brackets before each line of the log.
const LOG: &str = "tailover";

/// Name of our ubus object.
pub const OBJECT: &str = "tailover";

/// A question to tailscaled that takes longer means that it hangs; it answers in milliseconds.
const API_TIMEOUT: Duration = Duration::from_secs(2);

/// How long netifd, mwan3 and procd may take to answer.
const UBUS_TIMEOUT: Duration = Duration::from_secs(3);

/// Pauses between attempts to listen to tailscaled's bus.
const BUS_RETRY: Duration = Duration::from_secs(5);

/// The same where tailscaled was built without it; another build may come.
const BUS_ABSENT: Duration = Duration::from_secs(60);

/// Pause before a broken netlink socket is opened anew.
const NETLINK_RETRY: Duration = Duration::from_secs(1);

/// Where the kernel is asked for the path to while no DERP node is known.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
];

/// How long the first look at tailscaled and at the control server's name may take.
const ACQUAINTANCE: Duration = Duration::from_secs(3);

/// How long a check asked for over ubus may take; its probes have shorter limits of their own.
const CHECK_LIMIT: Duration = Duration::from_secs(25);

/// How long the kernel's table of connections may take to be read.
const PINS_LIMIT: Duration = Duration::from_secs(5);

/// How long a drill stays on the other uplink once the tailnet is well there, and at most: seconds.
pub const DRILL_STAY: u64 = 30;
pub const DRILL_STAY_MOST: u64 = 600;

/// How long a hook may take to be gone once it was killed.
const HOOKS_END: Duration = Duration::from_millis(500);

/// How long ubusd may take to get our last words.
const GOODBYE: Duration = Duration::from_millis(200);

/// Why the daemon could not start.
#[derive(Debug)]
pub enum Refusal {
    /// No right to set marks or rules.
    Rights(String),
    /// Another one runs.
    Second(PathBuf),
    /// Something else the system refused.
    System(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refusal::Rights(what) => {
                write!(
                    f,
                    "{what}: run tailover as root (CAP_NET_ADMIN, CAP_NET_RAW)"
                )
            }
            Refusal::Second(lock) => write!(
                f,
                "another tailover runs already ({} is locked)",
                lock.display()
            ),
            Refusal::System(what) => f.write_str(what),
        }
    }
}

/// What reaches the loop.
enum Said {
    Core(Input),
    Ubus(Happening),
    Interfaces(Vec<Interface>),
    Signal(Signal),
    /// A look at tailscaled has ended.
    Looked(Box<Tailnet>),
    /// The owner's programs have ended for one event.
    Hooked(hooks::Ends),
}

/// Owns everything that lives as long as the process.
struct Daemon {
    executor: Rc<LocalExecutor<'static>>,
    settings: Settings,
    file: PathBuf,
    core: Core,
    began: Instant,
    wake: Option<Instant>,
    inbox: Receiver<Said>,
    outbox: Sender<Said>,
    netlink: Netlink,
    interfaces: Vec<Interface>,
    mwan3: mwan3::File,
    /// Devices by which probes have a way of ours, IPv4 and IPv6; `None` while that is not known.
    open: [Option<Vec<String>>; 2],
    targets: Rc<RefCell<Targets>>,
    tailnet: Rc<TailnetWatch>,
    prober: Prober,
    ear: Ear,
    ubus: Option<Handle>,
    looking: bool,
    look_again: bool,
    /// What earlier runs saw; `None` where nothing is kept.
    journal: Option<Journal>,
    /// Look and probe, but cure nothing (`check`).
    dry: bool,
    done: bool,
    /// What is there at the start was read, and the assessment of it has begun.
    begun: bool,
    /// Cures that a dry run would have taken.
    would: Vec<Cure>,
    /// Held by the task that runs nft: each order comes after the one before.
    nft: Rc<Mutex<()>>,
    /// Our nftables table may be there.
    leaving: bool,
    told_no_nft: bool,
    /// Who is told how far a dry run is, and the scopes whose verdict was told.
    progress: Option<Progress>,
    judged: Vec<Scope>,
    tally: Tally,
    hooks: Hooks,
}

/// Takes a line for people about each step of a check.
pub type Progress = Box<dyn FnMut(&str)>;

/// Runs until it is told to stop.
///
/// # Errors
/// Says why it could not start; the caller chooses the exit code.
pub fn run(settings: Settings, file: &Path) -> Result<(), Refusal> {
    let _lock = lock(&settings.state_dir)?;
    let executor = Rc::new(LocalExecutor::new());
    let mut daemon = Daemon::new(Rc::clone(&executor), settings, file, false)?;
    daemon.open_journal();
    start_worker(&executor);
    // Not smol's: that one and the thread "async-io" would take turns at waiting for the kernel, and
    // wake each other up to a dozen times for each event (async-io, driver.rs).
    smol::future::block_on(executor.run(async {
        daemon.read_interfaces_once().await;
        daemon.adopt();
        daemon.recall_restarts();
        leave::cleanup();
        daemon.get_acquainted().await;
        daemon.listen();
        daemon.start("tailover has started");
        daemon.until_done().await;
        daemon.goodbye().await;
    }));
    Ok(())
}

/// Looks at everything and probes everything once, and changes nothing. Gives the state with the
/// diagnosis, and the cures that would have been taken.
///
/// # Errors
/// As [`run`].
pub fn check(
    settings: Settings,
    file: &Path,
    progress: Progress,
) -> Result<serde_json::Value, Refusal> {
    let executor = Rc::new(LocalExecutor::new());
    let mut daemon = Daemon::new(Rc::clone(&executor), settings, file, true)?;
    daemon.progress = Some(progress);
    start_worker(&executor);
    smol::block_on(executor.run(async {
        daemon.read_interfaces_once().await;
        daemon.adopt();
        daemon.get_acquainted().await;
        daemon.start("check");
        daemon.until_done().await;
    }));
    let mut status = view::status(&daemon.core, daemon.now());
    if let Some(map) = status.as_object_mut() {
        let would: Vec<String> = daemon.would.iter().map(Cure::to_string).collect();
        map.insert("would".into(), serde_json::json!(would));
    }
    Ok(status)
}

/// From here on this thread's requests and lookups go to the worker process.
fn start_worker(executor: &LocalExecutor) {
    let parent = worker::use_process(worker::Program::installed());
    executor.spawn(parent.run()).detach();
}

/// The settings as the core wants them.
pub fn policy(s: &Settings) -> Policy {
    let has = |c| s.cures.contains(&c);
    Policy {
        allowed: Allowed {
            steer: has(config::Cure::Steer),
            nudge: has(config::Cure::Nudge),
            renew: has(config::Cure::Renew),
            mend: has(config::Cure::Mend),
            restart: has(config::Cure::Restart),
        },
        limits: Limits {
            min: s.restart_min,
            max: s.restart_max,
            per_hour: s.restarts_per_hour,
        },
        hold: s.hold,
        settle: s.settle,
        interval: s.interval,
        other_interval: s.other_interval,
        probe_timeout: s.probe_timeout,
    }
}

/// Only one daemon may steer. The lock ends with the process, however that ends.
fn lock(dir: &Path) -> Result<File, Refusal> {
    let path = dir.join("lock");
    let refused = |e: io::Error| {
        let what = format!("{} cannot be made: {e}", path.display());
        match e.kind() {
            io::ErrorKind::PermissionDenied => Refusal::Rights(what),
            _ => Refusal::System(what),
        }
    };
    fs::create_dir_all(dir).map_err(refused)?;
    let file = File::create(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Refusal::Second(path)),
        Err(TryLockError::Error(e)) => Err(refused(e)),
    }
}

impl Daemon {
    fn new(
        executor: Rc<LocalExecutor<'static>>,
        settings: Settings,
        file: &Path,
        dry: bool,
    ) -> Result<Daemon, Refusal> {
        let netlink = Netlink::open().map_err(|e| Refusal::System(e.to_string()))?;
        // Ask for the rights now, in one clear sentence, and not in the first outage.
        by_path(settings.mark.value)
            .udp(([127, 0, 0, 1], 9).into())
            .map_err(|e| match e.kind() {
                io::ErrorKind::PermissionDenied => Refusal::Rights(e.to_string()),
                _ => Refusal::System(e.to_string()),
            })?;
        let (outbox, inbox) = channel::unbounded();
        let targets = Rc::new(RefCell::new(Targets::new(&settings)));
        let api = LocalApi {
            socket: settings.socket.clone(),
            timeout: API_TIMEOUT,
        };
        let mut mwan3 = mwan3::File::new(Path::new(mwan3::PATH));
        let tailnet = Rc::new(TailnetWatch::new(
            api,
            Rc::clone(&targets),
            KernelWatch::new(mwan3.bits(&settings)),
        ));
        Ok(Daemon {
            executor,
            core: Core::new(policy(&settings)),
            file: file.to_path_buf(),
            began: Instant::now(),
            wake: None,
            inbox,
            outbox,
            netlink,
            interfaces: Vec::new(),
            mwan3,
            open: [None, None],
            prober: Prober::new(Rc::clone(&targets), Manner::new(&settings)),
            targets,
            tailnet,
            ear: Ear::default(),
            ubus: None,
            looking: false,
            look_again: false,
            journal: None,
            dry,
            done: false,
            begun: false,
            would: Vec::new(),
            nft: Rc::default(),
            leaving: false,
            told_no_nft: false,
            progress: None,
            judged: Vec::new(),
            tally: Tally::default(),
            hooks: Hooks::new(hooks::DIR),
            settings,
        })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn place(&self) -> Place {
        Place::new(&self.settings)
    }

    /// Takes over the steering that an earlier run left.
    fn adopt(&mut self) {
        let place = self.place();
        for family in Family::BOTH {
            match steer::found(&mut self.netlink, &place, family) {
                Ok(Found { to, keep }) => {
                    if let Some(device) = &to {
                        info!(target: LOG, "an earlier run steers {family} by {device}; that is taken over");
                    }
                    if to.is_some() || keep.is_some() {
                        self.feed(Input::Adopt { family, to, keep });
                    }
                }
                Err(e) => warn!(target: LOG, "{e}"),
            }
        }
    }

    /// Learns from tailscaled whom the probes can ask. Without that they would ask only the
    /// defaults, so it is worth a moment; but not a long one, with a dead resolver.
    async fn get_acquainted(&mut self) {
        let tailnet = Rc::clone(&self.tailnet);
        let meet = async {
            let seen = tailnet.look().await;
            tailnet.learn().await;
            Ok(seen)
        };
        if let Ok(seen) = crate::net::socket::within(ACQUAINTANCE, meet).await {
            self.feed(Input::Tailnet(Box::new(seen)));
        }
    }

    /// Learns what an earlier run has spent of the restarts that are allowed.
    fn recall_restarts(&mut self) {
        match restarts::earlier(&self.settings.state_dir) {
            Ok(ages) if ages.is_empty() => {}
            Ok(ages) => self.feed(Input::Restarted(ages)),
            Err(e) => warn!(target: LOG, "the restarts of earlier runs are not counted: {e}"),
        }
    }

    fn open_journal(&mut self) {
        let copy = self.settings.history.as_deref();
        match Journal::open(&self.settings.state_dir, copy) {
            Ok(journal) => self.journal = Some(journal),
            Err(e) => warn!(target: LOG, "the history of earlier runs is not kept: {e}"),
        }
    }

    /// Writes down the episodes that have ended since.
    fn keep_history(&mut self) {
        let now = self.now();
        let Some(journal) = &mut self.journal else {
            return;
        };
        let history = self.core.history();
        let untold = journal.untold(history.ended());
        let before = history.iter().len().saturating_sub(untold);
        for e in history.iter().skip(before) {
            if let Err(e) = journal.add(view::episode(e, now)) {
                warn!(target: LOG, "an episode is kept in memory alone: {e}");
            }
        }
        self.copy_journal(false);
    }

    fn copy_journal(&mut self, at_once: bool) {
        let copied = self.journal.as_mut().map(|j| j.copy(at_once));
        if let Some(Err(e)) = copied {
            warn!(target: LOG, "the history will not outlive a reboot: {e}");
        }
    }

    /// Episodes, newest first: those of this run, and what earlier ones have left; and the last day.
    fn history(&self) -> serde_json::Value {
        let mut list = view::history(&self.core, self.now());
        list.extend(self.journal.iter().flat_map(Journal::earlier));
        let timeline = view::timeline(&self.core, self.now());
        serde_json::json!({ "episodes": list, "timeline": timeline })
    }

    fn start(&mut self, why: &str) {
        self.read_uplinks();
        self.begun = true;
        self.feed(Input::Event(Event::Changed { what: why.into() }));
    }

    async fn goodbye(&mut self) {
        self.close_for_probes();
        if self.leaving {
            let _turn = self.nft.lock().await;
            if let Err(e) = leave::apply(&[], LEAVE_FOR).await {
                warn!(target: LOG, "the table inet tailover stays: {e}");
            }
        }
        self.copy_journal(true);
        if self.hooks.end() {
            // Nothing but what is said wakes us any more.
            self.wake = None;
            let ended = crate::net::socket::within(HOOKS_END, async {
                while !matches!(self.next().await, Some(Said::Hooked(_)) | None) {}
                Ok(())
            });
            // One that cannot be killed by then is left.
            let _ = ended.await;
        }
        if let Some(ubus) = &self.ubus {
            let last = crate::net::socket::within(GOODBYE, async { Ok(ubus.ping().await) });
            // A ubusd that does not answer now cannot be told anything.
            let _ = last.await;
        }
        info!(target: LOG, "tailover has ended");
    }

    async fn until_done(&mut self) {
        while !self.done {
            match self.next().await {
                Some(said) => self.hear(said),
                None => self.feed(Input::Wake),
            }
            self.tally.take(&self.core);
            self.keep_history();
        }
    }

    /// The next thing said, or `None` when the time asked for has come.
    async fn next(&self) -> Option<Said> {
        let said = async { self.inbox.recv().await.ok() };
        match self.wake {
            Some(at) => {
                smol::future::or(said, async {
                    Timer::at(at).await;
                    None
                })
                .await
            }
            None => said.await,
        }
    }
}

/// Reads the files of an earlier run, of whatever bytes, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    let (lines, _) = lines::of(bytes).unwrap_or_default();
    assert!(lines.iter().all(|line| line.len() <= lines::LINE));
    journal::hostile(&lines);
    restarts::ages(&lines);
}
