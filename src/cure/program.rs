//! Runs a program without a shell, and ends it when it takes too long.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked at.
const ASK_EVERY: Duration = Duration::from_millis(50);

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
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if began.elapsed() < limit => std::thread::sleep(ASK_EVERY),
            Ok(None) => {
                // Both may fail only when it has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {} s", limit.as_secs()));
            }
            Err(e) => return Err(e.to_string()),
        }
    }
}
