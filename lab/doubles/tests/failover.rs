//! A failover of the real daemon between two uplinks, with a double of tailscaled's LocalAPI: what it logs, what
//! it counts, and what its hooks are told. The answers are kept in tests/recordings/metrics for the tests of the
//! collectors and of the dashboard; `UPDATE_RECORDINGS=1` writes them anew.

mod bus;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bus::{inside, tailover, until, Bus, PATIENCE};
use serde_json::{json, Value as Json};
use tailover::ubus::oneshot;

/// Where the target of the probes listens, beyond both uplinks, and a STUN server beside it.
const TARGET: &str = "198.51.100.53:53";
const STUN: &str = "198.51.100.53:3478";
const NODE: &str = r#"{"Regions":{"900":{"RegionID":900,"RegionCode":"lab","Nodes":[{"Name":"900a",
    "RegionID":900,"HostName":"198.51.100.53","IPv4":"198.51.100.53","InsecureForTests":true}]}}}"#;

/// Set in the copy of this program that is the target.
const LISTEN: &str = "TAILOVER_TEST_LISTEN";

fn run(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split(' ')).output();
    let output = output.expect("the program is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Two uplinks to one ISP, in a namespace of its own, whose target answers.
struct Isp {
    holder: Child,
    target: Child,
}

impl Isp {
    fn start() -> Isp {
        let mut command = Command::new("unshare");
        let holder = command.args(["--net", "sleep", "1000"]).spawn();
        let holder = holder.expect("unshare runs");
        let net = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = holder.id().to_string();
        until("the ISP has its namespace", || {
            net(&pid).is_some_and(|n| Some(n) != net("self"))
        });
        let there = |words: &str| run("nsenter", &format!("-t {pid} -n ip {words}"));
        run("ip", "link set lo up");
        there("link set lo up");
        there("addr add 198.51.100.53/32 dev lo");
        for (uplink, net, metric) in [("wan", "192.0.2", 10), ("wanb", "203.0.113", 20)] {
            let peer = format!("isp-{uplink}");
            run(
                "ip",
                &format!("link add {uplink} type veth peer name {peer}"),
            );
            run("ip", &format!("link set {peer} netns {pid}"));
            there(&format!("addr add {net}.1/24 dev {peer}"));
            there(&format!("link set {peer} up"));
            run("ip", &format!("addr add {net}.2/24 dev {uplink}"));
            run("ip", &format!("link set {uplink} up"));
            let default = format!("route add default via {net}.1 dev {uplink} metric {metric}");
            run("ip", &default);
        }
        for name in ["all", "wan", "wanb"] {
            // An answer comes back by the uplink that was asked, not by main's.
            let _ = fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "2");
        }
        let itself = std::env::current_exe().expect("this program");
        let target = Command::new("nsenter")
            .args(["-t", &pid, "-n"])
            .arg(itself)
            .args(["--exact", "the_target", "--nocapture"])
            .env(LISTEN, TARGET)
            .stdout(Stdio::null())
            .spawn()
            .expect("nsenter runs");
        until("the target answers", || {
            std::net::TcpStream::connect(TARGET).is_ok()
        });
        Isp { holder, target }
    }

    /// Nothing answers by `uplink` any more, with its link up.
    fn darken(&self, uplink: &str, address: &str) {
        let pid = self.holder.id();
        let words = format!("-t {pid} -n ip addr del {address}/24 dev isp-{uplink}");
        run("nsenter", &words);
    }
}

