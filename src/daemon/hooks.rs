//! Runs the owner's programs when something happened: those of one folder, one after another, and never
//! waits for them.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, PipeReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rustix::io::ioctl_fionbio;
use rustix::process::geteuid;

use super::*;
use crate::cure::program::{attend, End};

/// Where the owner's programs are.
pub(super) const DIR: &str = "/etc/tailover.d";

/// How long each program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Events that wait for their turn; the oldest are dropped, because the newest tells how things stand.
const WAITING: usize = 16;

/// Programs that are run for one event.
const PROGRAMS: usize = 16;

/// Bytes and lines that a program may say.
const SAID: usize = 4096;
const LINES: usize = 16;

/// A service's own PATH may be anything.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a program.
pub(super) type Variables = Vec<(&'static str, String)>;

/// How many programs of an event ended how, in the order of [`metrics::HOOKS`].
pub(super) type Ends = [u64; metrics::HOOKS.len()];

/// The events that wait, and whether programs run.
pub(super) struct Hooks {
    dir: PathBuf,
    limit: Duration,
    waiting: VecDeque<Variables>,
    running: bool,
    /// Events that were dropped and not spoken of yet.
    dropped: u64,
    over: Arc<AtomicBool>,
}

impl Hooks {
    pub(super) fn new(dir: &str) -> Hooks {
        Hooks {
            dir: dir.into(),
            limit: LIMIT,
            waiting: VecDeque::new(),
            running: false,
            dropped: 0,
            over: Arc::default(),
        }
    }

    /// Without the folder nothing is made ready.
    pub(super) fn wanted(&self) -> bool {
        fs::symlink_metadata(&self.dir).is_ok()
    }

    /// Puts an event at the end; false when the oldest had to go for it.
    pub(super) fn add(&mut self, event: Variables) -> bool {
        let full = self.waiting.len() >= WAITING;
        if full {
            self.waiting.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.waiting.push_back(event);
        !full
    }

    /// The work for the next event, if there is one and none is under way. It blocks.
    pub(super) fn next(&mut self) -> Option<impl FnOnce() -> Ends + Send + 'static> {
        if self.running {
            return None;
        }
        let event = self.waiting.pop_front()?;
        self.running = true;
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            warn!(target: LOG, "hooks are too slow: {dropped} events were dropped");
        }
        let (dir, limit, over) = (self.dir.clone(), self.limit, Arc::clone(&self.over));
        Some(move || run_all(&dir, &event, limit, &over))
    }

    pub(super) fn done(&mut self) {
        self.running = false;
    }

    /// Ends the program that runs; true when one does. Nothing is begun any more.
    pub(super) fn end(&mut self) -> bool {
        self.over.store(true, Ordering::Relaxed);
        self.waiting.clear();
        self.running
    }
}

fn run_all(dir: &Path, event: &Variables, limit: Duration, over: &AtomicBool) -> Ends {
    let mut ends = Ends::default();
    let programs = match programs(dir) {
        Ok(programs) => programs,
        Err(why) => {
            warn!(target: LOG, "hooks are not run: {why}");
            return ends;
        }
    };
    for program in programs {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let end = match run(&program, event, limit, over) {
            Ok((end, said)) => {
                for line in said.lines().take(LINES) {
                    info!(target: LOG, "hook {name}: {}", words::one_line(line));
                }
                end
            }
            Err(e) => End::Badly(e.to_string()),
        };
        let at = match end {
            End::Well => 0,
            End::Badly(how) => {
                warn!(target: LOG, "hook {name} failed: {how}");
                1
            }
            End::Late => {
                warn!(target: LOG, "hook {name} was killed after {} s", limit.as_secs());
                2
            }
        };
        if let Some(count) = ends.get_mut(at) {
            *count = count.saturating_add(1);
        }
    }
    ends
}

