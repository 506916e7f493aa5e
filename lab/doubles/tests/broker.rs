//! The ubusd double against the recordings: it plays each recorded client, and stands in for the
//! processes behind the recorded frames; the broker must send what the real ubusd sent.
//!
//! Ids are random in the real one, so each recorded id is bound to one of the broker's at first
//! sight and must stay bound to it. Events are numbered from ubusd's start, so there the distance
//! between the numbers must stay the same.

#[path = "../../../tests/ubus_support/mod.rs"]
mod ubus_support;

use std::collections::{HashMap, VecDeque};

use tailover::ubus::blobmsg::{member, Table, Value};
use tailover::ubus::wire::{Attr, Frame};
use tailover_lab_doubles::broker::{Broker, Conn, Outgoing};
use ubus_rs::MsgType;
use ubus_support::{all, From, Recorded};

/// The process that owns all objects which the recorded clients look up.
const PROVIDER: Conn = 1000;
/// Sends the recorded events.
const SENDER: Conn = 1001;
/// Subscribes to the recorded service.
const SUBSCRIBER: Conn = 1002;
/// The first of those that call the recorded service.
const CALLERS: Conn = 2000;

/// Which recorded id is which of the broker's.
#[derive(Default)]
struct Ids {
    ours: HashMap<u32, u32>,
    recorded: HashMap<u32, u32>,
}

impl Ids {
    fn bind(&mut self, recorded: u32, ours: u32) {
        let before = self.ours.insert(recorded, ours);
        assert!(before.is_none_or(|b| b == ours), "{recorded:x} changed");
        let before = self.recorded.insert(ours, recorded);
        assert!(before.is_none_or(|b| b == recorded), "{ours:x} is two");
    }
}

/// All ids in a frame: peer, attributes, and the object in an event registration.
fn ids(frame: &mut Frame) -> Vec<&mut u32> {
    let mut found = vec![&mut frame.header.peer];
    for attr in &mut frame.attrs.0 {
        match attr {
            Attr::ObjId(id) | Attr::ObjType(id) | Attr::Target(id) => found.push(id),
            Attr::Subscribers(ids) => found.extend(ids),
            _ => {}
        }
    }
    // Small ids are ubusd's own and the same everywhere.
    found.retain(|id| **id >= 1024);
    found
}

struct Replay {
    broker: Broker,
    queues: HashMap<Conn, VecDeque<Frame>>,
    ids: Ids,
    /// Distance of the recorded event numbers to the broker's.
    event_distance: Option<u16>,
    frames: Vec<Recorded>,
    callers: Conn,
    seq: u16,
}

impl Replay {
    fn new(frames: Vec<Recorded>) -> Self {
        let mut next = 5000;
        let broker = Broker::new(move || {
            next += 1;
            next
        });
        let mut replay = Replay {
            broker,
            queues: HashMap::new(),
            ids: Ids::default(),
            event_distance: None,
            frames,
            callers: CALLERS,
            seq: 0,
        };
        for conn in [PROVIDER, SENDER, SUBSCRIBER] {
            replay.connect(conn);
            replay.pop(conn);
        }
        replay.provide();
        replay
    }

    fn deliver(&mut self, frames: Vec<Outgoing>) {
        for Outgoing { to, frame } in frames {
            self.queues.entry(to).or_default().push_back(frame);
        }
    }

    fn connect(&mut self, conn: Conn) {
        let greeting = self.broker.connect(conn);
        self.deliver(greeting);
    }

    fn send(&mut self, conn: Conn, frame: &Frame) {
        let out = self.broker.receive(conn, frame);
        self.deliver(out);
    }

    fn ask(&mut self, conn: Conn, kind: MsgType, attrs: Vec<Attr>) {
        self.seq += 1;
        self.send(conn, &Frame::new(kind, self.seq, 0, attrs));
    }

    fn pop(&mut self, conn: Conn) -> Option<Frame> {
        self.queues.get_mut(&conn).and_then(VecDeque::pop_front)
    }

