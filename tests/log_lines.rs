//! The list of log lines in docs/monitoring.md against the source and against what a recorded run has logged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A level, and a line with `…` for what varies.
type Line = (String, String);

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The Rust files of the programs, without those of their tests.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with("tests.rs") => {}
                false => files.push(path),
            }
        }
    }
    files
}

/// The text of the string literal that `rest` begins with, as it is printed, with `…` for what is put in.
fn literal(rest: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = rest.strip_prefix('"')?.chars();
    while let Some(c) = letters.next() {
        match c {
            '"' => return Some(text),
            '{' => {
                letters.find(|c| *c == '}')?;
                text.push('…');
            }
            '\\' => {
                let next = letters.next()?;
                if next == '\n' {
                    // The line goes on at its first letter.
                    letters = letters.as_str().trim_start().chars();
                } else {
                    text.push(next);
                }
            }
            c => text.push(c),
        }
    }
    None
}

/// What follows `mark` in `source`, each time.
fn after<'a>(source: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    source
        .match_indices(mark)
        .map(move |(at, _)| &source[at + mark.len()..])
}

/// The lines of the logging macros. What has only been put together elsewhere is no line of its own.
fn of_macros() -> BTreeSet<Line> {
    let mut found = BTreeSet::new();
    for file in sources() {
        let source = fs::read_to_string(&file).expect("a source");
        let own = source.split("#[cfg(test)]").next().unwrap_or_default();
        for (name, level) in [("info!(", "INFO"), ("warn!(", "WARN"), ("error!(", "ERROR")] {
            for call in after(own, name) {
                let target = call.trim_start().strip_prefix("target:");
                let target =
                    target.unwrap_or_else(|| panic!("{}: no target: {call:.60}", file.display()));
                let (of, rest) = target.split_once(',').expect("more than a target");
                assert!(["LOG", "\"tailover\""].contains(&of.trim()), "{of}");
                let text = literal(rest.trim_start());
                found.insert((level.into(), text.expect("a text")));
            }
        }
    }
    found
}

/// The lines that are made of the core's notices, at the levels that `tell` gives them.
fn of_notices() -> BTreeSet<Line> {
    let words = read("src/daemon/words.rs");
    let own = words.split("#[cfg(test)]").next().unwrap_or_default();
    let words = own.split("fn raw(").nth(1).expect("the function");
    let formats = after(words, "format!(").filter_map(|rest| literal(rest.trim_start()));
    let plain = words.lines().filter_map(|l| l.split_once("\".into()"));
    let plain = plain.filter_map(|(before, _)| Some(before[before.rfind('"')? + 1..].to_string()));
    let level = |text: &str| match text.split([' ', ':']).next() {
        Some("fault" | "failed" | "waiting") => "WARN",
        _ => "INFO",
    };
    let remarks = read("src/core/machine/tailscaled.rs");
    let remarks = remarks.split("fn remark(").nth(1).expect("the function");
    let remarks = remarks
        .split("\n    }\n")
        .next()
        .expect("its end")
        .to_string();
    let remarks: Vec<String> = after(&remarks, "format!(")
        .filter_map(|rest| literal(rest.trim_start()))
        .collect();
    let all = formats.chain(plain).chain(remarks);
    all.map(|text| (level(&text).to_string(), text)).collect()
}

/// The rows of the page: `| LEVEL | line | meaning |`.
fn on_the_page() -> BTreeSet<Line> {
    let page = read("docs/monitoring.md");
    let rows = page.lines().filter_map(|l| {
        let mut cells = l.strip_prefix("| ")?.splitn(3, " | ");
        let level = cells
            .next()
            .filter(|l| ["INFO", "WARN", "ERROR"].contains(l))?;
        let line = cells.next()?.trim_matches('`').trim();
        let meaning = cells.next()?.trim_end_matches(" |");
        assert!(!meaning.is_empty(), "{l}");
        Some((level.to_string(), line.to_string()))
    });
    rows.collect()
}

#[test]
fn the_page_lists_every_line_and_no_other() {
    let page = on_the_page();
    let source: BTreeSet<Line> = of_macros().union(&of_notices()).cloned().collect();
    // What `tell` logs is listed by its notices.
    let source: BTreeSet<Line> = source.into_iter().filter(|(_, text)| text != "…").collect();
    let page: BTreeSet<Line> = page.into_iter().filter(|(_, text)| text != "…").collect();
    assert!(source.len() > 40, "{source:#?}");
    let lacking: Vec<_> = source.difference(&page).collect();
    let gone: Vec<_> = page.difference(&source).collect();
    assert!(
        lacking.is_empty() && gone.is_empty(),
        "not on the page: {lacking:#?}\nnot in the source: {gone:#?}"
    );
}

/// Whether `line` is `pattern` with something for each `…`.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn what_a_run_has_logged_is_on_the_page() {
    let page = on_the_page();
    let log = read("tests/recordings/metrics/log.txt");
    let mut used = BTreeSet::new();
    for line in log.lines() {
        let (level, text) = line.split_once("[tailover] ").expect("a line of ours");
        let level = level.trim();
        let mut known = page
            .iter()
            .filter(|(l, p)| l == level && p != "…" && fits(p, text));
        let known = known.next();
        used.insert(known.unwrap_or_else(|| panic!("not on the page: {line}")));
    }
    assert!(used.len() >= 9, "{used:#?}");
}

#[test]
fn a_pattern_fits_its_lines_alone() {
    assert!(fits("hook … failed: …", "hook 10-a failed: exit status: 1"));
    assert!(!fits("hook … failed: …", "hook 10-a: failed"));
    assert!(fits(
        "well again after … s (…)",
        "well again after 1.2 s (healed)"
    ));
    assert!(!fits("nothing is wrong", "nothing is wrong here"));
    assert_eq!(
        literal(r#""a {b:?} c {}" rest"#).as_deref(),
        Some("a … c …")
    );
    assert_eq!(literal("\"a \\\n   b\"").as_deref(), Some("a b"));
}
