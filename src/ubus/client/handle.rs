//! The operations, for everybody in this program.

use std::sync::Arc;
use std::time::Duration;

use smol::channel;

use super::shared::{Job, Shared, Wanted, UBUSD_TIMEOUT};
use crate::ubus::blobmsg::{Table, Value};
use crate::ubus::session::{Method, ObjectInfo, Request};
use crate::ubus::{Error, Status};

/// Does the operations; cheap to clone, and may be used from any thread.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
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
