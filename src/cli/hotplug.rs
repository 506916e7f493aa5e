//! `tailover hotplug`: relays an event of netifd, mwan3 or ntpd to the daemon, and never holds it up.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use argh::FromArgs;

use crate::daemon::OBJECT;
use crate::ubus::blobmsg::{Table, Value};
use crate::ubus::{oneshot, Error};

use super::{settings_or_default, OK};

/// netifd runs its hotplug scripts one at a time, so even a dead ubusd may cost no more than this.
const PATIENCE: Duration = Duration::from_millis(15);

/// A router that is busy with a failover may need longer; nobody waits for this.
const BEHIND: Duration = Duration::from_secs(5);

/// relay ACTION, INTERFACE, DEVICE and FIRSTCONNECT from the environment to the daemon
#[derive(FromArgs)]
#[argh(subcommand, name = "hotplug")]
pub struct Hotplug {
    /// wait for a busy router; what it starts itself when the first try took too long
    #[argh(switch)]
    behind: bool,
}

impl Hotplug {
    /// Quiet and always 0: without a daemon there is nobody to tell, and a hotplug script has nobody
    /// to complain to.
    pub fn go(self, file: &Path) -> u8 {
        let data = event(|name| std::env::var(name).ok());
        if data.is_empty() {
            return OK;
        }
        let socket = settings_or_default(file).ubus_socket;
        let patience = if self.behind { BEHIND } else { PATIENCE };
        let told = oneshot::tell(&socket, OBJECT, "event", data, patience);
        if matches!(told, Err(Error::Timeout)) && !self.behind {
            try_behind(file);
        }
        OK
    }
}

/// Tries once more in a process that nobody waits for.
fn try_behind(file: &Path) {
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let nothing = || Stdio::null();
    // It ends by itself; init takes it over when this process has ended.
    let _ = Command::new(program)
        .arg("--config")
        .arg(file)
        .args(["hotplug", "--behind"])
        .stdin(nothing())
        .stdout(nothing())
        .stderr(nothing())
        .spawn();
}

/// The event in the words of our ubus object; empty when there is none to tell.
fn event(variable: impl Fn(&str) -> Option<String>) -> Table {
    let named = ["ACTION", "INTERFACE", "DEVICE", "FIRSTCONNECT"];
    let given = |name: &&str| variable(name).is_some_and(|v| !v.is_empty());
    if !named.iter().take(2).all(given) {
        return Table::new();
    }
    named
        .iter()
        .filter_map(|name| Some((name.to_lowercase(), Value::String(variable(name)?))))
        .collect()
}

/// Reads bytes of anybody's, for `crate::hostile`.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn hostile(bytes: &[u8]) {
    let mut values = bytes.split(|b| *b == 0);
    let mut value = || Some(String::from_utf8_lossy(values.next()?).into_owned());
    let (a, i, d, f) = (value(), value(), value(), value());
    let table = event(|name| match name {
        "ACTION" => a.clone(),
        "INTERFACE" => i.clone(),
        "DEVICE" => d.clone(),
        _ => f.clone(),
    });
    let told = crate::watch::events::hotplug(&Value::Table(table));
    if let Ok(crate::core::Event::Up { interface, .. }) = told {
        assert!(interface.bytes().all(|b| b.is_ascii_graphic()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_but_empty_is_relayed_and_a_missing_action_is_no_event() {
        let full = |name: &str| match name {
            "ACTION" => Some("connected".to_string()),
            "INTERFACE" => Some("wan".to_string()),
            // As on a tracked recovery of mwan3.
            "FIRSTCONNECT" => Some(String::new()),
            _ => None,
        };
        let got: Vec<String> = event(full).into_iter().map(|(name, _)| name).collect();
        assert_eq!(got, ["action", "interface", "firstconnect"]);
        assert!(event(|name| full(name).filter(|_| name != "ACTION")).is_empty());
    }
}
