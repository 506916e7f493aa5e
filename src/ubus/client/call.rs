//! A call of a method of ours, which its receiver answers now or later.

use std::sync::Arc;

use super::shared::Shared;
use crate::ubus::blobmsg::{Table, Value};
use crate::ubus::session::CallId;
use crate::ubus::{Error, Status};

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
    pub(super) shared: Arc<Shared>,
    pub(super) id: CallId,
    /// The connection that it came by; an answer must not go to another.
    pub(super) connection: u64,
    pub(super) answered: bool,
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
