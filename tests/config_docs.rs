//! Keeps docs/options.md, the shipped /etc/config/tailover, what the init script tells procd of the
//! options, and the table of LuCI's form equal to the table of options.
//!
//! `UPDATE_DOCS=1 cargo test --test config_docs` writes all four anew.

use std::fs;
use std::path::Path;

use tailover::config::options::{Kind, Opt, OPTIONS, PATH_MAX, SOCKET_PATH_MAX};
use tailover::config::{parse, Settings};

const INIT: &str = "openwrt/net/tailover/files/etc/init.d/tailover";
const FORM: &str =
    "openwrt/applications/luci-app-tailover/htdocs/luci-static/resources/tailover/options.js";
const SHIPPED: &str = "openwrt/net/tailover/files/etc/config/tailover";

/// Compares a file of the repository with what it should be, or writes it.
fn keep(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, expected).expect("a file that can be written");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is not what the table of options gives: UPDATE_DOCS=1 cargo test --test config_docs"
    );
}

/// The option's default as lines of the file, each without an indent.
fn default_lines(option: &Opt) -> Vec<String> {
    let word = if option.kind.is_list() {
        "list"
    } else {
        "option"
    };
    let line = |value: &str| format!("{word} {} '{value}'", option.name);
    match option.default {
        [] => vec![line("")],
        values => values.iter().map(|value| line(value)).collect(),
    }
}

fn shipped() -> String {
    let mut text = String::from(
        "# Nothing here needs an edit. Lines that begin with # show the defaults.\n\
         # All of it is explained in docs/options.md.\n\
         \n\
         config tailover 'main'\n",
    );
    for option in OPTIONS {
        // What an owner looks for first stands there in force, with its default.
        let mark = if matches!(option.kind, Kind::Switch(_) | Kind::Level(_)) {
            ""
        } else {
            "#"
        };
        text += &format!("\t# {}\n", option.help);
        for line in default_lines(option) {
            text += &format!("\t{mark}{line}\n");
        }
    }
    text
}

fn options_page() -> String {
    let mut text = String::from(
        "# Options of /etc/config/tailover\n\
         \n\
         All of them stand in one section, `config tailover 'main'`, and each has a default that \
         needs no editing.\n\
         \n\
         - A list takes one `list` line for each value. What the file gives replaces the default; \
         an empty value is the default.\n\
         - A wrong value is an error that names file, line, option, value and what is allowed. All \
         errors of a file are shown at once. The daemon does not start on a file with an error, and \
         keeps the last good settings when it is reloaded.\n\
         - An option that is not known, and one that is set twice, is named in a warning.\n\
         - Seconds can have up to three decimals: `0.25`.\n\
         - `uplink` and `metered` take netifd's names of interfaces, as `ubus call \
         network.interface dump` shows them, or names of devices.\n\
         - A `target` that is a URL is written `https:URL` or as the URL alone.\n\
         - `external_ip` asks servers that answer `{\"ip\":\"192.0.2.1\"}` or the bare address.\n\
         - `restart_min` must not be above `restart_max`, and `mmx_mask` must share no bit with the \
         mask of `mark`.\n\
         - To apply a change: `service tailover reload`. `uci commit` followed by `reload_config`, \
         and LuCI, do so by themselves.\n\
         \n\
         This page is made from the table in `src/config/options.rs`; a test keeps the two equal.\n\
         \n\
         | option | default | allowed | what it does | since |\n\
         |---|---|---|---|---|\n",
    );
    for option in OPTIONS {
        let default: Vec<String> = option
            .default
            .iter()
            .map(|value| format!("`{value}`"))
            .collect();
        let default = if default.is_empty() {
            "empty".to_owned()
        } else {
            default.join("<br>")
        };
        let list = if option.kind.is_list() {
            "a list: "
        } else {
            ""
        };
        text += &format!(
            "| `{}` | {default} | {list}{} | {} | {} |\n",
            option.name,
            option.kind.allowed(),
            option.help,
            option.since
        );
    }
    text
}

#[test]
fn the_options_page_is_made_from_the_table() {
    keep("docs/options.md", &options_page());
}

#[test]
fn the_shipped_file_is_made_from_the_table() {
    keep(SHIPPED, &shipped());
}

