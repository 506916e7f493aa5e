//! A status of tailscaled with many peers, read by the real client over a unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{json, Value};
use tailover::tailscale::localapi::LocalApi;

/// What a real tailscaled said. Its first peer is the model of all.
const RECORDED: &str = include_str!("../../tests/recordings/tailscale/localapi-status.json");

/// Answers every request with a status of so many peers, from a thread that ends with the program.
pub struct Server {
    api: LocalApi,
    folder: PathBuf,
}

impl Server {
    pub fn start(peers: usize) -> Server {
        let folder = std::env::temp_dir().join(format!("growth-{}-{peers}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let socket = folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        let body = status(peers);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut request = [0; 4096];
                if connection.read(&mut request).is_ok() {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    // A client that has gone is no concern of ours.
                    let _ = connection.write_all(head.as_bytes());
                    let _ = connection.write_all(body.as_bytes());
                }
            }
        });
        let timeout = Duration::from_secs(60);
        Server {
            api: LocalApi { socket, timeout },
            folder,
        }
    }

    /// The networks of all peers, as the daemon reads them.
    pub fn read(&self) -> usize {
        let networks = smol::block_on(self.api.networks()).expect("a status");
        networks.iter().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn status(peers: usize) -> String {
    let mut status: Value = serde_json::from_str(RECORDED).expect("a status");
    let recorded = status["Peer"].as_object().expect("peers");
    let model = recorded.values().next().expect("a peer").clone();
    let peer = |number: usize| {
        let (high, low) = (number / 250, number % 250 + 1);
        let (v4, v6) = (
            format!("100.100.{high}.{low}"),
            format!("fd7a:115c:a1e0::{number:x}"),
        );
        let mut peer = model.clone();
        peer["HostName"] = json!(format!("peer{number}"));
        peer["TailscaleIPs"] = json!([v4, v6]);
        peer["AllowedIPs"] = json!([format!("{v4}/32"), format!("{v6}/128")]);
        (format!("nodekey:{number:064x}"), peer)
    };
    status["Peer"] = Value::Object((0..peers).map(peer).collect());
    status.to_string()
}
