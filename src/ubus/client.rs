//! The connection to ubusd that stays: it reconnects, and registers everything again.
//!
//! [`Client::run`] owns the socket and runs for as long as it is polled. A [`Handle`] does the
//! operations from anywhere, and all that happens comes out of one channel of [`Happening`]s.
//!
//! What the owner asked for once (objects, subscriptions, event patterns) is wanted from then on:
//! it is set up again after each reconnection, and a subscription follows an object that vanishes
//! and returns (rpcd's `rc` and `mwan3` do when rpcd restarts). What was missed meanwhile is gone,
//! so the owner reads all state afresh on each [`Happening::Up`].
//!
//! Three futures share the state behind a mutex that is never held over an await: the reader, the
//! writer, and the keeper, which does the setups one after another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smol::channel::{self, Receiver, Sender};
use smol::future;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;
use smol::Timer;

use super::blobmsg::{Table, Value};
use super::session::{
    CallId, Incident, Incoming, Method, ObjectInfo, Outcome, Request, Role, Session,
};
use super::{Error, Status};

/// First delay before a new attempt to connect. procd has ubusd back within a second.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest delay before a new attempt.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection that lived this long resets the delay.
const LONG_LIVED: Duration = Duration::from_secs(10);
/// How long ubusd may take to answer for itself: greeting, lookup, registrations.
const UBUSD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last answers of a connection may take to be written.
const FAREWELL: Duration = Duration::from_millis(100);
/// Bytes read at a time; most messages are smaller, larger ones come in pieces anyway.
const READ_SIZE: usize = 4096;
/// The event by which ubusd announces an object.
const OBJECT_ADD: &str = "ubus.object.add";

/// Something that happened, in the order in which it did.
#[derive(Debug)]
pub enum Happening {
    /// Connected, and everything wanted is set up. Read all state afresh.
    Up,
    /// Not connected; why. Told once, however many attempts fail after it.
    Down(String),
    /// An event that matches a pattern given to [`Handle::listen`].
    Event {
        /// Its name, such as `network.interface`.
        id: String,
        /// What it says, a table.
        data: Value,
    },
    /// A notification of an object that was given to [`Handle::subscribe`].
    Notification {
        /// The object's path.
        object: String,
        /// Its name, such as `interface.update`.
        method: String,
        /// What it says, a table.
        data: Value,
    },
    /// Somebody calls an object of ours and waits for the answer.
    Call(Call),
}

/// A call of a method of ours: a known method, declared arguments of their declared types.
///
/// Answer it with [`Call::reply`], [`Call::done`] or [`Call::fail`], now or later. A call that is
/// dropped is answered with "Unknown error", so no caller hangs.
#[derive(Debug)]
pub struct Call {
    /// Name of our object.
    pub object: String,
    /// The method.
    pub method: String,
    /// The arguments, a table.
    pub data: Value,
    shared: Arc<Shared>,
    id: CallId,
    /// The connection that it came by; an answer must not go to another.
    connection: u64,
    answered: bool,
}

impl Call {
    /// Answers with `data` and success.
    pub fn reply(self, data: Table) {
        let status = match self.send_data(data) {
            Ok(()) => Status::Ok,
            Err(_) => Status::NoMemory,
        };
        self.end(status);
    }

    /// Sends a part of the answer; another part or [`Call::done`] must follow.
    ///
    /// # Errors
    /// The data does not fit a message.
    pub fn send_data(&self, data: Table) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if state.connection == self.connection {
            state.session.answer(self.id, data)?;
        }
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// Answers with success and no (further) data.
    pub fn done(self) {
        self.end(Status::Ok);
    }

    /// Answers with an error.
    pub fn fail(self, status: Status) {
        self.end(status);
    }

    fn end(mut self, status: Status) {
        self.finish(status);
    }

    fn finish(&mut self, status: Status) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let mut state = self.shared.lock();
        if state.connection == self.connection {
            state.session.finish(self.id, status);
        }
        drop(state);
        self.shared.wake();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(Status::UnknownError);
    }
}

/// What the reader, the writer, the keeper and the handles share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the writer; holds one wake-up, more would say nothing.
    wake: Sender<()>,
    /// Set a subscription up again when its object returns.
    follow: bool,
}

