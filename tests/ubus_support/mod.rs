//! Recorded conversations between a real ubusd and its clients, for the tests of this crate and
//! of the doubles.

// Each test uses a part of this.
#![allow(dead_code)]

use std::path::PathBuf;

use serde_json::Value as Json;
use tailover::ubus::wire::Frame;

/// Who wrote a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Ubusd,
    Client,
}

/// One frame as it was seen on the socket.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Which connection it was on, counted from 1.
    pub conn: u64,
    pub from: From,
    pub bytes: Vec<u8>,
    pub frame: Frame,
}

/// One file of tests/recordings/ubus-wire.
#[derive(Debug)]
pub struct Recording {
    pub name: String,
    pub frames: Vec<Recorded>,
    /// What the recorded commands printed.
    pub cli_output: String,
}

impl Recording {
    /// The frames of one connection.
    pub fn conn(&self, conn: u64) -> Vec<Recorded> {
        let of_conn = self.frames.iter().filter(|f| f.conn == conn);
        of_conn.cloned().collect()
    }

    /// The connections' numbers.
    pub fn conns(&self) -> Vec<u64> {
        let mut conns: Vec<u64> = self.frames.iter().map(|f| f.conn).collect();
        conns.sort_unstable();
        conns.dedup();
        conns
    }
}

/// Where the recordings lie, seen from the crate that is tested.
fn folder() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let near = here.join("tests/recordings/ubus-wire");
    if near.is_dir() {
        near
    } else {
        here.join("../../tests/recordings/ubus-wire")
    }
}

/// All recordings, by name.
pub fn all() -> Vec<Recording> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder of recordings")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name in UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 14, "the recordings are not complete");
    names
        .iter()
        .map(|n| one(n.trim_end_matches(".json")))
        .collect()
}

/// The recording called `name`.
pub fn one(name: &str) -> Recording {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(path).expect("a recording");
    let json: Json = serde_json::from_str(&text).expect("JSON");
    let frames = json["frames"].as_array().expect("frames");
    Recording {
        name: name.to_owned(),
        frames: frames.iter().map(recorded).collect(),
        cli_output: json["cli_output"].as_str().unwrap_or("").to_owned(),
    }
}

fn recorded(json: &Json) -> Recorded {
    let bytes = unhex(json["hex"].as_str().expect("hex"));
    Recorded {
        conn: json["conn"].as_u64().expect("conn"),
        from: match json["from"].as_str() {
            Some("ubusd") => From::Ubusd,
            Some("client") => From::Client,
            other => panic!("a frame from {other:?}"),
        },
        frame: Frame::decode(&bytes).expect("a frame"),
        bytes,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len() % 2 == 0, "half a byte");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("a hex digit"))
        .collect()
}
