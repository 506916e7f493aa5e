//! The real binary: what it says and how it ends, without OpenWrt around it.
//!
//! What needs an ubusd is in lab/doubles/tests/daemon.rs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

const TAILOVER: &str = env!("CARGO_BIN_EXE_tailover");

/// Longest wait for anything here; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Set in the copy of a test that runs in a network namespace of its own.
const INSIDE: &str = "TAILOVER_TEST_NETNS";

/// A folder of a test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tailover-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        // A user without rights has to read it too.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A configuration with sockets and state in this folder, and these lines.
    fn config(&self, lines: &str) -> PathBuf {
        let file = self.path("config");
        let at = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "config tailover 'main'\n\toption ubus_socket '{}'\n\toption socket '{}'\n\
             \toption state_dir '{}'\n{lines}",
            at("ubus.sock"),
            at("tailscaled.sock"),
            at("state"),
        );
        fs::write(&file, text).expect("a written configuration");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tailover(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(TAILOVER);
    command.arg("--config").arg(config).args(words);
    command
}

/// Exit code, and standard output and error together.
fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (
        output.status.code().expect("ended by itself"),
        String::from_utf8(text).expect("text"),
    )
}

fn run(mut command: Command) -> (i32, String) {
    told(&command.output().expect("the binary runs"))
}

/// `tailover hotplug` as netifd calls it: nothing but the event in the environment.
fn hotplug(config: &Path) -> (i32, String) {
    let mut command = tailover(config, &["hotplug"]);
    command.env_clear().envs([
        ("ACTION", "connected"),
        ("INTERFACE", "wan"),
        ("DEVICE", "eth1"),
    ]);
    run(command)
}

#[test]
fn version_and_help() {
    let version = run_words(&["--version"]);
    assert_eq!(
        version,
        (0, format!("tailover {}\n", env!("CARGO_PKG_VERSION")))
    );
    let (code, help) = run_words(&["--help"]);
    assert_eq!(code, 0);
    for command in [
        "run", "hotplug", "status", "check", "recover", "drill", "watch", "history", "report",
        "metrics", "cleanup",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
    }
}

fn run_words(words: &[&str]) -> (i32, String) {
    let mut command = Command::new(TAILOVER);
    command.args(words);
    run(command)
}

#[test]
fn a_wrong_command_line_is_code_2_and_names_what_is_wrong() {
    for words in [
        &["dance"][..],
        &["run", "--fast"],
        &["drill", "wan", "--seconds", "601"],
        &[],
    ] {
        let (code, text) = run_words(words);
        assert_eq!(code, 2, "{words:?}: {text}");
        let last = words.last().unwrap_or(&"tailover --help");
        assert!(text.contains(last), "{words:?}: {text}");
    }
}

#[test]
fn a_wrong_option_is_refused_with_file_line_option_value_and_what_is_allowed() {
    let folder = Folder::new("wrong");
    let config = folder.config("\toption hold 'soon'\n");
    for words in [&["run"][..], &["run", "--test"], &["status"], &["check"]] {
        let (code, text) = run(tailover(&config, words));
        assert_eq!(code, 2, "{words:?}: {text}");
        let place = format!("{}:5", config.display());
        for part in [place.as_str(), "hold", "soon", "seconds"] {
            assert!(text.contains(part), "{words:?}: no {part} in: {text}");
        }
    }
}

#[test]
fn a_test_of_the_configuration_ends_without_a_daemon_and_shows_the_warnings() {
    let folder = Folder::new("test");
    let config = folder.config("\toption hold '5'\n\toption hlod '5'\n");
    let (code, text) = run(tailover(&config, &["run", "--test"]));
    assert_eq!(code, 0, "{text}");
    for part in [":6: ", "hlod", "can be used"] {
        assert!(text.contains(part), "no {part} in: {text}");
    }
    assert!(!folder.path("state").exists(), "nothing was started");
}

