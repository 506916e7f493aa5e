//! The smol client against a scripted ubusd that plays the recordings' other side.
//!
//! The operations to do are read off the recorded client's frames; the client must then write
//! exactly those frames, and hand out what the recorded ubusd sent.

mod ubus_support;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use smol::channel::Receiver;
use smol::future;
use tailover::ubus::blobmsg::{member, Table};
use tailover::ubus::wire::Frame;
use tailover::ubus::{Client, Error, Handle, Happening, Method, Status, Type, Value};
use ubus_rs::MsgType;
use ubus_support::{all, one, From, Recorded};

/// Longest wait for anything in these tests; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder for sockets that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tailover-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("ubus.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Plays ubusd's side of one recorded connection and checks each byte of the client's.
///
/// Every second frame goes out in pieces of 7 bytes. Gives what the client sent after the end.
fn play(listener: &UnixListener, frames: &[Recorded]) -> Vec<u8> {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    for (at, recorded) in frames.iter().enumerate() {
        match recorded.from {
            From::Ubusd => send(&mut stream, &recorded.bytes, at % 2 == 1),
            From::Client => {
                let mut got = vec![0; recorded.bytes.len()];
                stream.read_exact(&mut got).expect("the client's frame");
                assert_eq!(
                    Frame::decode(&got).as_ref(),
                    Ok(&recorded.frame),
                    "frame {at}"
                );
                assert_eq!(got, recorded.bytes, "frame {at}");
            }
        }
    }
    stream.shutdown(std::net::Shutdown::Write).expect("to end");
    let mut rest = vec![];
    stream.read_to_end(&mut rest).expect("the client's end");
    rest
}

fn send(stream: &mut UnixStream, bytes: &[u8], in_pieces: bool) {
    let size = if in_pieces { 7 } else { bytes.len() };
    for piece in bytes.chunks(size) {
        stream.write_all(piece).expect("to write");
    }
}

/// What the recorded client did, as an operation of the client that is tested.
#[derive(Debug)]
enum Op {
    Lookup(String),
    Invoke {
        path: String,
        method: String,
        data: Table,
    },
    Listen(String),
    Subscribe(String),
    Add {
        name: String,
        methods: Vec<Method>,
    },
    Remove(String),
    Notify {
        name: String,
        method: String,
        data: Table,
    },
    Send {
        id: String,
        data: Table,
    },
}

/// Reads the operations off the client's frames. Answers to calls and events are no operations.
fn operations(frames: &[Recorded]) -> Vec<Op> {
    let mut ops = vec![];
    let mut own_name = String::new();
    let client = |r: &&Recorded| {
        let answer = matches!(r.frame.header.kind, MsgType::Data | MsgType::Status);
        r.from == From::Client && !answer
    };
    let mut requests = frames.iter().filter(client).map(|r| &r.frame).peekable();
    while let Some(frame) = requests.next() {
        let attrs = &frame.attrs;
        let path = || attrs.objpath().unwrap_or("*").to_owned();
        let method = || attrs.method().expect("a method").to_owned();
        let data = || attrs.data().expect("data").clone();
        ops.push(match frame.header.kind {
            MsgType::Lookup
                if requests
                    .peek()
                    .is_some_and(|f| f.header.kind == MsgType::Invoke) =>
            {
                let call = &requests.next().expect("peeked").attrs;
                Op::Invoke {
                    path: path(),
                    method: call.method().expect("a method").to_owned(),
                    data: call.data().expect("data").clone(),
                }
            }
            MsgType::Lookup => Op::Lookup(path()),
            MsgType::AddObject if attrs.objpath().is_some() => {
                own_name = path();
                let signature = attrs.signature().expect("a signature");
                Op::Add {
                    name: path(),
                    methods: methods(signature),
                }
            }
            MsgType::AddObject => match requests.next().expect("a use of the object") {
                f if f.header.kind == MsgType::Lookup => {
                    requests.next().expect("the subscription");
                    Op::Subscribe(f.attrs.objpath().expect("a path").to_owned())
                }
                f => {
                    let pattern = member(f.attrs.data().expect("data"), "pattern");
                    Op::Listen(pattern.and_then(Value::str).expect("a pattern").to_owned())
                }
            },
            MsgType::Invoke => Op::Send {
                id: member(&data(), "id")
                    .and_then(Value::str)
                    .expect("an id")
                    .to_owned(),
                data: member(&data(), "data")
                    .and_then(Value::table)
                    .expect("data")
                    .clone(),
            },
            MsgType::Notify => Op::Notify {
                name: own_name.clone(),
                method: method(),
                data: data(),
            },
            MsgType::RemoveObject => Op::Remove(own_name.clone()),
            other => panic!("no operation for {other:?}"),
        });
    }
    ops
}

