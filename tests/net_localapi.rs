//! The LocalAPI client against what a real tailscaled 1.102.2 said, and against hostile bytes.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use tailover::net::http::CertCheck;
use tailover::tailscale::localapi::{mask, Debug, Decoder, Error, LocalApi, MAX_LINE};
use tailover::tailscale::types::{BackendState, DerpMap, Notify, Ping, Prefs, Status};

fn recording(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/tailscale");
    std::fs::read(path.join(name)).expect("a recording")
}

/// A whole answer from a recorded header and body, chunked where the header says so.
fn answer(headers: &str, body: &str) -> Vec<u8> {
    let mut bytes = recording(headers);
    let body = recording(body);
    if String::from_utf8_lossy(&bytes).contains("chunked") {
        bytes.extend(chunks(&body, 100));
        bytes.extend(b"0\r\n\r\n");
    } else {
        bytes.extend(body);
    }
    bytes
}

fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let encode =
        |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    body.chunks(size).flat_map(encode).collect()
}

/// A tailscaled that gives one fixed answer, then closes. The thread returns the request.
fn tailscaled(answer: Vec<u8>) -> (LocalApi, JoinHandle<String>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("tailover-localapi-{}-{number}.sock", std::process::id());
    let socket = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a unix listener");
    let api = LocalApi {
        socket: socket.clone(),
        timeout: Duration::from_secs(5),
    };
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut seen = Vec::new();
        let mut byte = [0; 1];
        while !seen.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a request");
            seen.extend(byte);
        }
        let head = String::from_utf8(seen).expect("ASCII");
        // Closing with a body unread would reset the connection under the answer.
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let found = name.eq_ignore_ascii_case("content-length");
            found.then(|| value.parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).expect("the body");
        // A client that has heard enough may close first.
        let _ = stream.write_all(&answer);
        let _ = std::fs::remove_file(&socket);
        head
    });
    (api, thread)
}

fn first_line(thread: JoinHandle<String>) -> String {
    let request = thread.join().expect("the server");
    assert!(request
        .to_ascii_lowercase()
        .contains("\r\nhost: local-tailscaled.sock\r\n"));
    request.lines().next().unwrap_or_default().to_string()
}

#[test]
fn reads_the_status() {
    let (api, thread) = tailscaled(answer("localapi-status.headers", "localapi-status.json"));
    let status = smol::block_on(api.status(true)).expect("a status");
    assert_eq!(
        first_line(thread),
        "GET /localapi/v0/status?peers=true HTTP/1.1"
    );
    assert_eq!(status.backend, BackendState::Running);
    assert_eq!(status.version, "1.102.2-ERR-BuildInfo");
    assert!(status.tun && !status.key_expired);
    assert_eq!(status.online, Some(true));
    assert_eq!(status.relay, "lab");
    assert_eq!(status.addrs.len(), 4);
    assert_eq!(
        status.addrs[0],
        SocketAddr::from(([203, 0, 113, 10], 26277))
    );
    assert_eq!(status.tailscale_ips[0], IpAddr::from([100, 64, 0, 2]));
    assert_eq!(status.health, Vec::<String>::new());
    let [peer] = &status.peers[..] else {
        panic!("one peer: {:?}", status.peers)
    };
    assert_eq!(
        (peer.name.as_str(), peer.relay.as_str()),
        ("peer.tail.lab", "lab")
    );
    assert_eq!(peer.allowed_ips, ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]);
    assert_eq!((peer.cur_addr, peer.active), (None, false));
    assert_eq!(peer.last_handshake, None, "Go's zero time");
}

#[test]
fn reads_the_status_without_peers() {
    let (api, thread) = tailscaled(answer(
        "localapi-status-peers-false.headers",
        "localapi-status-peers-false.json",
    ));
    let status = smol::block_on(api.status(false)).expect("a status");
    assert_eq!(
        first_line(thread),
        "GET /localapi/v0/status?peers=false HTTP/1.1"
    );
    assert_eq!((status.peers.len(), status.tailscale_ips.len()), (0, 2));
}

