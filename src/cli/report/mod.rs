//! `tailover report`: all that somebody who helps wants to see, in one text without secrets.
//!
//! The router's own tools say it best, so they are run; each has a time limit, and what could not be
//! read says why. No line goes out that [`Scrub`] has not seen.

mod address;
mod known;
mod scrub;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use argh::FromArgs;
use serde_json::Value;

use crate::config::{self, Settings};
use crate::cure::program;
use crate::daemon::OBJECT;
use crate::tailscale::localapi::{self, LocalApi};
use crate::ubus::blobmsg::{self, Table};
use crate::ubus::oneshot;

use super::clock::{self, Zone};
use super::{client, history, settings_or_default, status, OK, SYSTEM};
use scrub::Scrub;

/// For each part, and for all of them together.
const PART: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(60);

/// Bytes that are read of a file and of a tool's output, lines that are shown of it, and characters of a
/// line.
const BYTES: u64 = 512 * 1024;
const MOST: usize = 2 * 1024 * 1024;
const LINES: usize = 300;
const LINE: usize = 4000;

/// Files that say what router this is, and how many lines of each are shown.
const SYSTEM_FILES: [(&str, usize); 6] = [
    ("/etc/openwrt_release", LINES),
    ("/tmp/sysinfo/model", 1),
    ("/proc/version", 1),
    ("/proc/uptime", 1),
    ("/proc/loadavg", 1),
    ("/proc/meminfo", 3),
];

/// Configuration files beside tailover's own.
const OTHER_FILES: [&str; 3] = ["network", "mwan3", "tailscale"];

/// Tools, with words of which a line must have one; none: all lines are shown.
const TOOLS: [(&str, &[&str]); 9] = [
    ("opkg list-installed", PACKAGES),
    ("apk list --installed", PACKAGES),
    ("ip addr", &[]),
    ("ip -4 rule", &[]),
    ("ip -6 rule", &[]),
    ("ip -4 route show table all", &[]),
    ("ip -6 route show table all", &[]),
    ("nft list tables", &[]),
    ("nft list chains", &[]),
];
const PACKAGES: &[&str] = &[
    "tailscale",
    "tailover",
    "mwan3",
    "netifd",
    "firewall",
    "nftables",
    "iptables",
    "ip-full",
    "ip-tiny",
    "inet-diag",
    "conntrack",
    "procd",
    "ubus",
    "busybox",
];

/// Where the log is, on OpenWrt and elsewhere.
const LOGS: [&str; 2] = ["logread", "journalctl --no-hostname -n 2000"];
const LOGGED: &[&str] = &["tailover", "tailscale", "mwan3"];

/// gather one text for a bug report: versions, settings, state and log, without keys and passwords
#[derive(FromArgs)]
#[argh(subcommand, name = "report")]
pub struct Report {
    /// mask addresses too: the same address gets the same placeholder
    #[argh(switch)]
    mask: bool,
    /// write to this new file, which only its owner can read; else to standard output
    #[argh(positional, arg_name = "FILE")]
    file: Option<PathBuf>,
}

impl Report {
    pub fn go(self, config: &Path) -> u8 {
        // What lies there, a link of somebody else's too, is left alone.
        let opened = match &self.file {
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Some(path) => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path),
        };
        let out = match opened {
            Ok(file) => file,
            Err(e) => {
                let name = self.file.unwrap_or_default();
                eprintln!("tailover: {}: {e}", name.display());
                return SYSTEM;
            }
        };
        let scrub = Scrub::new(self.mask);
        let mut writer = Writer {
            out,
            scrub,
            mask: self.mask,
            began: Instant::now(),
            result: Ok(()),
            quiet: self.file.is_none(),
        };
        writer.all(config);
        match writer.result {
            Ok(()) => OK,
            // Nobody is left to be told (`tailover report | head`).
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => OK,
            Err(e) => {
                eprintln!("tailover: the report is not complete: {e}");
                SYSTEM
            }
        }
    }
}

/// What is said of the peers; the state and the preferences.
type Answers = (Result<String, String>, [Value; 2]);

fn said(e: localapi::Error) -> String {
    e.to_string()
}

/// Where a report goes.
struct Writer {
    out: File,
    scrub: Scrub,
    mask: bool,
    began: Instant,
    result: io::Result<()>,
    /// Whether the parts need not be named on the terminal while they are read.
    quiet: bool,
}