    /// Registers all objects that the recording shows, a type once, as netifd does.
    fn provide(&mut self) {
        let mut described: Vec<Frame> = vec![];
        for recorded in &self.frames {
            let attrs = &recorded.frame.attrs;
            let known = described
                .iter()
                .any(|f| f.attrs.objpath() == attrs.objpath());
            if recorded.from == From::Ubusd && attrs.objpath().is_some() && !known {
                described.push(recorded.frame.clone());
            }
        }
        for frame in described {
            let attrs = &frame.attrs;
            let (id, type_id) = (
                attrs.objid().expect("an id"),
                attrs.objtype().expect("a type"),
            );
            let kind = match self.ids.ours.get(&type_id) {
                Some(known) => Attr::ObjType(*known),
                None => Attr::Signature(attrs.signature().expect("a signature").clone()),
            };
            let path = attrs.objpath().expect("a path").to_owned();
            self.ask(
                PROVIDER,
                MsgType::AddObject,
                vec![Attr::ObjPath(path), kind],
            );
            let answer = self.pop(PROVIDER).expect("the new id").attrs;
            self.ids.bind(id, answer.objid().expect("an id"));
            if let Some(ours) = answer.objtype() {
                self.ids.bind(type_id, ours);
            }
            let status = self.pop(PROVIDER).expect("the end").attrs.status();
            assert_eq!(status, Some(0));
        }
    }

    fn run(&mut self) {
        for at in 0..self.frames.len() {
            let recorded = self.frames[at].clone();
            match recorded.from {
                From::Client => self.play_client(at, &recorded),
                From::Ubusd => self.expect(&recorded),
            }
        }
        for conn in self.frames.iter().map(|f| f.conn) {
            let left = self.queues.get(&conn).filter(|q| !q.is_empty());
            assert!(left.is_none(), "more than was recorded: {left:?}");
        }
    }

    fn play_client(&mut self, at: usize, recorded: &Recorded) {
        let mut frame = recorded.frame.clone();
        for id in ids(&mut frame) {
            *id = *self.ids.ours.get(id).expect("an id seen before");
        }
        for attr in &mut frame.attrs.0 {
            if let Attr::Data(data) = attr {
                self.own_object(data);
            }
        }
        self.send(recorded.conn, &frame);
        self.answer_as_provider(at, recorded);
        self.answer_as_subscriber();
    }

    /// Puts the broker's id for the recorded one into an event registration.
    fn own_object(&self, data: &mut Table) {
        for (name, value) in data {
            if let (true, Some(id)) = (name == "object", value.u32()) {
                *value = Value::I32(*self.ids.ours.get(&id).expect("our object") as i32);
            }
        }
    }

    /// If a call reached the provider, it answers as the real one did.
    fn answer_as_provider(&mut self, at: usize, asked: &Recorded) {
        let Some(call) = self
            .pop(PROVIDER)
            .filter(|f| f.header.kind == MsgType::Invoke)
        else {
            return;
        };
        let id = call.attrs.objid().expect("the object's id");
        let answers: Vec<Frame> = self.frames[at..]
            .iter()
            .filter(|r| r.from == From::Ubusd && r.conn == asked.conn)
            .map(|r| r.frame.clone())
            .filter(|f| f.header.seq == asked.frame.header.seq)
            .collect();
        for mut answer in answers {
            answer.header.peer = call.header.peer;
            for attr in &mut answer.attrs.0 {
                if let Attr::ObjId(object) = attr {
                    *object = id;
                }
            }
            self.send(PROVIDER, &answer);
        }
    }

    /// If a notification reached the subscriber, it acknowledges it, as libubus does.
    fn answer_as_subscriber(&mut self) {
        while let Some(frame) = self.pop(SUBSCRIBER) {
            if frame.header.kind == MsgType::Invoke {
                let id = frame.attrs.objid().expect("the subscriber's id");
                let attrs = vec![Attr::Status(0), Attr::ObjId(id)];
                let header = frame.header;
                let answer = Frame::new(MsgType::Status, header.seq, header.peer, attrs);
                self.send(SUBSCRIBER, &answer);
            }
        }
    }