impl Drop for Isp {
    fn drop(&mut self) {
        for child in [&mut self.target, &mut self.holder] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// No test of its own: what [`Isp`] starts.
#[test]
fn the_target() {
    let Ok(address) = std::env::var(LISTEN) else {
        return;
    };
    std::thread::spawn(stun);
    let listener = TcpListener::bind(address).expect("a listener");
    for connection in listener.incoming() {
        drop(connection);
    }
}

/// Answers each binding request with the asker's address (RFC 8489, 14.2).
fn stun() {
    let socket = UdpSocket::bind(STUN).expect("a socket");
    let mut request = [0; 1500];
    while let Ok((_, asker)) = socket.recv_from(&mut request) {
        let (IpAddr::V4(ip), Some(head)) = (asker.ip(), request.get(4..20)) else {
            continue;
        };
        let cookie = 0x2112_a442u32;
        let port = asker.port() ^ (cookie >> 16) as u16;
        let address = u32::from(ip) ^ cookie;
        let mut answer = vec![1, 1, 0, 12];
        answer.extend(head);
        answer.extend([0, 0x20, 0, 8, 0, 1]);
        answer.extend(port.to_be_bytes());
        answer.extend(address.to_be_bytes());
        // Who has gone needs no answer.
        let _ = socket.send_to(&answer, asker);
    }
}

/// Answers LocalAPI's questions as the recordings of a real tailscaled have them.
fn localapi(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(connection));
        }
    });
}

fn answer(mut connection: UnixStream) {
    let mut head = String::new();
    let mut lines = BufReader::new(connection.try_clone().expect("a copy"));
    while lines.read_line(&mut head).is_ok_and(|n| n > 2) {}
    let recorded = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/tailscale");
        fs::read_to_string(folder.join(name)).expect("a recording")
    };
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = match path.trim_start_matches("/localapi/v0/") {
        p if p.starts_with("status") => recorded("localapi-status-peers-false.json"),
        "prefs" => recorded("localapi-prefs.json"),
        // Its relay does not listen; its STUN server does.
        "derpmap" => NODE.into(),
        p if p.starts_with("watch-ipn-bus") => {
            // It says nothing until the daemon goes.
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = connection.write_all(head.as_bytes());
            let _ = connection.read(&mut [0]);
            return;
        }
        _ => "{}".into(),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // The daemon may have gone.
    let _ = connection.write_all((head + &body).as_bytes());
}

/// The daemon, whose log is kept.
struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    fn start(mut command: Command) -> Daemon {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary runs");
        let log = Arc::new(Mutex::new(String::new()));
        let out = child.stdout.take().expect("piped");
        let err = child.stderr.take().expect("piped");
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    *log.lock().expect("the log") += &(line + "\n");
                }
            });
        }
        Daemon { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    fn says(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < end,
                "nobody said '{text}':\n{}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(bus: &Bus, method: &str) -> Json {
    let answer = oneshot::call(&bus.socket(), "tailover", method, Vec::new(), PATIENCE);
    answer.expect("an answer").to_json()
}

/// The value of a sample, by the family's name without prefix and all of its labels.
fn value(metrics: &Json, name: &str, labels: Json) -> Json {
    let families = metrics["metrics"].as_array().expect("families");
    let named = format!("tailover_{name}");
    let family = families.iter().find(|f| f["name"] == named);
    let family = family.unwrap_or_else(|| panic!("no {name}"));
    let samples = family["samples"].as_array().expect("samples");
    let same = |s: &&Json| {
        let all = s.as_object().expect("a sample").iter();
        let own: serde_json::Map<_, _> = all
            .filter(|(n, _)| *n != "value" && *n != "state")
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        Json::Object(own) == labels
    };
    let sample = samples.iter().find(same);
    let sample = sample.unwrap_or_else(|| panic!("no {name} with {labels}"));
    match sample.get("state") {
        Some(state) => state.clone(),
        None => sample["value"].clone(),
    }
}

/// Families with type, unit and help, and the labels of their samples without values that differ by run.
fn shape(metrics: &Json) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for family in metrics["metrics"].as_array().expect("families") {
        let text = |key: &str| family[key].as_str().unwrap_or("-").to_string();
        lines.insert(["name", "type", "unit", "help"].map(text).join(" | "));
        for sample in family["samples"].as_array().expect("samples") {
            let labels = sample.as_object().expect("a sample").iter();
            let labels: Vec<String> = labels
                .map(|(name, v)| match name.as_str() {
                    "value" | "state" | "version" => name.clone(),
                    _ => format!("{name}={v}"),
                })
                .collect();
            // Rounds of before the path was read, if there were any.
            if sample["uplink"] != "none" {
                lines.insert(format!("{} {}", text("name"), labels.join(" ")));
            }
        }
    }
    lines
}

