//! `tailover run`: the daemon.

use std::path::Path;

use argh::FromArgs;
use log::{error, warn};
use simple_logger::SimpleLogger;

use crate::config;
use crate::daemon::{self, Refusal};

use super::{say, settings, NO_RIGHTS, OK, SYSTEM, USAGE};

/// run the daemon in the foreground, as procd wants it
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Run {
    /// read the configuration file, say what is wrong with it, and end
    #[argh(switch)]
    test: bool,
}

impl Run {
    pub fn go(self, file: &Path) -> u8 {
        if self.test {
            return match settings(file) {
                Ok(_) => {
                    say(format_args!("{}: can be used", file.display()));
                    OK
                }
                Err(code) => code,
            };
        }
        let loaded = config::load(file);
        let level = match &loaded {
            Ok((settings, _)) => settings.log_level,
            Err(_) => log::LevelFilter::Info,
        };
        // logd adds the time; a second logger in one process is the only thing that can fail here.
        let _ = SimpleLogger::new().with_level(level).init();
        let settings = match loaded {
            Ok((settings, warnings)) => {
                for w in warnings {
                    warn!(target: "tailover", "{w}");
                }
                settings
            }
            Err(e) => {
                for problem in e.0 {
                    error!(target: "tailover", "{problem}");
                }
                error!(target: "tailover", "not started: mend the configuration first");
                return USAGE;
            }
        };
        if !settings.enabled {
            warn!(target: "tailover", "not started: option 'enabled' is 0 in {}", file.display());
            return OK;
        }
        match daemon::run(settings, file) {
            Ok(()) => OK,
            Err(refusal) => {
                error!(target: "tailover", "not started: {refusal}");
                match refusal {
                    Refusal::Rights(_) => NO_RIGHTS,
                    Refusal::Second(_) | Refusal::System(_) => SYSTEM,
                }
            }
        }
    }
}
