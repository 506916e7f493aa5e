//! What reader, writer, keeper and handles share, and how a request waits for its end in it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smol::channel::{self, Sender};
use smol::{future, Timer};

use crate::ubus::session::{Method, ObjectInfo, Outcome, Request, Session};
use crate::ubus::{Error, Status};

/// How long ubusd may take to answer for itself: greeting, lookup, registrations.
pub(super) const UBUSD_TIMEOUT: Duration = Duration::from_secs(5);

/// What the reader, the writer, the keeper and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Wakes the writer; holds one wake-up, more would say nothing.
    pub(super) wake: Sender<()>,
    /// Set a subscription up again when its object returns.
    pub(super) follow: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) session: Session,
    /// Who waits for the end of which request.
    pub(super) waiting: HashMap<u16, Sender<Outcome>>,
    /// Counts connections.
    pub(super) connection: u64,
    /// The keeper's inbox while ubusd is there, else `None`.
    pub(super) keeper: Option<Sender<Job>>,
    pub(super) wanted: Vec<Wanted>,
}

/// What the owner asked for and is kept up.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    Object { name: String, methods: Vec<Method> },
    Events(String),
    Notifications(String),
}

/// Work for the keeper.
#[derive(Debug)]
pub(super) enum Job {
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
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        // Full means that a wake-up is already there.
        let _ = self.wake.try_send(());
    }

    /// Sends a request and waits for its end.
    pub(super) async fn request(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<Outcome, Error> {
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
    pub(super) async fn succeed(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<Outcome, Error> {
        let outcome = self.request(request, timeout).await?;
        match outcome.status {
            Status::Ok => Ok(outcome),
            status => Err(Error::Status(status)),
        }
    }

    pub(super) async fn lookup(&self, path: Option<&str>) -> Result<Vec<ObjectInfo>, Error> {
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
