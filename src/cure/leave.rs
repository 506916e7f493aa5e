//! Moves peers off uplinks that the mark has left: for a while no disco packet is taken in there.
//!
//! A peer goes on sending to the address where it last reached us for as long as its disco pings to
//! that address are answered, and every answer renews its trust by 6.5 s (tailscale,
//! wgengine/magicsock/endpoint.go, handlePongConnLocked). With those pings dropped, and nothing else,
//! it asks all our addresses and takes the one that answers. WireGuard's packets pass all the while,
//! so nothing of the tailnet is lost.
//!
//! It is done by an nftables table of our own, at the hook `input`: what is forwarded to the LAN never
//! comes there. Each device is in the set with a time limit, so the kernel itself ends it, also when
//! this program does not live to.

use std::path::Path;
use std::time::Duration;

use crate::net::thread;

use super::program;

/// OpenWrt's firewall 4 needs it, so it is there since OpenWrt 22.03.
const NFT: &str = "/usr/sbin/nft";

/// Family and name of our table.
const TABLE: &str = "inet tailover";

/// First six bytes of every disco packet, "TS" and a speech balloon (tailscale, disco/disco.go).
const MAGIC: &str = "0x5453f09f92ac";

/// It takes milliseconds, seconds on a router that swaps.
const LIMIT: Duration = Duration::from_secs(5);

/// True when there is a program to do it with.
pub fn possible() -> bool {
    Path::new(NFT).is_file()
}

/// Has peers leave exactly these devices, for `span`; none: ends what was begun before.
///
/// # Errors
/// What nft said, or that a device has a name that is not passed on to it.
pub async fn apply(devices: &[String], span: Duration) -> Result<(), String> {
    let script = script(devices, span)?;
    let words = vec![NFT.to_string(), script];
    match thread::run(LIMIT.saturating_mul(2), move || program::run(&words, LIMIT)).await {
        Ok(result) => result.map_err(|e| format!("nft: {e}")),
        Err(e) => Err(format!("nft: {e}")),
    }
}

/// Takes our table away, which an earlier run may have left. True when there was one.
pub fn cleanup() -> bool {
    // It fails when there is none, which is what is wanted.
    let words = [NFT.to_string(), format!("delete table {TABLE}")];
    possible() && program::run(&words, LIMIT).is_ok()
}

/// One transaction that brings the table to what is wanted, whatever it was. `add` before `delete`
/// makes the deletion succeed where there is no table.
fn script(devices: &[String], span: Duration) -> Result<String, String> {
    let mut script = format!("add table {TABLE}; delete table {TABLE}");
    if devices.is_empty() {
        return Ok(script);
    }
    let mut elements = Vec::new();
    for device in devices {
        if !plain(device) {
            return Err(format!(
                "the device name {device:?} is not passed on to nft"
            ));
        }
        elements.push(format!("\"{device}\" timeout {}s", span.as_secs()));
    }
    let elements = elements.join(", ");
    script += &format!(
        "; add table {TABLE}\
         ; add set {TABLE} left {{ type ifname; flags timeout; elements = {{ {elements} }}; }}\
         ; add chain {TABLE} input {{ type filter hook input priority -300; policy accept; }}\
         ; add rule {TABLE} input iifname @left meta l4proto udp @th,64,48 {MAGIC} counter drop"
    );
    Ok(script)
}

/// True for names that mean nothing else in nft's language. The kernel allows nearly every byte
/// (net/core/dev.c, dev_valid_name).
fn plain(device: &str) -> bool {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    (1..16).contains(&device.len()) && device.bytes().all(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn every_device_has_a_time_limit() {
        let devices = ["eth2".to_string(), "pppoe-wan".to_string()];
        let text = script(&devices, MINUTE).expect("plain names");
        assert!(text.contains(r#"elements = { "eth2" timeout 60s, "pppoe-wan" timeout 60s }"#));
        assert!(
            text.contains("hook input "),
            "forwarded packets are the LAN's"
        );
    }

    #[test]
    fn no_device_means_no_table() {
        let text = script(&[], MINUTE).expect("nothing to refuse");
        assert!(text.ends_with("delete table inet tailover"));
    }

    #[test]
    fn a_strange_name_is_not_passed_on() {
        for name in ["", "a\"b", "a;b", "a b", "sixteen-bytes-xy"] {
            assert!(script(&[name.to_string()], MINUTE).is_err(), "{name}");
        }
    }
}
