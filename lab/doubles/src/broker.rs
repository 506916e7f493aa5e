//! A double of ubusd: who is connected, which objects there are, and where each frame goes.
//!
//! It holds no socket: frames come in with the number of their connection, frames to be sent go
//! out with theirs. The behaviour, order of frames and of attributes included, follows ubusd's
//! `ubusd_proto.c`, `ubusd_obj.c` and `ubusd_event.c`. Left out: monitoring, and file descriptors.

use std::collections::{BTreeMap, HashMap};

use crate::acl::{Acl, Caller, Wish};
use tailover::ubus::blobmsg::{member, Table, Value};
use tailover::ubus::wire::{Attr, Attrs, Frame, Header};
use tailover::ubus::Status;
use ubus_rs::MsgType;

/// Id of the object that takes `register` and `send`.
const EVENT_OBJECT: u32 = 1;
/// Ids below this are ubusd's own (`UBUS_SYSTEM_OBJECT_MAX`).
const SYSTEM_OBJECTS: u32 = 1024;
/// The number by which the owner of the sockets knows a connection.
pub type Conn = u64;

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Where to.
    pub to: Conn,
    /// The frame.
    pub frame: Frame,
}

#[derive(Debug)]
struct Object {
    conn: Conn,
    path: Option<String>,
    type_id: Option<u32>,
    /// Ids of the objects that hear this one, the newest first.
    subscribers: Vec<u32>,
    /// Number of the last notice to the object itself.
    notices: u16,
    /// When it was added, to tell the newest.
    born: u64,
}

#[derive(Debug)]
struct ObjectType {
    signature: Table,
    objects: usize,
}

/// A pattern somebody listens to; `partial` if it ended in `*`, which `key` then lacks.
#[derive(Debug)]
struct Pattern {
    key: String,
    partial: bool,
    object: u32,
}

/// See the module documentation.
pub struct Broker {
    /// Where new ids come from; random in the real one.
    ids: Box<dyn FnMut() -> u32 + Send>,
    clients: HashMap<Conn, (u32, Caller)>,
    acl: Acl,
    objects: HashMap<u32, Object>,
    paths: BTreeMap<String, u32>,
    types: HashMap<u32, ObjectType>,
    patterns: Vec<Pattern>,
    event_seq: u16,
    births: u64,
    out: Vec<Outgoing>,
}

/// How a request ends: `None` means that no STATUS follows (yet).
type Ending = Option<Status>;

impl Broker {
    /// A broker without clients that takes its ids from `ids`.
    pub fn new(ids: impl FnMut() -> u32 + Send + 'static) -> Self {
        Broker {
            ids: Box::new(ids),
            clients: HashMap::new(),
            acl: Acl::default(),
            objects: HashMap::new(),
            paths: BTreeMap::new(),
            types: HashMap::new(),
            patterns: Vec::new(),
            event_seq: 0,
            births: 0,
            out: Vec::new(),
        }
    }

    /// Sets what callers may do that are not root; nothing before.
    pub fn control_access(&mut self, acl: Acl) {
        self.acl = acl;
    }

    /// A client of root's connects and is greeted.
    pub fn connect(&mut self, conn: Conn) -> Vec<Outgoing> {
        self.connect_as(conn, Caller::root())
    }

    /// A client of that user's connects and is greeted.
    pub fn connect_as(&mut self, conn: Conn, caller: Caller) -> Vec<Outgoing> {
        let id = self.new_id();
        self.clients.insert(conn, (id, caller));
        self.send(conn, MsgType::Hello, 0, id, vec![]);
        std::mem::take(&mut self.out)
    }

    /// A client has gone; its objects go with it.
    pub fn disconnect(&mut self, conn: Conn) -> Vec<Outgoing> {
        self.clients.remove(&conn);
        let mut own: Vec<(u64, u32)> = self
            .objects
            .iter()
            .filter(|(_, o)| o.conn == conn)
            .map(|(id, o)| (o.born, *id))
            .collect();
        own.sort_unstable();
        for (_, id) in own.into_iter().rev() {
            self.free_object(id);
        }
        std::mem::take(&mut self.out)
    }

