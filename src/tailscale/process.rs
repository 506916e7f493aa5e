//! Which process tailscaled is.

use std::fs;
use std::path::Path;

use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};

/// The process behind a LocalAPI socket, or else one called `tailscaled`.
///
/// The socket is the sure way: the kernel knows who listens on it (SO_PEERCRED, unix(7)). By name it
/// is only found when the socket is not there or does not take connections.
pub fn tailscaled(socket: &Path) -> Option<u32> {
    listener(socket).or_else(|| by_name("tailscaled"))
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

/// The process with this name and the lowest number.
fn by_name(name: &str) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
    .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

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
        let found = by_name(comm.trim_end()).expect("at least ourselves");
        let theirs = fs::read_to_string(format!("/proc/{found}/comm")).expect("its name");
        assert_eq!(theirs, comm);
        assert_eq!(by_name("no such process"), None);
    }
}
