//! Keeps ended episodes in a file, so that the next start knows them, and in a copy of it that
//! outlives a reboot where the owner wants that.
//!
//! A line is an episode as JSON, as [`view`](crate::view) tells it, with the instant of its
//! beginning: `uptime` (seconds) is exact within one `boot`, `time` (Unix seconds) serves across
//! boots as far as the clock is right. `run` names the daemon's process that saw it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::lines::{append, named, read, replace, trim};
use super::moment::Moment;

/// Episodes that are told, and lines at which the older ones are dropped.
const KEPT: usize = 64;
const LINES: usize = 2 * KEPT;

/// The copy is written this often at most, besides at the end: it lies on flash.
const COPY_EVERY: Duration = Duration::from_secs(6 * 3600);

/// The file's name in `state_dir`.
const NAME: &str = "history";

/// The file, and its copy.
pub struct Journal {
    file: PathBuf,
    copy: Option<PathBuf>,
    run: String,
    /// Episodes of this run that it was given.
    taken: u64,
    /// Lines in the file.
    lines: usize,
    /// When the copy was last written, and whether the file has more than that.
    copied: Instant,
    fresh: bool,
}

impl Journal {
    /// The journal in `dir`. Where it is missing, as after a reboot, the copy takes its place.
    ///
    /// # Errors
    /// Says what cannot be read or written.
    pub fn open(dir: &Path, copy: Option<&Path>) -> io::Result<Journal> {
        let now = Moment::of_now();
        let mut journal = Journal {
            file: dir.join(NAME),
            copy: copy.map(Path::to_path_buf),
            run: format!("{} {:.2}", now.boot, now.uptime),
            taken: 0,
            lines: 0,
            copied: Instant::now(),
            fresh: false,
        };
        if let Some(copy) = journal.copy.as_ref().filter(|_| !journal.file.exists()) {
            match read(copy) {
                Ok((lines, _)) => replace(&journal.file, &lines)?,
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(named(copy)(e)),
            }
        }
        journal.trim()?;
        Ok(journal)
    }

    /// How many of the newest episodes it has not been given yet, of so many that have ended.
    pub fn untold(&mut self, ended: u64) -> usize {
        let before = std::mem::replace(&mut self.taken, ended);
        usize::try_from(ended.saturating_sub(before)).unwrap_or(usize::MAX)
    }

    /// Adds an episode that has just ended.
    ///
    /// # Errors
    /// Says what cannot be written. It is then told by this run alone.
    pub fn add(&mut self, mut episode: Value) -> io::Result<()> {
        let ago = episode.get("began_ago").and_then(Value::as_f64);
        let began = Moment::of_now().back(ago.unwrap_or_default());
        if let Some(map) = episode.as_object_mut() {
            map.remove("began_ago");
            map.insert("run".into(), json!(self.run));
            map.insert("boot".into(), json!(began.boot));
            map.insert("uptime".into(), json!(began.uptime));
            map.insert("time".into(), json!(began.time));
        }
        append(&self.file, episode.to_string())?;
        self.fresh = true;
        self.lines = self.lines.saturating_add(1);
        match self.lines > LINES {
            true => self.trim(),
            false => Ok(()),
        }
    }

    /// The episodes of earlier runs, newest first, with their age as of now where that is known.
    pub fn earlier(&self) -> Vec<Value> {
        // A file that cannot be read tells of none.
        let (lines, _) = read(&self.file).unwrap_or_default();
        earlier(&lines, &self.run)
    }

    /// Writes the copy when that is due, or `now`, if there is something new.
    ///
    /// # Errors
    /// Says what cannot be written; tried again when it is next due.
    pub fn copy(&mut self, now: bool) -> io::Result<()> {
        let due = now || self.copied.elapsed() >= COPY_EVERY;
        let Some(copy) = self.copy.as_ref().filter(|_| self.fresh && due) else {
            return Ok(());
        };
        self.copied = Instant::now();
        let (lines, _) = read(&self.file).map_err(named(&self.file))?;
        if let Some(dir) = copy.parent() {
            fs::create_dir_all(dir).map_err(named(dir))?;
        }
        replace(copy, &lines)?;
        self.fresh = false;
        Ok(())
    }

    /// Reads the file once, and drops the oldest lines when there are many, and a torn last one.
    fn trim(&mut self) -> io::Result<()> {
        self.lines = trim(&self.file, LINES, KEPT)?.len();
        Ok(())
    }
}

/// The episodes of other runs than this, newest first.
fn earlier(lines: &[String], run: &str) -> Vec<Value> {
    let now = Moment::of_now();
    let episodes = lines.iter().rev();
    let episodes = episodes.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let earlier = episodes.filter(|e| e.is_object() && e["run"] != json!(run));
    earlier
        .take(KEPT)
        .map(|mut e| {
            let ago = json!(since(&now, &e));
            if let Some(map) = e.as_object_mut() {
                map.insert("began_ago".into(), ago);
            }
            e
        })
        .collect()
}

