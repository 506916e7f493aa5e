//! Who else on the router may restart tailscaled: scripts and settings that name it.
//!
//! Nothing tells who asked procd for a restart, so the usual places are looked into, and only after
//! a restart that was not ours.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longer files are cut: these are a few kilobytes.
const FILE: u64 = 64 * 1024;

/// Most scripts of a folder that are looked into, and most files named.
const SCRIPTS: usize = 32;
const NAMED: usize = 8;

/// What restarts tailscaled names it so: the service, or the program.
const NAME: &str = "tailscale";

/// Our own hotplug script names it as well, and restarts nothing.
const OURS: &str = "90-tailover";

/// Files that name tailscale outside of comments. `root` is `/`, or a double of it.
pub fn suspects(root: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = ["etc/mwan3.user", "etc/crontabs/root", "etc/rc.local"]
        .map(PathBuf::from)
        .into();
    files.extend(scripts(root, "etc/hotplug.d/iface"));
    files.extend(scripts(root, "etc/hotplug.d/net"));
    let mut found: Vec<String> = files
        .iter()
        .filter(|file| names_it(&text(&root.join(file))))
        .map(|file| format!("/{}", file.display()))
        .collect();
    // watchcat's settings name a script (mode run_script), or a command in its name.
    let watchcat = text(&root.join("etc/config/watchcat"));
    let runs = scripts_of_watchcat(&watchcat).any(|script| {
        let inside = root.join(script.trim_start_matches('/'));
        names_it(&text(&inside))
    });
    if runs || names_it(&watchcat) {
        found.push("/etc/config/watchcat".into());
    }
    found.truncate(NAMED);
    found
}

/// The files of a folder, by their paths below `root`.
fn scripts(root: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n != OURS).take(SCRIPTS).collect();
    names.sort();
    names.iter().map(|n| Path::new(folder).join(n)).collect()
}

/// The values of `option script`, in or without quotes.
fn scripts_of_watchcat(config: &str) -> impl Iterator<Item = &str> {
    config.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is = words.next() == Some("option") && words.next() == Some("script");
        let value = words.next().filter(|_| is)?;
        Some(value.trim_matches(['\'', '"']))
    })
}

fn names_it(text: &str) -> bool {
    let code = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    code.into_iter().any(|line| line.contains(NAME))
}

/// The beginning of a file; nothing if it cannot be read, or is no ordinary file.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    if fs::metadata(path).is_ok_and(|m| m.is_file()) {
        if let Ok(file) = File::open(path) {
            // What could be read before an error is better than nothing.
            let _ = file.take(FILE).read_to_end(&mut bytes);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_tailscale_is_found_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("tailover-hands-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        assert!(suspects(&root).is_empty(), "nothing is there at all");
        write("etc/mwan3.user", "# /etc/init.d/tailscale restart\n");
        write("etc/crontabs/root", "0 4 * * * reboot\n");
        write(
            "etc/hotplug.d/iface/90-tailover",
            "# tailscale\ntailscale\n",
        );
        write(
            "etc/config/watchcat",
            "config watchcat\n\toption script '/etc/w.sh'\n",
        );
        assert!(suspects(&root).is_empty(), "comments, others, and ours");
        write("etc/w.sh", "service tailscale restart\n");
        write(
            "etc/mwan3.user",
            "[ $ACTION = ifup ] && service tailscale restart\n",
        );
        write(
            "etc/hotplug.d/iface/99-ts",
            "/etc/init.d/tailscale restart\n",
        );
        assert_eq!(
            suspects(&root),
            [
                "/etc/mwan3.user",
                "/etc/hotplug.d/iface/99-ts",
                "/etc/config/watchcat"
            ]
        );
        fs::remove_dir_all(&root).expect("removed");
    }
}
