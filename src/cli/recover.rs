//! `tailover recover`: has the daemon look and cure now, and follows it.

use std::path::Path;
use std::time::{Duration, Instant};

use argh::FromArgs;
use serde_json::Value as Json;

use crate::ubus::blobmsg::Value;

use super::steps::{line, Told};
use super::{client, say, settings, OK, UNWELL};

/// How long the daemon is followed. A restart of tailscaled takes 10 s, its verification 30.
const FOLLOW: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(300);

/// have the daemon look and cure now, without waiting for an event
#[derive(FromArgs)]
#[argh(subcommand, name = "recover")]
pub struct Recover {
    /// renew the relay and control connections even if they look well
    #[argh(switch)]
    force: bool,
}

impl Recover {
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        let socket = &settings.ubus_socket;
        let force = vec![("force".to_string(), Value::Bool(self.force))];
        if let Err(code) = client::ask(socket, "recover", force) {
            return code;
        }
        let began = Instant::now();
        let mut told = Told::default();
        let mut last = String::new();
        while began.elapsed() < FOLLOW {
            let state = match client::ask(socket, "status", Vec::new()) {
                Ok(state) => state,
                Err(code) => return code,
            };
            let sentence = state["sentence"].as_str().unwrap_or("").to_string();
            let stage = state["stage"].as_str().unwrap_or("");
            let since = began.elapsed().as_secs_f64();
            // One that has ended is told to its end.
            let ended = &state["last"];
            let ours = ended["began_ago"].as_f64().is_some_and(|ago| ago <= since);
            match &state["episode"] {
                Json::Null if ours => told.tell(ended, Some(began)),
                episode => told.tell(episode, Some(began)),
            }
            // Its seconds count on.
            let words: String = sentence.chars().filter(|c| !c.is_ascii_digit()).collect();
            if words != last {
                line(since, &sentence);
                last = words;
            }
            if matches!(stage, "quiet" | "resting") {
                let well = state["faults"].as_array().is_none_or(Vec::is_empty);
                return match well && stage == "quiet" {
                    true => OK,
                    false => UNWELL,
                };
            }
            std::thread::sleep(EVERY);
        }
        say(format_args!(
            "Not well after {} s; the daemon goes on.",
            FOLLOW.as_secs()
        ));
        UNWELL
    }
}
