//! tailscaled's firewall chains: where they are, and what of them is lost.
//!
//! By util/linuxfw/nftables_runner.go of tailscale; with iptables on nf_tables they look the same.
//! Whoever deletes a table deletes them with it, as `fw4 flush` does, which is what
//! `service firewall stop` of OpenWrt runs; tailscaled does not look after them.

use std::fmt;

use crate::core::Family;
use crate::net::nftables::{self, Deleted, Rule};

use super::words::line;
use super::Claims;

/// A chain of tailscaled's.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    table: &'static str,
    /// The chain with the hook, which jumps to it.
    from: &'static str,
    name: &'static str,
    /// It holds rules only while the tailnet's packets to the LAN are masqueraded (AddSNATRule).
    only_snat: bool,
}

/// Its chains of a family (AddChains).
static PLACES: [Place; 3] = [
    Place {
        table: "filter",
        from: "INPUT",
        name: "ts-input",
        only_snat: false,
    },
    Place {
        table: "filter",
        from: "FORWARD",
        name: "ts-forward",
        only_snat: false,
    },
    Place {
        table: "nat",
        from: "POSTROUTING",
        name: "ts-postrouting",
        only_snat: true,
    },
];

/// preftype.NetfilterOff and NetfilterOn; between them is NetfilterNoDivert, chains without jumps.
const OFF: u64 = 0;
const ON: u64 = 2;

/// A chain of tailscaled's that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    family: Family,
    place: &'static Place,
    /// It holds rules.
    filled: bool,
    /// The chain with the hook jumps to it.
    joined: bool,
}

/// The tables in which tailscaled's chains are among these of one family.
pub fn tables(chains: &[nftables::Chain]) -> Vec<&'static str> {
    let mut tables: Vec<_> = places(chains).map(|place| place.table).collect();
    tables.dedup();
    tables
}

/// tailscaled's chains of a family, by all its chains and by the rules of [`tables`].
pub fn chains(family: Family, chains: &[nftables::Chain], rules: &[Rule]) -> Vec<Chain> {
    let chain = |place: &'static Place| {
        let mut of_table = rules.iter().filter(|r| r.table == place.table);
        let filled = of_table.clone().any(|r| r.chain == place.name);
        let joined =
            of_table.any(|r| r.chain == place.from && r.jump.as_deref() == Some(place.name));
        Chain {
            family,
            place,
            filled,
            joined,
        }
    };
    places(chains).map(chain).collect()
}

fn places(chains: &[nftables::Chain]) -> impl Iterator<Item = &'static Place> + '_ {
    let there = |p: &&Place| {
        chains
            .iter()
            .any(|c| c.table == p.table && c.name == p.name)
    };
    PLACES.iter().filter(there)
}

/// Whether this deletion can have taken something of tailscaled's.
pub fn concerns(deleted: &Deleted) -> bool {
    let Deleted::Of { table, chain } = deleted else {
        return true;
    };
    let hit = |p: &Place| {
        let of_chain = |name: &String| name == p.name || name == p.from;
        p.table == table && chain.as_ref().is_none_or(of_chain)
    };
    PLACES.iter().any(hit)
}

/// What is lost of the chains that were there `before`, as far as tailscaled still wants it, in
/// words. How many rules a chain holds is not compared: tailscaled changes that by itself, for
/// instance when its UDP port changes.
pub(super) fn lost(before: &[Chain], now: &[Chain], claims: &Claims) -> Vec<String> {
    if claims.netfilter_mode == OFF {
        return Vec::new();
    }
    let (mut gone, mut emptied, mut jumps) = (Vec::new(), Vec::new(), Vec::new());
    for was in before {
        let place = was.place;
        let same = |c: &&Chain| c.family == was.family && c.place == place;
        let Some(is) = now.iter().find(same) else {
            gone.push(was.to_string());
            continue;
        };
        if was.filled && !is.filled && !(place.only_snat && claims.no_snat) {
            emptied.push(was.to_string());
        }
        if was.joined && !is.joined && claims.netfilter_mode == ON {
            jumps.push(format!("{} to {was}", place.from));
        }
    }
    let gone = line("firewall chain", "firewall chains", "", gone);
    let (one, many) = ("content of the firewall chain", "firewall chains' contents");
    let emptied = line(one, many, "", emptied);
    let jumps = line("firewall's jump from", "jumps of the firewall", "", jumps);
    [gone, emptied, jumps].into_iter().flatten().collect()
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let Place { name, table, .. } = self.place;
        write!(f, "{name} of {family} {table}")
    }
}