/// Seconds since an episode began; `None` when the clock has gone back meanwhile.
fn since(now: &Moment, episode: &Value) -> Option<f64> {
    let (now, then) = match episode["boot"] == json!(now.boot) {
        true => (now.uptime, &episode["uptime"]),
        false => (now.time, &episode["time"]),
    };
    // To a hundredth, as the kernel counts: a difference may be off in its last digit, and below nothing.
    then.as_f64()
        .map(|then| ((now - then) * 100.0).round() / 100.0)
        .filter(|age| *age >= 0.0)
}

/// Reads lines of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(super) fn hostile(lines: &[String]) {
    assert!(earlier(lines, "this").len() <= KEPT);
}

#[cfg(test)]
mod tests {
    use super::super::lines::{folder, LINE};
    use super::*;

    fn episode(n: u64, ago: f64) -> Value {
        json!({ "trigger": format!("episode {n}"), "began_ago": ago })
    }

    fn triggers(journal: &Journal) -> Vec<String> {
        let told = journal.earlier().into_iter();
        told.map(|e| e["trigger"].as_str().unwrap_or("-").to_string())
            .collect()
    }

    /// As after the end of one daemon: the next one has a run of its own.
    fn next_run(dir: &Path, copy: Option<&Path>) -> Journal {
        let mut journal = Journal::open(dir, copy).expect("a journal");
        journal.run = "the next".into();
        journal
    }

    #[test]
    fn the_next_start_knows_what_was_with_its_age() {
        let dir = folder("journal-start");
        let mut first = Journal::open(&dir, None).expect("a journal");
        for n in 1..=3 {
            first.add(episode(n, 100.0)).expect("written");
        }
        assert_eq!(triggers(&first), [""; 0], "its own it has in memory");
        let next = next_run(&dir, None);
        assert_eq!(triggers(&next), ["episode 3", "episode 2", "episode 1"]);
        let age = next.earlier()[0]["began_ago"].as_f64().expect("an age");
        assert!((100.0..160.0).contains(&age), "{age}");
        fs::remove_dir_all(dir).expect("cleaned up");
    }

    #[test]
    fn an_age_is_as_exact_as_the_kernels_uptime_and_never_less_than_nothing() {
        for hundredths in 200_000..210_000 {
            let moment = |ago: f64| Moment {
                boot: "b".into(),
                uptime: f64::from(hundredths) / 100.0 - ago,
                time: 0.0,
            };
            for ago in [0.0, 0.07, 100.0] {
                // Read back as it was written.
                let text = json!({ "boot": "b", "uptime": moment(ago).uptime }).to_string();
                let episode = serde_json::from_str(&text).expect("what was written");
                assert_eq!(since(&moment(0.0), &episode), Some(ago), "{hundredths}");
            }
        }
    }

    #[test]
    fn a_reboot_is_outlived_by_the_copy_alone_and_that_is_written_seldom() {
        let dir = folder("journal-boot");
        let (ram, flash) = (dir.join("ram"), dir.join("flash/history"));
        fs::create_dir(&ram).expect("a folder");
        let mut first = Journal::open(&ram, Some(&flash)).expect("a journal");
        first.add(episode(1, 0.0)).expect("written");
        first.copy(false).expect("not due");
        assert!(!flash.exists());
        first.copy(true).expect("written");
        first.add(episode(2, 0.0)).expect("written");
        first.copy(false).expect("not due");
        fs::remove_dir_all(&ram).expect("RAM is empty after a boot");
        fs::create_dir(&ram).expect("a folder");
        assert_eq!(triggers(&next_run(&ram, Some(&flash))), ["episode 1"]);
        fs::remove_dir_all(dir).expect("cleaned up");
    }

    #[test]
    fn what_is_torn_or_foreign_is_passed_over_and_the_file_stays_bounded() {
        let dir = folder("journal-torn");
        let file = dir.join(NAME);
        let long = "x".repeat(LINE + 1);
        let good = json!({ "trigger": "good", "run": "old" });
        let text = format!("\0\nnull\n{long}\n[]\n{good}\n{{\"trigger\":\"to");
        fs::write(&file, text).expect("written");
        let mut journal = next_run(&dir, None);
        assert_eq!(triggers(&journal), ["good"]);
        assert_eq!(journal.earlier()[0]["began_ago"], Value::Null);
        for n in 0..1000 {
            journal.add(episode(n, 0.0)).expect("written");
        }
        journal.run = "a later one".into();
        let told = triggers(&journal);
        assert_eq!((told.len(), told[0].as_str()), (KEPT, "episode 999"));
        let lines = fs::read_to_string(&file).expect("read").lines().count();
        assert!(lines <= LINES, "{lines} lines");
        fs::remove_dir_all(dir).expect("cleaned up");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_and_harms_nothing() {
        let nowhere = Path::new("/proc/nowhere");
        let mut journal = Journal::open(nowhere, None).expect("nothing is there yet");
        let problem = journal
            .add(episode(1, 0.0))
            .expect_err("procfs takes no files");
        assert!(
            problem.to_string().contains("/proc/nowhere/history"),
            "{problem}"
        );
        assert_eq!(triggers(&journal).len(), 0);
        assert_eq!(
            (journal.untold(3), journal.untold(4), journal.untold(4)),
            (3, 1, 0)
        );
    }
}
