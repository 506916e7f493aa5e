//! How often tailscaled was started anew by others than us, and whether it had ended by itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::Time;

/// Starts count for this long.
const COUNTS: Duration = Duration::from_secs(600);

/// This many within that time are a pattern; fewer are somebody at work, or an accident.
const MANY: u32 = 3;

/// A loop in which nothing has ended for this long is over: procd's respawn waits 5 s in OpenWrt's
/// package, and gives up after six ends.
const LOOP_OVER: Duration = Duration::from_secs(120);

/// Where procd cannot be heard: a process that lived shorter than this has ended by itself.
const SHORT_LIFE: Duration = Duration::from_secs(30);

/// The start that a restart of ours brings about comes within this time.
const OURS_WITHIN: Duration = Duration::from_secs(60);

/// Most starts remembered.
const KEPT: usize = 16;

/// What procd says of an instance (procd, service/instance.c: service_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `instance.start`
    Started,
    /// `instance.respawn`: it has ended by itself and is started again soon.
    Ended,
    /// `instance.fail`: it has ended by itself too often and is not started again.
    GaveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starter {
    /// It had ended by itself.
    Crash,
    /// Somebody asked for it, and not we.
    Hand,
}

/// The starts of the last minutes that were not ours.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// Oldest first.
    list: VecDeque<(Time, Starter)>,
    /// A restart of ours whose start has not been seen yet.
    ordered: Option<Time>,
    /// procd tells of each start; a new process then says nothing new.
    procd_speaks: bool,
    /// procd said that it starts it again; that start is counted already.
    respawning: bool,
    /// The newest processes that were seen, and when the last of them was started.
    pids: VecDeque<u32>,
    born: Option<Time>,
}

impl Starts {
    /// A restart of ours begins.
    pub fn order(&mut self, now: Time) {
        self.ordered = Some(now);
    }

    /// procd said this of tailscaled's service.
    pub fn word(&mut self, now: Time, word: Word) {
        self.procd_speaks = true;
        match word {
            Word::Ended | Word::GaveUp => {
                self.add(now, Starter::Crash);
                self.respawning = word == Word::Ended;
            }
            Word::Started if std::mem::take(&mut self.respawning) => {}
            Word::Started if self.take_ours(now) => {}
            Word::Started => self.add(now, Starter::Hand),
        }
    }

    /// Another process than before was seen, started `age` ago.
    pub fn process(&mut self, now: Time, pid: u32, age: Duration) {
        // A look that took long may tell of an older one.
        if self.pids.contains(&pid) {
            return;
        }
        if self.pids.len() == KEPT {
            self.pids.pop_front();
        }
        self.pids.push_back(pid);
        let started = now.saturating_sub(age);
        let before = self.born.replace(started);
        if self.procd_speaks || self.take_ours(now) {
            return;
        }
        if let Some(before) = before {
            let lived = started.saturating_sub(before);
            self.add(
                now,
                match lived < SHORT_LIFE {
                    true => Starter::Crash,
                    false => Starter::Hand,
                },
            );
        }
    }

    /// How often it has ended by itself, when that goes on and is a loop.
    pub fn crash_loop(&self, now: Time) -> Option<u32> {
        let last = self.of(now, Starter::Crash).last()?;
        let count = self.count(now, Starter::Crash);
        (count >= MANY && now.saturating_sub(last) < LOOP_OVER).then_some(count)
    }

    /// When procd last said that it has ended by itself.
    pub fn last_end(&self) -> Option<Time> {
        let told = |(_, by): &&(Time, Starter)| self.procd_speaks && *by == Starter::Crash;
        self.list.iter().rev().find(told).map(|(at, _)| *at)
    }

    /// How often somebody else has started it anew in the last minutes, when that is a pattern; and
    /// how long those minutes are.
    pub fn other_hand(&self, now: Time) -> Option<(u32, Duration)> {
        let count = self.count(now, Starter::Hand);
        (count >= MANY).then_some((count, COUNTS))
    }

    fn count(&self, now: Time, starter: Starter) -> u32 {
        u32::try_from(self.of(now, starter).count()).unwrap_or(u32::MAX)
    }

