//! One connection to ubusd without its socket: bytes in, bytes and incidents out.
//!
//! A `Session` numbers requests, finds the request to an answer, knows what each of our object
//! ids stands for, and turns the calls that come in into [`Incident`]s. It is the whole protocol;
//! [`super::client`] and [`super::oneshot`] add a socket and time.

use std::collections::HashMap;

use ubus_rs::MsgType;

use super::blobmsg::{member, Table, Type, Value};
use super::wire::{Attr, Attrs, Cut, Frame, FrameReader, WireError};
use super::Status;

/// Id of ubusd's own object that takes `register` and `send` (`UBUS_SYSTEM_OBJECT_EVENT`).
const EVENT_OBJECT: u32 = 1;

/// A method of an object of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Names and types of its arguments. None is required: ubus knows no required argument.
    pub args: Vec<(String, Type)>,
}

impl Method {
    /// A method with these arguments.
    pub fn new(name: &str, args: &[(&str, Type)]) -> Self {
        Method {
            name: name.to_owned(),
            args: args.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect(),
        }
    }
}

/// The methods as ubus's SIGNATURE attribute holds them.
pub fn signature(methods: &[Method]) -> Table {
    methods
        .iter()
        .map(|m| {
            let args = m
                .args
                .iter()
                .map(|(name, t)| (name.clone(), Value::I32(t.number())))
                .collect();
            (m.name.clone(), Value::Table(args))
        })
        .collect()
}

/// An object found by a lookup.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectInfo {
    /// Its path, such as `network.interface.wan`.
    pub path: String,
    /// Its id; a new one each time that its owner registers it.
    pub id: u32,
    /// Id of its signature, shared by objects of the same kind.
    pub type_id: u32,
    /// Methods by name; each a table from argument name to blobmsg type number.
    pub signature: Table,
}

impl ObjectInfo {
    /// Reads the answer to a lookup; `None` if it lacks the path or the id.
    pub fn read(attrs: &Attrs) -> Option<Self> {
        Some(ObjectInfo {
            path: attrs.objpath()?.to_owned(),
            id: attrs.objid()?,
            type_id: attrs.objtype().unwrap_or(0),
            signature: attrs.signature().cloned().unwrap_or_default(),
        })
    }
}

/// What an object id of ours stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A published object with a name and methods.
    Published {
        /// Path of the object.
        name: String,
        /// What it can be asked.
        methods: Vec<Method>,
    },
    /// A nameless object that receives notifications. ubus does not say which object a
    /// notification is from, so each object that is listened to needs one of these.
    Subscriber,
    /// A nameless object that receives events.
    Listener,
}

/// A request to ubusd or through it to another object.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Looks up a path, a prefix with `*` at its end, or (`None`) everything.
    Lookup(Option<String>),
    /// Calls a method of the object with this id.
    Invoke {
        /// The object's id.
        id: u32,
        /// The method.
        method: String,
        /// Its arguments.
        data: Table,
    },
    /// Registers an object of ours.
    AddObject(Role),
    /// Takes an object of ours away.
    RemoveObject(u32),
    /// Lets notifications of `target`, known as `path`, come to our object `subscriber`.
    Subscribe {
        /// Id of one of our [`Role::Subscriber`]s.
        subscriber: u32,
        /// Id of the object to hear of.
        target: u32,
        /// Its path.
        path: String,
    },
    /// Ends that.
    Unsubscribe {
        /// Id of our subscriber.
        subscriber: u32,
        /// Id of the object.
        target: u32,
    },
    /// Lets events that match `pattern` come to our object `listener`.
    Register {
        /// Id of our [`Role::Listener`].
        listener: u32,
        /// An event's name, or a prefix with `*` at its end.
        pattern: String,
    },
    /// Sends an event to everybody who listens.
    Send {
        /// The event's name.
        event: String,
        /// What it says.
        data: Table,
    },
    /// Tells the subscribers of our object `id` something.
    Notify {
        /// Id of our object.
        id: u32,
        /// Name of the notification.
        method: String,
        /// What it says.
        data: Table,
    },
    /// Asks ubusd for a sign of life.
    Ping,
}

/// The end of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The answers that came before the end, in order.
    pub answers: Vec<Attrs>,
}

