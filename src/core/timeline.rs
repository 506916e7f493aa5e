//! What each way out was seen to be in the last day, in slots of five minutes.
//!
//! The episodes tell when the tailnet was ill. They do not tell that a backup was dark all night, or
//! for how long the first uplink stayed away after a failover that took three seconds.

use std::time::Duration;

use super::{Family, Knowledge, Time, Verdict};

/// How long a slot is, and how many are kept: a day.
pub const SLOT: Duration = Duration::from_secs(300);
pub const SLOTS: usize = 288;

/// How much of its slot is over at a moment.
pub fn into_slot(now: Time) -> Duration {
    Duration::from_secs(now.as_secs() % SLOT.as_secs())
}

/// Bound on the ways that are kept; a router has two for each uplink.
const WAYS: usize = 16;

/// The bit of a slot that says that the tailnet's packets went by this way.
pub const IN_USE: u8 = 16;

fn slots(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The bit of a slot that says that this verdict held within it.
fn bit(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Open => 1,
        Verdict::DnsDead => 2,
        Verdict::Portal => 4,
        Verdict::Closed => 8,
        Verdict::Unknown => 0,
    }
}

/// One family of an uplink.
#[derive(Clone, Debug)]
pub struct Row {
    pub uplink: String,
    pub family: Family,
    /// What was seen in each slot, a bit each; the oldest first, the last one is not over yet.
    pub slots: Vec<u8>,
    /// What holds now.
    bits: u8,
}

/// The last day, as far as this run has seen it.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    rows: Vec<Row>,
    /// The number of the slot that is not over yet, from the start on.
    slot: u64,
}

impl Timeline {
    /// Notes what holds now. What held before has held until now.
    pub fn note(&mut self, now: Time, k: &Knowledge) {
        self.go_on(now);
        for row in &mut self.rows {
            row.bits = 0;
        }
        for ((uplink, family), judgement) in &k.verdicts {
            let used = k.path_uplink(*family).is_some_and(|u| u.name == *uplink);
            let bits = bit(judgement.verdict) | if used { IN_USE } else { 0 };
            let same = |row: &Row| row.family == *family && row.uplink == *uplink;
            let at = match self.rows.iter().position(same) {
                Some(at) => at,
                None if bits == 0 || self.rows.len() == WAYS => continue,
                None => {
                    let begun = slots(self.slot).min(SLOTS - 1) + 1;
                    self.rows.push(Row {
                        uplink: uplink.clone(),
                        family: *family,
                        slots: vec![0; begun],
                        bits,
                    });
                    self.rows.len() - 1
                }
            };
            let row = &mut self.rows[at];
            row.bits = bits;
            if let Some(last) = row.slots.last_mut() {
                *last |= bits;
            }
        }
    }

