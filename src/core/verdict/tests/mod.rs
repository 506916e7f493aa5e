//! Rounds of probes and the verdicts that they come to.

mod address;
mod flaws;
mod portal;
mod round;
mod time;

use super::*;
use crate::core::flaws::Tls;
use crate::core::sample::{MS, S};

fn answer(by: By) -> Finding {
    Finding::Answer {
        by,
        target: "t".into(),
        rtt: Duration::from_millis(20),
        public: None,
    }
}

fn portal() -> Finding {
    Finding::Intercepted {
        target: "t".into(),
        what: "answered 200".into(),
    }
}

fn judged(findings: &[Finding]) -> Verdict {
    let mut j = Judgement::default();
    j.begin(1, S * 2, Effort::Burst);
    for f in findings {
        j.take(S, 1, f.clone());
    }
    j.expire(S * 2);
    j.verdict
}

/// One burst to its end, with the given findings, begun at `at` seconds.
fn burst(j: &mut Judgement, at: u32, findings: &[Finding]) {
    j.begin(at, S * (at + 2), Effort::Burst);
    for f in findings {
        j.take(S * at, at, f.clone());
    }
    j.expire(S * (at + 2));
    j.take(S * (at + 5), at, Finding::Over);
}

/// A round whose number is 5 and that may take until 9 s.
fn asked(effort: Effort) -> Judgement {
    let mut j = Judgement::default();
    j.begin(5, S * 9, effort);
    j
}

fn failed(why: &str) -> Finding {
    Finding::Failed {
        by: By::Stun,
        target: "t".into(),
        why: why.into(),
    }
}

#[test]
fn each_verdict_has_its_word() {
    let words = Verdict::ALL.map(|v| v.to_string());
    assert_eq!(words, ["open", "dns-dead", "portal", "closed", "unknown"]);
}