fn recording(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/metrics");
    folder.join(name)
}

/// A hook that writes down what it is told, and one that hangs.
fn hooks(folder: &Path) {
    // The router's own /etc must not be touched.
    run("mount", "-t tmpfs tmpfs /etc");
    fs::create_dir("/etc/tailover.d").expect("a folder");
    let note = folder.join("note").display().to_string();
    let text =
        format!("#!/bin/sh\nenv | grep ^TAILOVER_ | sort >>{note}\necho >>{note}\necho noted\n");
    fs::write("/etc/tailover.d/10-note", text).expect("a hook");
    fs::write("/etc/tailover.d/20-fails", "#!/bin/sh\nexit 7\n").expect("a hook");
    for name in ["10-note", "20-fails"] {
        let path = format!("/etc/tailover.d/{name}");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}

fn way(uplink: &str) -> Json {
    json!({ "uplink": uplink, "family": "ipv4" })
}

/// A daemon that has found both uplinks open and the tailnet well.
fn well(bus: &Bus, binary: &Path) -> Daemon {
    let config = bus.folder.join("config");
    let more = format!(
        "\tlist target 'derp'\n\tlist target 'tcp:{TARGET}'\n\tlist external_ip 'off'\n\toption probe_timeout '0.5'\n\
         \toption tcp_timeout '1'\n\toption settle '0'\n\tlist metered 'wanb'\n"
    );
    let text = fs::read_to_string(&config).expect("the configuration") + &more;
    fs::write(&config, text).expect("a written configuration");
    localapi(&bus.folder.join("tailscaled.sock"));
    let daemon = Daemon::start(bus.command(binary, "run"));
    let (wan4, wanb4) = (way("wan"), way("wanb"));
    until("the tailnet is well", || {
        bus.status().is_some() && {
            let now = ask(bus, "metrics");
            let open = |way: &Json| value(&now, "uplink_verdict", way.clone()) == "open";
            value(&now, "tailnet_connected", json!({})) == 1.0
                && value(&now, "stage", json!({})) == "quiet"
                && open(&wan4)
                && open(&wanb4)
        }
    });
    daemon
}

#[test]
fn a_failover_is_logged_counted_and_told_to_hooks() {
    if !inside("a_failover_is_logged_counted_and_told_to_hooks") {
        return;
    }
    let Some(binary) = tailover() else {
        return;
    };
    let isp = Isp::start();
    let bus = Bus::start("failover");
    hooks(&bus.folder);
    let mut daemon = well(&bus, &binary);
    let (wan4, wanb4) = (way("wan"), way("wanb"));
    let before = ask(&bus, "metrics");
    assert_eq!(value(&before, "uplink_in_use", wan4.clone()), 1.0);
    assert_eq!(value(&before, "steered", json!({ "family": "ipv4" })), 0.0);

    isp.darken("wan", "192.0.2.1");
    let mut hotplug = bus.command(&binary, "hotplug");
    let event = [
        ("ACTION", "disconnected"),
        ("INTERFACE", "wan"),
        ("DEVICE", "wan"),
    ];
    assert!(hotplug
        .envs(event)
        .status()
        .expect("the binary runs")
        .success());
    daemon.says("well again after");
    let note = || fs::read_to_string(bus.folder.join("note")).unwrap_or_default();
    until("the hooks were told that it is healed", || {
        note().contains("TAILOVER_EVENT=healed\n")
    });
    // Left a moment ago, it proves itself anew.
    until("the dark uplink is found closed", || {
        value(&ask(&bus, "metrics"), "uplink_verdict", wan4.clone()) == "closed"
    });
    until("the last hook is counted", || {
        let runs = |r: &str| value(&ask(&bus, "metrics"), "hook_runs", json!({ "result": r }));
        runs("done") == runs("failed") && note().matches("\n\n").count() as f64 == runs("done")
    });
    let after = ask(&bus, "metrics");
    let pinned = json!({ "fault": "F1-pinned-route" });
    assert_eq!(value(&after, "faults", pinned.clone()), 1.0);
    assert_eq!(value(&after, "fault", pinned), 0.0, "it is over");
    let steered = json!({ "cure": "steer", "result": "done" });
    assert_eq!(value(&after, "cures", steered), 1.0);
    let healed = json!({ "trigger": "event", "outcome": "healed" });
    assert_eq!(value(&after, "episodes", healed), 1.0);
    assert_eq!(value(&after, "uplink_in_use", wan4), 0.0);
    assert_eq!(value(&after, "uplink_in_use", wanb4), 1.0);
    assert_eq!(value(&after, "steered", json!({ "family": "ipv4" })), 1.0);
    let outage = value(&after, "outage_seconds", json!({})).as_f64();
    assert!(outage.is_some_and(|s| s > 0.0), "{outage:?}");
    for uplink in ["wan", "wanb"] {
        let count = |name: &str| value(&after, name, json!({ "uplink": uplink })).as_f64();
        let (sent, bytes) = (count("probe_datagrams"), count("probe_datagram_bytes"));
        let least = sent.map(|n| n * 48.0);
        assert!(
            sent > Some(0.0) && bytes >= least,
            "{uplink}: {sent:?} {bytes:?}"
        );
    }
    monotonic(&before, &after);

    // Each event by what it told, in the order in which it came.
    let note = note();
    let events: Vec<&str> = note.split("\n\n").filter(|e| !e.is_empty()).collect();
    let of = |kind: &str| {
        let line = format!("TAILOVER_EVENT={kind}");
        let at = events.iter().rposition(|e| e.lines().any(|l| l == line));
        at.unwrap_or_else(|| panic!("no {kind}: {note}"))
    };
    assert!(
        of("fault") < of("healed") && of("cure") < of("healed"),
        "{note}"
    );
    let has = |kind: &str, name: &str, text: &str| {
        let event = events.get(of(kind)).expect("an event");
        let line = event
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name}=")));
        assert!(
            line.is_some_and(|l| l.contains(text)),
            "{kind} {name}: {event}"
        );
    };
    has("fault", "TAILOVER_FAULT", "F1-pinned-route");
    has(
        "fault",
        "TAILOVER_TEXT",
        "where nothing answers; wanb is open",
    );
    has("cure", "TAILOVER_CURE", "steer");
    has("healed", "TAILOVER_OUTCOME", "healed");
    for kind in ["fault", "cure", "healed"] {
        has(kind, "TAILOVER_FAULTS", "F1-pinned-route");
        has(kind, "TAILOVER_DRILL", "0");
        has(kind, "TAILOVER_SENTENCE", "");
        has(kind, "TAILOVER_TRIGGER", "");
        has(kind, "TAILOVER_AGE", ".");
    }
    has("healed", "TAILOVER_UPLINK", "wanb");
    has("healed", "TAILOVER_DEVICE", "wanb");
    daemon.says("hook 10-note: noted");
    daemon.says("hook 20-fails failed: exit status: 7");

    let text = command_text(&bus, &binary, 0);
    assert!(text.starts_with("# TYPE tailover_up gauge\n"), "{text}");
    if std::env::var_os("UPDATE_RECORDINGS").is_some() {
        let pretty = serde_json::to_string_pretty(&after).expect("JSON");
        fs::write(recording("ubus.json"), pretty + "\n").expect("written");
        fs::write(recording("openmetrics.txt"), &text).expect("written");
        fs::write(recording("log.txt"), daemon.log()).expect("written");
    }
    let kept = fs::read_to_string(recording("ubus.json")).expect("a recording");
    let kept: Json = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(
        shape(&kept),
        shape(&after),
        "UPDATE_RECORDINGS=1 writes it anew"
    );
    let lines = |text: &str| {
        let early = |l: &str| !l.contains("uplink=\"none\"");
        let name = |l: &str| l.rsplit_once(' ').map(|(name, _)| name.to_string());
        let comment = |l: &str| l.starts_with('#').then(|| l.to_string());
        let version = |l: &str| !l.contains("version=");
        let all = text.lines().filter(|l| version(l) && early(l));
        all.filter_map(|l| comment(l).or_else(|| name(l)))
            .collect::<Vec<_>>()
    };
    let kept = fs::read_to_string(recording("openmetrics.txt")).expect("a recording");
    assert_eq!(
        lines(&kept),
        lines(&text),
        "UPDATE_RECORDINGS=1 writes it anew"
    );

    let pid = daemon.child.id().to_string();
    run("kill", &format!("-s TERM {pid}"));
    assert!(daemon.child.wait().expect("its end").success());
    let text = command_text(&bus, &binary, 3);
    assert!(
        text.contains("\ntailover_up 0\n") && text.ends_with("# EOF\n"),
        "{text}"
    );
}

