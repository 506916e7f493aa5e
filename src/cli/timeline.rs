//! The last day in one line of characters.

use serde_json::Value;

use super::clock;

const DAY: f64 = 86_400.0;

/// What is worst in a stretch of the day, the milder first, with its letter and its block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// The daemon that is asked did not run, and no episode tells of it.
    Unknown,
    Well,
    Drill,
    Cured,
    Wrong,
}

/// The last 24 hours, the oldest first, in `cells` characters. `uptime` are the daemon's seconds,
/// `episodes` what it tells of: those that have ended and the one under way.
///
/// Verdicts over the day are not kept, so it is drawn of episodes.
pub fn day<'a>(
    episodes: impl Iterator<Item = &'a Value>,
    uptime: f64,
    cells: usize,
    utf8: bool,
) -> String {
    let span = DAY / cells as f64;
    // Cell 0 is the newest here.
    let of_age = |age: f64| usize::try_from(clock::whole((age / span).floor())).unwrap_or(0);
    let mut marks = vec![Mark::Unknown; cells];
    let mut mark = |from: usize, to: usize, as_what: Mark| {
        for cell in marks.iter_mut().skip(to).take(from.saturating_sub(to) + 1) {
            *cell = (*cell).max(as_what);
        }
    };
    mark(of_age(uptime), 0, Mark::Well);
    for e in episodes {
        let Some(age) = e["began_ago"].as_f64() else {
            continue;
        };
        let end = age - e["seconds"].as_f64().unwrap_or_default();
        let as_what = match e["outcome"].as_str() {
            _ if !e["drill"].is_null() => Mark::Drill,
            None | Some("needs a person") => Mark::Wrong,
            _ => Mark::Cured,
        };
        mark(of_age(age), of_age(end), as_what);
    }
    let letter = |m: &Mark| match (m, utf8) {
        (Mark::Unknown, _) => '-',
        (Mark::Well, false) => '.',
        (Mark::Well, true) => '▁',
        (Mark::Drill, _) => 'd',
        (Mark::Cured, false) => 'o',
        (Mark::Cured, true) => '▅',
        (Mark::Wrong, false) => 'X',
        (Mark::Wrong, true) => '█',
    };
    marks.iter().rev().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOUR: f64 = 3600.0;

    fn episode(ago: f64, seconds: f64, outcome: Option<&str>) -> Value {
        json!({ "began_ago": ago * HOUR, "seconds": seconds, "outcome": outcome })
    }

    #[test]
    fn each_episode_stands_in_its_hours_and_the_worst_counts() {
        let mut drill = episode(3.5, 60.0, Some("healed"));
        drill["drill"] = json!({ "uplink": "wan" });
        let episodes = [
            episode(0.01, 36.0, None),
            drill,
            episode(5.5, 2.0, Some("healed")),
            episode(5.2, 9.0, Some("needs a person")),
            episode(9.5, 2.0 * HOUR, Some("passed by itself")),
            episode(20.5, 1.0, Some("healed")),
            episode(30.0, 1.0, Some("healed")),
            // From before the clock was set.
            json!({ "began_ago": null, "seconds": 1.0, "outcome": "healed" }),
        ];
        let drawn = |utf8| day(episodes.iter(), 12.5 * HOUR, 24, utf8);
        assert_eq!(drawn(false), "---o-------...ooo.X.d..X");
        assert_eq!(drawn(true), "---▅-------▁▁▁▅▅▅▁█▁d▁▁█");
    }

    #[test]
    fn what_reaches_over_the_edges_is_drawn_within() {
        let all = episode(40.0, 40.0 * HOUR, None);
        assert_eq!(day([all].iter(), 1e9, 12, false), "XXXXXXXXXXXX");
        assert_eq!(day([].iter(), 1e9, 6, false), "......");
        assert_eq!(day([].iter(), 0.0, 6, false), "-----.");
        let future = episode(-1.0, 1.0, Some("healed"));
        assert_eq!(day([future].iter(), 0.0, 6, false), "-----o");
    }
}
