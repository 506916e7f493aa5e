//! What reads bytes from outside, one function for each kind, for fuzzing and for its kept inputs.
//!
//! Not part of the programs: built for tests and with the feature `hostile`, which `fuzz/` uses. A function
//! must return for whatever bytes; it panics where a promise about what was read is broken.

use serde_json::Value as Json;

use crate::tailscale::localapi::Decoder;
use crate::tailscale::types::{DerpMap, Notify, Ping, Prefs, Status};
use crate::ubus::blobmsg::{self, Value};
use crate::ubus::wire::{Frame, FrameReader};
use crate::{cli, config, daemon, net, tailscale, watch};

/// A name, and what reads such bytes.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 13] = [
    ("ubus-wire", ubus_wire),
    ("blobmsg", blobmsg),
    ("ubus-data", ubus_data),
    ("uci", uci),
    ("localapi-http", localapi_http),
    ("localapi-json", localapi_json),
    ("stun", stun),
    ("dns", dns),
    ("netlink", netlink),
    ("proc", proc),
    ("hotplug", cli::hotplug_hostile),
    ("history", daemon::hostile),
    ("worker", net::worker::hostile),
];

/// Frames as they come from ubusd, in pieces; what is read is the same when written and read again.
fn ubus_wire(bytes: &[u8]) {
    let mut reader = FrameReader::new();
    for piece in bytes.chunks(bytes.first().map_or(1, |b| usize::from(*b) + 1)) {
        reader.push(piece);
        while let Ok(Some(_)) = reader.next_frame() {}
    }
    if let Ok(message) = Frame::decode(bytes) {
        if let Ok(again) = message.encode() {
            assert!(Frame::decode(&again).is_ok(), "{message:?}");
        }
    }
}

fn blobmsg(bytes: &[u8]) {
    let Ok(table) = blobmsg::decode(bytes) else {
        return;
    };
    if let Ok(again) = blobmsg::encode(&table) {
        // NaN is not equal to itself.
        assert_eq!(
            format!("{:?}", blobmsg::decode(&again)),
            format!("{:?}", Ok::<_, blobmsg::BlobError>(table.clone()))
        );
    }
    blobmsg::table_from_json(blobmsg::table_to_json(&table));
    of_services(&Value::Table(table));
}

/// The same in the form of JSON, which is found more easily.
fn ubus_data(bytes: &[u8]) {
    if let Ok(json) = serde_json::from_slice::<Json>(bytes) {
        of_services(&Value::from_json(json));
    }
}

/// What netifd, mwan3, procd and the hotplug scripts say.
fn of_services(data: &Value) {
    use watch::events;
    events::netifd_event(data);
    for (object, method) in [
        ("network.interface.wan", "interface.update"),
        ("network.interface", "interface.down"),
    ] {
        events::netifd_notification(object, method, data);
    }
    for method in ["link_up", "link_down"] {
        events::device_notification(method, data);
    }
    let _ = events::hotplug(data);
    events::mwan3_offline(data);
    events::service_kept(data, "tailscale");
    for method in ["instance.start", "instance.stop", "instance.fail"] {
        events::service_notification(method, data, "tailscale");
    }
    watch::uplinks::interfaces(data);
}

fn uci(bytes: &[u8]) {
    let _ = config::parse("/etc/config/tailover", bytes);
    config::uci::parse(bytes);
    watch::mwan3::Mwan3::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        watch::targets::hostile(text);
    }
}

/// Chunked answers, as the bus of the LocalAPI gives them, cut anywhere.
fn localapi_http(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(bytes.last().map_or(1, |b| usize::from(*b) + 1)) {
        let fed = decoder.feed(piece, |line| {
            assert!(line.len() <= tailscale::localapi::MAX_LINE);
            Notify::from_line(&line);
        });
        if fed.is_err() || decoder.is_ended() {
            break;
        }
    }
}

fn localapi_json(bytes: &[u8]) {
    tailscale::networks::hostile(bytes);
    Notify::from_line(bytes);
    if let Ok(json) = serde_json::from_slice::<Json>(bytes) {
        Status::from_json(&json);
        Prefs::from_json(&json);
        DerpMap::from_json(&json);
        Ping::from_json(&json);
    }
}

fn stun(bytes: &[u8]) {
    net::stun::parse_response(bytes);
}

/// The first byte says how long the question is.
fn dns(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else {
        return;
    };
    if let Some((question, reply)) = rest.split_at_checked(usize::from(*length)) {
        net::dns::parse_reply(reply, question);
        net::dns::parse_reply(rest, question);
        let name = String::from_utf8_lossy(question);
        if let Some(query) = net::dns::query(7, &name) {
            assert!(query.len() <= 512);
            net::dns::parse_reply(reply, &query);
        }
    }
}

fn netlink(bytes: &[u8]) {
    net::rtnetlink::hostile(bytes);
    net::nftables::hostile(bytes);
    net::sock_diag::hostile(bytes);
}

fn proc(bytes: &[u8]) {
    watch::sockets::hostile(bytes);
    watch::conntrack::hostile(bytes);
    let text = String::from_utf8_lossy(bytes);
    watch::pulse::hostile(&text);
    tailscale::process::hostile(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn kept_inputs_are_read_again() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, read) in TARGETS {
            let folder = corpora.join(name);
            let files =
                fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
            let mut count = 0;
            for file in files {
                let path = file.expect("an entry").path();
                read(&fs::read(&path).expect("a file"));
                count += 1;
            }
            assert!(count > 0, "{name} has none");
        }
    }
}