/// The programs of the folder in the order of their names. Nothing runs that somebody else may have
/// written.
fn programs(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |e: io::Error| format!("{}: {e}", dir.display());
    let us = geteuid().as_raw();
    let ours = |m: &Metadata| m.uid() == us && m.mode() & 0o022 == 0;
    let meta = fs::symlink_metadata(dir).map_err(named)?;
    if !meta.is_dir() || !ours(&meta) {
        let dir = dir.display();
        return Err(format!(
            "{dir} must be a folder of root that nobody else may write to"
        ));
    }
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(dir).map_err(named)? {
        let entry = entry.map_err(named)?;
        let name = entry.file_name();
        // Not what editors and package managers leave behind: .swp, ~.
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
        let bytes = name.as_encoded_bytes();
        if bytes.first() == Some(&b'.') || !bytes.iter().all(plain) {
            continue;
        }
        let meta = entry.metadata().map_err(named)?;
        if !meta.is_file() || meta.permissions().mode() & 0o100 == 0 {
            continue;
        }
        match ours(&meta) {
            true => {
                // For a few names; sort() is a large piece of code.
                let at = names.iter().take_while(|n| **n < name).count();
                names.insert(at, name);
            }
            false => warn!(
                target: LOG,
                "hook {} is not run: it must belong to root and nobody else may write to it",
                name.to_string_lossy()
            ),
        }
    }
    names.truncate(PROGRAMS);
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// Runs one program; gives how it ended, and what it said.
fn run(
    program: &Path,
    event: &Variables,
    limit: Duration,
    over: &AtomicBool,
) -> io::Result<(End, String)> {
    let (mut reader, writer) = io::pipe()?;
    ioctl_fionbio(&reader, true)?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .envs(event.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn()?;
    // It holds the pipe's other end.
    drop(command);
    let (began, mut said) = (Instant::now(), Vec::new());
    let end = attend(&mut child, true, &mut || {
        read(&mut reader, &mut said);
        began.elapsed() < limit && !over.load(Ordering::Relaxed)
    });
    read(&mut reader, &mut said);
    Ok((end, String::from_utf8_lossy(&said).into_owned()))
}

/// Takes what is there, and keeps the first of it. A full pipe would hold the program up.
fn read(pipe: &mut PipeReader, said: &mut Vec<u8>) {
    let mut buffer = [0u8; 1024];
    // A program that only writes must not keep us from its limit.
    for _ in 0..64 {
        match pipe.read(&mut buffer) {
            Ok(count) if count > 0 => {
                let room = SAID.saturating_sub(said.len()).min(count);
                said.extend(buffer.iter().take(room));
            }
            _ => return,
        }
    }
}

impl Daemon {
    /// Has the owner's programs told, unless there are none.
    pub(super) fn hook(&mut self, notice: &Notice) {
        if self.dry || !self.hooks.wanted() {
            return;
        }
        let Some(event) = self.variables(notice) else {
            return;
        };
        if !self.hooks.add(event) {
            self.tally.hooks_dropped = self.tally.hooks_dropped.saturating_add(1);
        }
        self.run_hooks();
    }

    pub(super) fn run_hooks(&mut self) {
        let Some(work) = self.hooks.next() else {
            return;
        };
        let outbox = self.outbox.clone();
        let told = move |ends| {
            // Nobody is left to tell once the loop has ended.
            let _ = outbox.try_send(Said::Hooked(ends));
        };
        let none = told.clone();
        // Each program has its limit, so nobody needs to watch the thread.
        if let Err(e) = thread::start(move || told(work())) {
            warn!(target: LOG, "hooks are not run: {e}");
            none(Ends::default());
        }
    }

    /// What the programs are told of an event; `None` for what is none.
    fn variables(&self, notice: &Notice) -> Option<Variables> {
        let (now, core) = (self.now(), &self.core);
        let mut all = Vec::new();
        let mut put = |name, value: &str| all.push((name, words::one_line(value)));
        let last = core.history().iter().next_back();
        let mut episode = core.episode();
        match notice {
            Notice::Fault { id, text, .. } => {
                put("TAILOVER_EVENT", "fault");
                put("TAILOVER_FAULT", id);
                put("TAILOVER_TEXT", text);
            }
            Notice::Cure { cure, text } => {
                put("TAILOVER_EVENT", "cure");
                put("TAILOVER_CURE", cure.word());
                put("TAILOVER_TEXT", text);
            }
            Notice::Healed { seconds, text } => {
                episode = last;
                put("TAILOVER_EVENT", "healed");
                put("TAILOVER_SECONDS", &format!("{seconds:.1}"));
                put("TAILOVER_OUTCOME", text);
            }
            _ => return None,
        }
        if let Some(e) = episode {
            let ids: Vec<&str> = e.faults.iter().map(|(id, _)| *id).collect();
            put("TAILOVER_FAULTS", &ids.join(" "));
            put("TAILOVER_TRIGGER", &e.trigger);
            let age = now.saturating_sub(e.began).as_secs_f64();
            put("TAILOVER_AGE", &format!("{age:.1}"));
            put("TAILOVER_DRILL", if e.drill.is_some() { "1" } else { "0" });
        }
        let k = core.knowledge();
        if let Some(u) = Family::BOTH.iter().find_map(|f| k.path_uplink(*f)) {
            put("TAILOVER_UPLINK", &u.name);
            put("TAILOVER_DEVICE", &u.device);
        }
        put("TAILOVER_SENTENCE", &view::sentence(core, now));
        Some(all)
    }
}

#[cfg(test)]
mod tests;