#[test]
fn reads_the_peers_networks_as_they_come() {
    let answer = answer("localapi-status.headers", "localapi-status.json");
    let (api, thread) = tailscaled(answer.clone());
    let networks = smol::block_on(api.networks()).expect("the networks");
    let found: Vec<String> = networks
        .iter()
        .map(|(ip, bits)| format!("{ip}/{bits}"))
        .collect();
    assert_eq!(found, ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]);
    assert_eq!(
        first_line(thread),
        "GET /localapi/v0/status?peers=true HTTP/1.1"
    );

    let (api, _thread) = tailscaled(answer[..answer.len() / 2].to_vec());
    assert!(matches!(smol::block_on(api.networks()), Err(Error::Bad(_))));
    let mut headers = recording("localapi-status.headers");
    headers.extend(chunks(b"]", 1));
    headers.extend(b"0\r\n\r\n");
    let (api, _thread) = tailscaled(headers);
    assert!(matches!(smol::block_on(api.networks()), Err(Error::Bad(_))));
}

#[test]
fn reads_the_prefs() {
    let (api, thread) = tailscaled(answer("localapi-prefs.headers", "localapi-prefs.json"));
    let prefs = smol::block_on(api.prefs()).expect("prefs");
    assert_eq!(first_line(thread), "GET /localapi/v0/prefs HTTP/1.1");
    let want = Prefs {
        control_url: "https://198.51.100.10".into(),
        want_running: true,
        logged_out: false,
        route_all: false,
        advertise_routes: vec!["192.168.1.0/24".into()],
        no_snat: false,
        netfilter_mode: 2,
        exit_node: false,
    };
    assert_eq!(prefs, want);
}

#[test]
fn reads_the_derp_map() {
    let (api, thread) = tailscaled(answer("localapi-derpmap.headers", "localapi-derpmap.json"));
    let map = smol::block_on(api.derpmap())
        .expect("an answer")
        .expect("a map");
    assert_eq!(first_line(thread), "GET /localapi/v0/derpmap HTTP/1.1");
    let [node] = &map.nodes[..] else {
        panic!("one node: {map:?}")
    };
    assert_eq!((node.region, node.name.as_str()), (900, "900a"));
    assert_eq!(node.ipv4, Some([198, 51, 100, 20].into()));
    assert_eq!(
        (node.ipv6, node.stun_port, node.derp_port),
        (None, Some(3478), 443)
    );
    assert!(node.insecure_for_tests && !node.can_port80 && !node.stun_only);
    assert_eq!(node.cert_check(), CertCheck::Anything);
}

/// A whole answer of another build, as it was recorded.
fn whole(build: &str, name: &str) -> Vec<u8> {
    recording(&format!("../tailscale-{build}/{name}.http"))
}

#[test]
fn a_tailscaled_ten_releases_older_is_understood() {
    let (api, thread) = tailscaled(whole("1.82", "status"));
    let status = smol::block_on(api.status(true)).expect("a status");
    first_line(thread);
    assert_eq!(status.backend, BackendState::Running);
    assert_eq!((status.version.as_str(), status.tun), ("1.82.5", true));
    assert_eq!(
        (status.online, status.relay.as_str()),
        (Some(true), "derp2")
    );
    let [peer] = &status.peers[..] else {
        panic!("one peer: {:?}", status.peers)
    };
    assert!(peer.active && peer.cur_addr.is_some());

    let (api, thread) = tailscaled(whole("1.82", "prefs"));
    let prefs = smol::block_on(api.prefs()).expect("prefs");
    first_line(thread);
    assert!(prefs.want_running && !prefs.logged_out);
    assert_eq!(prefs.control_url, "https://headscale.lab");
    assert_eq!(prefs.netfilter_mode, 2);

    let (api, thread) = tailscaled(whole("1.82", "derpmap"));
    let map = smol::block_on(api.derpmap()).expect("an answer");
    first_line(thread);
    let nodes = map.expect("a map").nodes;
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|n| n.can_port80 && n.ipv6.is_some()));

    let (api, thread) = tailscaled(whole("1.82", "ping"));
    let ping = smol::block_on(api.ping([100, 64, 0, 1].into())).expect("a ping");
    first_line(thread);
    assert!(ping.err.is_empty() && ping.endpoint.is_some());

    let (api, thread) = tailscaled(whole("1.82", "bus"));
    let mut bus = smol::block_on(api.watch_bus(386)).expect("a bus");
    let notify = smol::block_on(bus.next()).expect("a message");
    first_line(thread);
    assert_eq!(notify.state, Some(BackendState::Running));
    assert_eq!(notify.health, Some(vec![]));
}

