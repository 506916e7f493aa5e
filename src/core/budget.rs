//! When tailscaled may be restarted again: backoff with jitter, and a cap on every hour.

use std::collections::VecDeque;
use std::time::Duration;

use super::Time;

const HOUR: Duration = Duration::from_secs(3600);

/// Limits on restarts, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// First pause between two restarts.
    pub min: Duration,
    /// Longest pause between two restarts.
    pub max: Duration,
    /// Most restarts in any 3600 s; 0 forbids them.
    pub per_hour: u32,
}

/// Counts restarts and says when the next is allowed.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// Until when each restart counts, the oldest first.
    spent: VecDeque<Time>,
    pause: Option<Duration>,
    not_before: Time,
    healthy_since: Option<Time>,
}

impl Budget {
    /// `Ok` when a restart is allowed now; else the time from which it is.
    /// `None` within the error means never (the cap is 0).
    pub fn may(&self, now: Time, limits: &Limits) -> Result<(), Option<Time>> {
        if limits.per_hour == 0 {
            return Err(None);
        }
        if now < self.not_before {
            return Err(Some(self.not_before));
        }
        let recent: Vec<Time> = self
            .spent
            .iter()
            .copied()
            .filter(|until| *until > now)
            .collect();
        let cap = limits.per_hour as usize;
        match recent.len().checked_sub(cap) {
            // The cap is free again when the oldest that fills it is an hour old.
            Some(over) => Err(recent.get(over).copied()),
            None => Ok(()),
        }
    }

    /// Books a restart. `dice` spreads the pause by up to a quarter so that fifty routers behind
    /// one dead control server do not restart in step.
    pub fn spend(&mut self, now: Time, dice: u32, limits: &Limits) {
        self.spent.push_back(now + HOUR);
        while self.spent.front().is_some_and(|until| *until <= now) {
            self.spent.pop_front();
        }
        let pause = match self.pause {
            None => limits.min,
            Some(p) => (p * 2).clamp(limits.min, limits.max.max(limits.min)),
        };
        self.pause = Some(pause);
        self.not_before = now + pause + (pause / 4).mul_f64(f64::from(dice) / f64::from(u32::MAX));
        self.healthy_since = None;
    }

    /// Books the restarts of earlier runs, the oldest first, by how long ago each was. A daemon that is
    /// killed and started again must not begin to count anew.
    pub fn recall(&mut self, now: Time, ages: &[Duration], limits: &Limits) {
        for age in ages.iter().filter(|age| **age < HOUR) {
            self.spend(now, 0, limits);
            if let Some(until) = self.spent.back_mut() {
                *until = until.saturating_sub(*age);
            }
            self.not_before = self.not_before.saturating_sub(*age);
        }
    }

    /// Notes whether the tailnet is well; a healthy stretch as long as the longest pause,
    /// and at least an hour, resets the backoff.
    pub fn health(&mut self, now: Time, well: bool, limits: &Limits) {
        if !well {
            self.healthy_since = None;
            return;
        }
        let since = *self.healthy_since.get_or_insert(now);
        if now.saturating_sub(since) >= HOUR.max(limits.max) {
            self.pause = None;
        }
    }

    /// Restarts in the last 3600 s.
    pub fn spent(&self, now: Time) -> usize {
        self.spent.iter().filter(|until| **until > now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits {
            min: Duration::from_secs(60),
            max: Duration::from_secs(600),
            per_hour: 3,
        }
    }

    #[test]
    fn the_pause_doubles_up_to_its_maximum() {
        let (mut b, l) = (Budget::default(), limits());
        let mut now = Duration::ZERO;
        let mut pauses = vec![];
        for _ in 0..6 {
            b.spend(now, 0, &l);
            pauses.push((b.not_before - now).as_secs());
            now += Duration::from_secs(7200);
        }
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn a_long_healthy_stretch_forgives() {
        let (mut b, l) = (Budget::default(), limits());
        b.spend(Duration::ZERO, 0, &l);
        b.spend(Duration::from_secs(100), 0, &l);
        b.health(Duration::from_secs(200), true, &l);
        b.health(Duration::from_secs(200) + HOUR, true, &l);
        let later = Duration::from_secs(300) + HOUR;
        b.spend(later, 0, &l);
        assert_eq!(b.not_before - later, l.min);
    }

    #[test]
    fn what_an_earlier_run_has_spent_counts_on() {
        let l = limits();
        let now = Duration::from_secs(5);
        let ages = [4000, 3000, 200, 20].map(Duration::from_secs);
        let mut b = Budget::default();
        b.recall(now, &ages, &l);
        assert_eq!(b.spent(now), 3, "the first is longer ago than an hour");
        // The third pause is 240 s, and began 20 s ago; then the hour of the first that counts is not over.
        assert_eq!(b.may(now, &l), Err(Some(now + Duration::from_secs(220))));
        let later = now + Duration::from_secs(220);
        assert_eq!(b.may(later, &l), Err(Some(now + Duration::from_secs(600))));
        assert_eq!(b.may(now + Duration::from_secs(600), &l), Ok(()));
    }

    #[test]
    fn a_short_healthy_stretch_forgives_nothing() {
        let (mut b, l) = (Budget::default(), limits());
        b.spend(Duration::ZERO, 0, &l);
        b.health(Duration::from_secs(60), true, &l);
        b.health(Duration::from_secs(59) + HOUR, true, &l);
        let later = Duration::from_secs(60) + HOUR;
        b.spend(later, 0, &l);
        assert_eq!(b.not_before - later, l.min * 2);
    }

    #[test]
    fn the_dice_lengthen_a_pause_by_a_quarter_at_most() {
        let (mut b, l) = (Budget::default(), limits());
        b.spend(Duration::ZERO, u32::MAX, &l);
        assert_eq!(b.not_before, Duration::from_secs(75));
    }

    #[test]
    fn what_is_an_hour_old_counts_no_more() {
        let (mut b, l) = (Budget::default(), limits());
        b.spend(Duration::ZERO, 0, &l);
        assert_eq!(b.spent(HOUR - Duration::from_nanos(1)), 1);
        assert_eq!(b.spent(HOUR), 0);
        let mut b = Budget::default();
        b.recall(HOUR, &[HOUR], &l);
        assert_eq!(b.pause, None);
    }

    #[test]
    fn none_are_allowed_with_a_cap_of_zero() {
        let l = Limits {
            per_hour: 0,
            ..limits()
        };
        assert_eq!(Budget::default().may(Duration::ZERO, &l), Err(None));
    }

    proptest! {
        #[test]
        fn no_hour_sees_more_than_the_cap(gaps in proptest::collection::vec(0u64..900, 1..200), cap in 1u32..6, dice in any::<u32>()) {
            let l = Limits { per_hour: cap, ..limits() };
            let (mut b, mut now, mut done) = (Budget::default(), Duration::ZERO, vec![]);
            for g in gaps {
                now += Duration::from_secs(g);
                if b.may(now, &l).is_ok() {
                    b.spend(now, dice, &l);
                    done.push(now);
                }
            }
            for t in &done {
                prop_assert!(done.iter().filter(|u| **u >= *t && **u < *t + HOUR).count() <= cap as usize);
            }
            // The cap holds without making restarts impossible.
            prop_assert!(!done.is_empty());
        }
    }
}
