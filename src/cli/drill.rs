//! `tailover drill`: has the daemon rehearse a failover, and prints what happens as it happens.

use std::path::Path;
use std::time::{Duration, Instant};

use argh::FromArgs;
use async_signal::{Signal, Signals};
use serde_json::Value as Json;
use smol::stream::StreamExt;
use smol::Timer;

use crate::daemon::{DRILL_STAY, DRILL_STAY_MOST};
use crate::ubus::blobmsg::Value;

use super::steps::Told;
use super::{client, say, settings, OK, SYSTEM, UNWELL, USAGE};

/// How often the daemon is asked how far it is.
const EVERY: Duration = Duration::from_millis(300);

/// The daemon ends each drill by itself; it takes at most a minute there and a minute back, besides
/// the stay and the waits between tries.
const PATIENCE: Duration = Duration::from_secs(240);

/// rehearse a failover: turn tailscaled's packets (and nothing else) away from UPLINK for a while
#[derive(FromArgs)]
#[argh(subcommand, name = "drill")]
pub struct Drill {
    /// the uplink to do without, by its name in `tailover status`
    #[argh(positional, arg_name = "UPLINK")]
    uplink: String,
    /// seconds to stay on the other uplink once the tailnet is well there (default 30, at most 600)
    #[argh(option, default = "DRILL_STAY")]
    seconds: u64,
}

impl Drill {
    pub fn go(self, file: &Path) -> u8 {
        let seconds = match i32::try_from(self.seconds) {
            Ok(s) if self.seconds <= DRILL_STAY_MOST => s,
            _ => {
                eprintln!(
                    "tailover: --seconds {}: at most {DRILL_STAY_MOST}",
                    self.seconds
                );
                return USAGE;
            }
        };
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        let socket = settings.ubus_socket.as_path();
        // Caught before anything moves: from the first moment on an interruption ends the drill.
        let signals = match Signals::new([Signal::Int, Signal::Term, Signal::Hup]) {
            Ok(signals) => signals,
            Err(e) => {
                eprintln!("tailover: signals cannot be caught: {e}");
                return SYSTEM;
            }
        };
        let order = vec![
            ("uplink".to_string(), Value::String(self.uplink.clone())),
            ("seconds".to_string(), Value::I32(seconds)),
        ];
        match client::ask(socket, "drill", order) {
            Ok(answer) => {
                if let Some(why) = answer["refused"].as_str() {
                    eprintln!("tailover: no drill: {why}");
                    return UNWELL;
                }
            }
            Err(code) => return code,
        }
        let limit = PATIENCE + Duration::from_secs(self.seconds);
        smol::block_on(follow(socket, signals, limit))
    }
}

/// Prints each step once, until the drill is over. A signal ends the drill, not the following.
async fn follow(socket: &Path, mut signals: Signals, limit: Duration) -> u8 {
    let began = Instant::now();
    let mut told = Told::default();
    while began.elapsed() < limit {
        let (drill, over) = match drill_of(socket) {
            Ok(found) => found,
            Err(code) => {
                eprintln!("tailover: a daemon that is started now goes back by itself");
                return code;
            }
        };
        told.tell(&drill, None);
        if over {
            say(drill["drill"]["summary"].as_str().unwrap_or(""));
            return match drill["drill"]["passed"].as_bool() {
                Some(true) => OK,
                _ => UNWELL,
            };
        }
        let tick = async {
            Timer::after(EVERY).await;
            false
        };
        let interrupted = async { signals.next().await.is_some() };
        if smol::future::or(interrupted, tick).await {
            let stop = vec![("stop".to_string(), Value::Bool(true))];
            if let Err(code) = client::ask(socket, "drill", stop) {
                return code;
            }
            say("interrupted: putting everything right");
        }
    }
    eprintln!(
        "tailover: the drill is not over after {} s",
        limit.as_secs()
    );
    UNWELL
}

/// The newest episode that is a drill, and whether it has ended.
fn drill_of(socket: &Path) -> Result<(Json, bool), u8> {
    let mut state = client::ask(socket, "status", Vec::new())?;
    let running = state["episode"].take();
    if !running["drill"].is_null() {
        return Ok((running, false));
    }
    let history = client::ask(socket, "history", Vec::new())?;
    let episodes = history["episodes"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let newest = episodes.iter().find(|e| !e["drill"].is_null());
    Ok((newest.cloned().unwrap_or_default(), true))
}