    /// A client sent a frame.
    pub fn receive(&mut self, conn: Conn, frame: &Frame) -> Vec<Outgoing> {
        let Header { kind, seq, peer } = frame.header;
        let attrs = &frame.attrs;
        let ending = match kind {
            MsgType::Ping => {
                self.send(conn, MsgType::Data, seq, peer, attrs.0.clone());
                Some(Status::Ok)
            }
            MsgType::AddObject => Some(self.add_object(conn, frame)),
            MsgType::RemoveObject => Some(self.remove_object(conn, frame)),
            MsgType::Lookup => Some(self.lookup(conn, frame)),
            MsgType::Invoke => self.invoke(conn, frame),
            MsgType::Status | MsgType::Data => {
                self.response(conn, frame);
                None
            }
            MsgType::Subscribe => Some(self.subscribe(conn, attrs)),
            MsgType::Unsubscribe => Some(self.unsubscribe(conn, attrs)),
            MsgType::Notify => self.notify(conn, frame),
            MsgType::Hello | MsgType::Monitor | MsgType::Unknown(_) => Some(Status::InvalidCommand),
        };
        if let Some(status) = ending {
            let attrs = vec![Attr::Status(status.number())];
            self.send(conn, MsgType::Status, seq, peer, attrs);
        }
        std::mem::take(&mut self.out)
    }

    fn send(&mut self, to: Conn, kind: MsgType, seq: u16, peer: u32, attrs: Vec<Attr>) {
        if self.clients.contains_key(&to) {
            let frame = Frame::new(kind, seq, peer, attrs);
            self.out.push(Outgoing { to, frame });
        }
    }

    /// Answers the request `to_frame` with data.
    fn answer(&mut self, conn: Conn, to_frame: &Frame, attrs: Vec<Attr>) {
        let Header { seq, peer, .. } = to_frame.header;
        self.send(conn, MsgType::Data, seq, peer, attrs);
    }

    /// What has no name is nobody's to guard.
    // ubusd_acl_check
    fn may(&self, conn: Conn, name: Option<&str>, wish: Wish) -> bool {
        let Some(((_, caller), name)) = self.clients.get(&conn).zip(name) else {
            return true;
        };
        self.acl.allows(caller, name, wish)
    }

    fn new_id(&mut self) -> u32 {
        loop {
            let id = (self.ids)();
            let taken = self.clients.values().any(|(c, _)| *c == id)
                || self.objects.contains_key(&id)
                || self.types.contains_key(&id);
            if id >= SYSTEM_OBJECTS && !taken {
                return id;
            }
        }
    }

    // ubusd_handle_add_object, ubusd_create_object
    fn add_object(&mut self, conn: Conn, frame: &Frame) -> Status {
        let attrs = &frame.attrs;
        let path = attrs.objpath().map(str::to_owned);
        if !self.may(conn, path.as_deref(), Wish::Publish) {
            return Status::PermissionDenied;
        }
        if path.as_ref().is_some_and(|p| self.paths.contains_key(p)) {
            return Status::InvalidArgument;
        }
        let type_id = match (attrs.objtype(), attrs.signature()) {
            (Some(known), _) => Some(known).filter(|t| self.types.contains_key(t)),
            (None, Some(signature)) => {
                let id = self.new_id();
                let signature = signature.clone();
                self.types.insert(
                    id,
                    ObjectType {
                        signature,
                        objects: 0,
                    },
                );
                Some(id)
            }
            (None, None) => None,
        };
        if let Some(object_type) = type_id.and_then(|t| self.types.get_mut(&t)) {
            object_type.objects += 1;
        }
        let id = self.new_id();
        self.births += 1;
        let object = Object {
            conn,
            path: path.clone(),
            type_id,
            subscribers: vec![],
            notices: 0,
            born: self.births,
        };
        self.objects.insert(id, object);
        if let Some(path) = path {
            self.paths.insert(path.clone(), id);
            self.object_event("ubus.object.add", id, path);
        }
        let mut answer = vec![Attr::ObjId(id)];
        if attrs.signature().is_some() {
            answer.extend(type_id.map(Attr::ObjType));
        }
        self.answer(conn, frame, answer);
        Status::Ok
    }