#[derive(Debug, Default)]
struct State {
    session: Session,
    /// Who waits for the end of which request.
    waiting: HashMap<u16, Sender<Outcome>>,
    /// Counts connections.
    connection: u64,
    /// The keeper's inbox while ubusd is there, else `None`.
    keeper: Option<Sender<Job>>,
    wanted: Vec<Wanted>,
}

/// What the owner asked for and is kept up.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    Object { name: String, methods: Vec<Method> },
    Events(String),
    Notifications(String),
}

/// Work for the keeper.
#[derive(Debug)]
enum Job {
    /// ubusd greeted: set all this up.
    Restore(Vec<Wanted>),
    /// The owner wants something new.
    Add(Wanted, Sender<Result<(), Error>>),
    /// ubusd announced an object.
    Appeared { path: String, id: u32 },
    /// Our subscriber with this id hears nobody any more.
    TargetGone(u32),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full means that a wake-up is already there.
        let _ = self.wake.try_send(());
    }

    /// Sends a request and waits for its end.
    async fn request(&self, request: Request, timeout: Duration) -> Result<Outcome, Error> {
        let (tx, rx) = channel::bounded(1);
        let waiting = {
            let mut state = self.lock();
            if state.keeper.is_none() {
                return Err(Error::Down);
            }
            let seq = state.session.request(request)?;
            state.waiting.insert(seq, tx);
            Waiting {
                shared: self,
                seq,
                connection: state.connection,
            }
        };
        self.wake();
        let answered = async { rx.recv().await.map_err(|_| Error::Down) };
        let outcome = future::or(answered, async {
            Timer::after(timeout).await;
            Err(Error::Timeout)
        })
        .await;
        drop(waiting);
        outcome
    }

    /// As `request`, and any status but success is an error.
    async fn succeed(&self, request: Request, timeout: Duration) -> Result<Outcome, Error> {
        let outcome = self.request(request, timeout).await?;
        match outcome.status {
            Status::Ok => Ok(outcome),
            status => Err(Error::Status(status)),
        }
    }

    async fn lookup(&self, path: Option<&str>) -> Result<Vec<ObjectInfo>, Error> {
        let request = Request::Lookup(path.map(str::to_owned));
        let outcome = self.succeed(request, UBUSD_TIMEOUT).await?;
        Ok(outcome
            .answers
            .iter()
            .filter_map(ObjectInfo::read)
            .collect())
    }
}

/// A request on its way; forgotten when nobody waits any more, also when the waiting future is
/// dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    seq: u16,
    connection: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.connection == self.connection && state.waiting.remove(&self.seq).is_some() {
            state.session.forget(self.seq);
        }
    }
}