fn methods(signature: &Table) -> Vec<Method> {
    let types = [
        Type::Any,
        Type::Array,
        Type::Table,
        Type::String,
        Type::I64,
        Type::I32,
        Type::I16,
        Type::Bool,
        Type::Double,
    ];
    let of_number = |v: &Value| {
        let number = v.i64().expect("a type's number");
        *types
            .iter()
            .find(|t| i64::from(t.number()) == number)
            .expect("a type")
    };
    signature
        .iter()
        .map(|(name, args)| Method {
            name: name.clone(),
            args: args
                .table()
                .expect("arguments")
                .iter()
                .map(|(n, t)| (n.clone(), of_number(t)))
                .collect(),
        })
        .collect()
}

/// What ubusd answered to the invoke of `method` with `data`.
fn recorded_answer(frames: &[Recorded], method: &str, data: &Table) -> Result<Value, Status> {
    let asked = frames
        .iter()
        .find(|r| {
            r.from == From::Client
                && r.frame.attrs.method() == Some(method)
                && r.frame.attrs.data() == Some(data)
        })
        .expect("the call");
    let seq = asked.frame.header.seq;
    let answers = || {
        frames
            .iter()
            .filter(|r| r.from == From::Ubusd && r.frame.header.seq == seq)
    };
    let status = answers()
        .find_map(|r| r.frame.attrs.status())
        .expect("a status");
    match Status::from(status) {
        Status::Ok => Ok(Value::Table(
            answers()
                .find_map(|r| r.frame.attrs.data())
                .cloned()
                .unwrap_or_default(),
        )),
        status => Err(status),
    }
}

async fn perform(handle: &Handle, op: Op, frames: &[Recorded]) {
    match op {
        Op::Lookup(path) => {
            let known = |r: &&Recorded| r.from == From::Ubusd && r.frame.attrs.objpath().is_some();
            let found = handle.lookup(&path).await;
            match frames.iter().filter(known).count() {
                0 => assert!(matches!(found, Err(Error::Status(Status::NotFound)))),
                n => assert_eq!(found.expect("objects").len(), n),
            }
        }
        Op::Invoke { path, method, data } => {
            let expected = recorded_answer(frames, &method, &data);
            match (
                handle.invoke(&path, &method, data, PATIENCE).await,
                expected,
            ) {
                (Ok(answer), expected) => assert_eq!(Ok(answer), expected),
                (Err(Error::Status(status)), expected) => assert_eq!(Err(status), expected),
                (Err(e), _) => panic!("{path} {method}: {e}"),
            }
        }
        Op::Listen(pattern) => handle.listen(&pattern).await.expect("to listen"),
        Op::Subscribe(path) => handle.subscribe(&path).await.expect("to subscribe"),
        Op::Add { name, methods } => handle.add_object(&name, methods).await.expect("to add"),
        Op::Remove(name) => handle.remove_object(&name).await.expect("to remove"),
        Op::Send { id, data } => handle.send_event(&id, data).await.expect("to send"),
        Op::Notify { name, method, data } => {
            // Nothing is sent until ubusd has said that somebody listens.
            while handle
                .notify(&name, &method, data.clone())
                .await
                .expect("to notify")
                == 0
            {
                future::yield_now().await;
            }
        }
    }
}

/// Answers calls as the recorded provider did, and collects events and notifications.
async fn attend(
    happened: &Receiver<Happening>,
    frames: &[Recorded],
    seen: &mut Vec<(String, Value)>,
) {
    while let Ok(happening) = happened.recv().await {
        match happening {
            Happening::Call(call) => {
                let asked = frames
                    .iter()
                    .filter(|r| r.from == From::Ubusd && r.frame.header.kind == MsgType::Invoke)
                    .map(|r| &r.frame)
                    .find(|f| {
                        f.attrs.method() == Some(&call.method)
                            && f.attrs.data() == call.data.table()
                    })
                    .expect("the recorded call");
                let answers = frames
                    .iter()
                    .filter(|r| r.from == From::Client)
                    .map(|r| &r.frame)
                    .filter(|f| f.header.peer == asked.header.peer);
                let data = answers.clone().find_map(|f| f.attrs.data());
                let status = answers
                    .clone()
                    .find_map(|f| f.attrs.status())
                    .expect("a status");
                match data {
                    Some(data) => call.reply(data.clone()),
                    None => call.fail(Status::from(status)),
                }
            }
            Happening::Event { id, data } => seen.push((id, data)),
            Happening::Notification {
                object,
                method,
                data,
            } => {
                assert_eq!(object, "network.interface");
                seen.push((method, data));
            }
            Happening::Down(_) => return,
            Happening::Up => {}
        }
    }
}