#[test]
fn what_a_build_has_is_asked_and_not_guessed() {
    for (build, has) in [("1.82", true), ("small", false)] {
        let (api, thread) = tailscaled(whole(build, "debug-none"));
        assert_eq!(smol::block_on(api.has_debug()), Ok(has), "{build}");
        assert_eq!(
            first_line(thread),
            "POST /localapi/v0/debug?action=none HTTP/1.1"
        );
    }
    let (api, thread) = tailscaled(whole("small", "debug-restun"));
    let done = smol::block_on(api.debug("restun"));
    first_line(thread);
    assert_eq!(done, Ok(Debug::Unsupported));
    let (api, thread) = tailscaled(whole("small", "bus"));
    let bus = smol::block_on(api.watch_bus(mask::INITIAL_STATE));
    first_line(thread);
    assert!(matches!(bus.err(), Some(Error::Http { status: 404, .. })));
    let (api, thread) = tailscaled(whole("small", "status-peers-false"));
    let status = smol::block_on(api.status(false)).expect("a status");
    first_line(thread);
    assert_eq!(status.backend, BackendState::Running);
    assert_eq!(status.online, Some(false), "it runs well all the same");
}

#[test]
fn a_derp_nodes_defaults_and_exceptions() {
    let json = serde_json::json!({"Regions": {
        "10": {"Nodes": [{"RegionID": 10, "HostName": "b", "STUNPort": -1, "DERPPort": 8443,
            "IPv4": "none", "IPv6": "2001:db8::1", "CertName": "sha256-raw:AB12"}]},
        "9": {"Nodes": [{"RegionID": 9, "HostName": "a", "CanPort80": true, "CertName": "c.example"}]},
    }});
    let map = DerpMap::from_json(&json).expect("a map");
    let [a, b] = &map.nodes[..] else {
        panic!("two nodes: {map:?}")
    };
    assert_eq!(
        (a.hostname.as_str(), a.stun_port, a.derp_port),
        ("a", Some(3478), 443)
    );
    assert!(a.can_port80);
    assert_eq!(a.cert_check(), CertCheck::Name("c.example".into()));
    assert_eq!(
        (b.hostname.as_str(), b.stun_port, b.derp_port),
        ("b", None, 8443)
    );
    assert_eq!((b.ipv4, b.ipv6), (None, "2001:db8::1".parse().ok()));
    assert_eq!(b.cert_check(), CertCheck::Sha256("ab12".into()));
}

#[test]
fn debug_actions_and_refusals() {
    let ask = |name: &str, action: &str| {
        let (api, thread) = tailscaled(recording(name));
        let result = smol::block_on(api.debug(action));
        let line = first_line(thread);
        assert_eq!(
            line,
            format!("POST /localapi/v0/debug?action={action} HTTP/1.1")
        );
        result
    };
    assert_eq!(
        ask("localapi-debug-restun-ok.json", "restun"),
        Ok(Debug::Done)
    );
    let unknown = ask("localapi-debug-unknown-action.json", "nosuch");
    assert_eq!(unknown, Ok(Debug::Unsupported));
    let left_out = ask("localapi-unknown-path.json", "rebind");
    assert_eq!(left_out, Ok(Debug::Unsupported));
    let refused = ask("localapi-badhost.json", "restun");
    assert_eq!(
        refused,
        Err(Error::Permission("invalid localapi request".into()))
    );
    let wrong = ask("localapi-debug-get.json", "restun");
    let text = "POST required".to_string();
    assert_eq!(wrong, Err(Error::Http { status: 405, text }));
}

