//! Runs a program without a shell, and ends it when it takes too long.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::net::thread;

/// How often it is looked at.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long what a program that was killed has said may take to be read.
const REST: Duration = Duration::from_millis(200);

/// Runs `words`, the program first, for at most `limit`. Blocks.
///
/// # Errors
/// It did not start, did not end in time, or ended with another code than 0.
pub(super) fn run(words: &[String], limit: Duration) -> Result<(), String> {
    let (program, args) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match wait(&mut spawn(&mut command)?, limit)? {
        status if status.success() => Ok(()),
        status => Err(status.to_string()),
    }
}

/// What `words`, the program first, write to standard output and error within `limit`, the first
/// `most` bytes of it, and what went wrong, if anything did. Blocks.
pub fn output(words: &[&str], limit: Duration, most: u64) -> (Vec<u8>, Result<(), String>) {
    let mut text = Vec::new();
    let result = read(words, limit, most, &mut text);
    (text, result)
}

fn read(words: &[&str], limit: Duration, most: u64, text: &mut Vec<u8>) -> Result<(), String> {
    let (program, args) = words.split_first().ok_or("no program")?;
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let also = writer.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.args(args).stdout(writer).stderr(also);
    let mut child = spawn(&mut command)?;
    // It holds the writing ends: the reader would not see the end.
    drop(command);
    let (told, read) = mpsc::channel();
    let reading = thread::start(move || {
        let mut bytes = Vec::new();
        // What came before an error is shown.
        let _ = reader.take(most).read_to_end(&mut bytes);
        // Nobody waits any more when the time is over.
        let _ = told.send(bytes);
    });
    let began = Instant::now();
    let mut heard = reading.is_ok() && read.recv_timeout(limit).map(|b| *text = b).is_ok();
    let status = wait(&mut child, limit.saturating_sub(began.elapsed()));
    // A child of its own may hold its output open.
    heard = heard || read.recv_timeout(REST).map(|b| *text = b).is_ok();
    match status? {
        _ if !heard => Err("its output does not end".into()),
        status if status.success() => Ok(()),
        status => Err(status.to_string()),
    }
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())
}

/// Waits for its end, and brings it about when the time is over.
fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if began.elapsed() < limit => std::thread::sleep(ASK_EVERY),
            Ok(None) => {
                // Both may fail only when it has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err("not done in time".into());
            }
            Err(e) => return Err(e.to_string()),
        }
    }
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
