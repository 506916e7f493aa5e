//! The keeper: sets up what is wanted after each greeting of ubusd, and when an object returns.

use super::shared::{Job, Shared, Wanted, UBUSD_TIMEOUT};
use crate::ubus::session::{Request, Role};
use crate::ubus::{Error, Status};

/// The event by which ubusd announces an object.
pub(super) const OBJECT_ADD: &str = "ubus.object.add";

/// Whether `text` is what `pattern` says: the same, or, with `*` at its end, begins so.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
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
pub(super) struct Keeper<'a> {
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
    pub(super) fn new(shared: &'a Shared) -> Self {
        Keeper {
            shared,
            listener: None,
            follows: false,
            subscribers: vec![],
            paths: vec![],
        }
    }

    /// Does one job. An error means that ubusd itself failed, and ends the connection.
    pub(super) async fn work(&mut self, job: Job) -> Result<(), Error> {
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
            log::warn!(target: "tailover", "ubus: {what}: {e}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
