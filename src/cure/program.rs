//! Runs a program without a shell, and ends it when it takes too long.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{kill_process_group, waitid, Pid, Signal, WaitId, WaitIdOptions};

/// How often it is looked at.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Well,
    /// With another code than 0, or by a signal of somebody else.
    Badly(String),
    /// It was killed.
    Late,
}

/// Runs `words`, the program first, for at most `limit`. Blocks.
///
/// # Errors
/// It did not start, did not end in time, or ended with another code than 0.
pub(super) fn run(words: &[String], limit: Duration) -> Result<(), String> {
    let (program, args) = words.split_first().ok_or("no program")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let began = Instant::now();
    match attend(&mut child, false, &mut || began.elapsed() < limit) {
        End::Well => Ok(()),
        End::Badly(how) => Err(how),
        End::Late => Err(format!("not done after {} s", limit.as_secs())),
    }
}

/// Waits for the end of a program, and kills it when `go_on`, which is asked again and again, says no.
/// `group`: it leads a process group, and all of that ends with it. Blocks.
pub fn attend(child: &mut Child, group: bool, go_on: &mut dyn FnMut() -> bool) -> End {
    let pid = Pid::from_child(child);
    // Not reaped yet: until the group was killed its number must not become another's.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let late = loop {
        match waitid(WaitId::Pid(pid), look) {
            Ok(None) if go_on() => std::thread::sleep(ASK_EVERY),
            Ok(None) => break true,
            Ok(Some(_)) | Err(_) => break false,
        }
    };
    // Both may fail only when all has ended meanwhile.
    if group {
        let _ = kill_process_group(pid, Signal::KILL);
    } else if late {
        let _ = child.kill();
    }
    match child.wait() {
        _ if late => End::Late,
        Ok(status) if status.success() => End::Well,
        Ok(status) => End::Badly(status.to_string()),
        Err(e) => End::Badly(e.to_string()),
    }
}