fn command_text(bus: &Bus, binary: &Path, code: i32) -> String {
    let output = bus
        .command(binary, "metrics")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(code));
    String::from_utf8(output.stdout).expect("text")
}

/// No count has gone down.
fn monotonic(before: &Json, after: &Json) {
    let samples = |all: &Json| {
        let mut found = std::collections::BTreeMap::new();
        for family in all["metrics"].as_array().expect("families") {
            for sample in family["samples"].as_array().expect("samples") {
                if family["type"] == "counter" {
                    let mut labels = sample.clone();
                    let value = labels["value"].take().as_f64().expect("a number");
                    found.insert(format!("{} {labels}", family["name"]), value);
                }
            }
        }
        found
    };
    let (before, after) = (samples(before), samples(after));
    assert!(before.len() > 20, "{before:?}");
    for (name, value) in before {
        assert!(after.get(&name).is_some_and(|now| *now >= value), "{name}");
    }
}

/// A measurement, for docs/monitoring.md: what a scrape costs the daemon, and how long a caller waits.
///
///     TAILOVER="$PWD/target/static/tailover" cargo test -p tailover-lab-doubles --test failover -- \
///         --ignored --nocapture --exact what_a_scrape_costs
#[test]
#[ignore = "a measurement"]
fn what_a_scrape_costs() {
    const SCRAPES: u32 = 2000;
    const COMMANDS: u32 = 200;
    let binary = std::env::var_os("TAILOVER").map(|path| fs::canonicalize(path).expect("a binary"));
    if !inside("what_a_scrape_costs") {
        return;
    }
    let binary = binary.or_else(tailover).expect("a binary");
    let _isp = Isp::start();
    let bus = Bus::start("cost");
    let daemon = well(&bus, &binary);
    let rss = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id()));
        let status = status.expect("its state");
        let line = status.lines().find(|l| l.starts_with("VmRSS"));
        line.unwrap_or_default().to_string()
    };
    // In hundredths of a second (proc(5), utime and stime).
    let used = || {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", daemon.child.id())).expect("its state");
        let (_, rest) = stat.rsplit_once(") ").expect("its fields");
        let fields: Vec<u64> = rest.split(' ').filter_map(|f| f.parse().ok()).collect();
        // The first field after the name is no number.
        fields.get(10..12).expect("its times").iter().sum::<u64>()
    };
    println!("before: {}", rss());
    ask(&bus, "metrics");
    println!("after one scrape: {}", rss());
    let (ticks, began) = (used(), Instant::now());
    for _ in 0..SCRAPES {
        ask(&bus, "metrics");
    }
    let (ticks, waited) = (used() - ticks, began.elapsed() / SCRAPES);
    let cost = ticks as f64 * 10.0 / f64::from(SCRAPES);
    println!(
        "{SCRAPES} scrapes: {cost:.3} ms of the daemon's time, {waited:?} until the answer, each"
    );
    println!("after: {}", rss());
    let mut times: Vec<_> = (0..COMMANDS)
        .map(|_| {
            let began = Instant::now();
            command_text(&bus, &binary, 0);
            began.elapsed()
        })
        .collect();
    times.sort();
    let of = |n: usize| times.get(n).expect("a time");
    let (least, median, most) = (of(0), of(times.len() / 2), of(times.len() - 1));
    println!("{COMMANDS} runs of `tailover metrics`: median {median:?}, {least:?} to {most:?}");
}
