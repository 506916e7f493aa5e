//! The worker's side: lines in, a thread for each, lines out.

use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex};

use super::super::blocking::{fetch, look_up};
use super::super::http::FetchError;
use super::super::thread;
use super::{lines, Ask, Told, MAX_LINE};

/// Answers requests until the input ends. Then the process shall end, whatever is still under way:
/// nobody waits for it any more.
///
/// # Errors
/// The input cannot be read, or holds what is no request.
pub fn serve<W: Write + Send + 'static>(mut input: impl BufRead, output: W) -> io::Result<()> {
    let output = Arc::new(Mutex::new(output));
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let Some((id, ask)) = lines::read_ask(&line) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no request"));
        };
        let refused = refusal(&ask);
        let to = Arc::clone(&output);
        if let Err(e) = thread::start(move || tell(&to, id, &answer(ask))) {
            tell(&output, id, &refused(e.to_string()));
        }
    }
}

/// The answer to a request that no thread was found for.
fn refusal(ask: &Ask) -> fn(String) -> Told {
    match ask {
        Ask::Fetch(_) => |why| Told::Fetched(Err(FetchError::Busy(why))),
        Ask::Resolve(_) => |why| Told::Resolved(Err(why)),
    }
}

fn answer(ask: Ask) -> Told {
    match ask {
        Ask::Fetch(request) => Told::Fetched(fetch(&request)),
        Ask::Resolve(name) => Told::Resolved(look_up(&name).map_err(|e| e.to_string())),
    }
}

fn tell(output: &Mutex<impl Write>, id: u64, told: &Told) {
    let line = lines::told(id, told);
    // A thread that panicked has aborted the process; the lock is never poisoned.
    if let Ok(mut output) = output.lock() {
        // The daemon has gone: the input ends too, and with it the process.
        let _ = output.write_all(&line).and_then(|()| output.flush());
    }
}