/// Does the operations; cheap to clone, and may be used from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Whether ubusd can be asked just now.
    pub fn is_up(&self) -> bool {
        self.shared.lock().keeper.is_some()
    }

    /// Objects by path, by prefix (`network.interface.*`), or all (`*`).
    ///
    /// # Errors
    /// "Not found" when there is none, [`Error::Down`], [`Error::Timeout`].
    pub async fn lookup(&self, path: &str) -> Result<Vec<ObjectInfo>, Error> {
        self.shared.lookup((path != "*").then_some(path)).await
    }

    /// Calls a method and gives its answer, a table (empty if it answered with none).
    ///
    /// `timeout` is for the call itself; the lookup before it has ubusd's own 5 s.
    ///
    /// # Errors
    /// The object's or ubusd's status, [`Error::Down`], [`Error::Timeout`].
    pub async fn invoke(
        &self,
        path: &str,
        method: &str,
        data: Table,
        timeout: Duration,
    ) -> Result<Value, Error> {
        let answers = self.invoke_all(path, method, data, timeout).await?;
        Ok(answers.into_iter().next().unwrap_or(Value::Table(vec![])))
    }

    /// As [`Handle::invoke`], for a method that answers in several parts.
    ///
    /// # Errors
    /// As [`Handle::invoke`].
    pub async fn invoke_all(
        &self,
        path: &str,
        method: &str,
        data: Table,
        timeout: Duration,
    ) -> Result<Vec<Value>, Error> {
        let found = self.shared.lookup(Some(path)).await?;
        let id = found
            .first()
            .map(|o| o.id)
            .ok_or(Error::Status(Status::NotFound))?;
        let method = method.to_owned();
        let request = Request::Invoke { id, method, data };
        let outcome = self.shared.succeed(request, timeout).await?;
        Ok(outcome
            .answers
            .iter()
            .filter_map(|a| a.data().cloned().map(Value::Table))
            .collect())
    }

    /// Publishes an object, from now on and again after each reconnection.
    ///
    /// Without a connection this succeeds and is done at the next one.
    ///
    /// # Errors
    /// ubusd's "Invalid argument" if another process has an object of that name. It is not wanted
    /// any more then.
    pub async fn add_object(&self, name: &str, methods: Vec<Method>) -> Result<(), Error> {
        let name = name.to_owned();
        self.want(Wanted::Object { name, methods }).await
    }

    /// Takes an object away that was published with [`Handle::add_object`].
    ///
    /// # Errors
    /// "Not found" if it was not published, [`Error::Down`], [`Error::Timeout`].
    pub async fn remove_object(&self, name: &str) -> Result<(), Error> {
        let id = {
            let mut state = self.shared.lock();
            state
                .wanted
                .retain(|w| !matches!(w, Wanted::Object { name: n, .. } if n == name));
            state.session.published(name)
        };
        let id = id.ok_or(Error::Status(Status::NotFound))?;
        let request = Request::RemoveObject(id);
        self.shared.succeed(request, UBUSD_TIMEOUT).await.map(drop)
    }

    /// Lets the notifications of an object come, or of all whose path has a prefix
    /// (`network.interface.*`), from now on, also of objects that appear later or return.
    ///
    /// # Errors
    /// ubusd's status. An object that is not there yet is no error.
    pub async fn subscribe(&self, path: &str) -> Result<(), Error> {
        self.want(Wanted::Notifications(path.to_owned())).await
    }

    /// Lets the events of this name, or with this prefix (`network.*`, `*`), come from now on.
    ///
    /// # Errors
    /// ubusd's status.
    pub async fn listen(&self, pattern: &str) -> Result<(), Error> {
        self.want(Wanted::Events(pattern.to_owned())).await
    }

    /// Tells the subscribers of our object something; gives their number. Without subscribers
    /// nothing is sent.
    ///
    /// # Errors
    /// The data does not fit a message, [`Error::Down`], [`Error::Timeout`].
    pub async fn notify(&self, object: &str, method: &str, data: Table) -> Result<usize, Error> {
        let id = {
            let state = self.shared.lock();
            match state.session.published(object) {
                Some(id) if state.session.is_heard(object) => id,
                _ => return Ok(0),
            }
        };
        let method = method.to_owned();
        let request = Request::Notify { id, method, data };
        let outcome = self.shared.succeed(request, UBUSD_TIMEOUT).await?;
        let subscribers = outcome.answers.iter().find_map(|a| a.subscribers());
        Ok(subscribers.map_or(0, <[u32]>::len))
    }

    /// Sends an event to everybody who listens.
    ///
    /// # Errors
    /// "Permission denied" for names that begin with `ubus.`, [`Error::Down`],
    /// [`Error::Timeout`].
    pub async fn send_event(&self, id: &str, data: Table) -> Result<(), Error> {
        let event = id.to_owned();
        let request = Request::Send { event, data };
        self.shared.succeed(request, UBUSD_TIMEOUT).await.map(drop)
    }

    /// Asks ubusd for a sign of life.
    ///
    /// # Errors
    /// [`Error::Down`], [`Error::Timeout`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.shared
            .succeed(Request::Ping, UBUSD_TIMEOUT)
            .await
            .map(drop)
    }

    async fn want(&self, wanted: Wanted) -> Result<(), Error> {
        let (tx, rx) = channel::bounded(1);
        {
            let mut state = self.shared.lock();
            if state.wanted.contains(&wanted) {
                return Ok(());
            }
            state.wanted.push(wanted.clone());
            match &state.keeper {
                // An unbounded channel with a living receiver takes everything.
                Some(keeper) => drop(keeper.try_send(Job::Add(wanted.clone(), tx))),
                None => return Ok(()),
            }
        }
        match rx.recv().await {
            Ok(Err(Error::Status(status))) => {
                self.shared.lock().wanted.retain(|w| *w != wanted);
                Err(Error::Status(status))
            }
            // The connection broke meanwhile: the next one sets it up.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Owns the connection; see the module documentation.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    shared: Arc<Shared>,
    woken: Receiver<()>,
    happenings: Sender<Happening>,
}

impl Client {
    /// A client of the ubusd at `socket`, its handle, and the channel of what happens.
    ///
    /// Nothing is done until [`Client::run`] is polled. The channel is unbounded, because an owner
    /// that waits for an answer must not stop the reader that brings it.
    pub fn new(socket: &Path) -> (Client, Handle, Receiver<Happening>) {
        Client::with_options(socket, true)
    }

    /// As [`Client::new`], with a choice: without `follow` a subscription takes the objects that
    /// are there, fails if there is none, and ends with them, as `ubus subscribe` does.
    pub fn with_options(socket: &Path, follow: bool) -> (Client, Handle, Receiver<Happening>) {
        let (wake, woken) = channel::bounded(1);
        let (happenings, happened) = channel::unbounded();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake,
            follow,
        });
        let handle = Handle {
            shared: shared.clone(),
        };
        let client = Client {
            socket: socket.to_owned(),
            shared,
            woken,
            happenings,
        };
        (client, handle, happened)
    }

    /// Connects, serves, and connects again. Ends some time after the receiver of happenings
    /// was dropped: when the next message comes in, or at the next attempt to connect.
    pub async fn run(self) {
        let mut delay = BACKOFF_MIN;
        let mut told_down = false;
        while !self.happenings.is_closed() {
            let started = Instant::now();
            let mut was_up = false;
            let reason = match UnixStream::connect(&self.socket).await {
                Ok(stream) => self.serve(&stream, &mut was_up).await,
                Err(e) => format!("cannot connect to {}: {e}", self.socket.display()),
            };
            self.disconnected();
            if was_up || !told_down {
                self.tell(Happening::Down(reason));
                told_down = true;
            }
            if started.elapsed() >= LONG_LIVED {
                delay = BACKOFF_MIN;
            }
            Timer::after(jittered(delay)).await;
            delay = (delay * 2).min(BACKOFF_MAX);
        }
    }

    fn tell(&self, happening: Happening) {
        // Nobody listens any more: `run` ends at its next turn.
        let _ = self.happenings.try_send(happening);
    }

    /// Forgets all that belonged to the connection. Whoever waits for an answer gets
    /// [`Error::Down`].
    fn disconnected(&self) {
        let mut state = self.shared.lock();
        state.session = Session::new();
        state.waiting.clear();
        state.keeper = None;
        state.connection += 1;
    }

    /// Serves one connection; gives the reason for its end.
    async fn serve(&self, stream: &UnixStream, was_up: &mut bool) -> String {
        let (inbox, jobs) = channel::unbounded();
        let keeper = async {
            let mut keeper = Keeper::new(&self.shared);
            let greeting = future::or(async { jobs.recv().await.ok() }, async {
                Timer::after(UBUSD_TIMEOUT).await;
                None
            });
            let Some(greeting) = greeting.await else {
                return "ubusd does not greet".to_owned();
            };
            if let Err(e) = keeper.work(greeting).await {
                return e.to_string();
            }
            *was_up = true;
            self.tell(Happening::Up);
            while let Ok(job) = jobs.recv().await {
                if let Err(e) = keeper.work(job).await {
                    return e.to_string();
                }
            }
            "the keeper's inbox closed".to_owned()
        };
        let io = future::or(
            self.read(stream.clone(), &inbox),
            self.write(stream.clone()),
        );
        let reason = future::or(io, keeper).await;
        // Last answers, such as to calls that nobody took; without them their callers would wait.
        let rest = self.shared.lock().session.take_output();
        let mut stream = stream.clone();
        let farewell = async { drop(stream.write_all(&rest).await) };
        let limit = async {
            Timer::after(FAREWELL).await;
        };
        future::or(farewell, limit).await;
        reason
    }

    async fn read(&self, mut stream: UnixStream, inbox: &Sender<Job>) -> String {
        let mut buffer = vec![0; READ_SIZE];
        let mut incidents = Vec::new();
        let mut told = Vec::new();
        loop {
            let bytes = match stream.read(&mut buffer).await {
                Ok(0) => return "ubusd closed the connection".to_owned(),
                Ok(n) => buffer.get(..n).unwrap_or(&[]),
                Err(e) => return format!("reading from ubusd: {e}"),
            };
            let mut state = self.shared.lock();
            let received = state.session.receive(bytes, &mut incidents);
            for incident in incidents.drain(..) {
                told.extend(self.handle(&mut state, incident, inbox));
            }
            drop(state);
            // Only now: a call that nobody takes is dropped, and dropping it locks the state.
            told.drain(..).for_each(|happening| self.tell(happening));
            self.shared.wake();
            if let Err(e) = received {
                return format!("ubusd sent nonsense: {e}");
            }
            if self.happenings.is_closed() {
                return "nobody listens any more".to_owned();
            }
        }
    }

    async fn write(&self, mut stream: UnixStream) -> String {
        while self.woken.recv().await.is_ok() {
            loop {
                let bytes = self.shared.lock().session.take_output();
                if bytes.is_empty() {
                    break;
                }
                if let Err(e) = stream.write_all(&bytes).await {
                    return format!("writing to ubusd: {e}");
                }
            }
        }
        "the writer's alarm closed".to_owned()
    }

    /// Does what an incident asks for and gives what the owner is to be told.
    fn handle(
        &self,
        state: &mut State,
        incident: Incident,
        inbox: &Sender<Job>,
    ) -> Option<Happening> {
        match incident {
            Incident::Hello => {
                // The snapshot and the inbox come together, so nothing wanted is done twice.
                let _ = inbox.try_send(Job::Restore(state.wanted.clone()));
                state.keeper = Some(inbox.clone());
            }
            Incident::Done(seq, outcome) => {
                if let Some(waiting) = state.waiting.remove(&seq) {
                    let _ = waiting.try_send(outcome);
                }
            }
            Incident::Called(id, incoming) => {
                return Some(Happening::Call(Call {
                    object: incoming.name,
                    method: incoming.method,
                    data: Value::Table(incoming.data),
                    shared: self.shared.clone(),
                    id,
                    connection: state.connection,
                    answered: false,
                }))
            }
            Incident::Notified(incoming) => {
                return Some(Happening::Notification {
                    object: incoming.name,
                    method: incoming.method,
                    data: Value::Table(incoming.data),
                })
            }
            Incident::Event(incoming) => return event(state, incoming, inbox),
            Incident::TargetGone(id) => drop(inbox.try_send(Job::TargetGone(id))),
            Incident::Subscribed { object, active } => {
                log::debug!("ubus: {object} has subscribers: {active}");
            }
            Incident::Skipped(why) => log::debug!("ubus: skipped {why}"),
        }
        None
    }
}