    // ubusd_handle_remove_object
    fn remove_object(&mut self, conn: Conn, frame: &Frame) -> Status {
        let Some(id) = frame.attrs.objid() else {
            return Status::InvalidArgument;
        };
        let Some(object) = self.objects.get(&id) else {
            return Status::NotFound;
        };
        if object.conn != conn {
            return Status::PermissionDenied;
        }
        let last_of_type = object
            .type_id
            .filter(|t| self.types.get(t).is_some_and(|t| t.objects == 1));
        let mut answer = vec![Attr::ObjId(id)];
        answer.extend(last_of_type.map(Attr::ObjType));
        self.answer(conn, frame, answer);
        self.free_object(id);
        Status::Ok
    }

    // ubusd_free_object
    fn free_object(&mut self, id: u32) {
        let mut heard: Vec<(u64, u32)> = self
            .objects
            .iter()
            .filter(|(_, o)| o.subscribers.contains(&id))
            .map(|(target, o)| (o.born, *target))
            .collect();
        heard.sort_unstable();
        for (_, target) in heard {
            self.end_subscription(id, target);
        }
        let subscribers = self.objects.get(&id).map(|o| o.subscribers.clone());
        for subscriber in subscribers.unwrap_or_default() {
            if let Some(object) = self.objects.get_mut(&subscriber) {
                object.notices = object.notices.wrapping_add(1);
                let (to, seq) = (object.conn, object.notices);
                let attrs = vec![Attr::ObjId(subscriber), Attr::Target(id)];
                self.send(to, MsgType::Unsubscribe, seq, 0, attrs);
            }
            self.end_subscription(subscriber, id);
        }
        self.patterns.retain(|p| p.object != id);
        let Some(object) = self.objects.get(&id) else {
            return;
        };
        if let Some(path) = object.path.clone() {
            self.object_event("ubus.object.remove", id, path.clone());
            self.paths.remove(&path);
        }
        let removed = self.objects.remove(&id);
        if let Some(type_id) = removed.and_then(|o| o.type_id) {
            if let Some(object_type) = self.types.get_mut(&type_id) {
                object_type.objects -= 1;
                if object_type.objects == 0 {
                    self.types.remove(&type_id);
                }
            }
        }
    }

    // __ubusd_handle_lookup
    fn lookup(&mut self, conn: Conn, frame: &Frame) -> Status {
        let ids: Vec<u32> = match frame.attrs.objpath() {
            None => self.paths.values().copied().collect(),
            Some("") => return Status::InvalidArgument,
            Some(path) => {
                let found: Vec<u32> = match path.strip_suffix('*') {
                    None => self.paths.get(path).copied().into_iter().collect(),
                    Some(prefix) => self
                        .paths
                        .iter()
                        .filter(|(path, _)| path.starts_with(prefix))
                        .map(|(_, id)| *id)
                        .collect(),
                };
                if found.is_empty() {
                    return Status::NotFound;
                }
                found
            }
        };
        for id in ids {
            if let Some(answer) = self.describe(conn, id) {
                self.answer(conn, frame, answer);
            }
        }
        Status::Ok
    }

    /// What a lookup says of an object; nothing of one without a signature, or of whose methods this client may
    /// call none.
    // ubusd_send_obj
    fn describe(&self, conn: Conn, id: u32) -> Option<Vec<Attr>> {
        let object = self.objects.get(&id)?;
        let type_id = object.type_id?;
        let all = &self.types.get(&type_id)?.signature;
        let path = object.path.clone()?;
        let may = |method: &str| self.may(conn, Some(&path), Wish::Call(method));
        let own: Table = all.iter().filter(|(m, _)| may(m)).cloned().collect();
        (all.is_empty() || !own.is_empty()).then(|| {
            vec![
                Attr::ObjPath(path),
                Attr::ObjId(id),
                Attr::ObjType(type_id),
                Attr::Signature(own),
            ]
        })
    }

