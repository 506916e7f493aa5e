//! The command line: what can be typed, and what the exit codes mean.

mod cleanup;
mod client;
mod clock;
mod drill;
mod history;
mod hotplug;
mod metrics;
mod recover;
mod report;
mod run;
mod screen;
mod status;
mod steps;
mod timeline;
mod watch;

#[cfg(any(test, feature = "hostile"))]
pub(crate) use hotplug::hostile as hotplug_hostile;

use std::fmt::{Arguments, Display};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use argh::FromArgs;

use crate::config::{self, Settings};

/// All is well.
pub const OK: u8 = 0;
/// `check`, `status`, `recover` and `drill`: something is wrong with the tailnet, or a drill did not
/// pass; the text says what.
pub const UNWELL: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// No daemon answers on ubus.
pub const NO_DAEMON: u8 = 3;
/// No rights: not root, or without CAP_NET_ADMIN.
pub const NO_RIGHTS: u8 = 4;
/// The system refused something, or another daemon runs.
pub const SYSTEM: u8 = 5;

/// Every exit code with its meaning, for the manual page.
pub const EXIT_CODES: [(u8, &str); 6] = [
    (
        OK,
        "All is well, or the command has done its work. `hotplug` always; `run` also when `enabled` is 0.",
    ),
    (
        UNWELL,
        "`status`, `check`: a fault is named. `recover`: not well, or waiting. `drill`: refused, ended early, \
         or not back in time.",
    ),
    (USAGE, "The command line or the configuration is wrong."),
    (NO_DAEMON, "No daemon answers on ubus, or there is no ubusd."),
    (NO_RIGHTS, "No rights: not root, or without CAP_NET_ADMIN."),
    (
        SYSTEM,
        "The system refused something, another daemon runs, or the report's file cannot be written.",
    ),
];

/// Brings a router's tailnet back after a failover, by the mildest cure that works.
#[derive(FromArgs)]
struct Args {
    /// print the version and end
    #[argh(switch)]
    version: bool,
    /// configuration file (default /etc/config/tailover)
    #[argh(option, default = "PathBuf::from(config::PATH)")]
    config: PathBuf,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(run::Run),
    Hotplug(hotplug::Hotplug),
    Status(status::Status),
    Check(status::Check),
    Recover(recover::Recover),
    Drill(drill::Drill),
    Watch(watch::Watch),
    History(history::History),
    Report(report::Report),
    Metrics(metrics::Metrics),
    Cleanup(cleanup::Cleanup),
}

/// Does what the arguments say (the program's name first) and gives the exit code.
pub fn main(args: &[String]) -> u8 {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let args = match Args::from_args(&["tailover"], &words) {
        Ok(args) => args,
        Err(early) if early.status.is_ok() => {
            say(early.output.trim_end());
            return OK;
        }
        Err(early) => {
            eprintln!("{}", early.output.trim_end());
            return USAGE;
        }
    };
    if args.version {
        say(format_args!("tailover {}", env!("CARGO_PKG_VERSION")));
        return OK;
    }
    let file = args.config.as_path();
    match args.command {
        Some(Command::Run(c)) => c.go(file),
        Some(Command::Hotplug(c)) => c.go(file),
        Some(Command::Status(c)) => c.go(file),
        Some(Command::Check(c)) => c.go(file),
        Some(Command::Recover(c)) => c.go(file),
        Some(Command::Drill(c)) => c.go(file),
        Some(Command::Watch(c)) => c.go(file),
        Some(Command::History(c)) => c.go(file),
        Some(Command::Report(c)) => c.go(file),
        Some(Command::Metrics(c)) => c.go(file),
        Some(Command::Cleanup(c)) => c.go(file),
        None => {
            eprintln!("tailover: say what to do; `tailover --help` lists the commands");
            USAGE
        }
    }
}

/// Prints a line. Nobody is left to be told when the reader has gone (`tailover status | head -1`).
fn say(line: impl Display) {
    let _ = put(format_args!("{line}"));
}

/// Prints a line, and says whether it went out.
fn put(line: Arguments) -> io::Result<()> {
    io::stdout().write_fmt(format_args!("{line}\n"))
}

/// Reads the settings and prints what is wrong with them.
fn settings(file: &Path) -> Result<Settings, u8> {
    match config::load(file) {
        Ok((settings, warnings)) => {
            for w in warnings {
                eprintln!("tailover: {w}");
            }
            Ok(settings)
        }
        Err(e) => {
            for problem in e.0 {
                eprintln!("tailover: {problem}");
            }
            Err(USAGE)
        }
    }
}

/// The settings, or the defaults where the file is wrong: for commands that must work all the same.
fn settings_or_default(file: &Path) -> Settings {
    config::load(file).map(|(s, _)| s).unwrap_or_default()
}