/// The option as OpenWrt's validate_data takes it: its type and default (validate/validate.c of
/// ubox). Where that knows no fitting type it is a string: the daemon itself says what is wrong.
fn rule(option: &Opt) -> String {
    let kind = match &option.kind {
        // Its bool lacks two of the words of `config_get_bool`.
        Kind::Switch(_) => "or(bool,\"enabled\",\"disabled\")".to_owned(),
        Kind::Level(_) => r#"or("error","warn","info","debug","trace")"#.to_owned(),
        // Its `range` takes whole numbers only.
        Kind::Seconds { .. } => "ufloat".to_owned(),
        Kind::Number { min, max, .. } => format!("range({min},{max})"),
        Kind::Cures(_) => r#"list(or("steer","nudge","renew","mend","restart"))"#.to_owned(),
        kind if kind.is_list() => "list(string)".to_owned(),
        _ => "string".to_owned(),
    };
    let default = match (&option.kind, option.default) {
        (kind, [value]) if !kind.is_list() => format!(":{value}"),
        _ => String::new(),
    };
    format!("'{}:{kind}{default}'", option.name)
}

fn init_script() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(INIT);
    let found = fs::read_to_string(path).expect("the init script");
    let begin = "\tuci_load_validate tailover tailover \"${1:-main}\" \"${2:-}\" \\\n";
    let (before, rest) = found
        .split_once(begin)
        .expect("its call of uci_load_validate");
    let (_, after) = rest.split_once("\n}\n").expect("the function's end");
    let rules: Vec<String> = OPTIONS.iter().map(rule).collect();
    let rules = rules.join(" \\\n\t\t");
    format!("{before}{begin}\t\t{rules}\n}}\n{after}")
}

#[test]
fn the_init_script_tells_procd_of_every_option() {
    keep(INIT, &init_script());
}

/// Text as a string of JavaScript.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The kind's name in `tailover/check.js`, and its bounds.
fn form_kind(kind: &Kind) -> String {
    let seconds = |d: &std::time::Duration| d.as_secs_f64();
    match kind {
        Kind::Switch(_) => "'switch'".to_owned(),
        Kind::Level(_) => "'level'".to_owned(),
        Kind::Seconds { min, max, .. } => {
            let (min, max) = (seconds(min), seconds(max));
            format!("'seconds', min: {min}, max: {max}")
        }
        Kind::Number { min, max, .. } => format!("'number', min: {min}, max: {max}"),
        Kind::Mark(_) => "'mark'".to_owned(),
        Kind::Mask(_) => "'mask'".to_owned(),
        Kind::Service(_) => "'service'".to_owned(),
        Kind::Socket(_) => format!("'socket', max: {SOCKET_PATH_MAX}"),
        Kind::Path(_) | Kind::OptionalPath(_) => format!("'path', max: {PATH_MAX}"),
        Kind::Uplinks(_) => "'uplinks'".to_owned(),
        Kind::Targets(_) => "'targets'".to_owned(),
        Kind::ExternalIps(_) => "'external_ips'".to_owned(),
        Kind::Cures(_) => "'cures'".to_owned(),
    }
}

fn form_table() -> String {
    let mut text = String::from(
        "'use strict';\n\
         'require baseclass';\n\
         \n\
         /* Made from the table in src/config/options.rs; a test keeps the two equal. */\n\
         \n\
         return baseclass.extend({\n\
         \tlist: [\n",
    );
    for (at, option) in OPTIONS.iter().enumerate() {
        let default: Vec<String> = option.default.iter().map(|v| quoted(v)).collect();
        let default = match default.as_slice() {
            [] => "[]".to_owned(),
            values => format!("[ {} ]", values.join(", ")),
        };
        text += &format!(
            "\t\t{{\n\t\t\tname: '{}', kind: {}, list: {}, since: '{}',\n\
             \t\t\tdefault: {default},\n\
             \t\t\thelp: _({}),\n\
             \t\t\tallowed: _({})\n\t\t}}{}\n",
            option.name,
            form_kind(&option.kind),
            option.kind.is_list(),
            option.since,
            quoted(option.help),
            quoted(&option.kind.allowed()),
            if at + 1 < OPTIONS.len() { "," } else { "" },
        );
    }
    text + "\t]\n});\n"
}

#[test]
fn the_form_of_luci_has_every_option() {
    keep(FORM, &form_table());
}

#[test]
fn the_shipped_file_means_the_defaults_and_so_do_its_commented_lines() {
    let active: String = shipped()
        .lines()
        .map(|line| {
            line.replacen("\t#option", "\toption", 1)
                .replacen("\t#list", "\tlist", 1)
                + "\n"
        })
        .collect();
    for text in [shipped(), active] {
        let (settings, warnings) = parse(SHIPPED, &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings, Settings::default());
        assert_eq!(warnings, []);
    }
}
