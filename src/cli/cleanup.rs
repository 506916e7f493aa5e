//! `tailover cleanup`: takes all that is ours in the kernel away, daemon or not.

use std::path::Path;

use argh::FromArgs;

use crate::cure::leave;
use crate::cure::steer::{self, Place};
use crate::net::rtnetlink::Client;

use super::{say, settings_or_default, NO_RIGHTS, OK, SYSTEM};

/// remove all rules, routes and the nftables table of tailover, also when the daemon is dead
#[derive(FromArgs)]
#[argh(subcommand, name = "cleanup")]
pub struct Cleanup {}

impl Cleanup {
    pub fn go(self, file: &Path) -> u8 {
        let place = Place::new(&settings_or_default(file));
        let table = leave::cleanup();
        let result = Client::open().and_then(|mut client| steer::cleanup(&mut client, &place));
        match result {
            Ok(gone) => {
                let also = if table { " and the nftables table" } else { "" };
                say(format_args!("Removed {gone} rules and routes{also}."));
                OK
            }
            Err(e) => {
                eprintln!("tailover: {e}");
                match e.is_permission() {
                    true => NO_RIGHTS,
                    false => SYSTEM,
                }
            }
        }
    }
}