async fn within<T>(what: &str, work: impl std::future::Future<Output = T>) -> T {
    future::or(work, async {
        smol::Timer::after(PATIENCE).await;
        panic!("{what} took too long")
    })
    .await
}

#[test]
fn the_client_writes_every_recorded_client_frame_bit_for_bit() {
    let folder = Folder::new("replay");
    let mut played = 0;
    for recording in all() {
        for conn in recording.conns() {
            let _ = std::fs::remove_file(folder.socket());
            let listener = UnixListener::bind(folder.socket()).expect("a socket");
            let frames = recording.conn(conn);
            let ops = operations(&frames);
            assert!(!ops.is_empty(), "{}: nothing to do", recording.name);
            let script = frames.clone();
            let peer = std::thread::spawn(move || play(&listener, &script));

            // As the recorded commands: a subscription ends with its object.
            let (client, handle, happened) = Client::with_options(&folder.socket(), false);
            let mut seen = vec![];
            let work = async {
                let first = happened.recv().await;
                assert!(matches!(first, Ok(Happening::Up)), "{first:?}");
                let operate = async {
                    for op in ops {
                        perform(&handle, op, &frames).await;
                    }
                };
                // The scripted ubusd hangs up after the last frame.
                future::zip(operate, attend(&happened, &frames, &mut seen)).await;
            };
            let run = async {
                client.run().await;
                panic!("the client ended");
            };
            smol::block_on(within(&recording.name, future::or(work, run)));
            let rest = peer.join().expect("the scripted ubusd");
            assert!(
                rest.is_empty(),
                "{}: more than was recorded: {rest:?}",
                recording.name
            );

            let recorded: Vec<(String, Value)> = frames
                .iter()
                .filter(|r| r.from == From::Ubusd && r.frame.header.kind == MsgType::Invoke)
                .filter(|_| {
                    recording.name.starts_with("listen") || recording.name.starts_with("subscribe")
                })
                .map(|r| &r.frame.attrs)
                .map(|a| {
                    (
                        a.method().expect("a name").to_owned(),
                        Value::Table(a.data().expect("data").clone()),
                    )
                })
                .collect();
            assert_eq!(seen, recorded, "{}", recording.name);
            played += 1;
        }
    }
    assert_eq!(played, 18, "connections in the recordings");
}

#[test]
fn the_one_shot_call_writes_the_recorded_frames_and_reads_the_answer() {
    let folder = Folder::new("oneshot");
    let recording = one("call_service_list");
    let listener = UnixListener::bind(folder.socket()).expect("a socket");
    let frames = recording.conn(1);
    let script = frames.clone();
    let peer = std::thread::spawn(move || play(&listener, &script));
    let arguments = vec![("name".to_owned(), Value::from("mwan3"))];
    let answer = tailover::ubus::oneshot::call(
        &folder.socket(),
        "service",
        "list",
        arguments.clone(),
        PATIENCE,
    );
    let expected = recorded_answer(&frames, "list", &arguments).expect("an answer");
    assert_eq!(answer.expect("an answer"), expected);
    assert!(peer.join().expect("the scripted ubusd").is_empty());
}

#[test]
fn the_one_shot_call_keeps_its_deadline_when_ubusd_is_silent() {
    let folder = Folder::new("silent");
    // Bound and listening, but never accepted: the connection stands, no greeting comes.
    let _listener = UnixListener::bind(folder.socket()).expect("a socket");
    let deadline = Duration::from_millis(15);
    let started = std::time::Instant::now();
    let answer =
        tailover::ubus::oneshot::call(&folder.socket(), "tailover", "event", vec![], deadline);
    assert!(matches!(answer, Err(Error::Timeout)), "{answer:?}");
    assert!(started.elapsed() >= deadline);
}

#[test]
fn the_one_shot_call_says_that_there_is_no_ubusd() {
    let folder = Folder::new("none");
    let answer =
        tailover::ubus::oneshot::call(&folder.socket(), "tailover", "event", vec![], PATIENCE);
    let Err(Error::Io(e)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
}