#[test]
fn start_and_ping() {
    let (api, thread) = tailscaled(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    assert_eq!(smol::block_on(api.start()), Ok(()));
    assert_eq!(first_line(thread), "POST /localapi/v0/start HTTP/1.1");
    let body =
        r#"{"IP":"100.64.0.1","Err":"","LatencySeconds":0.0123,"Endpoint":"192.0.2.9:41641"}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let (api, thread) = tailscaled((head + body).into_bytes());
    let ping = smol::block_on(api.ping([100, 64, 0, 1].into())).expect("a pong");
    let line = first_line(thread);
    assert_eq!(
        line,
        "POST /localapi/v0/ping?ip=100.64.0.1&type=TSMP HTTP/1.1"
    );
    let want = Ping {
        err: String::new(),
        endpoint: "192.0.2.9:41641".parse().ok(),
        derp_region: String::new(),
    };
    assert_eq!(ping, want);
}

#[test]
fn nobody_there_and_nobody_answering_are_told_apart() {
    let mut api = LocalApi {
        socket: std::env::temp_dir().join("tailover-no-such.sock"),
        timeout: Duration::from_millis(200),
    };
    let missing = smol::block_on(api.status(false));
    assert!(matches!(missing, Err(Error::NotRunning(_))), "{missing:?}");
    let missing = smol::block_on(api.watch_bus(0)).map(drop);
    assert!(matches!(missing, Err(Error::NotRunning(_))), "{missing:?}");

    let name = format!("tailover-stopped-{}.sock", std::process::id());
    api.socket = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&api.socket);
    // As a stopped process does: the kernel takes the connection, nobody reads from it.
    let listener = UnixListener::bind(&api.socket).expect("a unix listener");
    assert_eq!(smol::block_on(api.status(false)), Err(Error::Timeout));
    assert_eq!(
        smol::block_on(api.watch_bus(0)).map(drop),
        Err(Error::Timeout)
    );
    drop(listener);
    let dead = smol::block_on(api.status(false));
    assert!(matches!(dead, Err(Error::NotRunning(_))), "{dead:?}");
    std::fs::remove_file(&api.socket).expect("the socket is removed");
}

#[test]
fn a_full_queue_of_connections_is_a_hang() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let name = format!("tailover-full-{}.sock", std::process::id());
    let socket = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&socket);
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(&socket).expect("a path");
    listener.bind(&address).expect("bound");
    listener.listen(0).expect("it listens");
    let api = LocalApi {
        socket: socket.clone(),
        timeout: Duration::from_millis(200),
    };
    // The first waits in the queue; for the second there is no room.
    let first = std::os::unix::net::UnixStream::connect(&socket).expect("queued");
    assert_eq!(smol::block_on(api.status(false)), Err(Error::Timeout));
    drop(first);
    std::fs::remove_file(&socket).expect("the socket is removed");
}

#[test]
fn half_an_answer_and_no_answer_are_told_apart() {
    let ask = |answer: &[u8]| {
        let (api, thread) = tailscaled(answer.to_vec());
        let result = smol::block_on(api.prefs());
        first_line(thread);
        result
    };
    for half in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    ] {
        assert_eq!(
            ask(half.as_bytes()),
            Err(Error::Bad("half an answer".into()))
        );
    }
    let closed = ask(b"HTTP/1.1 200");
    assert!(matches!(closed, Err(Error::NotRunning(_))), "{closed:?}");
    // What is behind the length is not looked at.
    let extra = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}}}");
    assert!(extra.is_ok(), "{extra:?}");
}

