//! Keeps the past episodes over a restart of the daemon, as in an upgrade, in a file of `state_dir`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

/// Its name in `state_dir`, which is RAM on a router.
const FILE: &str = "history";

/// The newest episodes that fit are kept. Most take less than 1 kB.
const ROOM: usize = 64 * 1024;

/// As many as the core keeps itself.
const MOST: usize = 64;

fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Seconds since the machine's start; 0 where the kernel does not say.
pub(super) fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.unwrap_or(0.0)
}

/// Leaves `history` (`{"episodes": [...]}`, newest first) for the next daemon.
///
/// # Errors
/// The file cannot be written; what it held before may be gone.
pub(super) fn save(dir: &Path, history: &Value, uptime: f64) -> std::io::Result<()> {
    let mut room = ROOM;
    let fits = |episode: &&Value| {
        let size = episode.to_string().len();
        room = room.saturating_sub(size);
        room > 0
    };
    let kept: Vec<&Value> = episodes(history).iter().take_while(fits).collect();
    let text = json!({ "uptime": uptime, "episodes": kept }).to_string();
    fs::write(file(dir), text)
}

/// `history` and behind it what an earlier daemon has left since the machine's start. What does not read
/// as such is passed over.
pub(super) fn with_earlier(dir: &Path, mut history: Value, uptime: f64) -> Value {
    let text = match fs::metadata(file(dir)) {
        Ok(about) if about.len() <= 2 * ROOM as u64 => fs::read_to_string(file(dir)),
        _ => return history,
    };
    let saved: Value = text
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    // Left before the machine's last start: nobody knows how long ago that was.
    let since = match saved["uptime"].as_f64().map(|then| uptime - then) {
        Some(since) if since >= 0.0 => since,
        _ => return history,
    };
    if let Some(list) = history["episodes"].as_array_mut() {
        for mut episode in episodes(&saved).to_vec() {
            let ago = episode["began_ago"].as_f64();
            if let (Some(ago), true) = (ago, list.len() < MOST) {
                episode["began_ago"] = json!(ago + since);
                list.push(episode);
            }
        }
    }
    history
}

fn episodes(history: &Value) -> &[Value] {
    history["episodes"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);
    impl Dir {
        fn new(name: &str) -> Dir {
            let name = format!("tailover-history-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir_all(&dir).expect("a folder");
            Dir(dir)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn history(ago: &[f64]) -> Value {
        let list: Vec<Value> = ago
            .iter()
            .map(|ago| json!({ "began_ago": ago, "trigger": "a test" }))
            .collect();
        json!({ "episodes": list })
    }

    fn agos(history: &Value) -> Vec<f64> {
        let ago = |episode: &Value| episode["began_ago"].as_f64();
        episodes(history).iter().filter_map(ago).collect()
    }

    #[test]
    fn two_restarts_keep_all_and_their_ages() {
        let dir = Dir::new("two");
        save(&dir.0, &history(&[5.0, 50.0]), 100.0).expect("saved");
        let second = with_earlier(&dir.0, history(&[1.0]), 110.0);
        assert_eq!(agos(&second), [1.0, 15.0, 60.0]);
        save(&dir.0, &second, 110.0).expect("saved");
        let third = with_earlier(&dir.0, history(&[]), 111.5);
        assert_eq!(agos(&third), [2.5, 16.5, 61.5]);
        assert_eq!(third["episodes"][0]["trigger"], "a test");
    }

    #[test]
    fn nothing_is_taken_from_before_the_machines_start_or_from_what_is_none() {
        let dir = Dir::new("none");
        let own = history(&[1.0]);
        assert_eq!(with_earlier(&dir.0, own.clone(), 9.0), own);
        save(&dir.0, &history(&[5.0]), 100.0).expect("saved");
        assert_eq!(with_earlier(&dir.0, own.clone(), 9.0), own);
        for text in [
            "",
            "{",
            "[1,2]",
            "{\"uptime\":1}",
            "{\"uptime\":1,\"episodes\":[3,null,{}]}",
        ] {
            fs::write(file(&dir.0), text).expect("written");
            assert_eq!(with_earlier(&dir.0, own.clone(), 9.0), own, "{text}");
        }
    }

    #[test]
    fn the_newest_are_kept_and_the_file_is_small() {
        let dir = Dir::new("small");
        let ages: Vec<f64> = (0..5000).map(f64::from).collect();
        save(&dir.0, &history(&ages), 0.0).expect("saved");
        assert!(fs::metadata(file(&dir.0)).expect("a file").len() < ROOM as u64 * 3 / 2);
        let read = agos(&with_earlier(&dir.0, history(&[]), 0.0));
        assert_eq!(read, ages[..MOST]);
    }
}
