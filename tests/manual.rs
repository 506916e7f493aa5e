//! Keeps docs/tailover.8 equal to what `--help` says of every command, and to the exit codes.
//!
//! `UPDATE_DOCS=1 cargo test --test manual` writes it anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tailover::cli::EXIT_CODES;

const PAGE: &str = "docs/tailover.8";

/// One command as `--help` tells it.
struct Help {
    usage: String,
    about: String,
    /// Arguments, options and commands, each with its text.
    entries: Vec<(String, String)>,
}

fn help(words: &[&str]) -> Help {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailover"));
    let output = command
        .args(words)
        .arg("--help")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut blocks = text.split("\n\n");
    let usage = blocks
        .next()
        .expect("a usage")
        .trim_start_matches("Usage: ")
        .to_owned();
    let about = blocks.next().expect("what it does").trim().to_owned();
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        let Some(entry) = line.strip_prefix("  ") else {
            continue;
        };
        let text = entry.trim_start();
        match entry.split_once("  ") {
            // The text goes on.
            _ if entry.starts_with(' ') => {
                let last = entries.last_mut().expect("an entry before");
                let whole = format!("{} {text}", last.1);
                whole.trim().clone_into(&mut last.1);
            }
            Some((name, text)) => entries.push((name.to_owned(), text.trim().to_owned())),
            None => entries.push((entry.to_owned(), String::new())),
        }
    }
    Help {
        usage,
        about,
        entries,
    }
}

/// Text as roff takes it: nothing in it is a request or an escape, and a command within `` ` `` is bold.
fn roff(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        out += match i {
            0 => "",
            odd if odd % 2 == 1 => "\\fB",
            _ => "\\fR",
        };
        out += part;
    }
    match out.starts_with('.') {
        true => format!("\\&{out}"),
        false => out,
    }
}

fn page() -> String {
    let whole = help(&[]);
    let mut text = format!(
        ".\\\" Made of what --help says; UPDATE_DOCS=1 cargo test --test manual writes it anew.\n\
         .TH TAILOVER 8 \"\" \"tailover {}\" \"System Manager's Manual\"\n\
         .SH NAME\ntailover \\- brings a tailnet back after a failover\n\
         .SH SYNOPSIS\n.nf\n",
        env!("CARGO_PKG_VERSION")
    );
    let (options, commands): (Vec<_>, Vec<_>) = whole
        .entries
        .iter()
        .partition(|(name, _)| name.starts_with('-'));
    for (name, _) in &commands {
        text += &format!("{}\n", roff(&help(&[name]).usage));
    }
    text += &format!(".fi\n.SH DESCRIPTION\n{}\n", roff(&whole.about));
    text += "It watches the uplinks, the path of tailscaled's packets and the tailnet, and cures what it can.\n";
    text += ".SH OPTIONS\nThey stand before the command.\n";
    for (name, about) in options {
        text += &entry(name, about);
    }
    text += ".SH COMMANDS\n";
    for (name, _) in &commands {
        let help = help(&[name]);
        text += &format!(".SS {}\n{}\n", roff(name), roff(&sentence(&help.about)));
        for (name, about) in help
            .entries
            .iter()
            .filter(|(name, _)| !name.starts_with("--help"))
        {
            text += &entry(name, about);
        }
    }
    text += ".SH EXIT STATUS\n";
    for (code, meaning) in EXIT_CODES {
        text += &entry(&code.to_string(), meaning);
    }
    text += ".P\n\\fBwatch\\fR goes on until a signal ends it.\n.SH ENVIRONMENT\n";
    for (name, about) in [
        ("NO_COLOR", "No colours, if it is not empty. There are none either unless standard output is a terminal."),
        ("COLUMNS", "The width of a terminal that does not tell its own, such as a serial console."),
        ("LC_ALL, LC_CTYPE, LANG", "Whether more than ASCII may be shown: where the first that is set says UTF-8."),
        ("TZ", "The time zone; else that of /etc/TZ, else of /etc/localtime, else UTC."),
        ("ACTION, INTERFACE, DEVICE, FIRSTCONNECT", "The event that `hotplug` hands on."),
    ] {
        text += &entry(name, about);
    }
    text += ".SH FILES\n";
    for (name, about) in [
        (
            "/etc/config/tailover",
            "The configuration. docs/options.md lists its options.",
        ),
        ("/var/run/tailover/history", "Episodes of this boot."),
    ] {
        text += &entry(name, about);
    }
    text + ".SH SEE ALSO\n\\fBtailscale\\fR, \\fBmwan3\\fR, \\fBlogread\\fR, and docs/usage.md\n"
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

fn entry(name: &str, about: &str) -> String {
    format!(".TP\n.B {}\n{}\n", roff(name), roff(about))
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

#[test]
fn the_manual_page_says_what_help_says() {
    let expected = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE), &expected).expect("written");
    }
    let found = file(PAGE);
    assert!(
        found == expected,
        "{PAGE}: UPDATE_DOCS=1 cargo test --test manual"
    );
}

#[test]
fn every_command_and_exit_code_is_in_both_documents() {
    let (manual, usage) = (file(PAGE), file("docs/usage.md"));
    let commands: Vec<String> = help(&[])
        .entries
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let commands: Vec<&String> = commands.iter().filter(|c| !c.starts_with('-')).collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        assert!(manual.contains(&format!("\n.SS {command}\n")), "{command}");
        assert!(
            usage.contains(&format!("| `tailover {command}")),
            "{command}"
        );
    }
    for (code, _) in EXIT_CODES {
        assert!(manual.contains(&format!("\n.B {code}\n")), "{code}");
        assert!(usage.contains(&format!("\n| {code} |")), "{code}");
    }
    // Each code stands for one thing, and none is missing in the row.
    let codes: BTreeSet<u8> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, (0..6).collect());
}
