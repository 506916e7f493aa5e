//! Waits for changes of links, addresses, routes and rules.

use std::collections::VecDeque;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;

use crate::net::netlink::{messages, u32_at, Heard, Listener, Message};

use super::message::*;
use super::types::*;
use super::uapi::*;
use super::Error;

/// A change of the kernel's state. `gone` tells a removal from a new or changed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Link {
        link: Link,
        gone: bool,
    },
    Address {
        address: Address,
        gone: bool,
    },
    Route {
        route: Route,
        gone: bool,
    },
    Rule {
        rule: Rule,
        gone: bool,
    },
    /// Changes were lost because they came faster than they were read: read all state afresh.
    Overrun,
}

impl Change {
    /// Whether something went away.
    pub fn is_removal(&self) -> bool {
        match self {
            Self::Link { gone, .. }
            | Self::Address { gone, .. }
            | Self::Route { gone, .. }
            | Self::Rule { gone, .. } => *gone,
            Self::Overrun => false,
        }
    }

    /// Whether this is a rule or a route that `protocol` put there.
    pub fn is_of(&self, protocol: u8) -> bool {
        match self {
            Self::Route { route, .. } => route.protocol == protocol,
            Self::Rule { rule, .. } => rule.protocol == protocol,
            _ => false,
        }
    }

    pub(super) fn from_message(message: &Message) -> Option<Self> {
        let Message { kind, payload, .. } = *message;
        Some(match kind {
            RTM_NEWLINK | RTM_DELLINK => Self::Link {
                link: link(payload)?,
                gone: kind == RTM_DELLINK,
            },
            RTM_NEWADDR | RTM_DELADDR => Self::Address {
                address: address(payload)?,
                gone: kind == RTM_DELADDR,
            },
            // Cloned: an exception the kernel learned, as a path MTU; no change of a table.
            RTM_NEWROUTE | RTM_DELROUTE if u32_at(payload, 8)? & RTM_F_CLONED == 0 => Self::Route {
                route: route(payload)?,
                gone: kind == RTM_DELROUTE,
            },
            RTM_NEWRULE | RTM_DELRULE => Self::Rule {
                rule: rule(payload)?,
                gone: kind == RTM_DELRULE,
            },
            _ => return None,
        })
    }
}

/// Listens to changes of links, addresses, routes and rules of both families.
pub struct Monitor {
    listener: Listener,
    ready: VecDeque<Change>,
}

impl Monitor {
    /// Starts listening. Changes from now on are kept by the kernel until read.
    pub fn open() -> Result<Self, Error> {
        match Listener::open(NETLINK_ROUTE, &RTNLGRP, &[]) {
            Ok(listener) => Ok(Self {
                listener,
                ready: VecDeque::new(),
            }),
            Err(source) => Err(Error {
                tried: "listening to rtnetlink".into(),
                source,
            }),
        }
    }

    /// Waits for the next change. Nothing is lost when the future is dropped before it ends.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            match self.listener.next().await? {
                Heard::Datagram(datagram) => {
                    let changes = messages(datagram).filter_map(|m| Change::from_message(&m));
                    self.ready.extend(changes);
                }
                Heard::Overrun => return Ok(Change::Overrun),
            }
        }
    }
}
