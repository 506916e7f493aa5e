//! Runs a program without a shell, and ends it when it takes too long.

use std::io::{ErrorKind, PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{kill_process_group, waitid, Pid, Signal, WaitId, WaitIdOptions};

/// How often it is looked at.
const ASK_EVERY: Duration = Duration::from_millis(10);

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
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    go(&words, limit, None)
}

/// What `words`, the program first, write to standard output and error within `limit`, the first
/// `most` bytes of it, and what went wrong, if anything did. Blocks.
pub fn output(words: &[&str], limit: Duration, most: usize) -> (Vec<u8>, Result<(), String>) {
    let mut said = Said {
        pipe: None,
        text: Vec::new(),
        most,
    };
    let result = go(words, limit, Some(&mut said));
    (said.text, result)
}

/// Bytes that a program writes.
struct Said {
    pipe: Option<PipeReader>,
    text: Vec<u8>,
    most: usize,
}

impl Said {
    /// Takes what is there.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Ok(n @ 1..) => {
                    let room = self.most.saturating_sub(self.text.len());
                    self.text.extend(buffer.iter().take(n.min(room)));
                }
                _ => self.pipe = None,
            }
            if self.text.len() == self.most {
                // Its next word ends it.
                self.pipe = None;
            }
        }
    }
}

/// The errors are those of the system in words.
fn go(words: &[&str], limit: Duration, mut said: Option<&mut Said>) -> Result<(), String> {
    let began = Instant::now();
    let (program, args) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    if let Some(said) = &mut said {
        let (end, writer) = std::io::pipe().map_err(text)?;
        // A child of its own may hold the pipe open: nothing waits for its end.
        rustix::io::ioctl_fionbio(&end, true).map_err(|e| text(e.into()))?;
        command
            .stdout(writer.try_clone().map_err(text)?)
            .stderr(writer);
        said.pipe = Some(end);
    } else {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    let mut child = command.spawn().map_err(text)?;
    // This process must not hold the pipe's other end.
    drop(command);
    let end = attend(&mut child, false, &mut || {
        if let Some(said) = &mut said {
            said.read();
        }
        began.elapsed() < limit
    });
    if let Some(said) = said {
        said.read();
    }
    match end {
        End::Well => Ok(()),
        End::Badly(how) => Err(how),
        End::Late => Err("not done in time".into()),
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

fn text(e: std::io::Error) -> String {
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
