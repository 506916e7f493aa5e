//! Reads tailscaled's firewall chains, and tells when some of them may have been deleted.

use std::cell::Cell;
use std::io;

use crate::core::Family;
use crate::net::nftables::{is_absent, Client, Monitor};
use crate::net::rtnetlink::Error;
use crate::tailscale::kernel::{self, Chain};

/// Reads nf_tables where there is one.
#[derive(Default)]
pub struct ChainWatch {
    /// There is none: asking again would have the kernel look for its module each time.
    absent: Cell<bool>,
}

impl ChainWatch {
    /// A new tailscaled may have loaded it.
    pub fn again(&self) {
        self.absent.set(false);
    }

    /// tailscaled's chains; none where there is no nf_tables.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn read(&self) -> Result<Vec<Chain>, Error> {
        if self.absent.get() {
            return Ok(Vec::new());
        }
        match read() {
            Err(e) if is_absent(&e) => {
                log::debug!("{e}");
                self.absent.set(true);
                Ok(Vec::new())
            }
            read => read,
        }
    }
}

fn read() -> Result<Vec<Chain>, Error> {
    let mut client = Client::open()?;
    let mut found = Vec::new();
    for family in Family::BOTH {
        let chains = client.chains(family)?;
        let mut rules = Vec::new();
        for table in kernel::tables(&chains) {
            rules.extend(client.rules(family, table)?);
        }
        found.extend(kernel::chains(family, &chains, &rules));
    }
    Ok(found)
}

/// Waits until something was deleted that may have been tailscaled's.
///
/// # Errors
/// The netlink socket is gone; open a new one.
pub async fn deleted(monitor: &mut Monitor) -> io::Result<()> {
    loop {
        if kernel::concerns(&monitor.next().await?) {
            return Ok(());
        }
    }
}