/// Something that came in.
#[derive(Debug, Clone, PartialEq)]
pub enum Incident {
    /// ubusd greets; from now on it takes requests.
    Hello,
    /// The request with this number has ended.
    Done(u16, Outcome),
    /// Somebody calls a method of an object of ours. It wants [`Session::answer`]s.
    Called(CallId, Incoming),
    /// An object that we subscribed to tells something. `name` is the object's path.
    Notified(Incoming),
    /// An event that we listen to. `name` is empty.
    Event(Incoming),
    /// Our subscriber with this id lost its target: the object has gone.
    TargetGone(u32),
    /// Our published object's first subscriber came, or its last one went.
    Subscribed {
        /// The object's name.
        object: String,
        /// Whether anybody listens now.
        active: bool,
    },
    /// A frame that made no sense was skipped; why.
    Skipped(&'static str),
}

/// Name, method and data of what came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Path of the object in question.
    pub name: String,
    /// Method, notification or event.
    pub method: String,
    /// Arguments.
    pub data: Table,
}

/// What is needed to answer a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    seq: u16,
    peer: u32,
    object: u32,
    /// The caller wants no answer.
    mute: bool,
}

/// An object id of ours.
#[derive(Debug)]
struct Owned {
    role: Role,
    /// For a subscriber: path of what it hears.
    hears: String,
    /// For a published object: whether somebody subscribed.
    active: bool,
}

/// A request on its way.
#[derive(Debug)]
struct Pending {
    /// The header's peer, which the answer repeats.
    peer: u32,
    kind: MsgType,
    /// For AddObject: the role that the new id gets.
    role: Option<Role>,
    /// For RemoveObject: the id that ceases to be ours.
    removes: Option<u32>,
    answers: Vec<Attrs>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Session {
    reader: FrameReader,
    seq: u16,
    pending: HashMap<u16, Pending>,
    owned: HashMap<u32, Owned>,
    /// Frames to be written, one after another.
    out: Vec<u8>,
}

impl Session {
    /// The state at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes that are to be written to the socket.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether somebody is subscribed to our published object `name`.
    pub fn is_heard(&self, name: &str) -> bool {
        self.owned
            .values()
            .any(|o| o.active && matches!(&o.role, Role::Published { name: n, .. } if n == name))
    }

    /// The id of our published object `name`, if it is registered.
    pub fn published(&self, name: &str) -> Option<u32> {
        self.owned.iter().find_map(|(id, o)| match &o.role {
            Role::Published { name: n, .. } if n == name => Some(*id),
            _ => None,
        })
    }

    /// Forgets a request whose answer nobody waits for any more.
    pub fn forget(&mut self, seq: u16) {
        self.pending.remove(&seq);
    }

