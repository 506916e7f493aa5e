//! Keeps in a file when tailscaled was restarted, so that the pauses and the cap of an hour hold for a
//! daemon that was killed and started again too.
//!
//! A line is a restart: the boot's identifier, and the seconds since the boot. It is written before the
//! act. The file is in RAM and a reboot starts tailscaled anyway, so those of other boots do not count.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lines::{append, trim};
use super::moment::Moment;

/// The file's name in `state_dir`.
const NAME: &str = "restarts";

/// Lines that are kept; no hour has as many.
const KEPT: usize = 32;

/// How long ago each restart of this boot was, the oldest first. Drops lines that are too many.
///
/// # Errors
/// Says what cannot be read or written.
pub fn earlier(dir: &Path) -> io::Result<Vec<Duration>> {
    Ok(ages(&trim(&place(dir), KEPT, KEPT)?))
}

/// The ages of those of this boot.
pub(super) fn ages(lines: &[String]) -> Vec<Duration> {
    let now = Moment::of_now();
    let age = |line: &String| {
        let (boot, uptime) = line.rsplit_once(' ')?;
        let age = now.uptime - uptime.parse::<f64>().ok()?;
        (boot == now.boot && !boot.is_empty()).then(|| Duration::try_from_secs_f64(age).ok())?
    };
    lines.iter().filter_map(age).collect()
}

/// Notes a restart that is about to be made.
///
/// # Errors
/// Says what cannot be written. The run that orders it counts it all the same.
pub fn note(dir: &Path) -> io::Result<()> {
    let now = Moment::of_now();
    append(&place(dir), format!("{} {:.2}", now.boot, now.uptime))
}

fn place(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::super::lines::folder;
    use super::*;
    use std::fs;

    #[test]
    fn the_next_run_knows_how_long_ago_each_was() {
        let dir = folder("restarts-known");
        assert!(earlier(&dir).expect("none yet").is_empty());
        note(&dir).expect("written");
        note(&dir).expect("written");
        let ages = earlier(&dir).expect("read");
        assert_eq!(ages.len(), 2);
        assert!(
            ages.iter().all(|age| *age < Duration::from_secs(60)),
            "{ages:?}"
        );
        fs::remove_dir_all(dir).expect("cleaned up");
    }

    #[test]
    fn other_boots_and_torn_lines_do_not_count_and_the_file_stays_bounded() {
        let dir = folder("restarts-bounded");
        let boot = Moment::of_now().boot;
        let far = Moment::of_now().uptime + 1e6;
        let text = format!("another-boot 1.00\n\n{boot} x\n{boot} {far}\n{boot} 0.50\n{boot} 0.7");
        fs::write(place(&dir), text).expect("written");
        assert_eq!(earlier(&dir).expect("read").len(), 1);
        for _ in 0..100 {
            note(&dir).expect("written");
        }
        assert_eq!(earlier(&dir).expect("read").len(), KEPT);
        let lines = fs::read_to_string(place(&dir))
            .expect("read")
            .lines()
            .count();
        assert_eq!(lines, KEPT);
        fs::remove_dir_all(dir).expect("cleaned up");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let problem = note(Path::new("/proc/nowhere")).expect_err("procfs takes no files");
        assert!(
            problem.to_string().contains("/proc/nowhere/restarts"),
            "{problem}"
        );
    }
}
