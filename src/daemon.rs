//! The one loop, on one thread: joins `watch`, `core` and `cure`, and speaks for them on ubus.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use log::{error, info, warn};
use smol::channel::{self, Receiver, Sender};
use smol::{LocalExecutor, Timer};

use crate::config::{self, Settings};
use crate::core::budget::Limits;
use crate::core::ladder::Allowed;
use crate::core::tailnet::Api;
use crate::core::{
    Action, Core, Cure, Effort, Event, Family, Input, Look, Moment, Notice, Policy, Route, Scope,
    Steering,
};
use crate::cure::steer::{self, Place};
use crate::cure::{restart, tailscaled};
use crate::net::rtnetlink::{Client as Netlink, Monitor};
use crate::net::socket::Egress;
use crate::net::worker;
use crate::tailscale::localapi::{mask, LocalApi};
use crate::ubus::blobmsg::{table_from_json, Table, Type, Value};
use crate::ubus::client::{Call, Client, Handle, Happening};
use crate::ubus::session::Method;
use crate::ubus::Status;
use crate::view;
use crate::watch::events;
use crate::watch::kernel;
use crate::watch::probe::{by_path, by_uplink, Manner, Prober, Round};
use crate::watch::tailnet::TailnetWatch;
use crate::watch::targets::Targets;
use crate::watch::uplinks::{self, Interface};

/// Name of our ubus object.
pub const OBJECT: &str = "tailover";

/// A question to tailscaled that takes longer means that it hangs; it answers in milliseconds.
const API_TIMEOUT: Duration = Duration::from_secs(2);

/// How long netifd, mwan3 and procd may take to answer.
const UBUS_TIMEOUT: Duration = Duration::from_secs(3);

/// Pauses between attempts to listen to tailscaled's bus.
const BUS_RETRY: Duration = Duration::from_secs(5);

/// Pause before a broken netlink socket is opened anew.
const NETLINK_RETRY: Duration = Duration::from_secs(1);

/// Where the kernel is asked for the path to: addresses that no router has a route of its own to.
const FAR: [&str; 2] = ["8.8.8.8", "2001:4860:4860::8888"];

/// How long the first look at tailscaled and at the control server's name may take.
const ACQUAINTANCE: Duration = Duration::from_secs(3);

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
    Looked(crate::core::tailnet::Tailnet),
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
    targets: Rc<RefCell<Targets>>,
    tailnet: Rc<TailnetWatch>,
    prober: Prober,
    ubus: Option<Handle>,
    looking: bool,
    look_again: bool,
    /// Look and probe, but cure nothing (`check`).
    dry: bool,
    done: bool,
    /// Cures that a dry run would have taken.
    would: Vec<Cure>,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Says why it could not start; the caller chooses the exit code.
