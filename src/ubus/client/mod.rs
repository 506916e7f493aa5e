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

mod call;
mod handle;
mod keeper;
mod shared;

pub use call::Call;
pub use handle::Handle;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smol::channel::{self, Receiver, Sender};
use smol::future;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::UnixStream;
use smol::Timer;

use super::blobmsg::Value;
use super::session::{Incident, Incoming, Request, Session};
use keeper::{matches, Keeper, OBJECT_ADD};
use shared::{Job, Shared, State, Wanted, UBUSD_TIMEOUT};

/// First delay before a new attempt to connect. procd has ubusd back within a second.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest delay before a new attempt.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection that lived this long resets the delay.
const LONG_LIVED: Duration = Duration::from_secs(10);
/// How long the last answers of a connection may take to be written.
const FAREWELL: Duration = Duration::from_millis(100);
/// Bytes read at a time; most messages are smaller, larger ones come in pieces anyway.
const READ_SIZE: usize = 4096;

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
            delay = delay.saturating_mul(2).min(BACKOFF_MAX);
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
        state.connection = state.connection.wrapping_add(1);
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
        if self.happenings.is_closed() {
            let limit = async {
                Timer::after(FAREWELL).await;
            };
            future::or(self.farewell(stream.clone()), limit).await;
        }
        reason
    }

    /// Writes the last answers, such as to calls that nobody took; without them their callers
    /// would wait for long.
    ///
    /// ubusd leaves unread what a client wrote just before it closed (`client_cb` in
    /// ubusd_main.c reads no further once it sees the end). So it is pinged, and the answer
    /// waited for.
    async fn farewell(&self, mut stream: UnixStream) {
        let (ping, rest) = {
            let session = &mut self.shared.lock().session;
            let answers = session.take_output();
            let Ok(ping) = session.request(Request::Ping) else {
                return;
            };
            (ping, [answers, session.take_output()].concat())
        };
        if stream.write_all(&rest).await.is_err() {
            return;
        }
        let mut buffer = [0; 256];
        let mut incidents = Vec::new();
        let pong = |i: &Incident| matches!(i, Incident::Done(seq, _) if *seq == ping);
        while !incidents.iter().any(pong) {
            let Ok(n @ 1..) = stream.read(&mut buffer).await else {
                return;
            };
            let bytes = buffer.get(..n).unwrap_or(&[]);
            let received = self.shared.lock().session.receive(bytes, &mut incidents);
            if received.is_err() {
                return;
            }
        }
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
