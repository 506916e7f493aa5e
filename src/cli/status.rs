//! `tailover status` and `tailover check`: the state and the diagnosis, for people or as JSON.

use std::path::Path;

use argh::FromArgs;
use serde_json::Value;

use crate::daemon::{self, Refusal};

use super::{client, settings, NO_RIGHTS, OK, SYSTEM, UNWELL};

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
        match client::ask(&settings.ubus_socket, "status", Vec::new()) {
            Ok(state) => show(&state, self.json),
            Err(code) => code,
        }
    }
}

impl Check {
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        if !self.json {
            eprintln!("Testing every uplink, the path and tailscaled; nothing is changed …");
        }
        match daemon::check(settings, file) {
            Ok(state) => show(&state, self.json),
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

fn show(state: &Value, json: bool) -> u8 {
    if json {
        println!("{state}");
    } else {
        print!("{}", text(state));
    }
    match state["faults"].as_array().is_none_or(Vec::is_empty) {
        true => OK,
        false => UNWELL,
    }
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
        let by = match &state["steering"][family] {
            Value::String(_) => "steered",
            _ => "main table",
        };
        out += &format!(
            "path     {device:<10} {by:<10} {family}  {}\n",
            verdict(path)
        );
    }
    let t = &state["tailnet"];
    out += &format!(
        "tailnet  {}, {}, control {}, relay {}\n",
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
    }
    for warning in array(&state["warnings"]) {
        out += &format!("note     {}\n", word(warning));
    }
    for cure in array(&state["would"]) {
        out += &format!("cure     the daemon would now {}\n", word(cure));
    }
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