impl Writer {
    fn all(&mut self, config: &Path) {
        let settings = settings_or_default(config);
        let api = LocalApi {
            socket: settings.socket.clone(),
            timeout: PART,
        };
        let tailscaled = smol::block_on(self.tailscaled(&api));
        self.head();
        for (path, lines) in SYSTEM_FILES {
            self.file(path.as_ref(), lines);
        }
        for (tool, words) in &TOOLS[..2] {
            self.tool(tool, words, true);
        }
        self.config(config);
        self.tailover(&settings);
        self.title("tailscaled");
        match tailscaled {
            Ok((peers, answers)) => {
                self.body(peers);
                for answer in answers {
                    self.answer(Ok(answer), false);
                }
            }
            Err(e) => self.body(Err(e)),
        }
        for (tool, words) in &TOOLS[2..] {
            self.tool(tool, words, false);
        }
        self.iptables();
        let service = vec![(
            "name".to_string(),
            blobmsg::Value::String(settings.service.clone()),
        )];
        let none = Table::new;
        for (object, method, data) in [
            ("network.interface", "dump", none()),
            ("mwan3", "status", none()),
            ("service", "list", service),
        ] {
            self.title(&["ubus call ", object, " ", method].concat());
            let answer = oneshot::call(&settings.ubus_socket, object, method, data, self.left());
            let answer = answer.map(|a| a.to_json()).map_err(|e| e.to_string());
            // Its answer is by the services' names.
            self.answer(answer, object == "service");
        }
        for log in LOGS {
            self.tool(log, LOGGED, true);
        }
    }

    /// Asks tailscaled, and learns the names that are to be left out. Gives what is to be said of its
    /// peers, its state and its preferences.
    async fn tailscaled(&mut self, api: &LocalApi) -> Result<Answers, String> {
        let own = api.get("status?peers=false").await.map_err(said)?;
        let scrub = &mut self.scrub;
        let mut forget = |name: &Value, end: char| {
            let name = name.as_str().unwrap_or_default().trim_end_matches('.');
            scrub.forget(name.split(end).next().unwrap_or_default());
        };
        forget(&own["MagicDNSSuffix"], '\n');
        forget(&own["CurrentTailnet"]["Name"], '\n');
        for user in own["User"].as_object().into_iter().flat_map(|m| m.values()) {
            forget(&user["LoginName"], '\n');
            forget(&user["DisplayName"], '\n');
        }
        let mut count = 0;
        let mut each = |peer: &Value| {
            count += 1;
            forget(&peer["HostName"], '\n');
            // What follows is the tailnet's own.
            forget(&peer["DNSName"], '.');
        };
        let peers = api.each_peer_json(&mut each).await.map_err(said);
        let prefs = api.get("prefs").await.map_err(said)?;
        let told = || format!("{count} peers, whose names are left out");
        Ok((peers.map(|()| told()), [own, prefs]))
    }

    fn head(&mut self) {
        let zone = Zone::of_here();
        let masked = if self.mask { ", addresses" } else { "" };
        self.lines(&format!(
            "tailover {} report of {}\n\
             Left out: keys, passwords, names of users and peers, options that are not known{masked}.\n\
             Log lines may name what nobody can know of beforehand: read it before you send it.",
            env!("CARGO_PKG_VERSION"),
            zone.tell(clock::now())
        ));
    }

    fn config(&mut self, config: &Path) {
        let names = OTHER_FILES.iter().map(|name| config.with_file_name(name));
        for path in std::iter::once(config.to_path_buf()).chain(names) {
            self.title(&path.to_string_lossy());
            match read(&path) {
                Ok(bytes) => {
                    let mut text = String::new();
                    known::uci(&bytes, &mut |line| text.extend([line, "\n"]));
                    self.body(Ok(text));
                }
                Err(e) => self.body(Err(e)),
            }
        }
        match config::load(config) {
            Ok((_, warnings)) => {
                for w in warnings {
                    self.lines(&w.to_string());
                }
            }
            Err(e) => {
                for problem in e.0 {
                    self.lines(&problem.to_string());
                }
            }
        }
    }

