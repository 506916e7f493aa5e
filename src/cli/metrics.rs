//! `tailover metrics`: what the daemon counts and measures, as OpenMetrics text.

use std::fmt::{Display, Write};
use std::path::Path;

use argh::FromArgs;
use serde_json::{json, Value};

use super::{client, say, settings, OK};

/// print counters and gauges as OpenMetrics text, for Prometheus and its kin
#[derive(FromArgs)]
#[argh(subcommand, name = "metrics")]
pub struct Metrics {}

impl Metrics {
    /// Without a daemon it is told that none is up, and the exit code tells why.
    pub fn go(self, file: &Path) -> u8 {
        let settings = match settings(file) {
            Ok(s) => s,
            Err(code) => return code,
        };
        let (answer, code) = match client::ask(&settings.ubus_socket, "metrics", Vec::new()) {
            Ok(answer) => (answer, OK),
            Err(code) => (down(), code),
        };
        say(text(&answer));
        code
    }
}

fn down() -> Value {
    json!({ "metrics": [{
        "name": "tailover_up", "type": "gauge", "help": "1 while the daemon answers.",
        "samples": [{ "value": 0 }],
    }] })
}

/// The exposition: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
fn text(answer: &Value) -> String {
    let mut out = String::new();
    for family in list(&answer["metrics"]) {
        let name = word(&family["name"]);
        let kind = word(&family["type"]);
        // A String takes everything.
        let _ = writeln!(out, "# TYPE {name} {kind}");
        if let Some(unit) = family["unit"].as_str() {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let _ = writeln!(out, "# HELP {name} {}", word(&family["help"]));
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        for sample in list(&family["samples"]) {
            let mut labels = String::new();
            for (label, value) in sample.as_object().into_iter().flatten() {
                if let (Some(value), true) = (value.as_str(), label != "state") {
                    let _ = write!(labels, "{label}=\"{}\",", escaped(value));
                }
            }
            // Not as f64: the code that prints one as briefly as can be is large, and serde_json has its own.
            let mut line = |more: &str, value: &dyn Display| {
                let all = format!("{labels}{more}");
                let _ = match all.trim_end_matches(',') {
                    "" => writeln!(out, "{name}{suffix} {value}"),
                    all => writeln!(out, "{name}{suffix}{{{all}}} {value}"),
                };
            };
            match sample["state"].as_str() {
                None => line("", &sample["value"]),
                Some(now) => {
                    for state in list(&family["states"]).iter().map(word) {
                        let label = format!("{name}=\"{state}\"");
                        line(&label, &u8::from(state == now));
                    }
                }
            }
        }
    }
    out + "# EOF"
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\\' | '"' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

fn word(v: &Value) -> &str {
    v.as_str().unwrap_or("")
}
