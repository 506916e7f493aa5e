//! `tailover history`: past episodes, the newest first.

use std::path::Path;

use argh::FromArgs;
use serde_json::Value;

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
        let episodes = answer["episodes"].as_array().cloned().unwrap_or_default();
        if episodes.is_empty() {
            say("Nothing has happened since the router started, as far as the daemon knows.");
        }
        for e in &episodes {
            say(text(e).trim_end());
        }
        OK
    }
}

fn text(e: &Value) -> String {
    let word = |v: &Value| v.as_str().unwrap_or("-").to_string();
    let number = |v: &Value| v.as_f64().unwrap_or(0.0);
    let mut out = format!(
        "{:.0} s ago, for {:.1} s: {} ({})\n",
        number(&e["began_ago"]),
        number(&e["seconds"]),
        word(&e["trigger"]),
        word(&e["outcome"])
    );
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