    /// Begins the slots that have come since.
    fn go_on(&mut self, now: Time) {
        let slot = now.as_secs() / SLOT.as_secs();
        let passed = slots(slot.saturating_sub(self.slot)).min(SLOTS);
        if passed == 0 {
            return;
        }
        self.slot = slot;
        for row in &mut self.rows {
            let bits = row.bits;
            row.slots.resize(row.slots.len() + passed, bits);
            let many = row.slots.len().saturating_sub(SLOTS);
            row.slots.drain(..many);
        }
        // An uplink that has been away for a day.
        self.rows
            .retain(|row| row.slots.iter().any(|bits| *bits != 0));
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(verdicts: &[(&str, Verdict)]) -> Knowledge {
        let mut k = Knowledge::default();
        for (name, verdict) in verdicts {
            let judgement = k.verdicts.entry((name.to_string(), Family::V4));
            judgement.or_default().verdict = *verdict;
        }
        k
    }

    fn slots(timeline: &Timeline, name: &str) -> Vec<u8> {
        let rows = timeline.rows().iter();
        rows.filter(|row| row.uplink == name)
            .flat_map(|row| row.slots.clone())
            .collect()
    }

    #[test]
    fn a_slot_has_all_that_held_within_it_and_what_holds_goes_on() {
        let mut timeline = Timeline::default();
        let (open, closed) = (
            known(&[("wan", Verdict::Open)]),
            known(&[("wan", Verdict::Closed)]),
        );
        timeline.note(SLOT / 2, &open);
        timeline.note(SLOT, &open);
        timeline.note(SLOT + SLOT / 3, &closed);
        timeline.note(SLOT * 4, &open);
        assert_eq!(slots(&timeline, "wan"), [1, 9, 8, 8, 9]);
    }

    #[test]
    fn an_uplink_that_comes_later_was_nothing_before_and_one_that_goes_is_nothing_after() {
        let mut timeline = Timeline::default();
        timeline.note(SLOT, &known(&[("wan", Verdict::Open)]));
        let both = known(&[("wan", Verdict::Open), ("lte", Verdict::Portal)]);
        timeline.note(SLOT * 2, &both);
        timeline.note(SLOT * 3, &known(&[("wan", Verdict::Unknown)]));
        timeline.note(SLOT * 4, &known(&[]));
        assert_eq!(slots(&timeline, "wan"), [0, 1, 1, 1, 0]);
        assert_eq!(slots(&timeline, "lte"), [0, 0, 4, 4, 0]);
    }

    #[test]
    fn a_day_is_kept_and_no_more_and_only_so_many_ways() {
        let mut timeline = Timeline::default();
        timeline.note(Time::ZERO, &known(&[("wan", Verdict::Closed)]));
        timeline.note(SLOT * 1000, &known(&[("wan", Verdict::Open)]));
        let day = slots(&timeline, "wan");
        assert_eq!((day.len(), day[0], day[SLOTS - 1]), (SLOTS, 8, 9));
        let names: Vec<String> = (0..WAYS * 2).map(|n| format!("wan{n}")).collect();
        let many: Vec<(&str, Verdict)> =
            names.iter().map(|n| (n.as_str(), Verdict::Open)).collect();
        timeline.note(SLOT * 1000, &known(&many));
        assert_eq!(timeline.rows().len(), WAYS);
        // Those that have been away for a day leave their room to others.
        timeline.note(SLOT * 1001, &known(&[]));
        timeline.note(SLOT * 1289, &known(&[("new", Verdict::Open)]));
        timeline.note(SLOT * 1290, &known(&[("new", Verdict::Open)]));
        assert_eq!(slots(&timeline, "new").len(), SLOTS);
        assert_eq!(timeline.rows().len(), 1);
    }

    #[test]
    fn each_verdict_has_a_bit_and_so_has_the_way_in_use() {
        let bits = Verdict::ALL.map(bit);
        assert_eq!(bits, [1, 2, 4, 8, 0]);
        let mut timeline = Timeline::default();
        let mut k = crate::core::sample::well();
        timeline.note(SLOT, &k);
        assert_eq!(slots(&timeline, "wan"), [0, 1 + IN_USE, 0, 1 + IN_USE]);
        assert_eq!(slots(&timeline, "wanb"), [0, 1, 0, 1]);
        k.paths[1].route = None;
        timeline.note(SLOT * 2, &k);
        let v6 = timeline
            .rows()
            .iter()
            .find(|r| r.uplink == "wan" && r.family == Family::V6);
        assert_eq!(v6.map(|r| r.slots.clone()), Some(vec![0, 17, 17]));
        timeline.note(SLOT * 3, &k);
        let v6 = timeline
            .rows()
            .iter()
            .find(|r| r.uplink == "wan" && r.family == Family::V6);
        assert_eq!(v6.map(|r| r.slots.clone()), Some(vec![0, 17, 17, 1]));
    }

    #[test]
    fn so_much_of_a_slot_is_over() {
        assert_eq!(
            into_slot(SLOT * 3 + Duration::from_secs(7)),
            Duration::from_secs(7)
        );
        assert_eq!(into_slot(SLOT * 3), Duration::ZERO);
    }

    #[test]
    fn a_way_in_use_that_is_not_known_yet_has_a_row_and_one_that_is_not_used_has_none() {
        let mut k = crate::core::sample::well();
        for j in k.verdicts.values_mut() {
            j.verdict = Verdict::Unknown;
        }
        let mut timeline = Timeline::default();
        timeline.note(SLOT, &k);
        let names: Vec<&str> = timeline.rows().iter().map(|r| r.uplink.as_str()).collect();
        assert_eq!(names, ["wan", "wan"]);
        // One that comes after more than a day has a day and no more.
        let mut late = Timeline::default();
        late.note(SLOT * 500, &k);
        assert_eq!(late.rows()[0].slots.len(), SLOTS);
        let mut first = Timeline::default();
        first.note(SLOT * 287, &k);
        assert_eq!(first.rows()[0].slots.len(), SLOTS);
        let mut before = Timeline::default();
        before.note(SLOT * 286, &k);
        assert_eq!(before.rows()[0].slots.len(), SLOTS - 1);
    }
}
