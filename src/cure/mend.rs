//! Puts back what the kernel has lost of tailscaled's, with tailscaled's own attributes.

use crate::core::Report;
use crate::net::rtnetlink::{Client, Error};
use crate::tailscale::kernel::Missing;

/// Puts back what is missing: device up, addresses, routes, then rules, so that no rule sends a
/// packet into an empty table. What came back by itself meanwhile is left as it is, and so are
/// firewall chains: their rules are tailscaled's own.
///
/// # Errors
/// What the kernel refused; what was put back before stays.
pub fn mend(missing: &Missing) -> Result<Report, String> {
    if !missing.mendable() {
        let words = [&missing.beyond[..], &missing.chains].concat().join(", ");
        return Err(format!("cannot be put back: {words}"));
    }
    let missing = &missing.but_chains();
    let text = match missing.words() {
        words if words.is_empty() => "nothing is missing any more".into(),
        words => format!("put back {}", words.join(", ")),
    };
    put_back(missing).map_err(|e| e.to_string())?;
    Ok(Report {
        text,
        ..Report::default()
    })
}

fn put_back(missing: &Missing) -> Result<(), Error> {
    let mut client = Client::open()?;
    if let Some(link) = &missing.down {
        client.set_up(link)?;
    }
    for (device, (address, prefix)) in &missing.addresses {
        client.add_address(*device, *address, *prefix)?;
    }
    for route in &missing.routes {
        client.add_route(route)?;
    }
    for rule in &missing.rules {
        client.add_rule(rule)?;
    }
    Ok(())
}
