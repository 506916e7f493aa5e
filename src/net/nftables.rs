//! Chains and rules of nf_tables as the kernel lists them, and a monitor of what is deleted.
//!
//! It only reads: messages of NFNL_SUBSYS_NFTABLES over NETLINK_NETFILTER, in the two families
//! that iptables has too. Of a rule nothing is taken but where it stands and where it jumps to.

use std::collections::VecDeque;
use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;
use socket2::SockFilter;

use crate::core::Family;

use super::netlink::*;

// linux/netfilter/nfnetlink.h: the subsystem is the high byte of a message's type.
const NFNL_SUBSYS_NFTABLES: u16 = 10 << 8;
const NFNLGRP_NFTABLES: u32 = 7;

// linux/netfilter/nf_tables.h.
const NFT_MSG_DELTABLE: u16 = NFNL_SUBSYS_NFTABLES | 2;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES | 3;
const NFT_MSG_GETCHAIN: u16 = NFNL_SUBSYS_NFTABLES | 4;
const NFT_MSG_DELCHAIN: u16 = NFNL_SUBSYS_NFTABLES | 5;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES | 6;
const NFT_MSG_GETRULE: u16 = NFNL_SUBSYS_NFTABLES | 7;
const NFT_MSG_DELRULE: u16 = NFNL_SUBSYS_NFTABLES | 8;
const NFT_MSG_NEWSETELEM: u32 = 12;
const NFT_MSG_DELSETELEM: u32 = 14;
const NFT_MSG_NEWGEN: u32 = 15;

/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE.
const TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// The expression that holds a verdict (nft_immediate.c).
const IMMEDIATE: &[u8] = b"immediate";
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// struct nfgenmsg: family u8, version u8, resource id u16.
const HEADER_LEN: usize = 4;

/// A chain of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub table: String,
    pub name: String,
}

/// A rule, as far as it is of interest here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub table: String,
    /// The chain that it stands in.
    pub chain: String,
    /// The chain that it sends packets to (`jump` or `goto`).
    pub jump: Option<String>,
}

/// A connection for listings, which need CAP_NET_ADMIN.
pub struct Client(Connection);

impl Client {
    pub fn open() -> Result<Self, Error> {
        Connection::open(NETLINK_NETFILTER, "opening a netfilter socket").map(Client)
    }

    /// All chains of a family.
    pub fn chains(&mut self, family: Family) -> Result<Vec<Chain>, Error> {
        let tried = format!("listing {family} chains of nf_tables");
        let body = header(family);
        let (get, new) = (NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN);
        self.0.dump(&tried, get, &body, new, chain)
    }

    /// The rules of a table; none when there is no such table.
    pub fn rules(&mut self, family: Family, table: &str) -> Result<Vec<Rule>, Error> {
        let tried = format!("listing {family} rules of nf_tables' {table}");
        let mut body = header(family);
        put_name(&mut body, TABLE, table);
        let (get, new) = (NFT_MSG_GETRULE, NFT_MSG_NEWRULE);
        // Kernels before 4.10 do not narrow the listing (nf_tables_dump_rules).
        self.0.dump(&tried, get, &body, new, |payload| {
            rule(payload).filter(|r| r.table == table)
        })
    }
}

/// Whether the error says that this kernel has no nf_tables, or lets nobody here read it.
pub fn is_absent(error: &Error) -> bool {
    // No NETLINK_NETFILTER; no NFNL_SUBSYS_NFTABLES in it (nfnetlink_rcv_msg); no CAP_NET_ADMIN.
    let reasons = [
        Errno::PROTONOSUPPORT,
        Errno::INVAL,
        Errno::OPNOTSUPP,
        Errno::PERM,
    ];
    reasons.iter().any(|errno| error.is(*errno))
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// A table, or a chain of it, or a rule of that chain.
    Of {
        table: String,
        chain: Option<String>,
    },
    /// Notifications were lost: it may be anything.
    Overrun,
}

/// Listens to deletions of tables, chains and rules of both families.
pub struct Monitor {
    listener: Listener,
    ready: VecDeque<Deleted>,
}

