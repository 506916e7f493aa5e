//! A network namespace of a test's own: the test runs again inside it, as root or in a user
//! namespace, and sets its devices up with ip(8).

// Each test program uses a part of it.
#![allow(dead_code)]

use std::net::IpAddr;
use std::process::Command;

/// Set in the copy of a test that runs inside the namespace.
const INSIDE: &str = "TAILOVER_TEST_NETNS";

/// Runs ip(8) and returns what it printed.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("ip(8) is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Runs the named test again inside a new namespace, as root or in a user namespace. `true` when
/// this process is the one inside.
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("this test's program");
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    for way in ways {
        let possible = Command::new("unshare").args(way).arg("true").output();
        if !possible.is_ok_and(|o| o.status.success()) {
            continue;
        }
        let status = Command::new("unshare")
            .args(way)
            .arg(&program)
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .expect("unshare runs");
        assert!(status.success(), "inside the namespace: {status}");
        return false;
    }
    println!("skipped: {test}: no right to make a network namespace here");
    false
}
