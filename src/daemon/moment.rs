//! An instant that another run of the daemon can compare with its own.

use std::fs;
use std::time::SystemTime;

/// Where the kernel tells which boot this is, and for how long it has lasted (proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// An instant on every clock that there is.
pub(super) struct Moment {
    pub(super) boot: String,
    /// Seconds since the boot.
    pub(super) uptime: f64,
    /// Unix time, in seconds; wrong on many routers after a boot.
    pub(super) time: f64,
}

impl Moment {
    /// Now. A router without procfs does not tell its boots apart.
    pub(super) fn of_now() -> Moment {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let uptime = fs::read_to_string(UPTIME).unwrap_or_default();
        let uptime = uptime.split(' ').next().and_then(|t| t.parse().ok());
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Moment {
            boot: boot.trim().to_string(),
            uptime: uptime.unwrap_or_default(),
            time: time.unwrap_or_default().as_secs_f64().round(),
        }
    }

    /// So many seconds before.
    pub(super) fn back(self, seconds: f64) -> Moment {
        Moment {
            uptime: self.uptime - seconds,
            time: (self.time - seconds).round(),
            ..self
        }
    }
}
