//! Whom the probes ask, as it is learnt from a tailscaled that starts: recordings of a real one, by path.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tailover::config::Settings;
use tailover::core::Family;
use tailover::tailscale::localapi::LocalApi;
use tailover::watch::lost::KernelWatch;
use tailover::watch::tailnet::TailnetWatch;
use tailover::watch::targets::Targets;

fn recording(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/tailscale");
    std::fs::read_to_string(path.join(name)).expect("a recording")
}

/// What tailscaled says on a path. Without a netmap it is starting and has no map of relays.
fn said(path: &str, netmap: bool) -> String {
    match path {
        p if p.contains("/status") && netmap => recording("localapi-status-peers-false.json"),
        p if p.contains("/status") => {
            recording("localapi-status-peers-false.json").replace("\"Running\"", "\"Starting\"")
        }
        // By an address, so that no name has to be looked up.
        p if p.contains("/prefs") => {
            r#"{"ControlURL":"http://127.0.0.1:1","WantRunning":true}"#.into()
        }
        p if p.contains("/derpmap") && netmap => recording("localapi-derpmap.json"),
        _ => "null".into(),
    }
}

/// A tailscaled that answers as often as it is asked, until the test ends.
fn tailscaled(netmap: Arc<AtomicBool>) -> LocalApi {
    let name = format!("tailover-acquaintance-{}.sock", std::process::id());
    let socket = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a unix listener");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut head, mut byte) = (Vec::new(), [0; 1]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.extend(byte);
            }
            let head = String::from_utf8_lossy(&head);
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = said(path, netmap.load(Ordering::Relaxed));
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            // A client that has heard enough may close first.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    LocalApi {
        socket,
        timeout: Duration::from_secs(5),
    }
}

#[test]
fn the_relays_are_known_as_soon_as_tailscaled_runs() {
    let netmap = Arc::new(AtomicBool::new(false));
    let api = tailscaled(Arc::clone(&netmap));
    let socket = api.socket.clone();
    let targets = Rc::new(RefCell::new(Targets::new(&Settings::default())));
    let watch = TailnetWatch::new(api, Rc::clone(&targets), KernelWatch::new(0x3f00));
    let look = || {
        smol::block_on(async {
            watch.look().await;
            watch.learn().await;
        });
        targets.borrow().derp_nodes(Family::V4).len()
    };
    assert_eq!(look(), 0);
    // One that waits for its netmap is not asked at each look.
    assert_eq!(look(), 0);
    netmap.store(true, Ordering::Relaxed);
    assert!(look() > 0, "the map came with the netmap");
    let _ = std::fs::remove_file(socket);
}