    /// Queues a request and gives its number.
    ///
    /// # Errors
    /// It does not fit a frame. Nothing is queued then.
    pub fn request(&mut self, request: Request) -> Result<u16, WireError> {
        let seq = self.free_seq();
        let mut role_of_new = None;
        let mut removes = None;
        let (kind, peer, attrs) = match request {
            Request::Ping => (MsgType::Ping, 0, vec![]),
            Request::Lookup(path) => (
                MsgType::Lookup,
                0,
                path.map(Attr::ObjPath).into_iter().collect(),
            ),
            Request::Invoke { id, method, data } => (
                MsgType::Invoke,
                id,
                vec![Attr::ObjId(id), Attr::Method(method), Attr::Data(data)],
            ),
            Request::Register { listener, pattern } => (
                MsgType::Invoke,
                EVENT_OBJECT,
                vec![
                    Attr::ObjId(EVENT_OBJECT),
                    Attr::Method("register".into()),
                    Attr::Data(vec![
                        ("object".into(), Value::I32(listener.cast_signed())),
                        ("pattern".into(), Value::String(pattern)),
                    ]),
                ],
            ),
            Request::Send { event, data } => (
                MsgType::Invoke,
                EVENT_OBJECT,
                vec![
                    Attr::ObjId(EVENT_OBJECT),
                    Attr::Method("send".into()),
                    Attr::Data(vec![
                        ("id".into(), Value::String(event)),
                        ("data".into(), Value::Table(data)),
                    ]),
                ],
            ),
            Request::AddObject(role) => {
                let attrs = match &role {
                    Role::Published { name, methods } => vec![
                        Attr::ObjPath(name.clone()),
                        Attr::Signature(signature(methods)),
                    ],
                    Role::Subscriber | Role::Listener => vec![],
                };
                role_of_new = Some(role);
                (MsgType::AddObject, 0, attrs)
            }
            Request::RemoveObject(id) => {
                removes = Some(id);
                (MsgType::RemoveObject, 0, vec![Attr::ObjId(id)])
            }
            Request::Subscribe {
                subscriber,
                target,
                path,
            } => {
                // Set before the frame goes out: the first notification may follow the answer
                // in the same read.
                if let Some(owned) = self.owned.get_mut(&subscriber) {
                    owned.hears = path;
                }
                (
                    MsgType::Subscribe,
                    0,
                    vec![Attr::ObjId(subscriber), Attr::Target(target)],
                )
            }
            Request::Unsubscribe { subscriber, target } => (
                MsgType::Unsubscribe,
                0,
                vec![Attr::ObjId(subscriber), Attr::Target(target)],
            ),
            Request::Notify { id, method, data } => (
                MsgType::Notify,
                id,
                vec![Attr::ObjId(id), Attr::Method(method), Attr::Data(data)],
            ),
        };
        self.write(&Frame::new(kind, seq, peer, attrs))?;
        self.pending.insert(
            seq,
            Pending {
                peer,
                kind,
                role: role_of_new,
                removes,
                answers: vec![],
            },
        );
        Ok(seq)
    }

    /// Queues data in answer to a call. More may follow; [`Session::finish`] ends the answer.
    ///
    /// # Errors
    /// It does not fit a frame.
    pub fn answer(&mut self, call: CallId, data: Table) -> Result<(), WireError> {
        if call.mute {
            return Ok(());
        }
        let attrs = vec![Attr::ObjId(call.object), Attr::Data(data)];
        self.write(&Frame::new(MsgType::Data, call.seq, call.peer, attrs))
    }

    /// Queues the end of the answer to a call.
    pub fn finish(&mut self, call: CallId, status: Status) {
        if call.mute {
            return;
        }
        let attrs = vec![Attr::Status(status.number()), Attr::ObjId(call.object)];
        // Two numbers always fit a frame.
        let _ = self.write(&Frame::new(MsgType::Status, call.seq, call.peer, attrs));
    }

    /// Takes bytes from the socket and appends what they brought to `incidents`.
    ///
    /// # Errors
    /// The stream makes no sense any more; close it.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        incidents: &mut Vec<Incident>,
    ) -> Result<(), WireError> {
        self.reader.push(bytes);
        while let Some(cut) = self.reader.next_frame()? {
            if let Some(incident) = self.incident(cut) {
                incidents.push(incident);
            }
        }
        Ok(())
    }

    fn incident(&mut self, cut: Cut) -> Option<Incident> {
        let Cut { header, attrs } = cut;
        match header.kind {
            MsgType::Hello => Some(Incident::Hello),
            MsgType::Data | MsgType::Status => {
                self.reply(header.kind, header.seq, header.peer, attrs)
            }
            _ => {
                let Ok(attrs) = attrs else {
                    return Some(Incident::Skipped("a frame with malformed attributes"));
                };
                let id = attrs.objid()?;
                match header.kind {
                    MsgType::Invoke => self.invoked(
                        CallId {
                            seq: header.seq,
                            peer: header.peer,
                            object: id,
                            mute: attrs.no_reply(),
                        },
                        attrs,
                    ),
                    MsgType::Notify => {
                        let active = attrs.active()?;
                        let owned = self.owned.get_mut(&id)?;
                        owned.active = active;
                        match &owned.role {
                            Role::Published { name, .. } => Some(Incident::Subscribed {
                                object: name.clone(),
                                active,
                            }),
                            _ => None,
                        }
                    }
                    MsgType::Unsubscribe => {
                        let owned = self.owned.get_mut(&id)?;
                        owned.hears.clear();
                        Some(Incident::TargetGone(id))
                    }
                    _ => Some(Incident::Skipped(
                        "a frame of a type that clients do not get",
                    )),
                }
            }
        }
    }

