//! `tailover history`: past episodes, the newest first.

use std::path::Path;

use argh::FromArgs;
use serde_json::Value;

use super::clock::{self, Zone};
use super::screen::Screen;
use super::{client, say, settings, OK};

/// list past faults with cause, cures and seconds
#[derive(FromArgs)]
#[argh(subcommand, name = "history")]
pub struct History {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

impl History {
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        let answer = match client::ask(&settings.ubus_socket, "history", Vec::new()) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        if self.json {
            say(answer);
            return OK;
        }
        say(Screen::of_stdout().fit(&page(&answer), 8));
        OK
    }
}

/// All episodes of the daemon's answer.
pub fn page(answer: &Value) -> String {
    let episodes = answer["episodes"].as_array().map_or(&[][..], Vec::as_slice);
    if episodes.is_empty() {
        return "Nothing has happened yet.\n".into();
    }
    let zone = Zone::of_here();
    episodes.iter().map(|e| text(e, &zone)).collect()
}

/// An episode in one line: when on the wall clock as it is set now, how long ago, for how long, why, and
/// what came of it. The age counts, the wall clock is for show: a router's is often wrong after a boot.
pub fn headline(e: &Value, zone: &Zone) -> String {
    let age = &e["began_ago"];
    let when = match age.as_f64() {
        Some(age) => zone.tell(clock::now() - clock::whole(age)) + ", ",
        None => String::new(),
    };
    format!(
        "{when}{}, for {:.1} s: {} ({})",
        ago(age),
        number(&e["seconds"]),
        word(&e["trigger"]),
        // One that is under way has none yet.
        e["outcome"].as_str().unwrap_or("under way")
    )
}

fn word(v: &Value) -> &str {
    v.as_str().unwrap_or("-")
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or(0.0)
}

/// An age for people, in its two largest units; that of an episode of before a clock was set is not
/// known.
fn ago(age: &Value) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let Some(age) = age.as_f64() else {
        return "some time ago".into();
    };
    let mut rest = u64::try_from(clock::whole(age)).unwrap_or(0);
    let mut words = Vec::new();
    for (size, unit) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 || (size == 1 && words.is_empty()) {
            words.push(format!("{count} {unit}"));
        }
    }
    words.truncate(2);
    format!("{} ago", words.join(" "))
}

fn text(e: &Value, zone: &Zone) -> String {
    let mut out = headline(e, zone) + "\n";
    for f in e["faults"].as_array().into_iter().flatten() {
        out += &format!("    fault {}: {}\n", word(&f["id"]), word(&f["text"]));
    }
    if let Some(summary) = e["drill"]["summary"].as_str() {
        out += &format!("    drill: {summary}\n");
    }
    for a in e["acts"].as_array().into_iter().flatten() {
        out += &format!(
            "    {:+.1} s {}: {}\n",
            number(&a["after"]),
            word(&a["cure"]),
            word(&a["result"])
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units_at_most() {
        for (age, text) in [
            (0.2, "0 s ago"),
            (59.7, "1 min ago"),
            (125.0, "2 min 5 s ago"),
            (3_600.0, "1 h ago"),
            (200_000.0, "2 d 7 h ago"),
        ] {
            assert_eq!(ago(&serde_json::json!(age)), text);
        }
        assert_eq!(ago(&Value::Null), "some time ago");
    }
}
