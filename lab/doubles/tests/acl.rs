//! Who may call what of tailover's ubus object, by the file that the package brings. The double of ubusd against
//! what the real one did with the same file (tests/recordings/ubus-acl.json).

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tailover::ubus::blobmsg::{Table, Value};
use tailover::ubus::wire::{Attr, Frame};
use tailover_lab_doubles::acl::{Acl, Caller};
use tailover_lab_doubles::broker::{Broker, Conn};
use ubus_rs::MsgType;

const DAEMON: Conn = 1;
const CALLER: Conn = 2;
/// ubusd's own object for events.
const EVENTS: u32 = 1;

fn place(below_root: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(below_root)
}

fn recorded() -> Json {
    let file = place("tests/recordings/ubus-acl.json");
    let text = std::fs::read_to_string(file).expect("the recording is there");
    serde_json::from_str(&text).expect("it is JSON")
}

struct Bus {
    broker: Broker,
    object: u32,
}

impl Bus {
    /// The daemon is there with these methods, and somebody else comes.
    fn with(methods: &[&str], caller: Caller) -> Bus {
        let mut next = 5000;
        let broker = Broker::new(move || {
            next += 1;
            next
        });
        let mut bus = Bus { broker, object: 0 };
        let acl = Acl::read(&place("openwrt/net/tailover/files/usr/share/acl.d"));
        bus.broker.control_access(acl.expect("the package's file"));
        bus.broker.connect(DAEMON);
        let signature: Table = methods
            .iter()
            .map(|m| ((*m).to_string(), Value::Table(vec![])))
            .collect();
        let path = Attr::ObjPath("tailover".into());
        let (got, _) = bus.ask(
            DAEMON,
            MsgType::AddObject,
            vec![path, Attr::Signature(signature)],
        );
        bus.object = got
            .iter()
            .find_map(|f| f.attrs.objid())
            .expect("the object's id");
        bus.broker.connect_as(CALLER, caller);
        bus
    }

    /// What the client is told, and what the daemon is.
    fn ask(&mut self, conn: Conn, kind: MsgType, attrs: Vec<Attr>) -> (Vec<Frame>, Vec<Frame>) {
        let out = self.broker.receive(conn, &Frame::new(kind, 1, 0, attrs));
        let (own, others): (Vec<_>, Vec<_>) = out.into_iter().partition(|o| o.to == conn);
        let frames = |list: Vec<tailover_lab_doubles::broker::Outgoing>| {
            list.into_iter().map(|o| o.frame).collect()
        };
        (frames(own), frames(others))
    }

    fn status(frames: &[Frame]) -> Option<i64> {
        let last = frames.iter().rev().find_map(|f| f.attrs.status());
        last.map(i64::from)
    }

    /// The methods that a lookup shows.
    fn methods(&mut self) -> Vec<String> {
        let path = Attr::ObjPath("tailover".into());
        let (got, _) = self.ask(CALLER, MsgType::Lookup, vec![path]);
        let shown = got.iter().find_map(|f| f.attrs.signature().cloned());
        let shown = shown.unwrap_or_default();
        shown.into_iter().map(|(name, _)| name).collect()
    }

    /// As the ubus command calls: it asks for the object's id first. Nothing reaches the daemon unless it may.
    fn call(&mut self, method: &str) -> i64 {
        if self.methods().is_empty() {
            return 4;
        }
        self.invoke(method)
    }

    /// The same of a caller who knows the id.
    fn invoke(&mut self, method: &str) -> i64 {
        let attrs = vec![
            Attr::ObjId(self.object),
            Attr::Method(method.into()),
            Attr::Data(vec![]),
        ];
        let (told, daemon) = self.ask(CALLER, MsgType::Invoke, attrs);
        match Bus::status(&told) {
            Some(refused) => {
                assert!(daemon.is_empty(), "{method} was refused and came through");
                refused
            }
            None => {
                assert_eq!(daemon[0].attrs.method(), Some(method));
                0
            }
        }
    }

    fn event(&mut self, method: &str, members: Vec<(&str, Value)>) -> i64 {
        let data = members
            .into_iter()
            .map(|(key, value)| (key.to_string(), value))
            .collect();
        let attrs = vec![
            Attr::ObjId(EVENTS),
            Attr::Method(method.into()),
            Attr::Data(data),
        ];
        let (told, _) = self.ask(CALLER, MsgType::Invoke, attrs);
        Bus::status(&told).expect("a status")
    }

    fn own_object(&mut self) -> u32 {
        let (got, _) = self.ask(CALLER, MsgType::AddObject, vec![]);
        got.iter().find_map(|f| f.attrs.objid()).expect("an id")
    }
}

fn texts(list: &Json) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|t| t.as_str().expect("a text").to_string())
        .collect()
}

fn caller(row: &Json) -> Caller {
    Caller {
        user: row["user"].as_str().expect("a user").to_string(),
        groups: texts(&row["groups"]),
    }
}

#[test]
fn the_double_allows_what_the_real_ubusd_allowed() {
    let all = recorded();
    for row in all["callers"].as_array().expect("callers") {
        let calls = row["calls"].as_object().expect("calls");
        let mut methods = texts(&row["methods"]);
        methods.extend(
            calls
                .keys()
                .filter(|m| !methods.contains(m))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let names: Vec<&str> = methods.iter().map(String::as_str).collect();
        let mut bus = Bus::with(&names, caller(row));
        assert_eq!(bus.methods(), texts(&row["methods"]), "{row}");
        for (method, status) in calls {
            assert_eq!(Some(bus.call(method)), status.as_i64(), "{method} in {row}");
        }
        let own = bus.own_object();
        let pair = vec![Attr::ObjId(own), Attr::Target(bus.object)];
        let (told, _) = bus.ask(CALLER, MsgType::Subscribe, pair);
        assert_eq!(Bus::status(&told), row["subscribe"].as_i64(), "{row}");
        let event = vec![
            ("id", Value::from("tailover")),
            ("data", Value::Table(vec![])),
        ];
        assert_eq!(
            Some(bus.event("send", event)),
            row["send"].as_i64(),
            "{row}"
        );
        let all = vec![
            ("object", Value::I32(own as i32)),
            ("pattern", Value::from("*")),
        ];
        assert_eq!(
            Some(bus.event("register", all)),
            row["listen"].as_i64(),
            "{row}"
        );
    }
}

/// The list of methods that change something is the daemon's own, so a new one is refused as well.
#[test]
fn who_is_not_root_may_read_and_no_more() {
    let source =
        std::fs::read_to_string(place("src/daemon/listen.rs")).expect("the daemon's object");
    let listed: Vec<&str> = source
        .split("Method::new(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(listed.len() >= 7, "{listed:?}");
    let member = Caller {
        user: "nobody".into(),
        groups: vec!["tailover".into()],
    };
    let stranger = Caller {
        user: "nobody".into(),
        groups: vec!["nogroup".into()],
    };
    for method in &listed {
        let reads = ["status", "history", "metrics"].contains(method);
        let mut bus = Bus::with(&listed, member.clone());
        assert_eq!(bus.invoke(method) == 0, reads, "{method}");
        assert_eq!(Bus::with(&listed, stranger.clone()).invoke(method), 6);
        assert_eq!(Bus::with(&listed, Caller::root()).invoke(method), 0);
    }
}