    fn of(&self, now: Time, starter: Starter) -> impl Iterator<Item = Time> + '_ {
        let counts =
            move |(at, by): &&(Time, Starter)| *by == starter && now.saturating_sub(*at) < COUNTS;
        self.list.iter().filter(counts).map(|(at, _)| *at)
    }

    fn take_ours(&mut self, now: Time) -> bool {
        let ordered = self.ordered.take();
        ordered.is_some_and(|at| now.saturating_sub(at) < OURS_WITHIN)
    }

    fn add(&mut self, now: Time, starter: Starter) {
        if self.list.len() == KEPT {
            self.list.pop_front();
        }
        self.list.push_back((now, starter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sample::{MS, S};

    #[test]
    fn what_ends_by_itself_again_and_again_is_a_loop_until_it_rests() {
        let mut starts = Starts::default();
        for at in [10, 16, 22] {
            assert_eq!(starts.crash_loop(at * S), None);
            starts.word(at * S, Word::Ended);
            starts.word((at + 5) * S, Word::Started);
            starts.process((at + 5) * S, at, Duration::ZERO);
        }
        assert_eq!(starts.crash_loop(30 * S), Some(3));
        assert_eq!(starts.other_hand(30 * S), None);
        assert_eq!(starts.crash_loop(142 * S), None, "it has lived long since");
    }

    #[test]
    fn starts_that_nobody_but_another_asked_for_are_another_hand() {
        let mut starts = Starts::default();
        starts.process(Time::ZERO, 1, Duration::ZERO);
        for at in [60, 120] {
            starts.word(at * S, Word::Started);
            starts.process((at + 1) * S, at, S);
        }
        assert_eq!(starts.other_hand(130 * S), None, "twice is no pattern");
        starts.word(180 * S, Word::Started);
        assert_eq!(starts.other_hand(181 * S).map(|(n, _)| n), Some(3));
        assert_eq!(starts.crash_loop(181 * S), None);
        assert_eq!(starts.other_hand(700 * S), None, "long ago");
    }

    #[test]
    fn a_start_that_we_asked_for_is_ours_and_the_next_is_not() {
        let mut starts = Starts::default();
        for at in [100, 200, 300] {
            starts.order(at * S);
            starts.word((at + 3) * S, Word::Started);
            starts.word((at + 50) * S, Word::Started);
        }
        assert_eq!(starts.other_hand(360 * S).map(|(n, _)| n), Some(3));
    }

    #[test]
    fn without_procd_the_length_of_a_life_tells() {
        let (mut short, mut long) = (Starts::default(), Starts::default());
        for n in 0..4 {
            short.process(7 * n * S, n, S);
            long.process(60 * n * S, n, 2 * S);
            long.process(60 * n * S + S, 0, 2 * S);
        }
        assert_eq!(short.crash_loop(25 * S), Some(3));
        assert_eq!(short.other_hand(25 * S), None);
        assert_eq!(long.crash_loop(185 * S), None);
        assert_eq!(long.other_hand(185 * S).map(|(n, _)| n), Some(3));
    }

    /// Three starts by `word`, the last at 100 s.
    fn thrice(word: Word) -> Starts {
        let mut starts = Starts::default();
        for at in [80, 90, 100] {
            starts.word(at * S, word);
        }
        starts
    }

    #[test]
    fn a_loop_is_over_when_nothing_has_ended_for_two_minutes() {
        let starts = thrice(Word::Ended);
        assert_eq!(starts.crash_loop(220 * S - MS), Some(3));
        assert_eq!(starts.crash_loop(220 * S), None);
        assert_eq!(starts.last_end(), Some(100 * S));
        let mut twice = Starts::default();
        twice.word(S, Word::Ended);
        twice.word(2 * S, Word::GaveUp);
        assert_eq!(twice.crash_loop(3 * S), None);
    }

    #[test]
    fn starts_count_for_ten_minutes() {
        let starts = thrice(Word::Started);
        assert_eq!(starts.other_hand(680 * S - MS), Some((3, 600 * S)));
        assert_eq!(starts.other_hand(680 * S), None);
        assert_eq!(starts.last_end(), None, "nothing has ended by itself");
    }

    #[test]
    fn the_start_that_follows_an_end_is_counted_with_it_unless_procd_gave_up() {
        for (end, hands) in [(Word::Ended, 0), (Word::GaveUp, 3)] {
            let mut starts = Starts::default();
            for at in [10, 20, 30] {
                starts.word(at * S, end);
                starts.word((at + 1) * S, Word::Started);
            }
            assert_eq!(starts.count(40 * S, Starter::Crash), 3);
            assert_eq!(starts.count(40 * S, Starter::Hand), hands, "{end:?}");
        }
    }

    #[test]
    fn our_own_start_comes_within_a_minute() {
        for (later, ours) in [(60 * S - MS, true), (60 * S, false)] {
            let mut starts = Starts::default();
            starts.order(S);
            starts.word(S + later, Word::Started);
            assert_eq!(starts.count(200 * S, Starter::Hand), u32::from(!ours));
            let mut starts = Starts::default();
            starts.process(Time::ZERO, 1, Duration::ZERO);
            starts.order(100 * S);
            starts.process(100 * S + later, 2, Duration::ZERO);
            assert_eq!(starts.count(200 * S, Starter::Hand), u32::from(!ours));
        }
    }

    #[test]
    fn a_life_of_half_a_minute_was_ended_by_another() {
        for (life, starter) in [(30 * S - MS, Starter::Crash), (30 * S, Starter::Hand)] {
            let mut starts = Starts::default();
            // Each was started a second before it was seen.
            starts.process(10 * S, 1, S);
            starts.process(10 * S + life, 2, S);
            assert_eq!(starts.count(50 * S, starter), 1, "{life:?}");
            assert_eq!(starts.last_end(), None, "procd has not said so");
        }
        // Where procd speaks, another process says nothing new; one that was seen says nothing at all.
        let mut starts = Starts::default();
        starts.word(S, Word::Started);
        starts.process(10 * S, 1, S);
        starts.process(15 * S, 2, S);
        assert_eq!(starts.list.len(), 1);
        let mut starts = Starts::default();
        for (at, pid) in [(10, 1), (20, 2), (21, 1), (22, 2)] {
            starts.process(at * S, pid, S);
        }
        assert_eq!(starts.list.len(), 1);
    }

    #[test]
    fn memory_of_starts_and_of_processes_is_bounded() {
        let mut starts = Starts::default();
        for n in 0..40 {
            starts.process(n * 100 * S, n, Duration::ZERO);
            assert!(starts.list.len() <= KEPT && starts.pids.len() <= KEPT);
        }
        assert_eq!((starts.list.len(), starts.pids.len()), (KEPT, KEPT));
        let newest = starts.list.back().map(|(at, _)| *at);
        assert_eq!(newest, Some(3900 * S));
        assert_eq!(starts.pids.front(), Some(&24));
    }
}