/// Reads a recorded bus through a socket, in chunks of a size that fits no line.
fn bus(name: &str) -> Vec<Notify> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend(chunks(&recording(name), 777));
    bytes.extend(b"0\r\n\r\n");
    let (api, thread) = tailscaled(bytes);
    let seen = smol::block_on(async {
        let wanted = mask::ENGINE | mask::INITIAL_STATE;
        let mut bus = api.watch_bus(wanted).await.expect("a bus");
        let mut seen = Vec::new();
        loop {
            match bus.next().await {
                Ok(notify) => seen.push(notify),
                Err(Error::NotRunning(_)) => return seen,
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    assert_eq!(
        first_line(thread),
        "GET /localapi/v0/watch-ipn-bus?mask=3 HTTP/1.1"
    );
    seen
}

#[test]
fn the_bus_of_a_dead_path() {
    use BackendState::{NoState, Running, Starting};
    let seen = bus("bus-T0-a.jsonl");
    let lines = recording("bus-T0-a.jsonl");
    assert_eq!(seen.len(), lines.iter().filter(|b| **b == b'\n').count());
    let states: Vec<_> = seen.iter().filter_map(|n| n.state).collect();
    assert_eq!(states[..4], [Running, NoState, Starting, Running]);
    assert!(seen[0].prefs.as_ref().is_some_and(|p| p.want_running));
    assert_eq!(seen[0].health, Some(Vec::new()));
    // The sign there is: bytes go out, none come in any more.
    let engine: Vec<_> = seen.iter().filter_map(|n| n.engine).collect();
    let last = engine.last().expect("engine counters");
    let stuck = engine
        .iter()
        .find(|e| e.rx == last.rx)
        .expect("a first one");
    assert!(stuck.tx < last.tx, "{stuck:?} {last:?}");
    let warned = seen.iter().filter_map(|n| n.health.as_ref()).flatten();
    let codes: Vec<_> = warned.map(|w| w.code.as_str()).collect();
    assert!(codes.contains(&"mapresponse-timeout"), "{codes:?}");
}

#[test]
fn the_bus_of_a_moved_path() {
    let seen = bus("bus-T2-a.jsonl");
    let lines = recording("bus-T2-a.jsonl");
    assert_eq!(seen.len(), lines.iter().filter(|b| **b == b'\n').count());
    let endpoints: Vec<_> = seen.iter().filter_map(|n| n.endpoints.as_ref()).collect();
    assert_ne!(
        endpoints.first(),
        endpoints.last(),
        "the public address moved"
    );
}

#[test]
fn a_bus_that_is_refused() {
    let (api, thread) = tailscaled(recording("localapi-unknown-path.json"));
    let result = smol::block_on(api.watch_bus(1)).map(drop);
    assert!(
        matches!(result, Err(Error::Http { status: 404, .. })),
        "{result:?}"
    );
    first_line(thread);
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";

fn decode(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut decoder = Decoder::default();
    let mut lines = Vec::new();
    for piece in pieces {
        decoder.feed(piece, |line| lines.push(line))?;
    }
    Ok(lines)
}

#[test]
fn a_giant_line_is_skipped_and_the_next_is_read() {
    let mut body = vec![b'x'; MAX_LINE + 1];
    body.extend(b"\nafter\n");
    let bytes = [HEAD, &chunks(&body, 5000)].concat();
    assert_eq!(decode(&[&bytes]), Ok(vec![b"after".to_vec()]));
    let mut body = vec![b'x'; MAX_LINE];
    body.push(b'\n');
    let bytes = [HEAD, &chunks(&body, 5000)].concat();
    assert_eq!(decode(&[&bytes]).map(|l| l[0].len()), Ok(MAX_LINE));
}

#[test]
fn broken_chunking_is_an_error() {
    let with = |rest: &[u8]| decode(&[&[HEAD, rest].concat()]);
    assert_eq!(with(b"2\r\nabc\r\n"), Err("a chunk longer than its size"));
    assert_eq!(with(b"-2\r\n"), Err("a bad chunk size"));
    assert_eq!(with(b"zz\r\n"), Err("a bad chunk size"));
    assert_eq!(with(&[b'1'; 100]), Err("an endless chunk size"));
    assert_eq!(decode(&[b"SSH-2.0-x\r\n\r\n"]), Err("no HTTP header"));
    assert_eq!(decode(&[&vec![b'a'; 20000]]), Err("an endless header"));
    // An extension behind the size is allowed, and so is an answer that is not chunked.
    assert_eq!(with(b"2;a=b\r\na\n\r\n"), Ok(vec![b"a".to_vec()]));
    let plain = b"HTTP/1.1 200 OK\r\n\r\na\nb\n";
    assert_eq!(decode(&[plain]), Ok(vec![b"a".to_vec(), b"b".to_vec()]));
}

proptest! {
    #[test]
    fn where_the_bytes_are_cut_does_not_matter(size in 1usize..300, cuts in prop::collection::vec(0usize..5000, 0..20)) {
        let recorded = recording("bus-T2-a.jsonl");
        let bytes = [HEAD, &chunks(&recorded[..4000], size)].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        let lines = decode(&pieces).expect("well-formed");
        let mut want: Vec<Vec<u8>> = recorded[..4000].split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        want.pop();
        prop_assert_eq!(lines, want);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&[&bytes]);
        let _ = decode(&[HEAD, &bytes]);
        let _ = Notify::from_line(&bytes);
    }

    #[test]
    fn hostile_json_never_panics(name in prop::sample::select(vec!["localapi-status.json", "localapi-prefs.json", "localapi-derpmap.json", "bus-T0-a.jsonl"]), edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:0-9.einul\\".to_vec())), 1..6)) {
        let mut bytes = recording(name);
        if name.ends_with('l') {
            bytes.truncate(bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len()));
        }
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Notify::from_line(&bytes);
        if let Ok(json) = serde_json::from_slice(&bytes) {
            let _ = Status::from_json(&json);
            let _ = Prefs::from_json(&json);
            let _ = DerpMap::from_json(&json).map(|m| m.nodes.iter().map(|n| n.cert_check()).collect::<Vec<_>>());
            let _ = Ping::from_json(&json);
        }
    }
}