pub fn run(settings: Settings, file: &Path) -> Result<(), Refusal> {
    let _lock = lock(&settings.state_dir)?;
    let executor = Rc::new(LocalExecutor::new());
    let mut daemon = Daemon::new(Rc::clone(&executor), settings, file, false)?;
    let parent = worker::use_process(worker::Program::this());
    executor.spawn(parent.run()).detach();
    smol::block_on(executor.run(async {
        daemon.adopt();
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
pub fn check(settings: Settings, file: &Path) -> Result<serde_json::Value, Refusal> {
    let executor = Rc::new(LocalExecutor::new());
    let mut daemon = Daemon::new(Rc::clone(&executor), settings, file, true)?;
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

/// The settings as the core wants them.
pub fn policy(s: &Settings) -> Policy {
    let has = |c| s.cures.contains(&c);
    Policy {
        allowed: Allowed {
            steer: has(config::Cure::Steer),
            nudge: has(config::Cure::Nudge),
            renew: has(config::Cure::Renew),
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
        let tailnet = Rc::new(TailnetWatch::new(api, Rc::clone(&targets)));
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
            prober: Prober::new(Rc::clone(&targets), Manner::new(&settings)),
            targets,
            tailnet,
            ubus: None,
            looking: false,
            look_again: false,
            dry,
            done: false,
            would: Vec::new(),
            settings,
        })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn place(&self) -> Place {
        Place::new(&self.settings)
    }

    // ---- starting and ending ---------------------------------------------------------------

    /// Starts everything that tells of the world.
    fn listen(&mut self) {
        self.spawn_kernel_watch();
        self.spawn_bus_watch();
        self.spawn_signals();
        let (client, handle, happenings) = Client::new(&self.settings.ubus_socket);
        let outbox = self.outbox.clone();
        self.executor.spawn(client.run()).detach();
        self.executor
            .spawn(async move {
                while let Ok(h) = happenings.recv().await {
                    if outbox.send(Said::Ubus(h)).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
        self.ubus = Some(handle.clone());
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                if let Err(e) = handle.add_object(OBJECT, methods()).await {
                    warn!("the ubus object `{OBJECT}` cannot be published: {e}");
                }
                for pattern in ["network.interface", "ubus.object.add"] {
                    if let Err(e) = handle.listen(pattern).await {
                        warn!("cannot listen to ubus events `{pattern}`: {e}");
                    }
                }
                for path in ["network.interface.*", "network.device", "service"] {
                    if let Err(e) = handle.subscribe(path).await {
                        warn!("cannot subscribe to ubus object `{path}`: {e}");
                    }
                }
                drop(outbox);
            })
            .detach();
    }

    /// Takes over the steering that an earlier run left.
    fn adopt(&mut self) {
        let place = self.place();
        for family in Family::BOTH {
            match steer::found(&mut self.netlink, &place, family) {
                Ok(Some(device)) => {
                    info!("an earlier run steers {family} by {device}; that is taken over");
                    self.feed(Input::Adopt { family, device });
                }
                Ok(None) => {}
                Err(e) => warn!("{e}"),
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
            self.feed(Input::Tailnet(seen));
        }
    }

    fn start(&mut self, why: &str) {
        self.read_uplinks();
        self.feed(Input::Event(Event::Changed { what: why.into() }));
    }

    async fn goodbye(&mut self) {
        if let Some(ubus) = &self.ubus {
            let last = crate::net::socket::within(GOODBYE, async { Ok(ubus.ping().await) });
            // A ubusd that does not answer now cannot be told anything.
            let _ = last.await;
        }
        info!("tailover has ended");
    }

    async fn until_done(&mut self) {
        while !self.done {
            match self.next().await {
                Some(said) => self.hear(said),
                None => self.feed(Input::Wake),
            }
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

    // ---- inputs ----------------------------------------------------------------------------

    fn hear(&mut self, said: Said) {
        match said {
            Said::Core(input) => self.feed(input),
            Said::Looked(tailnet) => {
                self.looking = false;
                self.feed(Input::Tailnet(tailnet));
                if std::mem::take(&mut self.look_again) {
                    self.look_at_tailnet();
                }
            }
            Said::Interfaces(list) => {
                if list != self.interfaces {
                    self.interfaces = list;
                    self.read_uplinks();
                }
            }
            Said::Ubus(happening) => self.hear_ubus(happening),
            Said::Signal(Signal::Hup) => self.reload(),
            Said::Signal(_) => self.feed(Input::Stop),
        }
    }

    /// Gives the core an input, and does what it says; what that brings at once is fed as well.
    fn feed(&mut self, input: Input) {
        let mut queue = VecDeque::from([input]);
        while let Some(input) = queue.pop_front() {
            let moment = Moment {
                now: self.now(),
                dice: fastrand::u32(..),
            };
            if matches!(input, Input::Wake) {
                self.wake = None;
            }
            for action in self.core.step(moment, input) {
                self.act(action, &mut queue);
            }
        }
        if self.dry && self.dry_run_over() {
            self.done = true;
        }
    }

    /// A dry run is over when the machine has made up its mind.
    fn dry_run_over(&self) -> bool {
        !self.would.is_empty()
            || !matches!(self.core.stage(), crate::core::Stage::Proving { .. })
                && self.core.knowledge().paths_read.is_some()
    }

    fn hear_ubus(&mut self, happening: Happening) {
        match happening {
            Happening::Up => {
                info!("ubus is up");
                self.refresh_interfaces();
                self.refresh_mwan3();
            }
            Happening::Down(why) => warn!(
                "no ubus ({why}); going on with netlink and probes, trying again ({})",
                self.settings.ubus_socket.display()
            ),
            Happening::Event { id, data } if id == "network.interface" => {
                self.refresh_interfaces();
                if let Some(event) = events::netifd_event(&data) {
                    self.feed(Input::Event(event));
                }
            }
            Happening::Event { id, data } if id == "ubus.object.add" => {
                if data.get("path").and_then(Value::str) == Some("mwan3") {
                    self.refresh_mwan3();
                }
            }
            Happening::Event { .. } => {}
            Happening::Notification {
                object,
                method,
                data,
            } => {
                let event = match object.as_str() {
                    "network.device" => events::device_notification(&method, &data),
                    "service" => {
                        events::service_notification(&method, &data, &self.settings.service)
                    }
                    _ => {
                        self.refresh_interfaces();
                        events::netifd_notification(&object, &method, &data)
                    }
                };
                if let Some(event) = event {
                    self.feed(Input::Event(event));
                }
            }
            Happening::Call(call) => self.answer(call),
        }
    }

    fn answer(&mut self, call: Call) {
        match call.method.as_str() {
            "status" => self.reply(call, view::status(&self.core, self.now())),
            "history" => self.reply(call, view::history(&self.core, self.now())),
            "recover" => {
                let force = call.data.get("force").and_then(Value::bool) == Some(true);
                call.done();
                self.feed(Input::Recover { force });
            }
            "event" => match events::hotplug(&call.data) {
                Ok(event) => {
                    // Answer first: a hotplug script waits.
                    call.done();
                    self.feed(Input::Event(event));
                }
                Err(why) => {
                    warn!("a call of {OBJECT} event was refused: {why}");
                    call.fail(Status::InvalidArgument);
                }
            },
            _ => call.fail(Status::MethodNotFound),
        }
    }

    fn reply(&self, call: Call, json: serde_json::Value) {
        call.reply(table_from_json(&json));
    }

    /// Takes a changed configuration, or keeps the last good one.
    fn reload(&mut self) {
        match config::load(&self.file) {
            Ok((settings, warnings)) => {
                for w in warnings {
                    warn!("{w}");
                }
                let fixed = |s: &Settings| {
                    (
                        s.socket.clone(),
                        s.ubus_socket.clone(),
                        s.state_dir.clone(),
                        Place::new(s),
                    )
                };
                if fixed(&settings) != fixed(&self.settings) {
                    warn!(
                        "sockets, directories, mark, priority and table change at the next start"
                    );
                }
                log::set_max_level(settings.log_level);
                let kept = std::mem::replace(&mut self.settings, settings);
                self.settings.socket = kept.socket;
                self.settings.ubus_socket = kept.ubus_socket;
                self.settings.state_dir = kept.state_dir;
                self.settings.mark = kept.mark;
                self.settings.priority = kept.priority;
                self.settings.table = kept.table;
                self.settings.protocol = kept.protocol;
                self.targets.borrow_mut().reconfigure(&self.settings);
                self.prober.set_manner(Manner::new(&self.settings));
                info!("the configuration was read again");
                self.feed(Input::Policy(policy(&self.settings)));
                self.start("the configuration was read again");
            }
            Err(e) => {
                for problem in e.0 {
                    error!("{problem}");
                }
                error!("the last good settings stay in force");
            }
        }
    }

    // ---- actions ---------------------------------------------------------------------------

    fn act(&mut self, action: Action, queue: &mut VecDeque<Input>) {
        if self.dry {
            if let Some(cure) = cure_of(&action) {
                self.would.push(cure);
                return;
            }
        }
        match action {
            Action::Look(look) => {
                if look != Look::Tailnet {
                    queue.extend(self.paths());
                    queue.extend(self.uplinks());
                }
                if look == Look::All {
                    self.refresh_interfaces();
                }
                if look != Look::Paths {
                    self.look_at_tailnet();
                }
            }
            Action::Probe {
                round,
                scope,
                effort,
            } => self.probe(round, scope, effort),
            Action::Steer(family, steering) => {
                queue.push_back(self.steer(family, &steering));
            }
            Action::Nudge => {
                let tailnet = Rc::clone(&self.tailnet);
                self.cure(Cure::Nudge, async move {
                    tailscaled::nudge(tailnet.api()).await
                });
            }
            Action::Renew => {
                let tailnet = Rc::clone(&self.tailnet);
                self.cure(Cure::Renew, async move {
                    tailscaled::renew(tailnet.api()).await
                });
            }
            Action::Restart => {
                let tailnet = Rc::clone(&self.tailnet);
                let (service, ubus) = (self.settings.service.clone(), self.ubus.clone());
                self.cure(Cure::Restart, async move {
                    restart::restart(&service, tailnet.api(), ubus.as_ref()).await
                });
            }
            Action::Wake(at) => self.wake = Some(self.began + at),
            Action::Tell(notice) => self.tell(notice),
            Action::Exit => self.done = true,
        }
    }

    fn steer(&mut self, family: Family, steering: &Steering) -> Input {
        let place = self.place();
        let result = steer::apply(&mut self.netlink, &place, family, steering)
            .map(|text| crate::core::Report {
                text,
                ..Default::default()
            })
            .map_err(|e| e.to_string());
        Input::Cured {
            cure: Cure::Steer(family),
            result,
        }
    }

    fn cure(
        &self,
        cure: Cure,
        work: impl std::future::Future<Output = Result<crate::core::Report, String>> + 'static,
    ) {
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                let result = work.await;
                // Nobody is left to tell once the loop has ended.
                let _ = outbox.try_send(Said::Core(Input::Cured { cure, result }));
            })
            .detach();
    }

    fn probe(&mut self, round: u32, scope: Scope, effort: Effort) {
        let k = self.core.knowledge();
        let mark = self.settings.mark.value;
        let egress: Option<Egress> = match &scope {
            Scope::Path(_) => Some(by_path(mark)),
            Scope::Uplink(name, _) => k
                .uplinks
                .iter()
                .find(|u| u.name == *name)
                .map(|u| by_uplink(&u.device, mark, self.settings.mmx_mask)),
        };
        let Some(egress) = egress else {
            return;
        };
        let family = scope.family();
        let on_path = matches!(scope, Scope::Path(_));
        let plan = Round {
            egress,
            family,
            effort,
            control: !on_path || k.path_uplink(family).is_none(),
            external: on_path && family == Family::V4,
            seed: seed(),
        };
        let (prober, outbox) = (self.prober.clone(), self.outbox.clone());
        self.executor
            .spawn(async move {
                prober
                    .run(plan, |finding| {
                        let scope = scope.clone();
                        let input = Input::Probed {
                            round,
                            scope,
                            finding,
                        };
                        // As above.
                        let _ = outbox.try_send(Said::Core(input));
                    })
                    .await;
            })
            .detach();
    }

    fn tell(&self, notice: Notice) {
        let (name, line, data) = words(&notice);
        match &notice {
            Notice::Fault { .. } | Notice::Waiting(_) => warn!("{line}"),
            Notice::Done { result: Err(_), .. } => warn!("{line}"),
            _ => info!("{line}"),
        }
        let (Some(name), Some(ubus)) = (name, &self.ubus) else {
            return;
        };
        let ubus = ubus.clone();
        self.executor
            .spawn(async move {
                // Without ubusd there is nobody to tell.
                let _ = ubus.notify(OBJECT, name, data).await;
            })
            .detach();
    }

    // ---- looking ---------------------------------------------------------------------------

    fn paths(&mut self) -> Option<Input> {
        let mark = self.settings.mark.value;
        let mut routes = [None, None];
        for (slot, far) in routes.iter_mut().zip(FAR) {
            let far = far.parse().ok()?;
            match self.netlink.route_get(far, Some(mark)) {
                Ok(path) => {
                    *slot = path.map(|p| Route {
                        device: p.device,
                        gateway: p.gateway,
                        source: p.prefsrc,
                    });
                }
                Err(e) => warn!("{e}"),
            }
        }
        Some(Input::Paths(routes))
    }

    fn uplinks(&mut self) -> Option<Input> {
        match uplinks::devices(&mut self.netlink) {
            Ok(devices) => Some(Input::Uplinks(uplinks::join(
                &devices,
                &self.interfaces,
                &self.settings.uplinks,
            ))),
            Err(e) => {
                warn!("{e}");
                None
            }
        }
    }

    fn read_uplinks(&mut self) {
        if let Some(input) = self.uplinks() {
            self.feed(input);
        }
    }

    /// At most one look is under way; another asked for meanwhile follows it.
    fn look_at_tailnet(&mut self) {
        if self.looking {
            self.look_again = true;
            return;
        }
        self.looking = true;
        let tailnet = Rc::clone(&self.tailnet);
        let (outbox, ubus) = (self.outbox.clone(), self.ubus.clone());
        let service = self.settings.service.clone();
        self.executor
            .spawn(async move {
                let mut seen = tailnet.look().await;
                if seen.api == Api::Gone {
                    seen.service_stopped = stopped_on_purpose(ubus, &service).await;
                }
                // As above.
                let _ = outbox.try_send(Said::Looked(seen));
                tailnet.learn().await;
            })
            .detach();
    }

    fn refresh_interfaces(&self) {
        let Some(ubus) = self.ubus.clone().filter(Handle::is_up) else {
            return;
        };
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                match ubus
                    .invoke("network.interface", "dump", Table::new(), UBUS_TIMEOUT)
                    .await
                {
                    Ok(dump) => {
                        // As above.
                        let _ = outbox.try_send(Said::Interfaces(uplinks::interfaces(&dump)));
                    }
                    Err(e) => warn!("netifd does not answer: {e}"),
                }
            })
            .detach();
    }

    /// `check` has no loop yet in which ubus could tell.
    async fn read_interfaces_once(&mut self) {
        let socket = self.settings.ubus_socket.clone();
        let dump = crate::net::thread::run(UBUS_TIMEOUT, move || {
            let none = Table::new();
            crate::ubus::oneshot::call(&socket, "network.interface", "dump", none, UBUS_TIMEOUT)
        });
        // Without netifd the kernel alone tells the uplinks.
        if let Ok(Ok(dump)) = dump.await {
            self.interfaces = uplinks::interfaces(&dump);
        }
    }

    /// Its word of an interface that is offline now; its hotplug calls came before we listened.
    fn refresh_mwan3(&self) {
        let Some(ubus) = self.ubus.clone() else {
            return;
        };
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                let section = vec![("section".to_string(), Value::String("interfaces".into()))];
                let status = ubus.invoke("mwan3", "status", section, UBUS_TIMEOUT).await;
                // No mwan3 is no fault.
                for interface in status.iter().flat_map(events::mwan3_offline) {
                    let event = Event::Down {
                        interface,
                        source: "mwan3".into(),
                    };
                    // As above.
                    let _ = outbox.try_send(Said::Core(Input::Event(event)));
                }
            })
            .detach();
    }

    // ---- listening -------------------------------------------------------------------------

    fn spawn_kernel_watch(&self) {
        let outbox = self.outbox.clone();
        self.executor
            .spawn(async move {
                loop {
                    match Monitor::open() {
                        Ok(mut monitor) => loop {
                            match kernel::next(&mut monitor).await {
                                Ok(event) => {
                                    if outbox.send(Said::Core(Input::Event(event))).await.is_err() {
                                        return;
                                    }
                                }
                                Err(e) => {
                                    warn!("listening to rtnetlink: {e}; trying again");
                                    break;
                                }
                            }
                        },
                        Err(e) => warn!("{e}; trying again"),
                    }
                    Timer::after(NETLINK_RETRY).await;
                }
            })
            .detach();
    }

    fn spawn_bus_watch(&self) {
        let (tailnet, outbox) = (Rc::clone(&self.tailnet), self.outbox.clone());
        let state = Rc::new(Cell::new(None));
        self.executor
            .spawn(async move {
                loop {
                    let mask = mask::INITIAL_STATE | mask::RATE_LIMIT;
                    if let Ok(mut bus) = tailnet.api().watch_bus(mask).await {
                        while let Ok(notify) = bus.next().await {
                            let Some(now) = notify.state else { continue };
                            if state.replace(Some(now)) == Some(now) {
                                continue;
                            }
                            let what = format!("tailscaled is {}", now.name());
                            let event = Input::Event(Event::Tailscaled { what });
                            if outbox.send(Said::Core(event)).await.is_err() {
                                return;
                            }
                        }
                        if state.take().is_some() {
                            let what = "tailscaled closed its bus".into();
                            let event = Input::Event(Event::Tailscaled { what });
                            if outbox.send(Said::Core(event)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Timer::after(BUS_RETRY).await;
                }
            })
            .detach();
    }

    fn spawn_signals(&self) {
        let outbox = self.outbox.clone();
        let signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup]);
        let mut signals = match signals {
            Ok(s) => s,
            Err(e) => {
                warn!("signals cannot be caught: {e}");
                return;
            }
        };
        self.executor
            .spawn(async move {
                use smol::stream::StreamExt;
                while let Some(Ok(signal)) = signals.next().await {
                    if outbox.send(Said::Signal(signal)).await.is_err() {
                        return;
                    }
                }
            })
            .detach();
    }
}

async fn stopped_on_purpose(ubus: Option<Handle>, service: &str) -> bool {
    let Some(ubus) = ubus.filter(Handle::is_up) else {
        return false;
    };
    let name = vec![("name".to_string(), Value::String(service.into()))];
    match ubus.invoke("service", "list", name, UBUS_TIMEOUT).await {
        Ok(list) => events::service_stopped(&list, service),
        Err(_) => false,
    }
}

/// The typed signature that `ubus -v list tailover` shows.
fn methods() -> Vec<Method> {
    vec![
        Method::new("status", &[]),
        Method::new("history", &[]),
        Method::new("recover", &[("force", Type::Bool)]),
        Method::new(
            "event",
            &[
                ("action", Type::String),
                ("interface", Type::String),
                ("device", Type::String),
                ("firstconnect", Type::String),
            ],
        ),
    ]
}

fn cure_of(action: &Action) -> Option<Cure> {
    match action {
        Action::Steer(f, _) => Some(Cure::Steer(*f)),
        Action::Nudge => Some(Cure::Nudge),
        Action::Renew => Some(Cure::Renew),
        Action::Restart => Some(Cure::Restart),
        _ => None,
    }
}

fn seed() -> [u8; 12] {
    std::array::from_fn(|_| fastrand::u8(..))
}

/// The name of the ubus notification, if there is one, the line of the log, and the data.
fn words(notice: &Notice) -> (Option<&'static str>, String, Table) {
    let text = |name: &str, value: &str| (name.to_string(), Value::String(value.into()));
    match notice {
        Notice::Trigger(why) => (None, format!("looking: {why}"), vec![]),
        Notice::Fault { id, text: t, .. } => (
            Some("fault"),
            format!("fault {id}: {t}"),
            vec![text("id", id), text("text", t)],
        ),
        Notice::Cure { cure, text: why } => (
            Some("cure"),
            format!("cure {cure}: {why}"),
            vec![text("cure", &cure.to_string()), text("why", why)],
        ),
        Notice::Done { cure, result } => {
            let line = match result {
                Ok(t) => format!("done {cure}: {t}"),
                Err(t) => format!("failed {cure}: {t}"),
            };
            (None, line, vec![])
        }
        Notice::Healed { seconds, text: t } => (
            Some("healed"),
            format!("well again after {seconds:.1} s ({t})"),
            vec![
                ("seconds".to_string(), Value::Double(*seconds)),
                text("outcome", t),
            ],
        ),
        Notice::Uplink {
            name,
            family,
            verdict,
            evidence,
        } => (
            Some("uplink"),
            format!("uplink {name} {family} is {verdict}: {evidence}"),
            vec![
                text("uplink", name),
                text("family", &family.to_string()),
                text("verdict", &verdict.to_string()),
                text("evidence", evidence),
            ],
        ),
        Notice::Waiting(why) => (None, format!("waiting: {why}"), vec![]),
    }
}
