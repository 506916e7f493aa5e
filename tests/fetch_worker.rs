//! The worker process with the real program: it answers, is reaped when idle, and is started anew.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use smol::Timer;
use tailover::net::http::{FetchError, Request};
use tailover::net::resolve::resolve;
use tailover::net::worker::{fetch, use_process, Program};

const PATIENCE: Duration = Duration::from_secs(15);

const PROGRAM: &str = env!("CARGO_BIN_EXE_tailover-fetch");

fn program() -> Program {
    Program(vec!["/nonexistent/tailover-fetch".into(), PROGRAM.into()])
}

/// Answers every connection with these bytes.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let head = BufReader::new(&stream).lines();
            let read = head.map_while(Result::ok).take_while(|l| !l.is_empty());
            assert!(read.count() > 0, "a request");
            // The worker may have been killed meanwhile.
            let _ = stream.write_all(answer);
        }
    });
    address
}

/// The pids of this thread's children, zombies included (proc_pid_children(5)).
fn children() -> Vec<i32> {
    let list = std::fs::read_to_string("/proc/thread-self/children").expect("this kernel tells");
    list.split_whitespace().flat_map(str::parse).collect()
}

/// Runs the test's body beside the worker's parent.
fn with_worker<T>(program: Program, body: impl std::future::Future<Output = T>) -> T {
    let parent = use_process(program);
    smol::block_on(smol::future::or(body, async {
        parent.run().await;
        unreachable!("it runs for ever")
    }))
}

#[test]
fn answers_requests_and_lookups_and_is_reaped_when_idle() {
    let address = server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\nyes");
    with_worker(program(), async {
        let asked = || fetch(Request::get(format!("http://{address}/")).into());
        let (one, two) = smol::future::zip(asked(), asked()).await;
        for response in [one.expect("a response"), two.expect("a response")] {
            assert_eq!((response.status, response.text().as_str()), (200, "yes"));
            assert_eq!(response.header("x-a"), Some("b"));
        }
        let local = resolve("localhost", PATIENCE).await.expect("in /etc/hosts");
        assert!(local.iter().all(|ip| ip.is_loopback()), "{local:?}");
        assert_eq!(children().len(), 1, "one worker did all three");

        let deadline = Instant::now() + PATIENCE;
        while !children().is_empty() {
            assert!(Instant::now() < deadline, "the idle worker is still there");
            Timer::after(Duration::from_millis(20)).await;
        }
        assert_eq!(asked().await.expect("by a new one").status, 200);
    });
    assert_eq!(children(), [0; 0], "it ends with its parent");
}

#[test]
fn errors_arrive_as_they_are() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    let address = closed.local_addr().expect("its address");
    drop(closed);
    let refused = with_worker(
        program(),
        fetch(Request::get(format!("http://{address}/")).into()),
    );
    match refused {
        Err(FetchError::Connect { kind, .. }) => assert_eq!(kind, ErrorKind::ConnectionRefused),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_killed_worker_fails_what_it_had_and_is_started_anew() {
    let address = server(b"HTTP/1.1 204 No Content\r\n\r\n");
    // Connected by the kernel, never answered.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    let mute = silent.local_addr().expect("its address");
    with_worker(program(), async {
        let request = Request {
            timeout: PATIENCE,
            ..Request::get(format!("http://{mute}/"))
        };
        let kill = async {
            let silent = smol::Async::new(silent).expect("a listener");
            let stream = silent.accept().await.expect("the worker's connection");
            let pid = rustix::process::Pid::from_raw(children()[0]).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
            stream
        };
        let (failed, _) = smol::future::zip(fetch(request.into()), kill).await;
        assert!(matches!(failed, Err(FetchError::Worker(_))), "{failed:?}");
        let again = fetch(Request::get(format!("http://{address}/")).into()).await;
        assert_eq!(again.expect("by a new worker").status, 204);
    });
}

/// The lines of the one test that logs a warning.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Kept;

impl log::Log for Kept {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Warn {
            let mut kept = WARNINGS.lock().expect("no panic");
            kept.push(format!("[{}] {}", record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn that_the_program_is_not_there_is_said_once() {
    log::set_logger(&Kept).expect("the only logger");
    log::set_max_level(log::LevelFilter::Warn);
    let missing = Program(vec!["/nonexistent/tailover-fetch".into()]);
    with_worker(missing, async {
        for _ in 0..3 {
            let failed = fetch(Request::get("http://127.0.0.1:1/").into()).await;
            assert_eq!(failed, Err(FetchError::NotInstalled));
        }
    });
    let said = WARNINGS.lock().expect("no panic").clone();
    let [line] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(
        line.starts_with("[tailover] tailover-fetch is neither"),
        "{line}"
    );
}

#[test]
fn without_a_parent_there_is_an_error() {
    let failed = smol::block_on(fetch(Request::get("http://127.0.0.1:1/").into()));
    assert!(matches!(failed, Err(FetchError::Worker(_))), "{failed:?}");
}

#[test]
fn addresses_names_and_nonsense_are_resolved() {
    let ask = |host| with_worker(program(), resolve(host, PATIENCE));
    assert_eq!(
        ask("2001:db8::1"),
        Ok(vec!["2001:db8::1".parse().expect("an address")])
    );
    let local = ask("localhost").expect("in /etc/hosts");
    assert!(local.iter().all(|ip| ip.is_loopback()), "{local:?}");
    let error = ask("a..b").expect_err("no name");
    assert!(error.starts_with("a..b: "), "{error}");
}

#[test]
fn ends_with_its_input_also_in_the_middle_of_a_request() {
    let mut child = Command::new(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback listener");
    let address = silent.local_addr().expect("its address");
    let ask = format!(
        r#"[0,"fetch",{{"post":false,"url":"http://{address}/","headers":[],"body":"","mark":null,"addresses":[],"certificate":["host",""],"timeout_ms":60000,"body_limit":9}}]"#
    );
    writeln!(input, "{ask}").expect("it reads");
    let _stream = silent.accept().expect("the worker's connection");
    drop(input);
    let mut output = Vec::new();
    let mut pipe = child.stdout.take().expect("its output");
    pipe.read_to_end(&mut output).expect("it ends");
    assert_eq!(output, b"");
    assert!(child.wait().expect("it ends").success());
}
