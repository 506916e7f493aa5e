//! The steps of an episode as it goes on, for commands that follow one.

use std::time::Instant;

use serde_json::Value as Json;

use super::say;

/// The steps that were told, each with its time.
#[derive(Default)]
pub struct Told(Vec<(f64, String)>);

impl Told {
    /// Prints each step of an episode that was not printed yet, with the seconds since it began, or
    /// since `from`.
    pub fn tell(&mut self, episode: &Json, from: Option<Instant>) {
        for step in steps(episode) {
            if !self.0.contains(&step) {
                let since = from.map_or(step.0, |from| from.elapsed().as_secs_f64());
                line(since, &step.1);
                self.0.push(step);
            }
        }
    }
}

/// Prints what was seen after so many seconds.
pub fn line(seconds: f64, text: &str) {
    say(format_args!("{seconds:5.1} s  {text}"));
}

/// What has happened so far, in its order: the acts, and what was seen between them.
fn steps(episode: &Json) -> Vec<(f64, String)> {
    let drill = &episode["drill"];
    let by = text(&drill["by"]);
    let mut events: Vec<(f64, String)> = Vec::new();
    let mut note = |at: &Json, text: String| {
        if let Some(at) = at.as_f64() {
            events.push((at, text));
        }
    };
    for act in episode["acts"].as_array().into_iter().flatten() {
        let cure = text(&act["cure"]);
        let result = match act["ok"].is_null() {
            // That takes long; of others the result is the news.
            true if cure == "restart" => "under way",
            true => continue,
            false => text(&act["result"]),
        };
        note(&act["after"], [cure, ": ", result].concat());
    }
    note(
        &drill["control"],
        ["control is connected over ", by].concat(),
    );
    note(
        &drill["tailnet"],
        format!(
            "the tailnet is well over {by}; staying for {:.0} s",
            drill["stay"].as_f64().unwrap_or_default()
        ),
    );
    let over = match drill["cut"].as_str() {
        Some(why) => ["cut short: ", why, "; going back"].concat(),
        None => "the rehearsal is over: going back".into(),
    };
    note(&drill["over"], over);
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    events
}

fn text(v: &Json) -> &str {
    v.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_come_in_their_order_and_what_is_under_way_is_told() {
        let episode = json!({
            "acts": [
                { "cure": "steer IPv4", "after": 0.5, "ok": true, "result": "by eth2" },
                { "cure": "nudge", "after": 1.8, "ok": null, "result": "" },
                { "cure": "restart", "after": 2.0, "ok": null, "result": "" },
            ],
            "drill": { "by": "wanb", "stay": 3.0, "control": 1.5, "tailnet": null, "over": null, "cut": null },
        });
        let told: Vec<String> = steps(&episode)
            .into_iter()
            .map(|(at, t)| format!("{at} {t}"))
            .collect();
        assert_eq!(
            told,
            [
                "0.5 steer IPv4: by eth2",
                "1.5 control is connected over wanb",
                "2 restart: under way"
            ]
        );
        assert!(steps(&Json::Null).is_empty());
    }
}