impl Monitor {
    /// Starts listening, which needs CAP_NET_ADMIN. Deletions from now on are kept by the kernel
    /// until read.
    pub fn open() -> Result<Self, Error> {
        match Listener::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES], &no_elements()) {
            Ok(listener) => Ok(Self {
                listener,
                ready: VecDeque::new(),
            }),
            Err(source) => Err(Error {
                tried: "listening to nf_tables".into(),
                source,
            }),
        }
    }

    /// Waits for the next deletion. Nothing is lost when the future is dropped before it ends.
    pub async fn next(&mut self) -> io::Result<Deleted> {
        loop {
            if let Some(deleted) = self.ready.pop_front() {
                return Ok(deleted);
            }
            match self.listener.next().await? {
                Heard::Datagram(datagram) => {
                    self.ready.extend(messages(datagram).filter_map(deleted));
                }
                Heard::Overrun => return Ok(Deleted::Overrun),
            }
        }
    }
}

/// Keeps away, in the kernel, what only tells that elements came to a set or left it, and the word
/// that ends each change: a resolver with `nftset` makes such changes by the dozen, and nobody here
/// needs to wake for them.
fn no_elements() -> [SockFilter; 6] {
    // linux/filter.h: load a byte of the message, jump if equal, return so many bytes.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // The low byte of nlmsghdr's type, which is in host byte order.
    let kind = if cfg!(target_endian = "little") { 4 } else { 5 };
    [
        SockFilter::new(LOAD_BYTE, 0, 0, kind),
        SockFilter::new(JUMP_IF, 3, 0, NFT_MSG_NEWSETELEM),
        SockFilter::new(JUMP_IF, 2, 0, NFT_MSG_DELSETELEM),
        SockFilter::new(JUMP_IF, 1, 0, NFT_MSG_NEWGEN),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The family's number, NFPROTO_IPV4 or NFPROTO_IPV6 (linux/netfilter.h).
fn header(family: Family) -> Vec<u8> {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    vec![number, 0, 0, 0]
}

/// The attributes of a message of one of the two families.
fn body(payload: &[u8]) -> Option<&[u8]> {
    let (header, attributes) = payload.split_at_checked(HEADER_LEN)?;
    matches!(header.first(), Some(2 | 10)).then_some(attributes)
}

fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(attributes).find_map(|(k, value)| (k == kind).then_some(value))
}

fn chain(payload: &[u8]) -> Option<Chain> {
    let attributes = body(payload)?;
    Some(Chain {
        table: text(find(attributes, TABLE)?)?,
        name: text(find(attributes, NFTA_CHAIN_NAME)?)?,
    })
}

fn rule(payload: &[u8]) -> Option<Rule> {
    let attributes = body(payload)?;
    Some(Rule {
        table: text(find(attributes, TABLE)?)?,
        chain: text(find(attributes, NFTA_RULE_CHAIN)?)?,
        jump: find(attributes, NFTA_RULE_EXPRESSIONS).and_then(jump),
    })
}

/// Where the first of these expressions with a chain in its verdict leads.
fn jump(expressions: &[u8]) -> Option<String> {
    const PATH: [u16; 4] = [
        NFTA_EXPR_DATA,
        NFTA_IMMEDIATE_DATA,
        NFTA_DATA_VERDICT,
        NFTA_VERDICT_CHAIN,
    ];
    let elements = attrs(expressions).filter(|(kind, _)| *kind == NFTA_LIST_ELEM);
    let is_verdict = |e: &&[u8]| find(e, NFTA_EXPR_NAME).is_some_and(|n| n.starts_with(IMMEDIATE));
    let mut verdicts = elements.map(|(_, element)| element).filter(is_verdict);
    verdicts.find_map(|v| PATH.into_iter().try_fold(v, find).and_then(text))
}

fn deleted(message: Message) -> Option<Deleted> {
    let name = match message.kind {
        NFT_MSG_DELTABLE => None,
        NFT_MSG_DELCHAIN => Some(NFTA_CHAIN_NAME),
        NFT_MSG_DELRULE => Some(NFTA_RULE_CHAIN),
        _ => return None,
    };
    let attributes = body(message.payload)?;
    let chain = match name {
        Some(kind) => Some(text(find(attributes, kind)?)?),
        None => None,
    };
    let table = text(find(attributes, TABLE)?)?;
    Some(Deleted::Of { table, chain })
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    for message in messages(bytes) {
        chain(message.payload);
        rule(message.payload);
        deleted(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The recordings are of a little-endian machine; netlink's own numbers are in host byte order.
    macro_rules! recorded {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/recordings/nftables/", $name))
        };
    }

    #[cfg(target_endian = "little")]
    fn parsed<T>(recorded: &[u8], kind: u16, parse: fn(&[u8]) -> Option<T>) -> Vec<T> {
        let wanted = messages(recorded).filter(|m| m.kind == kind);
        wanted.filter_map(|m| parse(m.payload)).collect()
    }

    #[cfg(target_endian = "little")]
    fn of(table: &str, chain: Option<&str>) -> Deleted {
        Deleted::Of {
            table: table.into(),
            chain: chain.map(Into::into),
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn chains_are_read_as_the_kernel_lists_them() {
        let chains = parsed(recorded!("chains4.bin"), NFT_MSG_NEWCHAIN, chain);
        let names: Vec<_> = chains.iter().map(|c| (&c.table[..], &c.name[..])).collect();
        assert_eq!(
            names,
            [
                ("filter", "ts-forward"),
                ("filter", "ts-input"),
                ("filter", "FORWARD"),
                ("filter", "INPUT"),
                ("nat", "ts-postrouting"),
                ("nat", "POSTROUTING")
            ]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn rules_are_read_with_their_jumps() {
        let jumps = |recorded: &[u8]| -> Vec<(String, Option<String>)> {
            let rules = parsed(recorded, NFT_MSG_NEWRULE, rule);
            rules.into_iter().map(|r| (r.chain, r.jump)).collect()
        };
        let plain = |chain: &str| (chain.to_string(), None);
        let jump = |from: &str, to: &str| (from.to_string(), Some(to.to_string()));
        let mut wanted = vec![plain("ts-forward"); 3];
        wanted.extend(vec![plain("ts-input"); 3]);
        wanted.push(jump("FORWARD", "ts-forward"));
        wanted.push(jump("INPUT", "ts-input"));
        assert_eq!(jumps(recorded!("rules4-filter.bin")), wanted);
        assert_eq!(
            jumps(recorded!("rules4-nat.bin")),
            [
                plain("ts-postrouting"),
                jump("POSTROUTING", "ts-postrouting")
            ]
        );
        assert_eq!(
            jumps(recorded!("rules4-iptables.bin")),
            [plain("ts-input"), jump("INPUT", "ts-input"), plain("INPUT")]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn deletions_are_told_apart_from_the_rest() {
        let told = |recorded| messages(recorded).filter_map(deleted).collect::<Vec<_>>();
        let gone = told(recorded!("told-table4.bin"));
        let of_chains = ["ts-forward", "ts-input", "FORWARD", "INPUT"];
        assert_eq!(gone.len(), 8 + 4 + 1, "{gone:?}");
        for chain in of_chains {
            assert!(gone.contains(&of("filter", Some(chain))), "{chain}");
        }
        assert_eq!(gone.last(), Some(&of("filter", None)));
        let flushed = told(recorded!("told-flush6.bin"));
        assert_eq!(flushed, vec![of("filter", Some("ts-input")); 3]);
        assert_eq!(told(recorded!("told-element.bin")), []);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_message_that_is_cut_short_is_none_or_loses_its_end() {
        for message in messages(recorded!("rules4-filter.bin")) {
            let whole = rule(message.payload);
            for length in 0..message.payload.len() {
                let Some(cut) = message.payload.get(..length).and_then(rule) else {
                    continue;
                };
                let whole = whole.as_ref().expect("the whole is more than a part");
                assert_eq!((&cut.table, &cut.chain), (&whole.table, &whole.chain));
                assert!(cut.jump.is_none() || cut.jump == whole.jump);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            kind in 0u16..25,
            family in prop_oneof![Just(2u8), Just(10), any::<u8>()],
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let payload = [&[family, 0, 0, 0][..], &bytes].concat();
            let kind = NFNL_SUBSYS_NFTABLES | kind;
            let message = Message { kind, flags: 0, sequence: 0, payload: &payload };
            let _ = (chain(&payload), rule(&payload), deleted(message));
        }

        #[test]
        fn a_byte_that_is_changed_never_panics(at in 0usize..2236, value: u8) {
            let mut bytes = recorded!("rules4-filter.bin").to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            let rules = messages(&bytes).filter_map(|m| rule(m.payload)).count();
            prop_assert!(rules <= 9);
        }
    }
}
