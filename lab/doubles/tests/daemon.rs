//! The real binary of tailover on an ubusd: the hotplug call, the daemon's object, ubusd's return.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use smol::LocalExecutor;
use tailover::ubus::{oneshot, Client, Happening, Method, Type, Value};

mod bus;

use bus::{inside, tailover, until, Bus, PATIENCE};

#[test]
fn hotplug_hands_over_action_interface_device_and_firstconnect() {
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("hotplug");
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let (client, handle, happened) = Client::new(&bus.socket());
        executor.spawn(client.run()).detach();
        let event = ["action", "interface", "device", "firstconnect"].map(|n| (n, Type::String));
        let methods = vec![Method::new("event", &event)];
        // Before, an object is only kept for the time when there is a connection.
        assert!(matches!(happened.recv().await, Ok(Happening::Up)));
        handle
            .add_object("tailover", methods)
            .await
            .expect("an object");
        for first in ["", "1"] {
            let mut command = bus.command(&binary, "hotplug");
            command.env_clear().envs([
                ("ACTION", "connected"),
                ("INTERFACE", "wan"),
                ("DEVICE", "eth1"),
                ("FIRSTCONNECT", first),
            ]);
            let child = command.spawn().expect("the binary runs");
            let call = async {
                loop {
                    if let Happening::Call(call) = happened.recv().await.expect("a happening") {
                        break call;
                    }
                }
            };
            let never = async {
                smol::Timer::after(PATIENCE).await;
                panic!("the event did not come");
            };
            let call = smol::future::or(call, never).await;
            assert_eq!(call.method, "event");
            let said = ["action", "interface", "device", "firstconnect"].map(|name| {
                call.data
                    .get(name)
                    .and_then(Value::str)
                    .unwrap_or("missing")
                    .to_owned()
            });
            assert_eq!(said, ["connected", "wan", "eth1", first]);
            call.done();
            let output = child.wait_with_output().expect("its end");
            assert!(output.status.success());
        }
    }));
}

/// `tailover watch`, whose lines can be waited on.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(bus: &Bus, binary: &Path) -> Watch {
        let mut command = bus.command(binary, "watch");
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = piped.spawn().expect("the binary runs");
        let out = child.stdout.take().expect("piped");
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Watch { child, lines }
    }

    /// Waits for a line with this text among those that have not come yet; gives those that came.
    fn says(&self, text: &str) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("nobody said '{text}': {seen:#?}");
            };
            let found = line.contains(text);
            seen.push(line);
            if found {
                return seen;
            }
        }
    }

    /// Has the daemon read its file until the watch tells of it: nobody says when it has subscribed.
    fn hears_of_a_reload(&self, daemon: &Child) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            send(daemon, "HUP");
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
                if line.contains("the configuration was read again") {
                    return;
                }
            }
        }
        panic!("nothing is told");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon that ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Started, and its object is there.
    fn start(bus: &Bus, binary: &Path) -> Running {
        let mut command = bus.command(binary, "run");
        let daemon = command.stdout(Stdio::null()).spawn();
        let daemon = Running(daemon.expect("the binary runs"));
        until("the object is there", || bus.status().is_some());
        daemon
    }
}

fn send(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let kill = Command::new("kill").args(["-s", signal, &pid]).status();
    assert!(kill.expect("kill runs").success());
}

