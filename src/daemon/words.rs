//! The words for what the core tells: log lines and ubus notifications.

use crate::core::Notice;
use crate::ubus::blobmsg::{Table, Value};

/// A line of the log is no longer than this.
const LINE: usize = 500;

/// The name of the ubus notification, the line of the log, and the data, that line among them: who
/// follows the daemon shows what the log says.
pub(super) fn words(notice: &Notice) -> (&'static str, String, Table) {
    let (name, line, mut data) = raw(notice);
    let line = one_line(&line);
    data.push(("line".to_string(), Value::String(line.clone())));
    (name, line, data)
}

/// Texts from outside (a portal's answer, an interface's name) must not begin a line of their own.
pub(super) fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(LINE).map(clean).collect()
}

fn raw(notice: &Notice) -> (&'static str, String, Table) {
    let text = |name: &str, value: &str| (name.to_string(), Value::String(value.into()));
    match notice {
        Notice::Trigger(why) => ("looking", format!("looking: {why}"), vec![text("why", why)]),
        Notice::Fault { id, text: t, .. } => (
            "fault",
            format!("fault {id}: {t}"),
            vec![text("id", id), text("text", t)],
        ),
        Notice::Cure { cure, text: why } => (
            "cure",
            format!("cure {cure}: {why}"),
            vec![text("cure", &cure.to_string()), text("why", why)],
        ),
        Notice::Done { cure, result } => {
            let (name, line, t) = match result {
                Ok(t) => ("done", format!("done {cure}: {t}"), t),
                Err(t) => ("failed", format!("failed {cure}: {t}"), t),
            };
            let data = vec![text("cure", &cure.to_string()), text("result", t)];
            (name, line, data)
        }
        Notice::Well => ("well", "nothing is wrong".into(), vec![]),
        Notice::Healed { seconds, text: t } => (
            "healed",
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
            "uplink",
            format!("uplink {name} {family} is {verdict}: {evidence}"),
            vec![
                text("uplink", name),
                text("family", &family.to_string()),
                text("verdict", &verdict.to_string()),
                text("evidence", evidence),
            ],
        ),
        Notice::Leaving { name } => (
            "leaving",
            format!("moving peers off {name}, which is metered"),
            vec![text("uplink", name)],
        ),
        Notice::Waiting(why) => ("waiting", format!("waiting: {why}"), vec![text("why", why)]),
        Notice::Drill { uplink, text: t } => (
            "drill",
            format!("drill of {uplink}: {t}"),
            vec![text("uplink", uplink), text("text", t)],
        ),
        Notice::Remark(text) => ("remark", text.clone(), vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_within_its_line() {
        let forged = "a\r\nERROR fault F1: \u{1b}[2J\u{85}".to_string() + &"x".repeat(2000);
        let (_, line, data) = words(&Notice::Trigger(forged));
        assert!(line.chars().count() <= LINE);
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.starts_with("looking: a??ERROR fault F1: ?[2J?xxx"));
        let told = data.iter().find(|(name, _)| name == "line");
        assert_eq!(told.map(|(_, v)| v), Some(&Value::String(line)));
    }
}