/// Tells the keeper of an object that appeared, and the owner of an event that was asked for.
fn event(state: &State, event: Incoming, inbox: &Sender<Job>) -> Option<Happening> {
    let Incoming { method, data, .. } = event;
    let data = Value::Table(data);
    if method == OBJECT_ADD {
        if let (Some(path), Some(id)) = (
            data.get("path").and_then(Value::str),
            data.get("id").and_then(Value::u32),
        ) {
            let path = path.to_owned();
            let _ = inbox.try_send(Job::Appeared { path, id });
        }
    }
    state
        .wanted
        .iter()
        .any(|w| matches!(w, Wanted::Events(pattern) if matches(pattern, &method)))
        .then_some(Happening::Event { id: method, data })
}

/// A delay spread by a quarter to both sides, so that the daemons of a router do not come all at
/// once after ubusd's restart.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.75 + 0.5 * fastrand::f64())
}

/// Whether `text` is what `pattern` says: the same, or, with `*` at its end, begins so.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    }
}

/// One of our nameless subscriber objects.
#[derive(Debug)]
struct Subscriber {
    id: u32,
    /// Id of the object that it hears; `None`: free for another.
    target: Option<u32>,
}

/// Sets up what is wanted, one after another; lives as long as a connection.
struct Keeper<'a> {
    shared: &'a Shared,
    /// Our object that receives events.
    listener: Option<u32>,
    /// Whether objects that appear are announced to us.
    follows: bool,
    subscribers: Vec<Subscriber>,
    /// Paths and prefixes whose notifications are wanted.
    paths: Vec<String>,
}