#[test]
fn a_watch_tells_what_the_daemon_does_and_when_it_and_ubusd_go_and_come() {
    if !inside("a_watch_tells_what_the_daemon_does_and_when_it_and_ubusd_go_and_come") {
        return;
    }
    let Some(binary) = tailover() else {
        return;
    };
    let mut bus = Bus::start("watch");
    let mut watch = Watch::start(&bus, &binary);
    let first = watch.says("the daemon does not run");
    // The day, then the time of day before each line.
    assert_eq!(first.len(), 2, "{first:?}");
    let day: Vec<&str> = first[0].split('-').collect();
    assert!(day.len() == 3 && first[0].len() == 10, "{first:?}");
    let time = first[1].split(' ').next().expect("a time");
    assert!(
        time.len() == 8 && time.matches(':').count() == 2,
        "{first:?}"
    );
    let start = || {
        let mut command = bus.command(&binary, "run");
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Running(quiet.spawn().expect("the binary runs"))
    };
    let mut daemon = start();
    watch.says("the daemon is there: ");
    watch.hears_of_a_reload(&daemon.0);
    daemon.0.kill().expect("it is killed");
    daemon.0.wait().expect("its end");
    watch.says("the daemon has ended");
    daemon = start();
    watch.says("the daemon is there: ");
    bus.kill();
    watch.says("ubusd cannot be asked");
    bus.ubusd = Bus::spawn(&bus.socket());
    watch.hears_of_a_reload(&daemon.0);
    send(&watch.child, "INT");
    let end = watch.child.wait().expect("its end");
    assert_eq!(end.signal(), Some(2), "Ctrl-C ends it");
    let mut command = bus.command(&binary, "watch");
    let mut unread = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(unread.stdout.take());
    assert!(unread.wait().expect("its end").success(), "nobody reads");
    send(&daemon.0, "TERM");
    assert!(daemon.0.wait().expect("its end").success());
}

#[test]
fn a_check_is_answered_over_ubus_and_the_daemon_outlives_it() {
    if !inside("a_check_is_answered_over_ubus_and_the_daemon_outlives_it") {
        return;
    }
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("check");
    let mut daemon = Running::start(&bus, &binary);
    let check = oneshot::call(&bus.socket(), "tailover", "check", Vec::new(), PATIENCE);
    let check = check.expect("an answer");
    assert!(check.get("would").is_some() && check.get("sentence").is_some());
    assert!(bus.status().is_some());
    assert!(daemon.0.try_wait().expect("a child").is_none());
}

/// What is read before the assessment begins must not look like its end.
#[test]
fn a_check_waits_for_its_probes_also_where_the_path_is_looked_at_often() {
    if !inside("a_check_waits_for_its_probes_also_where_the_path_is_looked_at_often") {
        return;
    }
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("check-often");
    let file = bus.folder.join("config");
    let text = fs::read_to_string(&file).expect("a configuration") + "\toption interval '1'\n";
    fs::write(&file, text).expect("a written configuration");
    let setup = "ip link add wan type veth peer name other && ip link set other up \
                 && ip address add 192.0.2.2/24 dev wan && ip link set wan up \
                 && ip route add default via 192.0.2.1 dev wan";
    let made = Command::new("sh").args(["-c", setup]).status();
    assert!(made.expect("sh").success(), "an uplink");
    let check = bus.command(&binary, "check").arg("--json").output();
    let said = check.expect("the binary runs").stdout;
    let said = String::from_utf8_lossy(&said);
    // Nobody answers at the other end, and a verdict says so.
    assert!(said.contains("\"closed\""), "{said}");
    assert!(!said.contains("\"proving\""), "{said}");
}

#[test]
fn the_object_is_there_again_when_ubusd_is() {
    if !inside("the_object_is_there_again_when_ubusd_is") {
        return;
    }
    let Some(binary) = tailover() else {
        return;
    };
    let mut bus = Bus::start("reborn");
    let mut daemon = Running::start(&bus, &binary);
    bus.kill();
    assert!(bus.status().is_none());
    bus.ubusd = Bus::spawn(&bus.socket());
    until("the object is there again", || bus.status().is_some());
    let stage = bus
        .status()
        .and_then(|s| Some(s.get("stage")?.str()?.to_owned()));
    assert!(stage.is_some_and(|s| !s.is_empty()));
    assert!(
        daemon.0.try_wait().expect("a child").is_none(),
        "one process all the time"
    );
    send(&daemon.0, "TERM");
    assert!(daemon.0.wait().expect("its end").success());
    until("the object has gone", || bus.status().is_none());
}