    // ubusd_handle_invoke
    fn invoke(&mut self, conn: Conn, frame: &Frame) -> Ending {
        let attrs = &frame.attrs;
        let (Some(method), Some(id)) = (attrs.method(), attrs.objid()) else {
            return Some(Status::InvalidArgument);
        };
        if id == EVENT_OBJECT {
            return Some(match (method, attrs.data()) {
                ("register" | "send", None) => Status::InvalidArgument,
                ("register", Some(data)) => self.register(conn, data),
                ("send", Some(data)) => self.send_event(conn, data),
                _ => Status::InvalidCommand,
            });
        }
        let Some(object) = self.objects.get(&id) else {
            return Some(Status::NotFound);
        };
        if !self.may(conn, object.path.as_deref(), Wish::Call(method)) {
            return Some(Status::PermissionDenied);
        }
        self.forward(conn, id, frame, false);
        None
    }

    // ubusd_forward_invoke
    fn forward(&mut self, from: Conn, id: u32, frame: &Frame, no_reply: bool) {
        let (Some(to), Some((id_of_caller, caller))) = (
            self.objects.get(&id).map(|o| o.conn),
            self.clients.get(&from).cloned(),
        ) else {
            return;
        };
        let mut attrs = Vec::new();
        if no_reply {
            attrs.push(Attr::NoReply(true));
        }
        attrs.push(Attr::ObjId(id));
        attrs.extend(frame.attrs.method().map(|m| Attr::Method(m.to_owned())));
        attrs.push(Attr::User(caller.user));
        attrs.extend(caller.groups.into_iter().next().map(Attr::Group));
        attrs.extend(frame.attrs.data().cloned().map(Attr::Data));
        self.send(to, MsgType::Invoke, frame.header.seq, id_of_caller, attrs);
    }

    // ubusd_handle_response
    fn response(&mut self, conn: Conn, frame: &Frame) {
        let attrs = &frame.attrs;
        let whole = match frame.header.kind {
            MsgType::Status => attrs.status().is_some(),
            _ => attrs.data().is_some(),
        };
        let object = attrs.objid().filter(|id| {
            let object = self.objects.get(id);
            whole && object.is_some_and(|o| o.conn == conn)
        });
        let caller = self
            .clients
            .iter()
            .find(|(_, (id, _))| *id == frame.header.peer)
            .map(|(caller, _)| *caller);
        if let (Some(object), Some(caller)) = (object, caller) {
            let Header { kind, seq, .. } = frame.header;
            self.send(caller, kind, seq, object, attrs.0.clone());
        }
    }

    // ubusd_handle_add_watch
    fn subscribe(&mut self, conn: Conn, attrs: &Attrs) -> Status {
        let (Some(id), Some(target_id)) = (attrs.objid(), attrs.target()) else {
            return Status::InvalidArgument;
        };
        let Some(object) = self.objects.get(&id) else {
            return Status::NotFound;
        };
        if object.conn != conn {
            return Status::InvalidArgument;
        }
        let path = self.objects.get(&target_id).and_then(|o| o.path.clone());
        if !self.may(conn, path.as_deref(), Wish::Subscribe) {
            return Status::NotFound;
        }
        let Some(target) = self.objects.get_mut(&target_id) else {
            return Status::NotFound;
        };
        if target.conn == conn {
            return Status::InvalidArgument;
        }
        target.subscribers.insert(0, id);
        if target.subscribers.len() == 1 {
            self.notice(target_id, true);
        }
        Status::Ok
    }

    // ubusd_handle_remove_watch
    fn unsubscribe(&mut self, conn: Conn, attrs: &Attrs) -> Status {
        let (Some(id), Some(target)) = (attrs.objid(), attrs.target()) else {
            return Status::InvalidArgument;
        };
        let Some(object) = self.objects.get(&id) else {
            return Status::NotFound;
        };
        if object.conn != conn {
            return Status::InvalidArgument;
        }
        let heard = self.objects.get(&target);
        if !heard.is_some_and(|t| t.subscribers.contains(&id)) {
            return Status::NotFound;
        }
        self.end_subscription(id, target);
        Status::Ok
    }

    // ubus_unsubscribe
    fn end_subscription(&mut self, subscriber: u32, target: u32) {
        let Some(object) = self.objects.get_mut(&target) else {
            return;
        };
        if let Some(at) = object.subscribers.iter().position(|s| *s == subscriber) {
            object.subscribers.remove(at);
            if object.subscribers.is_empty() {
                self.notice(target, false);
            }
        }
    }