impl<'a> Keeper<'a> {
    fn new(shared: &'a Shared) -> Self {
        Keeper {
            shared,
            listener: None,
            follows: false,
            subscribers: vec![],
            paths: vec![],
        }
    }

    /// Does one job. An error means that ubusd itself failed, and ends the connection.
    async fn work(&mut self, job: Job) -> Result<(), Error> {
        match job {
            Job::Restore(all) => {
                for wanted in all {
                    refused(&format!("{wanted:?}"), self.set_up(wanted).await)?;
                }
                Ok(())
            }
            Job::Add(wanted, told) => match self.set_up(wanted).await {
                Err(Error::Down) => Err(Error::Down),
                Err(Error::Timeout) => Err(Error::Timeout),
                result => {
                    let _ = told.try_send(result);
                    Ok(())
                }
            },
            Job::Appeared { path, id } => {
                if self.paths.iter().any(|p| matches(p, &path)) {
                    refused(&path, self.hear(&path, id).await)?;
                }
                Ok(())
            }
            Job::TargetGone(id) => {
                if let Some(s) = self.subscribers.iter_mut().find(|s| s.id == id) {
                    s.target = None;
                }
                Ok(())
            }
        }
    }

    async fn set_up(&mut self, wanted: Wanted) -> Result<(), Error> {
        match wanted {
            Wanted::Object { name, methods } => {
                self.add(Role::Published { name, methods }).await?;
                Ok(())
            }
            Wanted::Events(pattern) => self.register(pattern).await,
            Wanted::Notifications(path) => self.subscribe(path).await,
        }
    }

