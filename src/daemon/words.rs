//! The words for what the core tells: log lines and ubus notifications.

use crate::core::Notice;
use crate::ubus::blobmsg::{Table, Value};

/// A line of the log is no longer than this.
const LINE: usize = 500;

/// The name of the ubus notification, if there is one, the line of the log, and the data.
pub(super) fn words(notice: &Notice) -> (Option<&'static str>, String, Table) {
    let (name, line, data) = raw(notice);
    (name, one_line(&line), data)
}

/// Texts from outside (a portal's answer, an interface's name) must not begin a line of their own.
pub(super) fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(LINE).map(clean).collect()
}

fn raw(notice: &Notice) -> (Option<&'static str>, String, Table) {
    let text = |name: &str, value: &str| (name.to_string(), Value::String(value.into()));
    match notice {
        Notice::Trigger(why) => (None, format!("looking: {why}"), vec![]),
        Notice::Fault { id, text: t, .. } => (
            Some("fault"),
            format!("fault {id}: {t}"),
            vec![text("id", id), text("text", t)],
        ),
        Notice::Cure { cure, text: why } => (
            Some("cure"),
            format!("cure {cure}: {why}"),
            vec![text("cure", &cure.to_string()), text("why", why)],
        ),
        Notice::Done { cure, result } => {
            let line = match result {
                Ok(t) => format!("done {cure}: {t}"),
                Err(t) => format!("failed {cure}: {t}"),
            };
            (None, line, vec![])
        }
        Notice::Well => (None, "nothing is wrong".into(), vec![]),
        Notice::Healed { seconds, text: t } => (
            Some("healed"),
            format!("well again after {seconds:.1} s ({t})"),
            vec![
                ("seconds".to_string(), Value::Double(*seconds)),
                text("outcome", t),
            ],
        ),
        Notice::Uplink {
            name,
            family,
            verdict,
            evidence,
        } => (
            Some("uplink"),
            format!("uplink {name} {family} is {verdict}: {evidence}"),
            vec![
                text("uplink", name),
                text("family", &family.to_string()),
                text("verdict", &verdict.to_string()),
                text("evidence", evidence),
            ],
        ),
        Notice::Leaving { name } => (
            None,
            format!("moving peers off {name}, which is metered"),
            vec![],
        ),
        Notice::Waiting(why) => (None, format!("waiting: {why}"), vec![]),
        Notice::Drill { uplink, text: t } => (
            Some("drill"),
            format!("drill of {uplink}: {t}"),
            vec![text("uplink", uplink), text("text", t)],
        ),
        Notice::Remark(text) => (None, text.clone(), vec![]),
    }
}