#[test]
fn hotplug_is_quiet_without_ubusd_with_a_silent_one_and_with_one_that_talks_garbage() {
    let folder = Folder::new("hotplug");
    let config = folder.config("");
    assert_eq!(hotplug(&config), (0, String::new()), "no ubusd");
    let broken = folder.config("\toption hold 'soon'\n");
    assert_eq!(hotplug(&broken), (0, String::new()), "a wrong option");
    let config = folder.config("");

    let listener = UnixListener::bind(folder.path("ubus.sock")).expect("a socket");
    // It connects to the queue of the listener, where nobody ever answers.
    assert_eq!(hotplug(&config), (0, String::new()), "a silent ubusd");

    let talker = std::thread::spawn(move || {
        // The connection of the call before waits first.
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().expect("a caller");
            // It may have gone already.
            let _ = connection.write_all(&[0xff; 4096]);
            let _ = connection.read(&mut [0; 64]);
        }
    });
    assert_eq!(hotplug(&config), (0, String::new()), "garbage");
    talker.join().expect("the talker ends");
}

#[test]
fn without_a_daemon_the_questions_are_code_3_and_say_so() {
    let folder = Folder::new("nodaemon");
    let config = folder.config("");
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["history"],
        &["recover"],
        &["drill", "wan"],
    ] {
        let (code, text) = run(tailover(&config, words));
        assert_eq!(code, 3, "{words:?}: {text}");
        let socket = folder.path("ubus.sock").display().to_string();
        assert!(text.contains(&socket), "{words:?}: {text}");
        assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    }
}

#[test]
fn without_a_daemon_the_metrics_say_that_it_is_down() {
    let folder = Folder::new("metrics");
    let output = tailover(&folder.config(""), &["metrics"]).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.ends_with("\ntailover_up 0\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
}

#[test]
fn disabled_is_no_fault() {
    let folder = Folder::new("disabled");
    let (code, text) = run(tailover(&folder.config("\toption enabled '0'\n"), &["run"]));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("'enabled' is 0"), "{text}");
}

#[test]
fn without_rights_it_says_so_with_code_4() {
    let folder = Folder::new("rights");
    let config = folder.config("");
    // The state's folder is theirs: it is the mark that they may not set.
    fs::create_dir_all(folder.path("state")).expect("a folder");
    fs::set_permissions(folder.path("state"), fs::Permissions::from_mode(0o777)).expect("a mode");
    let Some(mut command) = without_rights(&folder) else {
        return;
    };
    command.arg("--config").arg(&config).arg("run");
    let (code, text) = run(command);
    assert_eq!(code, 4, "{text}");
    assert!(
        text.contains("root") && text.contains("CAP_NET_ADMIN"),
        "{text}"
    );
}

