//! Hooks in a folder of the test's own, as real programs.

use std::os::unix::fs::symlink;

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("tailover-hooks-{name}-{id}"));
        fs::create_dir_all(path.join("hooks")).expect("a temporary folder");
        let folder = Folder(path);
        folder.mode("hooks", 0o755);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.path(name), mode).expect("a mode");
    }

    /// A program in the folder of hooks that does this; `$W` is the test's own folder.
    fn hook(&self, name: &str, does: &str) {
        let name = format!("hooks/{name}");
        let text = format!("#!/bin/sh\nW='{}'\n{does}\n", self.0.display());
        fs::write(self.path(&name), text).expect("a written program");
        self.mode(&name, 0o755);
    }

    fn hooks(&self) -> Hooks {
        Hooks::new(&self.path("hooks").display().to_string())
    }

    fn run(&self, event: &[(&'static str, &str)]) -> Ends {
        self.run_within(LIMIT, event)
    }

    fn run_within(&self, limit: Duration, event: &[(&'static str, &str)]) -> Ends {
        let mut hooks = self.hooks();
        hooks.limit = limit;
        let event = event.iter().map(|(n, v)| (*n, v.to_string())).collect();
        assert!(hooks.add(event));
        hooks.next().expect("work")()
    }

    fn written(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn they_run_in_the_order_of_names_with_nothing_but_the_events_environment() {
    let folder = Folder::new("order");
    folder.hook("20-b", "echo b >>$W/out");
    folder.hook(
        "10-a",
        "env | grep -v '^_=\\|^PWD=\\|^SHLVL=' | sort >>$W/out; pwd >>$W/out",
    );
    assert_eq!(
        folder.run(&[("TAILOVER_EVENT", "fault; rm -rf / $(id)")]),
        [2, 0, 0]
    );
    let wanted = format!("PATH={PATH}\nTAILOVER_EVENT=fault; rm -rf / $(id)\n/\nb\n");
    assert_eq!(folder.written(), wanted);
}

#[test]
fn what_is_no_program_of_roots_alone_is_not_run() {
    let folder = Folder::new("whose");
    let says = "echo $0 >>$W/out";
    for name in [".hidden", "kept~", "no program", "10-open", "20-plain"] {
        folder.hook(name, says);
    }
    folder.mode("hooks/10-open", 0o775);
    folder.mode("hooks/20-plain", 0o644);
    folder.hook("../elsewhere", says);
    symlink(folder.path("elsewhere"), folder.path("hooks/30-link")).expect("a link");
    fs::create_dir(folder.path("hooks/40-folder")).expect("a folder");
    assert_eq!(folder.run(&[]), [0, 0, 0]);
    folder.hook("50-good", says);
    assert_eq!(folder.run(&[]), [1, 0, 0]);
    // The folder itself: others may put a program into it.
    folder.mode("hooks", 0o777);
    assert_eq!(folder.run(&[]), [0, 0, 0]);
    fs::rename(folder.path("hooks"), folder.path("real")).expect("renamed");
    folder.mode("real", 0o755);
    symlink(folder.path("real"), folder.path("hooks")).expect("a link");
    assert_eq!(folder.run(&[]), [0, 0, 0]);
    assert_eq!(folder.written().lines().count(), 1, "{}", folder.written());
}

/// Waits until a process is gone, and says whether that came to be.
fn gone(pid: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    let there = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // A zombie waits for a parent that is not ours.
        stat.is_ok_and(|s| !s.contains(") Z "))
    };
    while there() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn one_that_hangs_is_killed_with_its_children_and_the_next_runs() {
    let folder = Folder::new("hang");
    folder.hook(
        "10-hang",
        "sleep 1000 & echo $! >$W/child; trap '' TERM; wait",
    );
    folder.hook("20-next", "echo next >>$W/out; exit 3");
    // Long enough for a shell on a busy machine, and far from the child's time.
    assert_eq!(folder.run_within(Duration::from_secs(2), &[]), [0, 1, 1]);
    assert_eq!(folder.written(), "next\n");
    let child = fs::read_to_string(folder.path("child")).expect("its pid");
    assert!(gone(&child), "the child lives on");
}

#[test]
fn what_one_leaves_behind_ends_with_it() {
    let folder = Folder::new("behind");
    folder.hook("10-behind", "sleep 1000 & echo $! >$W/child");
    assert_eq!(folder.run(&[]), [1, 0, 0]);
    let child = fs::read_to_string(folder.path("child")).expect("its pid");
    assert!(gone(&child), "the child lives on");
}

#[test]
fn one_that_says_much_is_not_held_up_and_little_of_it_is_kept() {
    let folder = Folder::new("loud");
    folder.hook(
        "10-loud",
        "head -c 1000000 /dev/zero; echo end >&2; echo end >>$W/out",
    );
    let program = folder.path("hooks/10-loud");
    let over = AtomicBool::new(false);
    let ran = run(&program, &Vec::new(), Duration::from_secs(20), &over);
    let (end, said) = ran.expect("it starts");
    assert_eq!((end, said.len()), (End::Well, SAID));
    assert_eq!(folder.written(), "end\n");
}

#[test]
fn a_program_that_cannot_start_is_a_failure() {
    let folder = Folder::new("start");
    folder.hook("10-a", "");
    fs::write(folder.path("hooks/10-a"), "#!/nowhere\n").expect("written");
    assert_eq!(folder.run(&[]), [0, 1, 0]);
}

#[test]
fn of_a_storm_the_newest_are_kept() {
    let folder = Folder::new("storm");
    let mut hooks = folder.hooks();
    let event = |n: usize| vec![("TAILOVER_TEXT", n.to_string())];
    let kept = (0..40).filter(|n| hooks.add(event(*n))).count();
    assert_eq!((kept, hooks.dropped), (WAITING, 24));
    assert_eq!(hooks.waiting, (24..40).map(event).collect::<Vec<_>>());
    let first = hooks.next().expect("work");
    assert!(hooks.next().is_none(), "one at a time");
    assert_eq!(first(), [0, 0, 0]);
    hooks.done();
    assert!(hooks.next().is_some());
    assert_eq!(hooks.dropped, 0, "spoken of once");
}

#[test]
fn at_the_end_the_one_that_runs_is_killed() {
    let folder = Folder::new("end");
    folder.hook(
        "10-hang",
        "echo $$ >$W/new; mv $W/new $W/pid; exec sleep 1000",
    );
    folder.hook("20-next", "echo next >>$W/out");
    let mut hooks = folder.hooks();
    assert!(!hooks.end(), "nothing runs");
    hooks = folder.hooks();
    assert!(hooks.add(Vec::new()));
    let work = hooks.next().expect("work");
    let thread = std::thread::spawn(work);
    let end = Instant::now() + Duration::from_secs(10);
    while !folder.path("pid").exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(hooks.end());
    assert_eq!(thread.join().expect("its end"), [0, 0, 1]);
    assert_eq!(folder.written(), "");
}

#[test]
fn without_the_folder_nothing_is_wanted() {
    let folder = Folder::new("none");
    assert!(folder.hooks().wanted());
    fs::remove_dir(folder.path("hooks")).expect("removed");
    assert!(!folder.hooks().wanted());
}