    fn expect(&mut self, recorded: &Recorded) {
        if self
            .queues
            .get(&recorded.conn)
            .is_none_or(VecDeque::is_empty)
        {
            self.stimulate(recorded);
        }
        let mut got = self.pop(recorded.conn).expect("a frame from the broker");
        let mut expected = recorded.frame.clone();
        let is_event = expected.header.kind == MsgType::Invoke && expected.header.peer == 0;
        if is_event {
            let distance = expected.header.seq.wrapping_sub(got.header.seq);
            assert_eq!(*self.event_distance.get_or_insert(distance), distance);
            expected.header.seq = got.header.seq;
        }
        let theirs = ids(&mut expected);
        let ours = ids(&mut got);
        assert_eq!(theirs.len(), ours.len(), "ids of {:?}", recorded.frame);
        for (theirs, ours) in theirs.into_iter().zip(ours) {
            self.ids.bind(*theirs, *ours);
            *theirs = *ours;
        }
        let expected = expected.encode().expect("a frame that was read");
        assert_eq!(
            got.encode().expect("the broker's frame"),
            expected,
            "{got:?}"
        );
    }

    /// Does what made the real ubusd send this frame, if the recorded client did not.
    fn stimulate(&mut self, recorded: &Recorded) {
        let header = recorded.frame.header;
        let attrs = recorded.frame.attrs.clone();
        let object = attrs.objid().map(|id| self.ids.ours[&id]);
        match (header.kind, attrs.active()) {
            (MsgType::Hello, _) => self.connect(recorded.conn),
            (MsgType::Notify, Some(true)) => {
                self.ask(SUBSCRIBER, MsgType::AddObject, vec![]);
                let own = self
                    .pop(SUBSCRIBER)
                    .and_then(|f| f.attrs.objid())
                    .expect("an id");
                let target = object.expect("the object's id");
                let pair = vec![Attr::ObjId(own), Attr::Target(target)];
                self.ask(SUBSCRIBER, MsgType::Subscribe, pair);
            }
            (MsgType::Notify, _) => {
                let out = self.broker.disconnect(SUBSCRIBER);
                self.deliver(out);
            }
            (MsgType::Invoke, _) => self.stimulate_call(recorded, object.expect("an object")),
            other => panic!("the broker did not send {other:?}"),
        }
    }

    fn stimulate_call(&mut self, recorded: &Recorded, object: u32) {
        let header = recorded.frame.header;
        let attrs = &recorded.frame.attrs;
        let method = attrs.method().expect("a method").to_owned();
        let data = attrs.data().expect("data").clone();
        if header.peer == 0 {
            let event = vec![
                ("id".to_owned(), Value::String(method)),
                ("data".to_owned(), Value::Table(data)),
            ];
            let send = vec![
                Attr::ObjId(1),
                Attr::Method("send".into()),
                Attr::Data(event),
            ];
            self.ask(SENDER, MsgType::Invoke, send);
        } else if attrs.no_reply() {
            // A notification: the object that was subscribed to tells it.
            let target = self.subscribed_target();
            let told = vec![
                Attr::ObjId(target),
                Attr::Method(method),
                Attr::NoReply(true),
                Attr::Data(data),
            ];
            let frame = Frame::new(MsgType::Notify, header.seq, target, told);
            self.send(PROVIDER, &frame);
        } else {
            self.callers += 1;
            self.connect(self.callers);
            let call = vec![Attr::ObjId(object), Attr::Method(method), Attr::Data(data)];
            let frame = Frame::new(MsgType::Invoke, header.seq, object, call);
            self.send(self.callers, &frame);
        }
    }

    /// The object that the recorded client subscribed to, in the broker's ids.
    fn subscribed_target(&self) -> u32 {
        let target = self.frames.iter().find_map(|r| r.frame.attrs.target());
        self.ids.ours[&target.expect("a subscription")]
    }
}