    /// An answer to a request of ours.
    fn reply(
        &mut self,
        kind: MsgType,
        seq: u16,
        peer: u32,
        attrs: Result<Attrs, WireError>,
    ) -> Option<Incident> {
        // Subscribers acknowledge a notification too, each with its own id as peer, after ubusd
        // has ended the request. Those find nothing here.
        let pending = self.pending.get_mut(&seq).filter(|p| p.peer == peer)?;
        let Ok(attrs) = attrs else {
            return Some(self.done(seq, Status::ParseError));
        };
        if kind == MsgType::Data {
            if let (Some(id), Some(role)) = (attrs.objid(), pending.role.take()) {
                self.owned.insert(
                    id,
                    Owned {
                        role,
                        hears: String::new(),
                        active: false,
                    },
                );
            }
            let pong = pending.kind == MsgType::Ping;
            pending.answers.push(attrs);
            // ubusd answers a ping with one DATA and, because its handler returns 0, a STATUS;
            // the first is enough.
            return pong.then(|| self.done(seq, Status::Ok));
        }
        let status = attrs.status().map_or(Status::UnknownError, Status::from);
        if attrs.subscribers().is_some() {
            pending.answers.push(attrs);
        }
        Some(self.done(seq, status))
    }

    fn done(&mut self, seq: u16, status: Status) -> Incident {
        let pending = self.pending.remove(&seq);
        if let (Status::Ok, Some(id)) = (status, pending.as_ref().and_then(|p| p.removes)) {
            self.owned.remove(&id);
        }
        let answers = pending.map_or_else(Vec::new, |p| p.answers);
        Incident::Done(seq, Outcome { status, answers })
    }

    /// A call, notification or event for one of our objects. What is answered here follows
    /// `ubus_process_invoke` of libubus.
    fn invoked(&mut self, call: CallId, attrs: Attrs) -> Option<Incident> {
        let refuse = match (self.owned.get(&call.object), attrs.method(), attrs.data()) {
            (None, _, _) => Status::NotFound,
            (_, None, _) | (_, _, None) => Status::InvalidArgument,
            (Some(owned), Some(method), Some(data)) => {
                let incoming = |name: &str| Incoming {
                    name: name.to_owned(),
                    method: method.to_owned(),
                    data: data.clone(),
                };
                match &owned.role {
                    Role::Published { name, methods } => match check(methods, method, data) {
                        Ok(()) => return Some(Incident::Called(call, incoming(name))),
                        Err(status) => status,
                    },
                    Role::Subscriber => {
                        let incident = Incident::Notified(incoming(&owned.hears));
                        self.finish(call, Status::Ok);
                        return Some(incident);
                    }
                    Role::Listener => {
                        let incident = Incident::Event(incoming(""));
                        self.finish(call, Status::Ok);
                        return Some(incident);
                    }
                }
            }
        };
        self.finish(call, refuse);
        None
    }

    fn write(&mut self, frame: &Frame) -> Result<(), WireError> {
        self.out.extend_from_slice(&frame.encode()?);
        Ok(())
    }

    /// The next number that no request on its way has. Numbers begin at 1, as in libubus.
    fn free_seq(&mut self) -> u16 {
        // More than 65,536 requests at a time do not happen; the bound keeps the loop finite.
        for _ in 0..=u16::MAX {
            self.seq = self.seq.wrapping_add(1);
            if !self.pending.contains_key(&self.seq) {
                break;
            }
        }
        self.seq
    }
}

/// Whether a call fits the methods that were published: a known method, and each declared
/// argument of its type. Arguments that were not declared pass (`ubus_rpc_session` of rpcd is
/// such a one).
fn check(methods: &[Method], method: &str, data: &Table) -> Result<(), Status> {
    let method = methods
        .iter()
        .find(|m| m.name == method)
        .ok_or(Status::MethodNotFound)?;
    let fits = method
        .args
        .iter()
        .all(|(name, t)| member(data, name).is_none_or(|value| t.admits(value)));
    if fits {
        Ok(())
    } else {
        Err(Status::InvalidArgument)
    }
}
