//! `tailover status` and `tailover check`: the state and the diagnosis, for people or as JSON.

use std::path::Path;

use argh::FromArgs;
use serde_json::Value;

use crate::daemon::{self, Refusal};

use super::clock::{self, Zone};
use super::history::headline;
use super::screen::Screen;
use super::timeline;
use super::{client, say, settings, NO_RIGHTS, OK, SYSTEM, UNWELL};

/// Columns before a line's text, and how many of the last episodes are shown.
const INDENT: usize = 9;
const LAST: usize = 3;

/// show what the daemon knows: uplinks, path, tailnet, what is wrong
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Status {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

/// test everything once, with or without a daemon, and change nothing
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Check {
    /// print JSON
    #[argh(switch)]
    json: bool,
}

impl Status {
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        let ask = |method| client::ask(&settings.ubus_socket, method, Vec::new());
        let state = match ask("status") {
            Ok(state) => state,
            Err(code) => return code,
        };
        if self.json {
            return show(&state, true, String::new());
        }
        let history = match ask("history") {
            Ok(history) => history,
            Err(code) => return code,
        };
        let more = times(&state, &history, &Screen::of_stdout());
        show(&state, false, more)
    }
}

impl Check {
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        if !self.json {
            eprintln!("Testing every uplink, the path and tailscaled; nothing is changed ...");
        }
        let json = self.json;
        let progress = move |line: &str| {
            if !json {
                eprintln!("{line}");
            }
        };
        match daemon::check(settings, file, Box::new(progress)) {
            Ok(state) => {
                let more = details(&state);
                show(&state, self.json, more)
            }
            Err(refusal) => {
                eprintln!("tailover: {refusal}");
                match refusal {
                    Refusal::Rights(_) => NO_RIGHTS,
                    _ => SYSTEM,
                }
            }
        }
    }
}

/// Prints the state, and what else there is to say of it.
fn show(state: &Value, json: bool, more: String) -> u8 {
    if json {
        say(state);
    } else {
        say(Screen::of_stdout().fit(&(text(state) + &more), INDENT));
    }
    match state["faults"].as_array().is_none_or(Vec::is_empty) {
        true => OK,
        false => UNWELL,
    }
}

/// All that `tailover status` shows without a terminal.
pub fn page(state: &Value, history: &Value) -> String {
    text(state) + &times(state, history, &Screen::default())
}

/// One screen. Each line stands for itself, so that `grep` works on it.
fn text(state: &Value) -> String {
    let mut out = format!("{}\n", word(&state["sentence"]));
    for u in array(&state["uplinks"]) {
        for family in ["ipv4", "ipv6"] {
            let way = &u[family];
            if way.is_null() {
                continue;
            }
            out += &format!(
                "uplink   {:<10} {:<10} {family}  {}\n",
                word(&u["name"]),
                word(&u["device"]),
                verdict(way)
            );
        }
    }
    for family in ["ipv4", "ipv6"] {
        let path = &state["path"][family];
        let device = match path.is_null() {
            true => continue,
            false => word(&path["device"]),
        };
        let by = match state["steering"][family] == path["device"] {
            true => "steered",
            false => "main table",
        };
        out += &format!(
            "path     {device:<10} {by:<10} {family}  {}\n",
            verdict(path)
        );
    }
    let t = &state["tailnet"];
    let home = match t["home_relay"].as_str() {
        None | Some("") => String::new(),
        Some(code) => format!(" {code}"),
    };
    out += &format!(
        "tailnet  {}, {}, control {}, relay{home} {}\n",
        word(&t["api"]),
        word(&t["backend"]),
        flows(&t["control"]),
        flows(&t["derp"])
    );
    for fault in array(&state["faults"]) {
        out += &format!(
            "fault    {}: {}\n",
            word(&fault["id"]),
            word(&fault["text"])
        );
        if let Some(advice) = fault["advice"].as_str() {
            out += &format!("advice   {}: {advice}\n", word(&fault["id"]));
        }
    }
    for warning in array(&state["warnings"]) {
        out += &format!("note     {}\n", word(warning));
    }
    out
}

/// What lies behind the diagnosis of a check, and what the daemon would do.
fn details(state: &Value) -> String {
    let mut out = String::new();
    for fault in array(&state["faults"]) {
        for seen in array(&fault["evidence"]) {
            out += &format!("seen     {}: {}\n", word(&fault["id"]), word(seen));
        }
    }
    for cure in array(&state["would"]) {
        out += &format!("cure     the daemon would now {}\n", word(cure));
    }
    out
}

/// The last episodes, the last day, and what the daemon does next.
fn times(state: &Value, history: &Value, screen: &Screen) -> String {
    let zone = Zone::of_here();
    let mut out = String::new();
    let episodes = || array(&history["episodes"]).iter();
    for e in episodes().take(LAST) {
        out += &format!("last     {}\n", headline(e, &zone));
    }
    let all = episodes()
        .chain([&state["episode"]])
        .filter(|e| !e.is_null());
    let uptime = state["uptime"].as_f64().unwrap_or_default();
    let cells = if screen.narrow() { 24 } else { 48 };
    let drawn = timeline::day(all, uptime, cells, screen.utf8);
    let now = zone.tell(clock::now());
    // The time of day without its seconds.
    let now = now.get(11..16).unwrap_or_default();
    out += &format!("day      {drawn} to {now}\n");
    let when = match state["next"]["in"].as_f64() {
        Some(seconds) => format!("in {seconds:.0} s: "),
        None => String::new(),
    };
    out += &format!("next     {when}{}\n", word(&state["next"]["what"]));
    out
}

fn verdict(way: &Value) -> String {
    let mut line = format!("{:<8}", word(&way["verdict"]));
    if let Some(age) = way["age"].as_f64() {
        line += &format!(" {age:.0} s ago: {}", word(&way["evidence"]));
    }
    if let Some(public) = way["public"].as_str() {
        line += &format!(" [{public}]");
    }
    line
}

fn flows(f: &Value) -> String {
    match (f["fresh"].as_u64().unwrap_or(0), f["stale"].as_str()) {
        (0, Some(ip)) => format!("stale (still on {ip})"),
        (0, None) => "not connected".into(),
        _ => "connected".into(),
    }
}

fn array(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

fn word(v: &Value) -> &str {
    v.as_str().unwrap_or("-")
}