    /// What the daemon says of itself; without one, the history that it has left.
    fn tailover(&mut self, settings: &Settings) {
        let socket = &settings.ubus_socket;
        let ask = |left, method| oneshot::call(socket, OBJECT, method, Table::new(), left);
        let history = ask(self.left(), "history").map(|a| a.to_json());
        let episodes = history.as_ref().ok().cloned().unwrap_or_default();
        self.title("tailover status");
        let state = ask(self.left(), "status").map(|a| a.to_json());
        match state {
            Ok(state) => {
                self.lines(&status::page(&state, &episodes));
                self.lines(&format!("{state:#}"));
            }
            Err(e) => self.body(Err(client::explain(&e, socket).0)),
        }
        self.title("tailover history");
        match history {
            Ok(history) => self.lines(&history::page(&history)),
            Err(e) => {
                self.body(Err(client::explain(&e, socket).0));
                self.file(&settings.state_dir.join("history"), LINES);
            }
        }
    }

    /// tailscaled's chains in the tables of iptables, which listing would make if they were not there.
    fn iptables(&mut self) {
        for (tool, names) in [
            ("iptables", "/proc/net/ip_tables_names"),
            ("ip6tables", "/proc/net/ip6_tables_names"),
        ] {
            let tables = read(names.as_ref()).unwrap_or_default();
            for table in String::from_utf8_lossy(&tables).lines() {
                self.tool(&[tool, " -t ", table, " -S"].concat(), &["ts-"], true);
            }
        }
    }

    /// An answer in JSON, as far as it is known what its members mean.
    fn answer(&mut self, answer: Result<Value, String>, given: bool) {
        let text = answer.map(|json| {
            let mut text = String::new();
            known::json(&json, 0, given, &mut |line| text.extend([line, "\n"]));
            text
        });
        self.body(text);
    }

    fn file(&mut self, path: &Path, lines: usize) {
        self.title(&path.to_string_lossy());
        self.body(read(path).map(|bytes| {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().take(lines).collect();
            lines.join("\n")
        }));
    }

    /// What a tool says: the newest lines, with one of these words if there are any. One that is not
    /// there is passed over where that is `usual`.
    fn tool(&mut self, tool: &str, words: &[&str], usual: bool) {
        let command: Vec<&str> = tool.split(' ').collect();
        let (bytes, result) = program::output(&command, self.left(), MOST);
        if usual && bytes.is_empty() && result.is_err() {
            return;
        }
        self.title(tool);
        // The last line of one that was cut off may be a half.
        let end = match &result {
            Ok(()) if bytes.len() < MOST => bytes.len(),
            _ => whole(&bytes),
        };
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        let wanted = |line: &&str| words.is_empty() || words.iter().any(|w| line.find(w).is_some());
        let lines: Vec<&str> = text.lines().filter(wanted).collect();
        let newest = if words == LOGGED {
            lines.len().saturating_sub(LINES)
        } else {
            0
        };
        self.body(Ok(lines.get(newest..).unwrap_or_default().join("\n")));
        if result.is_err() {
            self.body(result.map(|()| String::new()));
        }
    }

    /// How long the next part may take.
    fn left(&self) -> Duration {
        PART.min(ALL.saturating_sub(self.began.elapsed()))
    }

    fn title(&mut self, title: &str) {
        if !self.quiet {
            eprintln!("reading {title}");
        }
        self.scrub.begin();
        self.lines(&["\n== ", title, " =="].concat());
    }

    fn body(&mut self, body: Result<String, String>) {
        match body {
            Ok(text) => self.lines(&text),
            Err(e) => self.lines(&["(not read: ", &e, ")"].concat()),
        }
    }

    /// The one way out.
    fn lines(&mut self, text: &str) {
        for (i, line) in text.lines().enumerate() {
            let line = if i == LINES { "(and more)" } else { line };
            // Cut afterwards: a half of a key is not known for one.
            let mut line = self.scrub.line(line);
            if line.len() > LINE {
                let end = (0..=LINE).rev().find(|at| line.is_char_boundary(*at));
                line.truncate(end.unwrap_or_default());
            }
            line.push('\n');
            if self.result.is_ok() {
                self.result = self.out.write_all(line.as_bytes());
            }
            if i == LINES {
                break;
            }
        }
    }
}

/// The beginning of a file.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES).read_to_end(&mut bytes));
    read.map_err(|e| e.to_string())?;
    if bytes.len() as u64 == BYTES {
        bytes.truncate(whole(&bytes));
    }
    Ok(bytes)
}

/// How far the lines are whole.
fn whole(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1)
}
