//! Runs a program without a shell, and ends it when it takes too long.

use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked at.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Runs `words`, the program first, for at most `limit`. Blocks.
///
/// # Errors
/// It did not start, did not end in time, or ended with another code than 0.
pub(super) fn run(words: &[String], limit: Duration) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    go(&words, limit, 0, &mut Vec::new())
}

/// What `words`, the program first, write to standard output and error within `limit`, the first
/// `most` bytes of it, and what went wrong, if anything did. Blocks.
pub fn output(words: &[&str], limit: Duration, most: usize) -> (Vec<u8>, Result<(), String>) {
    let mut text = Vec::new();
    let result = go(words, limit, most, &mut text);
    (text, result)
}

/// The errors are those of the system in words.
fn go(words: &[&str], limit: Duration, most: usize, text: &mut Vec<u8>) -> Result<(), String> {
    let began = Instant::now();
    let (program, args) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let mut reader = None;
    if most > 0 {
        let (end, writer) = std::io::pipe().map_err(said)?;
        // A child of its own may hold the pipe open: nothing waits for its end.
        rustix::io::ioctl_fionbio(&end, true).map_err(|e| said(e.into()))?;
        command
            .stdout(writer.try_clone().map_err(said)?)
            .stderr(writer);
        reader = Some(end);
    } else {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let mut child = command.spawn().map_err(said)?;
    loop {
        // Before the reading, so that all it has said is read.
        let ended = child.try_wait().map_err(said)?;
        let mut buffer = [0; 4096];
        while let Some(end) = &mut reader {
            match end.read(&mut buffer) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Ok(n @ 1..) => text.extend(buffer.iter().take(n.min(most - text.len()))),
                _ => reader = None,
            }
            if text.len() == most {
                // Its next word ends it.
                reader = None;
            }
        }
        match ended {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if began.elapsed() < limit => std::thread::sleep(ASK_EVERY),
            None => {
                // Both may fail only when it has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err("not done in time".into());
            }
        }
    }
}

fn said(e: std::io::Error) -> String {
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_said_on_both_ways_is_read_to_the_limit() {
        let (text, result) = output(&["sh", "-c", "echo one; echo two >&2; exit 3"], LIMIT, 100);
        assert_eq!(text, b"one\ntwo\n");
        assert!(result.is_err_and(|e| e.contains('3')));
        let (text, _) = output(&["cat", "/dev/zero"], LIMIT, 100);
        assert_eq!(text, [0; 100], "and it ends by that");
        let (text, result) = output(&["/nowhere/at/all"], LIMIT, 100);
        assert!(text.is_empty() && result.is_err());
    }

    #[test]
    fn one_that_takes_too_long_is_ended_and_what_it_said_is_kept() {
        let began = Instant::now();
        let (text, result) = output(
            &["sh", "-c", "echo first; exec sleep 60"],
            Duration::from_millis(300),
            100,
        );
        assert!(result.is_err_and(|e| e.contains("in time")));
        assert_eq!(text, b"first\n");
        assert!(began.elapsed() < LIMIT);
    }
}