    // ubus_notify_subscription
    fn notice(&mut self, id: u32, active: bool) {
        if let Some(object) = self.objects.get_mut(&id) {
            object.notices = object.notices.wrapping_add(1);
            let (to, seq) = (object.conn, object.notices);
            let attrs = vec![Attr::ObjId(id), Attr::Active(active)];
            self.send(to, MsgType::Notify, seq, 0, attrs);
        }
    }

    // ubusd_handle_notify
    fn notify(&mut self, conn: Conn, frame: &Frame) -> Ending {
        let attrs = &frame.attrs;
        let (Some(_), Some(id)) = (attrs.method(), attrs.objid()) else {
            return Some(Status::InvalidArgument);
        };
        let Some(object) = self.objects.get(&id) else {
            return Some(Status::NotFound);
        };
        if object.conn != conn {
            return Some(Status::PermissionDenied);
        }
        let subscribers = object.subscribers.clone();
        if !attrs.no_reply() {
            let Header { seq, peer, .. } = frame.header;
            let told = vec![
                Attr::ObjId(id),
                Attr::Subscribers(subscribers.clone()),
                Attr::Status(Status::Ok.number()),
            ];
            self.send(conn, MsgType::Status, seq, peer, told);
        }
        for subscriber in subscribers {
            self.forward(conn, subscriber, frame, attrs.no_reply());
        }
        None
    }

    // ubusd_alloc_event_pattern
    fn register(&mut self, conn: Conn, data: &Table) -> Status {
        let (Some(object), Some(pattern)) = (
            member(data, "object").and_then(Value::u32),
            member(data, "pattern").and_then(Value::str),
        ) else {
            return Status::InvalidArgument;
        };
        if object < SYSTEM_OBJECTS || pattern.is_empty() {
            return Status::PermissionDenied;
        }
        match self.objects.get(&object) {
            None => return Status::NotFound,
            Some(o) if o.conn != conn => return Status::PermissionDenied,
            Some(_) => {}
        }
        let prefix = pattern.strip_suffix('*');
        let key = prefix.unwrap_or(pattern).to_owned();
        if !self.may(conn, Some(&key), Wish::Listen) {
            return Status::PermissionDenied;
        }
        let at = self.patterns.partition_point(|p| p.key <= key);
        let partial = prefix.is_some();
        self.patterns.insert(
            at,
            Pattern {
                key,
                partial,
                object,
            },
        );
        Status::Ok
    }

    // ubusd_forward_event
    fn send_event(&mut self, conn: Conn, data: &Table) -> Status {
        let (Some(id), Some(data)) = (
            member(data, "id").and_then(Value::str),
            member(data, "data").and_then(Value::table),
        ) else {
            return Status::InvalidArgument;
        };
        if id.starts_with("ubus.") || !self.may(conn, Some(id), Wish::Send) {
            return Status::PermissionDenied;
        }
        self.event(Some(conn), id, data);
        Status::Ok
    }

    // ubusd_send_obj_event
    fn object_event(&mut self, event: &str, id: u32, path: String) {
        let data = vec![
            ("id".to_owned(), Value::I32(id as i32)),
            ("path".to_owned(), Value::String(path)),
        ];
        self.event(None, event, &data);
    }

    /// Tells everybody who listens, but not the sender, and each object once.
    // ubusd_send_event
    fn event(&mut self, from: Option<Conn>, id: &str, data: &Table) {
        let mut told: Vec<(u32, Conn)> = vec![];
        for pattern in &self.patterns {
            let hit = pattern.key == id || (pattern.partial && id.starts_with(&pattern.key));
            let Some(object) = self.objects.get(&pattern.object).filter(|_| hit) else {
                continue;
            };
            let entry = (pattern.object, object.conn);
            if Some(object.conn) != from && !told.contains(&entry) {
                told.push(entry);
            }
        }
        for (object, to) in told {
            self.event_seq = self.event_seq.wrapping_add(1);
            let attrs = vec![
                Attr::ObjId(object),
                Attr::Method(id.to_owned()),
                Attr::Data(data.clone()),
            ];
            self.send(to, MsgType::Invoke, self.event_seq, 0, attrs);
        }
    }
}
