//! Restarts tailscaled through its service, and believes it only when a new process answers.

use std::path::Path;
use std::time::{Duration, Instant};

use smol::Timer;

use crate::core::Report;
use crate::net::thread;
use crate::tailscale::localapi::LocalApi;
use crate::tailscale::process;
use crate::ubus::blobmsg::Value;
use crate::ubus::client::Handle;

use super::program;

/// A stop of tailscaled takes a few seconds on a slow router; procd kills it after 5.
const SCRIPT_LIMIT: Duration = Duration::from_secs(20);

/// How long the new process may take until it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Restarts `service` by its init script, else by rpcd, else by systemd.
///
/// # Errors
/// Says which way was tried and what it said, or that no new process answered.
pub async fn restart(
    service: &str,
    api: &LocalApi,
    ubus: Option<&Handle>,
) -> Result<Report, String> {
    let old = process::tailscaled(&api.socket);
    let way = order(service, ubus).await?;
    let began = Instant::now();
    // Neither `rc init` nor a script's exit code says that it came up: the pid does.
    while began.elapsed() < ANSWER_LIMIT {
        let pid = process::listener(&api.socket);
        if pid.is_some() && pid != old && api.status(false).await.is_ok() {
            return Ok(Report {
                text: format!(
                    "{way}; pid {} answers",
                    pid.map(|p| p.to_string()).unwrap_or_default()
                ),
                ..Report::default()
            });
        }
        Timer::after(ASK_EVERY).await;
    }
    Err(format!(
        "{way}, but no new tailscaled answered within {} s",
        ANSWER_LIMIT.as_secs()
    ))
}

async fn order(service: &str, ubus: Option<&Handle>) -> Result<String, String> {
    let script = format!("/etc/init.d/{service}");
    if Path::new(&script).is_file() {
        return run(vec![script, "restart".into()]).await;
    }
    if let Some(ubus) = ubus.filter(|u| u.is_up()) {
        let args = vec![
            ("name".to_string(), Value::String(service.into())),
            ("action".to_string(), Value::String("restart".into())),
        ];
        return ubus
            .invoke("rc", "init", args, SCRIPT_LIMIT)
            .await
            .map(|_| "rc init".to_string())
            .map_err(|e| format!("rc init {service}: {e}"));
    }
    if Path::new("/run/systemd/system").is_dir() {
        // tailscale's own unit is called tailscaled; OpenWrt's script is tailscale.
        let unit = match service {
            "tailscale" => "tailscaled",
            other => other,
        };
        return run(vec!["systemctl".into(), "restart".into(), unit.into()]).await;
    }
    Err(format!(
        "there is no {script}, no rpcd and no systemd: set the option `service`"
    ))
}

async fn run(words: Vec<String>) -> Result<String, String> {
    let what = words.join(" ");
    let limit = SCRIPT_LIMIT.saturating_add(Duration::from_secs(1));
    match thread::run(limit, move || program::run(&words, SCRIPT_LIMIT)).await {
        Ok(Ok(())) => Ok(what),
        Ok(Err(e)) => Err(format!("{what}: {e}")),
        Err(e) => Err(format!("{what}: {e}")),
    }
}
