//! Which process tailscaled is, how it fares, and where it listens.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::core::tailnet::Process;

/// A file of /proc about one process is shorter than this; a longer one is cut.
const PROC_FILE: u64 = 8 * 1024;

/// Most threads looked at. tailscaled has about a dozen.
const THREADS: usize = 64;

/// /proc counts CPU time and starts in this part of a second (USER_HZ, 100 on every platform that
/// OpenWrt knows: include/asm-generic/param.h).
const TICK: Duration = Duration::from_millis(10);

/// Where tailscaled listens when its command line does not say (paths/paths_unix.go).
const DEFAULT_SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// The process behind a LocalAPI socket, or else one called `tailscaled`.
///
/// The socket is the sure way: the kernel knows who listens on it (SO_PEERCRED, unix(7)). By name it
/// is only found when the socket is not there or does not take connections.
pub fn tailscaled(socket: &Path) -> Option<u32> {
    listener(socket).or_else(|| named("tailscaled").into_iter().min())
}

/// The process that listens on a unix socket.
pub fn listener(socket: &Path) -> Option<u32> {
    let connection = Socket::new(Domain::UNIX, Type::STREAM, None).ok()?;
    // A stopped process with a full backlog must not block us: connect then fails at once.
    connection.set_nonblocking(true).ok()?;
    connection.connect(&SockAddr::unix(socket).ok()?).ok()?;
    let pid = socket_peercred(&connection).ok()?.pid;
    u32::try_from(pid.as_raw_nonzero().get()).ok()
}

/// The processes with this name.
pub fn named(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let called =
        |pid: &u32| read(&format!("/proc/{pid}/comm")).is_some_and(|comm| comm.trim_end() == name);
    pids.filter(called).collect()
}

/// The LocalAPI socket of a tailscaled: what its command line says, and that it listens there.
pub fn socket_of(pid: u32) -> Option<PathBuf> {
    let command = read(&format!("/proc/{pid}/cmdline"))?;
    let path = socket_argument(&command).unwrap_or(DEFAULT_SOCKET);
    let path = Path::new(path);
    (path.is_absolute() && listener(path) == Some(pid)).then(|| path.to_path_buf())
}

/// The value of `--socket` in a command line, its words ended by zero bytes. Go's flags take one
/// dash or two, and the value behind `=` or as the next word.
fn socket_argument(command: &str) -> Option<&str> {
    let mut words = command.split('\0').skip(1);
    while let Some(word) = words.next() {
        let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        match flag {
            Some("socket") => return words.next(),
            Some(flag) => {
                if let Some(path) = flag.strip_prefix("socket=") {
                    return Some(path);
                }
            }
            None => {}
        }
    }
    None
}

/// True for a process that a signal or a debugger has stopped: it cannot answer anything.
pub fn halted(pid: u32) -> bool {
    Stat::read(&format!("/proc/{pid}/stat")).is_some_and(|stat| stat.is_halted())
}

/// How a process fares. `threads`: look at each of its threads too, for [`Process::at_work`].
pub fn vitals(pid: u32, threads: bool) -> Option<Process> {
    let main = Stat::read(&format!("/proc/{pid}/stat"))?;
    let uptime = read("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(uptime).ok()?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    Some(Process {
        halted: main.is_halted(),
        at_work: threads && at_work(pid),
        cpu: main.cpu,
        age: uptime.saturating_sub(main.started),
        // proc_pid_exe(5)
        replaced: program.is_some_and(|p| p.to_string_lossy().ends_with(" (deleted)")),
    })
}

/// Whether a thread runs, or waits for the CPU or a disk.
fn at_work(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let tasks = tasks.filter_map(|t| t.ok()?.file_name().into_string().ok());
    let mut stats = tasks
        .take(THREADS)
        .filter_map(|task| Stat::read(&format!("/proc/{pid}/task/{task}/stat")));
    stats.any(|stat| matches!(stat.state, 'R' | 'D'))
}

/// What is needed of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    state: char,
    cpu: Duration,
    /// Since the machine's start.
    started: Duration,
}

impl Stat {
    fn read(path: &str) -> Option<Stat> {
        Stat::parse(&read(path)?)
    }

