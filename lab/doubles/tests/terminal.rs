//! The commands that ask the daemon, as people and scripts meet them: exit codes, width, colours, letters,
//! times. The daemon is a stand-in that answers what the test says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde_json::{json, Value as Json};
use smol::{future, LocalExecutor};
use tailover::ubus::blobmsg::table_from_json;
use tailover::ubus::{oneshot, Client, Happening, Method, Status, Type};

mod bus;

use bus::tailover;

/// Longest wait for anything here; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bus {
    folder: PathBuf,
    ubusd: Child,
}

impl Bus {
    fn start(name: &str) -> Bus {
        let folder = std::env::temp_dir().join(format!("tailover-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let socket = folder.join("ubus.sock");
        let text = format!(
            "config tailover 'main'\n\toption ubus_socket '{}'\n",
            socket.display()
        );
        fs::write(folder.join("config"), text).expect("a written configuration");
        let ubusd = bus::Bus::spawn(&socket);
        Bus { folder, ubusd }
    }

    /// Runs a command while the daemon answers each method so; an error is ubus's.
    fn run(&self, mut command: Command, answer: impl Fn(&str) -> Result<Json, Status>) -> Output {
        let socket = self.folder.join("ubus.sock");
        // ubusd takes a moment to see that the one before has gone.
        let end = Instant::now() + PATIENCE;
        while oneshot::lookup(&socket, "tailover", PATIENCE).is_ok_and(|found| !found.is_empty()) {
            assert!(Instant::now() < end, "the object stays");
            std::thread::sleep(Duration::from_millis(5));
        }
        let executor = LocalExecutor::new();
        future::block_on(executor.run(async {
            let (client, handle, happened) = Client::new(&socket);
            executor.spawn(client.run()).detach();
            let mut methods: Vec<Method> = ["status", "history"]
                .iter()
                .map(|m| Method::new(m, &[]))
                .collect();
            methods.push(Method::new("recover", &[("force", Type::Bool)]));
            methods.push(Method::new(
                "drill",
                &[("uplink", Type::String), ("seconds", Type::I32)],
            ));
            handle
                .add_object("tailover", methods)
                .await
                .expect("an object");
            // Then all that was added is there.
            while !matches!(happened.recv().await, Ok(Happening::Up)) {}
            let serve = async {
                loop {
                    if let Happening::Call(call) = happened.recv().await.expect("a happening") {
                        match answer(&call.method) {
                            Ok(json) => call.reply(table_from_json(json)),
                            Err(status) => call.fail(status),
                        }
                    }
                }
            };
            let work = smol::unblock(move || command.output().expect("it runs"));
            future::or(work, serve).await
        }))
    }

    fn command(&self, binary: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.env_clear().env("TZ", "UTC0");
        command
            .arg("--config")
            .arg(self.folder.join("config"))
            .args(words);
        command
    }

    /// The same on a terminal of so many columns; 0: one that does not tell.
    fn on_terminal(
        &self,
        binary: &Path,
        word: &str,
        columns: u32,
        set: &[(&str, &str)],
    ) -> Command {
        let mut command = Command::new("script");
        command
            .env_clear()
            .envs(set.iter().copied())
            .env("TZ", "UTC0")
            .env("PATH", "/usr/bin:/bin");
        let line = format!(
            "stty cols {columns}; exec {} --config {}/config {word}",
            binary.display(),
            self.folder.display()
        );
        command.args(["-qec", &line, "/dev/null"]);
        command
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.ubusd.kill();
        let _ = self.ubusd.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn episode(outcome: &str) -> Json {
    json!({
        "trigger": "hotplug: wan is down", "began_ago": 100.0, "seconds": 2.9, "outcome": outcome,
        "faults": [{ "id": "F1-pinned-route", "text": "packets leave by a dead uplink" }],
        "acts": [{ "cure": "steer IPv4", "after": 0.3, "ok": true, "result": "by eth2", "why": "" }],
        "drill": null,
    })
}

fn state(stage: &str, faults: Json) -> Json {
    let way = json!({
        "verdict": "closed", "age": 3.2, "evidence": "no answer from any target, not even \u{1b}[31mred\u{7}, öde",
    });
    json!({
        "stage": stage, "sentence": "the tailnet is well; its packets are steered by wanb (eth2)", "uptime": 50_000.0,
        "uplinks": [{ "name": "wan", "device": "eth1", "ipv4": way, "ipv6": null }],
        "path": { "ipv4": null, "ipv6": null }, "steering": { "ipv4": null, "ipv6": null },
        "tailnet": { "api": "answers", "backend": "Running", "home_relay": "derp1",
            "control": { "fresh": 1 }, "derp": { "fresh": 1 } },
        "faults": faults, "warnings": [], "episode": null, "last": episode("healed"),
        "next": { "what": "go back to wan once it is open for 30 s", "in": 21.0 },
    })
}

fn fault() -> Json {
    json!([{ "id": "F2-stuck-control", "text": "the control connection is stuck: it still uses wan's address",
        "advice": null, "evidence": [] }])
}

fn answers(stage: &'static str, faults: Json) -> impl Fn(&str) -> Result<Json, Status> {
    move |method| {
        Ok(match method {
            "status" => state(stage, faults.clone()),
            "history" => json!({ "episodes": [episode("healed"), episode("needs a person")] }),
            "drill" => json!({ "refused": "no other uplink is open" }),
            _ => json!({}),
        })
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone())
        .expect("text")
        .replace('\r', "")
}

#[test]
fn every_exit_code_that_the_daemon_brings_about() {
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("codes");
    let none = || json!([]);
    for (words, stage, faults, wanted) in [
        (&["status"][..], "quiet", none(), 0),
        (&["status"], "quiet", fault(), 1),
        (&["status", "--json"], "quiet", none(), 0),
        (&["status", "--json"], "quiet", fault(), 1),
        (&["history"], "quiet", fault(), 0),
        (&["history", "--json"], "quiet", fault(), 0),
        (&["recover"], "quiet", none(), 0),
        (&["recover"], "quiet", fault(), 1),
        (&["recover", "--force"], "resting", none(), 1),
        (&["drill", "wan"], "quiet", none(), 1),
    ] {
        let output = bus.run(bus.command(&binary, words), answers(stage, faults));
        assert_eq!(code(&output), wanted, "{words:?}: {output:?}");
    }
    for (status, wanted) in [
        (Status::PermissionDenied, 4),
        (Status::UnknownError, 5),
        (Status::NotFound, 3),
    ] {
        for words in [
            &["status"][..],
            &["history"],
            &["recover"],
            &["drill", "wan"],
            &["watch"],
        ] {
            // A watch waits for a daemon that is not there.
            if words == ["watch"] && wanted == 3 {
                continue;
            }
            let output = bus.run(bus.command(&binary, words), |_| Err(status));
            assert_eq!(code(&output), wanted, "{words:?}: {output:?}");
        }
    }
}

#[test]
fn a_recovery_tells_its_steps() {
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("steps");
    let answer = |method: &str| {
        let mut state = state("quiet", json!([]));
        state["last"]["began_ago"] = json!(0.0);
        Ok(if method == "status" { state } else { json!({}) })
    };
    let told = text(&bus.run(bus.command(&binary, &["recover"]), answer));
    let lines: Vec<&str> = told
        .lines()
        .map(|l| l.split_once(" s  ").expect("seconds").1)
        .collect();
    let sentence = "the tailnet is well; its packets are steered by wanb (eth2)";
    assert_eq!(lines, ["steer IPv4: by eth2", sentence]);
}

#[test]
fn a_pipe_gets_plain_whole_lines_and_the_times_of_the_zone() {
    let Some(binary) = tailover() else {
        return;
    };
    let bus = Bus::start("pipe");
    let shown = |zone: &str| {
        let mut command = bus.command(&binary, &["status"]);
        command.env("TZ", zone).env("TERM", "xterm");
        text(&bus.run(command, answers("quiet", json!([]))))
    };
    let page = shown("UTC0");
    let row = "uplink   wan        eth1       ipv4  closed   3 s ago: no answer from any target, not even ?[31mred?, ?de";
    assert_eq!(page.lines().nth(1), Some(row), "{page}");
    let line = |label: &str, page: &str| {
        let line = page.lines().find(|l| l.starts_with(label));
        line.unwrap_or_else(|| panic!("no {label} in {page}"))
            .to_owned()
    };
    // 100 s ago is in one of the two newest half hours; the daemon began 13.9 hours ago.
    let day = line("day ", &page);
    let drawn = day.split_whitespace().nth(1).expect("cells");
    assert_eq!(drawn.len(), 48, "{day}");
    assert_eq!(
        drawn,
        format!("{}{}X", "-".repeat(20), ".".repeat(27)),
        "{day}"
    );
    assert_eq!(page.matches("\nlast ").count(), 2, "{page}");
    assert!(
        page.contains("1 min 40 s ago, for 2.9 s: hotplug: wan is down (needs a person)"),
        "{page}"
    );
    assert!(line("next ", &page).ends_with("in 21 s: go back to wan once it is open for 30 s"));
    // Half a day further east it is another half of the day.
    let hour = |zone: &str| {
        let last = line("last ", &shown(zone));
        last.split_whitespace()
            .nth(2)
            .and_then(|t| t.get(..2)?.parse::<i32>().ok())
            .expect("an hour")
    };
    let (here, there) = (hour("UTC0"), hour("<+12>-12"));
    assert!(
        [11, 12, 13].contains(&(there - here).rem_euclid(24)),
        "{here} {there}"
    );
    let unknown = shown("Nowhere/At_All");
    assert!(line("last ", &unknown).contains(" UTC, "), "{unknown}");
}

#[test]
fn a_terminal_gets_its_width_its_colours_and_its_letters() {
    let Some(binary) = tailover() else {
        return;
    };
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: no script(1), which has a terminal to give");
        return;
    }
    let bus = Bus::start("terminal");
    let shown = |word: &str, columns: u32, set: &[(&str, &str)]| {
        let command = bus.on_terminal(&binary, word, columns, set);
        let output = bus.run(command, answers("quiet", fault()));
        text(&output)
    };
    let plain = [("TERM", "vt102"), ("NO_COLOR", "1")];
    for word in ["status", "history"] {
        for columns in [40, 60, 80, 200] {
            let page = shown(word, columns, &plain);
            assert!(page.is_ascii() && !page.contains('\u{1b}'), "{page}");
            let widest = page.lines().map(str::len).max().expect("lines");
            assert!(widest <= columns as usize, "{columns}: {page}");
            assert!(widest > 36, "{columns}: {page}");
        }
    }
    let narrow = shown("status", 40, &plain);
    assert!(
        narrow.contains("\nuplink wan eth1 ipv4 closed 3 s ago: n..\n"),
        "{narrow}"
    );
    assert!(
        narrow.contains("\nday ----------.............X to "),
        "{narrow}"
    );
    assert!(narrow.lines().count() <= 24, "one screen: {narrow}");
    // A serial console does not tell its width; its shell may.
    let serial = [("TERM", "vt102"), ("NO_COLOR", "1"), ("COLUMNS", "40")];
    // Its seconds go on.
    let words = |page: &str| page.replace(|c: char| c.is_ascii_digit(), "");
    assert_eq!(words(&shown("status", 0, &serial)), words(&narrow));
    let wide = shown("status", 0, &plain);
    assert_eq!(wide.lines().map(str::len).max(), Some(80), "{wide}");

    let coloured = shown("status", 80, &[("TERM", "vt102")]);
    assert!(coloured.contains("\u{1b}[31mfault    F2"), "{coloured}");
    for none in [&[("TERM", "dumb")][..], &[]] {
        let page = shown("status", 80, none);
        assert!(!page.contains('\u{1b}'), "{none:?}: {page}");
    }
    for (set, blocks) in [
        (&[("LANG", "en_US.UTF-8")][..], true),
        (&[("LC_CTYPE", "C.utf8")], true),
        (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
        (&[("LANG", "de_DE@euro")], false),
    ] {
        let page = shown("status", 80, set);
        assert_eq!(page.contains('█'), blocks, "{set:?}: {page}");
    }
}