#[test]
fn the_broker_sends_what_the_recorded_ubusd_sent() {
    for recording in all() {
        println!("{}", recording.name);
        Replay::new(recording.frames).run();
    }
}

/// A broker with two clients, and what each of them got since it was asked last.
struct Two {
    replay: Replay,
}

impl Two {
    fn new() -> Self {
        Two {
            replay: Replay::new(vec![]),
        }
    }

    fn ask(&mut self, conn: Conn, kind: MsgType, attrs: Vec<Attr>) -> Vec<Frame> {
        self.replay.ask(conn, kind, attrs);
        self.got(conn)
    }

    fn got(&mut self, conn: Conn) -> Vec<Frame> {
        self.replay.queues.remove(&conn).unwrap_or_default().into()
    }

    /// Adds an object, named or not, and gives its id.
    fn add(&mut self, conn: Conn, path: Option<&str>) -> u32 {
        let attrs = match path {
            Some(path) => vec![Attr::ObjPath(path.to_owned()), Attr::Signature(vec![])],
            None => vec![],
        };
        let got = self.ask(conn, MsgType::AddObject, attrs);
        got.iter().find_map(|f| f.attrs.objid()).expect("an id")
    }
}

fn kinds(frames: &[Frame]) -> Vec<MsgType> {
    frames.iter().map(|f| f.header.kind).collect()
}

#[test]
fn a_leaving_client_takes_its_objects_along_and_everybody_is_told() {
    let mut two = Two::new();
    let target = two.add(PROVIDER, Some("rc"));
    let own = two.add(SUBSCRIBER, None);
    let pattern = vec![
        ("object".to_owned(), Value::I32(own as i32)),
        ("pattern".to_owned(), Value::from("ubus.object.*")),
    ];
    let register = vec![
        Attr::ObjId(1),
        Attr::Method("register".into()),
        Attr::Data(pattern),
    ];
    two.ask(SUBSCRIBER, MsgType::Invoke, register);
    let pair = vec![Attr::ObjId(own), Attr::Target(target)];
    let got = two.ask(SUBSCRIBER, MsgType::Subscribe, pair);
    assert_eq!(got[0].attrs.status(), Some(0));

    let out = two.replay.broker.disconnect(PROVIDER);
    two.replay.deliver(out);
    let got = two.got(SUBSCRIBER);
    assert_eq!(kinds(&got), [MsgType::Unsubscribe, MsgType::Invoke]);
    assert_eq!(got[0].attrs.target(), Some(target));
    assert_eq!(got[1].attrs.method(), Some("ubus.object.remove"));
    let data = got[1].attrs.data().expect("data");
    assert_eq!(member(data, "path").and_then(Value::str), Some("rc"));

    let lookup = two.ask(
        SUBSCRIBER,
        MsgType::Lookup,
        vec![Attr::ObjPath("rc".into())],
    );
    assert_eq!(lookup[0].attrs.status(), Some(4));
}

#[test]
fn a_name_is_given_once_and_an_object_is_only_its_owners() {
    let mut two = Two::new();
    let id = two.add(PROVIDER, Some("tailover"));
    let again = vec![Attr::ObjPath("tailover".into()), Attr::Signature(vec![])];
    let got = two.ask(SENDER, MsgType::AddObject, again);
    assert_eq!(got[0].attrs.status(), Some(2));
    let got = two.ask(SENDER, MsgType::RemoveObject, vec![Attr::ObjId(id)]);
    assert_eq!(got[0].attrs.status(), Some(6));
    let notify = vec![
        Attr::ObjId(id),
        Attr::Method("x".into()),
        Attr::Data(vec![]),
    ];
    let got = two.ask(SENDER, MsgType::Notify, notify);
    assert_eq!(got[0].attrs.status(), Some(6));
}

#[test]
fn a_ping_is_answered() {
    let mut two = Two::new();
    let got = two.ask(SENDER, MsgType::Ping, vec![]);
    assert_eq!(kinds(&got), [MsgType::Data, MsgType::Status]);
}