    /// `T` is stopped by a signal, `t` by a debugger.
    fn is_halted(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name before may hold spaces and brackets; what follows the last one is the state.
        let (_, rest) = text.rsplit_once(')')?;
        let mut words = rest.split_ascii_whitespace();
        let state = words.next()?.chars().next()?;
        let mut ticks = |skip: usize| words.nth(skip)?.parse::<u32>().ok();
        let (user, system, started) = (ticks(10)?, ticks(0)?, ticks(6)?);
        Some(Stat {
            state,
            cpu: TICK.saturating_mul(user.saturating_add(system)),
            started: TICK.saturating_mul(started),
        })
    }
}

/// The beginning of a file of /proc. Bytes that are no UTF-8 are replaced.
fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).ok()?.take(PROC_FILE);
    file.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(text: &str) {
    socket_argument(text);
    if let Some(stat) = Stat::parse(text) {
        stat.is_halted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command};

    #[test]
    fn the_listener_of_a_socket_is_known() {
        let path = std::env::temp_dir().join(format!("tailover-peer-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let socket = UnixListener::bind(&path).expect("a unix listener");
        assert_eq!(listener(&path), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(&path), None);
        fs::remove_file(&path).expect("the socket is removed");
        assert_eq!(listener(&path), None);
    }

    #[test]
    fn a_process_is_found_by_its_name() {
        let comm = fs::read_to_string("/proc/self/comm").expect("our own name");
        assert!(named(comm.trim_end()).contains(&std::process::id()));
        assert!(named("no such process").is_empty());
    }

    #[test]
    fn the_socket_is_read_from_the_command_line_however_it_is_written() {
        for (line, wanted) in [
            ("tailscaled\0--socket=/tmp/a\0", Some("/tmp/a")),
            (
                "tailscaled\0--port\x0041641\0-socket\0/tmp/b\0",
                Some("/tmp/b"),
            ),
            ("tailscaled\0-socket=/c\0--tun=x\0", Some("/c")),
            ("tailscaled\0--statedir=/var/lib\0", None),
            ("--socket=/x\0", None),
            ("tailscaled\0--socket", None),
            ("", None),
        ] {
            assert_eq!(socket_argument(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_move_the_fields() {
        let stat = "42 (a) S (b) T 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 360000 1 2";
        let got = Stat::parse(stat).expect("a line");
        assert_eq!(got.state, 'T');
        assert_eq!(got.cpu, Duration::from_secs(3));
        assert_eq!(got.started, Duration::from_secs(3600));
    }

    /// A process of ours that ends with the test.
    struct Kept(Child);
    impl Drop for Kept {
        fn drop(&mut self) {
            // It may have ended by itself.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_stopped_process_and_a_busy_one_and_a_replaced_one_are_known() {
        let own = vitals(std::process::id(), true).expect("ourselves");
        assert!(!own.halted && own.at_work && !own.replaced);

        let program = std::env::temp_dir().join(format!("tailover-sleep-{}", std::process::id()));
        fs::copy("/bin/sleep", &program).expect("a program of our own");
        let child = Kept(Command::new(&program).arg("60").spawn().expect("a child"));
        let pid = child.0.id();
        let until = |what: &str, right: &dyn Fn(&Process) -> bool| {
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while !vitals(pid, true).is_some_and(|p| right(&p)) {
                assert!(std::time::Instant::now() < deadline, "never {what}");
                std::thread::yield_now();
            }
        };
        until("at rest", &|p| !p.at_work && !p.halted && !p.replaced);
        assert!(vitals(pid, false).expect("it").age < Duration::from_secs(30));
        fs::remove_file(&program).expect("its program is removed");
        until("replaced", &|p| p.replaced);
        let stop = ["-STOP".to_string(), pid.to_string()];
        let stopped = Command::new("kill").args(stop).status();
        assert!(stopped.expect("kill").success());
        until("halted", &|p| p.halted);
    }

    proptest! {
        #[test]
        fn hostile_lines_never_panic(text in "\\PC{0,200}", words in prop::collection::vec("[-0-9A-Z() é]{0,20}", 0..40)) {
            let _ = Stat::parse(&text);
            let _ = Stat::parse(&words.join(" "));
            let _ = socket_argument(&words.join("\0"));
        }
    }
}