/// The binary as a user without rights; `None` where nobody can become one.
fn without_rights(folder: &Folder) -> Option<Command> {
    let binary = folder.path("tailover");
    fs::copy(TAILOVER, &binary).expect("a copy that everybody may run");
    let drop_rights = ["--reuid", "65534", "--clear-groups", "--"];
    let allowed = Command::new("setpriv")
        .args(drop_rights)
        .arg("true")
        .output();
    if !allowed.is_ok_and(|o| o.status.success()) {
        println!("skipped: cannot become another user here");
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(drop_rights).arg(&binary);
    Some(command)
}

#[test]
fn without_rights_a_report_has_what_it_may_read_and_says_what_it_may_not() {
    let folder = Folder::new("rights-report");
    let config = folder.config("\toption hold '17'\n");
    fs::write(folder.path("network"), "config interface 'wan'\n").expect("a file");
    fs::set_permissions(folder.path("network"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let Some(mut command) = without_rights(&folder) else {
        return;
    };
    let (code, text) = run({
        command.arg("--config").arg(&config).arg("report");
        command
    });
    assert_eq!(code, 0, "{text}");
    let network = format!(
        "== {} ==\n(not read: Permission denied",
        folder.path("network").display()
    );
    for part in ["option hold '17'", "== /proc/version ==\nLinux", &network] {
        assert!(text.contains(part), "no {part} in: {text}");
    }
}

/// A daemon whose log can be waited on; killed with the test.
struct Daemon {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    fn start(config: &Path) -> Daemon {
        let mut command = tailover(config, &["run"]);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary runs");
        let (tell, lines) = mpsc::channel();
        let out = child.stdout.take().expect("piped");
        let err = child.stderr.take().expect("piped");
        for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = tell.send(line);
                }
            });
        }
        Daemon {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line with this text, among those that were not waited for yet.
    fn says(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(why) => panic!("nobody said '{text}' ({why}): {:#?}", self.seen),
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(kill.expect("kill runs").success());
    }

    fn ends(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().expect("ended by itself");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("does not end: {:#?}", self.seen);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the named test again inside a new network namespace. `true` in the one inside.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("this test's program");
    for way in [&["--net"][..], &["--user", "--map-root-user", "--net"]] {
        let possible = Command::new("unshare").args(way).arg("true").output();
        if !possible.is_ok_and(|o| o.status.success()) {
            continue;
        }
        let mut command = Command::new("unshare");
        command
            .args(way)
            .arg(&program)
            .args(["--exact", test, "--nocapture"]);
        let status = command.env(INSIDE, "1").status().expect("unshare runs");
        assert!(status.success(), "inside the namespace: {status}");
        return false;
    }
    println!("skipped: {test}: no right to make a network namespace here");
    false
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("ip(8) is installed");
    assert!(output.status.success(), "ip {words}");
    String::from_utf8(output.stdout).expect("text")
}

/// An uplink to nowhere: a default route, and nobody at its other end.
fn uplink() {
    ip("link set lo up");
    ip("link add wan type veth peer name isp");
    ip("link set wan up");
    ip("link set isp up");
    ip("addr add 192.0.2.2/24 dev wan");
    ip("route add default via 192.0.2.1 dev wan");
}

fn rules() -> String {
    ip("-4 rule show") + &ip("-6 rule show")
}

#[test]
fn alone_in_the_world_it_stays_up_says_so_and_ends_when_told() {
    if !inside("alone_in_the_world_it_stays_up_says_so_and_ends_when_told") {
        return;
    }
    uplink();
    let before = rules();
    let folder = Folder::new("alone");
    let mut daemon = Daemon::start(&folder.config(""));
    daemon.says("no ubus");
    daemon.says("does not run, and no procd says");
    assert!(
        daemon.child.try_wait().expect("a child").is_none(),
        "it stays up"
    );
    daemon.signal("TERM");
    daemon.says("tailover has ended");
    assert_eq!(daemon.ends(), 0);
    assert_eq!(rules(), before, "no rule is left");
}

#[test]
fn a_second_daemon_is_refused_with_code_5() {
    if !inside("a_second_daemon_is_refused_with_code_5") {
        return;
    }
    uplink();
    let folder = Folder::new("second");
    let config = folder.config("");
    let mut first = Daemon::start(&config);
    first.says("no ubus");
    let (code, text) = run(tailover(&config, &["run"]));
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("another tailover runs already"), "{text}");
    // Its own lock is gone with it, however it ended.
    first.signal("KILL");
    first.child.wait().expect("the first one's end");
    Daemon::start(&config).says("no ubus");
}

#[test]
fn a_reload_keeps_the_last_good_settings_when_the_new_ones_are_wrong() {
    if !inside("a_reload_keeps_the_last_good_settings_when_the_new_ones_are_wrong") {
        return;
    }
    uplink();
    let folder = Folder::new("reload");
    let mut daemon = Daemon::start(&folder.config(""));
    daemon.says("no ubus");
    folder.config("\toption hold 'soon'\n");
    daemon.signal("HUP");
    let problem = daemon.says("hold");
    assert!(problem.contains("soon"), "{problem}");
    daemon.says("the last good settings stay in force");
    folder.config("\toption hold '7'\n");
    daemon.signal("HUP");
    daemon.says("the configuration was read again");
    daemon.signal("TERM");
    assert_eq!(daemon.ends(), 0);
}

#[test]
fn cleanup_has_nothing_to_do_and_says_so() {
    if !inside("cleanup_has_nothing_to_do_and_says_so") {
        return;
    }
    let folder = Folder::new("cleanup");
    let (code, text) = run(tailover(&folder.config(""), &["cleanup"]));
    assert_eq!((code, text.as_str()), (0, "Removed 0 rules and routes.\n"));
}