    /// Registers an object and gives its id.
    async fn add(&self, role: Role) -> Result<u32, Error> {
        let request = Request::AddObject(role);
        let outcome = self.shared.succeed(request, UBUSD_TIMEOUT).await?;
        outcome
            .answers
            .first()
            .and_then(|a| a.objid())
            .ok_or(Error::Status(Status::NoData))
    }

    async fn register(&mut self, pattern: String) -> Result<(), Error> {
        let listener = match self.listener {
            Some(id) => id,
            None => *self.listener.insert(self.add(Role::Listener).await?),
        };
        let request = Request::Register { listener, pattern };
        self.shared.succeed(request, UBUSD_TIMEOUT).await?;
        Ok(())
    }

    async fn subscribe(&mut self, path: String) -> Result<(), Error> {
        if self.shared.follow && !self.follows {
            // Before the lookup, so that no object slips between the two.
            self.register(OBJECT_ADD.to_owned()).await?;
            self.follows = true;
        }
        // Also before the lookup, as libubus does it.
        if self.subscribers.iter().all(|s| s.target.is_some()) {
            self.add_subscriber().await?;
        }
        let found = match self.shared.lookup(Some(&path)).await {
            Err(Error::Status(Status::NotFound)) if self.shared.follow => vec![],
            found => found?,
        };
        self.paths.push(path);
        for object in found {
            let heard = self.hear(&object.path, object.id).await;
            if self.shared.follow {
                refused(&object.path, heard)?;
            } else {
                heard?;
            }
        }
        Ok(())
    }

    /// Subscribes to the object unless that is already done.
    async fn hear(&mut self, path: &str, target: u32) -> Result<(), Error> {
        if self.subscribers.iter().any(|s| s.target == Some(target)) {
            return Ok(());
        }
        if self.subscribers.iter().all(|s| s.target.is_some()) {
            self.add_subscriber().await?;
        }
        let Some(free) = self.subscribers.iter_mut().find(|s| s.target.is_none()) else {
            return Ok(());
        };
        let request = Request::Subscribe {
            subscriber: free.id,
            target,
            path: path.to_owned(),
        };
        self.shared.succeed(request, UBUSD_TIMEOUT).await?;
        free.target = Some(target);
        Ok(())
    }

    async fn add_subscriber(&mut self) -> Result<(), Error> {
        let id = self.add(Role::Subscriber).await?;
        self.subscribers.push(Subscriber { id, target: None });
        Ok(())
    }
}

/// Logs that ubusd refused something and goes on; passes on what ends the connection.
fn refused(what: &str, result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Down) => Err(Error::Down),
        Err(Error::Timeout) => Err(Error::Timeout),
        Err(e) => {
            log::warn!("ubus: {what}: {e}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
