//! What the tree of dependencies must not have in it, and that each one is accounted for.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("a file of the tree")
}

/// The names of all packages in Cargo.lock, for every target and feature.
fn locked() -> Vec<String> {
    let name = |line: &str| {
        Some(
            line.strip_prefix("name = \"")?
                .strip_suffix('"')?
                .to_owned(),
        )
    };
    read("Cargo.lock").lines().filter_map(name).collect()
}

/// The names in Cargo.toml's `[dependencies]`.
fn direct() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let section = manifest
        .split("\n[dependencies]\n")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("a section [dependencies]");
    let name = |line: &str| Some(line.split_once(" = ")?.0.to_owned());
    section.lines().filter_map(name).collect()
}

#[test]
fn no_second_runtime_no_openssl_no_regex() {
    let packages = locked();
    assert!(packages.iter().any(|name| name == "smol"), "{packages:?}");
    for banned in ["tokio", "async-std", "native-tls", "aws-lc-rs", "regex"] {
        assert!(!packages.iter().any(|name| name == banned), "{banned}");
    }
    let openssl: Vec<_> = packages
        .iter()
        .filter(|name| name.contains("openssl"))
        .collect();
    // `openssl-probe` only knows where systems keep their CA files.
    assert!(
        openssl.iter().all(|name| *name == "openssl-probe"),
        "{openssl:?}"
    );
}

#[test]
fn every_direct_dependency_has_its_line() {
    let page = read("docs/dependencies.md");
    let names = direct();
    assert!(names.len() > 5, "{names:?}");
    for name in &names {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is missing");
    }
    let lines = page.lines().filter(|line| line.starts_with("| `"));
    assert_eq!(lines.count(), names.len(), "a line too many");
}

/// Every Rust file of the programs, without its tests.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let path = entry.expect("an entry").path();
        let name = path.display().to_string();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).expect("a file of the tree");
            let own = text.split("#[cfg(test)]\nmod tests {").next();
            found.push((name, own.unwrap_or_default().to_string()));
        }
    }
}

/// Text from outside cannot become a command where nothing reads commands.
#[test]
fn nothing_of_ours_starts_a_shell() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 50);
    let starts = found.iter().filter(|(_, t)| t.contains("Command::new("));
    assert!(starts.count() >= 2, "programs are started otherwise");
    for (name, text) in &found {
        for shell in ["\"sh\"", "\"ash\"", "bin/sh\"", "\"-c\""] {
            assert!(!text.contains(shell), "{name} has {shell}");
        }
    }
}
