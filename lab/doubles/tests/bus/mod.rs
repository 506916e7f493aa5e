//! An ubusd of a test's own, and the real binary of tailover on it.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tailover::ubus::{oneshot, Value};

/// Longest wait for anything here; reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Set in the copy of a test that runs in a network namespace of its own.
const INSIDE: &str = "TAILOVER_TEST_NETNS";

/// The binary beside the doubles: `cargo test --workspace` builds it, `cargo test -p` alone does not.
pub fn tailover() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_ubusd")).with_file_name("tailover");
    if !path.exists() {
        println!("skipped: {} is not built", path.display());
        return None;
    }
    Some(path)
}

/// An ubusd and a configuration that leads to it; all ends with the test.
pub struct Bus {
    pub folder: PathBuf,
    pub ubusd: Child,
}

impl Bus {
    pub fn start(name: &str) -> Bus {
        let folder = std::env::temp_dir().join(format!("tailover-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let at = |file: &str| folder.join(file).display().to_string();
        let text = format!(
            "config tailover 'main'\n\toption ubus_socket '{}'\n\toption socket '{}'\n\
             \toption state_dir '{}'\n",
            at("ubus.sock"),
            at("tailscaled.sock"),
            at("state")
        );
        fs::write(folder.join("config"), text).expect("a written configuration");
        let ubusd = Bus::spawn(&folder.join("ubus.sock"));
        Bus { folder, ubusd }
    }

    pub fn spawn(socket: &Path) -> Child {
        // A killed ubusd leaves its socket behind.
        let _ = fs::remove_file(socket);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ubusd"));
        let child = command.arg("-s").arg(socket).spawn().expect("ubusd");
        until("ubusd listens", || UnixStream::connect(socket).is_ok());
        child
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("ubus.sock")
    }

    /// As started by hand: a shell has what it runs in the background, such as these tests, ignore SIGINT.
    pub fn command(&self, tailover: &Path, word: &str) -> Command {
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(tailover)
            .arg("--config")
            .arg(self.folder.join("config"))
            .arg(word);
        command
    }

    pub fn kill(&mut self) {
        self.ubusd.kill().expect("to kill ubusd");
        self.ubusd.wait().expect("ubusd's end");
    }

    /// The answer of the daemon's `status`, if there is one.
    pub fn status(&self) -> Option<Value> {
        oneshot::call(&self.socket(), "tailover", "status", Vec::new(), PATIENCE).ok()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.ubusd.kill();
        let _ = self.ubusd.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks again until it is so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the named test again inside a new network namespace, with mounts of its own. `true` in the one inside.
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("this test's program");
    for way in [
        &["--net", "--mount"][..],
        &["--user", "--map-root-user", "--net", "--mount"],
    ] {
        let possible = Command::new("unshare").args(way).arg("true").output();
        if !possible.is_ok_and(|o| o.status.success()) {
            continue;
        }
        let mut command = Command::new("unshare");
        command
            .args(way)
            .arg(&program)
            .args(["--exact", test, "--nocapture", "--include-ignored"]);
        let status = command.env(INSIDE, "1").status().expect("unshare runs");
        assert!(status.success(), "inside the namespace: {status}");
        return false;
    }
    println!("skipped: {test}: no right to make a network namespace here");
    false
}
