//! The drill: rehearses the loss of an uplink, and puts it right again.
//!
//! The uplink counts as shut in [`Knowledge`], for tailscaled's packets alone; all else is the work
//! of the ordinary machine: steer, nudge, renew, verify. When its time is over the mark goes back at
//! once, without waiting for `hold`, because the uplink never failed.

use super::*;
use crate::core::episode::Drill;
use crate::core::Drilled;

/// A tailnet that is not well by then will not be: measured cures take 2 to 10 s.
const DRILL_LIMIT: Duration = Duration::from_secs(60);

impl Core {
    /// What a drill of `uplink` would count as shut, or why there can be none now.
    ///
    /// # Errors
    /// One sentence for the owner.
    pub fn drillable(&self, uplink: &str) -> Result<Drilled, String> {
        let k = &self.k;
        let Some(u) = k.uplinks.iter().find(|u| u.is(uplink)) else {
            let names: Vec<&str> = k.uplinks.iter().map(|u| u.name.as_str()).collect();
            return Err(format!(
                "there is no uplink called {uplink}; there is {}",
                match names.is_empty() {
                    true => "none".to_string(),
                    false => names.join(", "),
                }
            ));
        };
        if let Some(drill) = self.episode.as_ref().and_then(|e| e.drill.as_ref()) {
            return Err(format!("a drill of {} is under way", drill.uplink));
        }
        if let Some(what) = needs_person(k) {
            return Err(Fault::NeedsPerson { what }.to_string());
        }
        if k.tailnet.api != Api::Answers {
            return Err("tailscaled does not answer".into());
        }
        if !k.tailnet.tun {
            return Err(Fault::Userspace.to_string());
        }
        if !self.policy.allowed.steer {
            return Err("steer is not among the allowed cures".into());
        }
        let hinders = |f: &&Fault| f.curable() || matches!(f, Fault::ControlDown { .. });
        if let Some(fault) = self.faults.iter().find(hinders) {
            return Err(format!("first this: {fault}"));
        }
        if self.stage != Stage::Quiet {
            return Err("something else is being looked into; ask again in a moment".into());
        }
        let on_path = |f: &Family| {
            let route = k.path(*f).route.as_ref();
            route.is_some_and(|r| r.device == u.device)
        };
        if !Family::BOTH.iter().any(on_path) {
            return Err(format!("tailscaled's packets do not leave by {}", u.name));
        }
        let other_open = |f: &Family| {
            let others = k.uplinks.iter().filter(|o| o.device != u.device);
            let mut verdicts = others.filter_map(|o| k.verdict(&o.name, *f));
            verdicts.any(|j| j.verdict == Verdict::Open)
        };
        let families = Family::BOTH.map(|f| on_path(&f) && other_open(&f));
        if families == [false; 2] {
            return Err("no other uplink is proved open".into());
        }
        Ok(Drilled {
            name: u.name.clone(),
            device: u.device.clone(),
            families,
        })
    }

    pub(super) fn take_drill(&mut self, now: Time, uplink: String, stay: Duration) {
        let drilled = match self.drillable(&uplink) {
            Ok(drilled) => drilled,
            Err(why) => {
                let text = format!("refused: {why}");
                return self.tell(Notice::Drill { uplink, text });
            }
        };
        let name = drilled.name.clone();
        self.k.drilled = Some(drilled);
        let trigger = format!("drill of {name} asked for by the owner");
        self.begin_episode(now, Origin::Drill, trigger.clone());
        if let Some(e) = &mut self.episode {
            e.drill = Some(Drill {
                uplink: name,
                stay,
                ..Drill::default()
            });
        }
        self.prove(now, Origin::Drill, trigger);
    }

    pub(super) fn take_drill_stop(&mut self) {
        if self.k.drilled.is_some() {
            self.mark_cut("stopped by the owner".into());
        }
    }

    /// Notes how far the drill has come, and ends it when it has to end.
    pub(super) fn follow_drill(&mut self, now: Time) {
        // Acts under way are waited for; they end within CURE_LIMIT.
        if self.k.drilled.is_none() || matches!(self.stage, Stage::Curing { .. }) {
            return;
        }
        if self.away() && self.control_is_back() {
            let by = self.way_meanwhile();
            if let Some(d) = self.drill_mut().filter(|d| d.control.is_none()) {
                d.by = by;
                d.control = Some(now);
            }
        }
        if let Some(why) = self.drill_broken() {
            self.mark_cut(why);
        } else if self.drill_due().is_some_and(|t| t <= now) {
            let well = self.drill_mut().is_some_and(|d| d.well.is_some());
            if !well {
                let limit = DRILL_LIMIT.as_secs();
                self.mark_cut(format!("the tailnet was not well within {limit} s"));
            }
        } else if self.drill_mut().is_some_and(|d| d.cut.is_none()) {
            return;
        }
        self.end_drill(now);
    }

    /// When the drill that runs has to end; `None` while acts are under way.
    pub(super) fn drill_due(&self) -> Option<Time> {
        self.k.drilled.as_ref()?;
        if matches!(self.stage, Stage::Curing { .. }) {
            return None;
        }
        let e = self.episode.as_ref()?;
        let drill = e.drill.as_ref()?;
        Some(match drill.well {
            Some(well) => well + drill.stay,
            None => e.began + DRILL_LIMIT,
        })
    }

    /// Why the rehearsal cannot go on: something real has happened.
    fn drill_broken(&self) -> Option<String> {
        let drilled = self.k.drilled.as_ref()?;
        if let Some(what) = needs_person(&self.k) {
            return Some(Fault::NeedsPerson { what }.to_string());
        }
        if !self.k.uplinks.iter().any(|u| u.name == drilled.name) {
            return Some(format!("{} is gone", drilled.name));
        }
        Family::BOTH.into_iter().find_map(|f| {
            let path = self.k.path(f);
            let moved = drilled.families[f.at()] && !self.k.path_drilled(f);
            let dead = matches!(path.judgement.verdict, Verdict::Closed | Verdict::Portal);
            let way = path.route.as_ref().map(|r| self.k.name_device(&r.device));
            (moved && dead).then(|| match way {
                Some(way) => format!("{way} has failed meanwhile"),
                None => "the other uplink has failed meanwhile".into(),
            })
        })
    }

    /// True when there is nothing to decide in a drill: no other uplink has answered yet, or none
    /// will, and then the drill ends.
    pub(super) fn drill_waits(&mut self, now: Time, faults: &[Fault]) -> bool {
        if self.k.drilled.is_none() {
            return false;
        }
        let nowhere = |f: &Fault| matches!(f, Fault::OutsideDown { .. });
        let pinned = |f: &Fault| matches!(f, Fault::PinnedRoute { .. });
        let nowhere = faults.iter().any(nowhere);
        let waits = !self.away() && !faults.iter().any(pinned);
        if nowhere || (waits && self.rounds_over()) {
            self.cut_drill(now, "no other uplink reaches the outside".into());
        }
        nowhere || waits
    }

    /// Ends the drill before its time.
    pub(super) fn cut_drill(&mut self, now: Time, why: String) {
        self.mark_cut(why);
        self.end_drill(now);
    }

    fn mark_cut(&mut self, why: String) {
        if let Some(d) = self.drill_mut() {
            d.cut.get_or_insert(why);
        }
    }

    /// The uplink counts as what it is again, and is proved before the mark goes back to it.
    fn end_drill(&mut self, now: Time) {
        let Some(drilled) = self.k.drilled.take() else {
            return;
        };
        let mut text = "the rehearsal is over".to_string();
        if let Some(e) = &mut self.episode {
            // The way back has its own tries.
            e.tried = ladder::Tried {
                nudge_missing: e.tried.nudge_missing,
                ..ladder::Tried::default()
            };
            if let Some(d) = &mut e.drill {
                d.over = Some(now);
                if let Some(why) = &d.cut {
                    text = format!("cut short: {why}");
                }
            }
        }
        text = format!("{text}; going back to {} if it is open", drilled.name);
        self.tell_drill(text);
        self.returning = Some(drilled);
        self.prove(now, Origin::Drill, "the drill is over".into());
    }

    /// The tailnet is well over another uplink: stays there until the time is over. While the mark
    /// has not moved, nothing was rehearsed yet.
    pub(super) fn drill_well(&mut self, now: Time) {
        if !self.away() {
            return self.prove(now, Origin::Drill, "nothing was rehearsed yet".into());
        }
        self.rest_quietly(now);
        let by = self.way_meanwhile();
        let Some(e) = &mut self.episode else { return };
        let began = e.began;
        let Some(d) = e.drill.as_mut().filter(|d| d.well.is_none()) else {
            return;
        };
        d.well = Some(now);
        let text = format!(
            "well over {by} after {:.1} s; staying there for {} s",
            now.saturating_sub(began).as_secs_f64(),
            d.stay.as_secs()
        );
        d.by = by;
        self.tell_drill(text);
    }

    /// The uplinks that carry what was turned away, by name.
    fn way_meanwhile(&self) -> String {
        let drilled = |f: &Family| self.k.drilled.as_ref().is_some_and(|d| d.families[f.at()]);
        let ways = Family::BOTH.into_iter().filter(drilled);
        let mut names: Vec<&str> = ways
            .filter_map(|f| self.k.path_uplink(f))
            .map(|u| u.name.as_str())
            .collect();
        names.dedup();
        match names.is_empty() {
            true => "another uplink".into(),
            false => names.join(" and "),
        }
    }

    /// After a drill: moves the mark back as soon as the uplink is proved open. True while that is
    /// under way, or waits for the uplink's verdict.
    pub(super) fn return_from_drill(&mut self, now: Time, since: Time) -> bool {
        let Some(drilled) = &self.returning else {
            return false;
        };
        let k = &self.k;
        let away = |f: &Family| {
            let route = k.path(*f).route.as_ref();
            drilled.families[f.at()] && route.is_none_or(|r| r.device != drilled.device)
        };
        let judged = |f: &Family| k.verdict(&drilled.name, *f);
        let open = |f: &Family| judged(f).is_some_and(|j| j.open_since(since));
        let untold = |f: &Family| !open(f) && judged(f).is_some_and(|j| j.pending());
        let away: Vec<Family> = Family::BOTH.into_iter().filter(away).collect();
        if away.iter().any(untold) {
            return true;
        }
        let families: Vec<Family> = away.into_iter().filter(open).collect();
        let uplink = k.uplinks.iter().find(|u| u.name == drilled.name).cloned();
        self.returning = None;
        match uplink {
            Some(uplink) if !families.is_empty() => {
                self.move_back(now, &uplink, &families, "the drill is over");
                true
            }
            // It failed meanwhile: the mark stays where it is, as after any failover.
            _ => false,
        }
    }

    /// Books the end of the episode for its drill, if it was one, and tells it. True when what was
    /// found and done is the drill's own, and no news of a fault.
    pub(super) fn close_drill(&mut self, now: Time, e: &mut Episode) -> bool {
        self.k.drilled = None;
        self.returning = None;
        let began = e.began;
        let Some(d) = &mut e.drill else { return false };
        let device = self.k.uplinks.iter().find(|u| u.name == d.uplink);
        let device = device.map(|u| u.device.as_str());
        let on_path = |f: Family| self.k.path(f).route.as_ref().map(|r| r.device.as_str());
        if d.over.is_some() && Family::BOTH.into_iter().any(|f| on_path(f) == device) {
            d.back = Some(now);
        }
        let notice = Notice::Drill {
            uplink: d.uplink.clone(),
            text: d.summary(began),
        };
        let own = !d.fault;
        self.tell(notice);
        own
    }

    /// How a fault is told: in a drill's episode what the drill itself brings about is no alarm.
    pub(super) fn tell_fault(&mut self, fault: &Fault) {
        let own = matches!(
            fault,
            Fault::PinnedRoute { drill: true, .. }
                | Fault::StuckControl { .. }
                | Fault::StalePaths { .. }
        );
        let drill = self.drill_mut();
        match drill {
            Some(_) if own => self.tell_drill(fault.to_string()),
            drill => {
                if let Some(d) = drill {
                    d.fault = true;
                }
                self.tell(Notice::Fault {
                    id: fault.id(),
                    text: fault.to_string(),
                    curable: fault.curable(),
                });
            }
        }
    }

    /// True from the end of a rehearsal to the end of its episode. Flows that outlived a short drill
    /// have the right address again, and nobody knows whether their NAT mappings live: they are
    /// renewed.
    pub(super) fn drill_is_over(&self) -> bool {
        let drill = self.episode.as_ref().and_then(|e| e.drill.as_ref());
        drill.is_some_and(|d| d.over.is_some())
    }

    /// True when every family that is rehearsed has left the uplink.
    fn away(&self) -> bool {
        self.k.drilled.is_some() && !Family::BOTH.into_iter().any(|f| self.k.path_drilled(f))
    }

    fn control_is_back(&self) -> bool {
        let k = &self.k;
        let seen = k.tailnet_read.is_some_and(|t| t >= k.epoch.since);
        let online = k.tailnet.online != Some(false) || !k.online_seen;
        seen && online && k.standing(Purpose::Control).fresh > 0
    }

    fn drill_mut(&mut self) -> Option<&mut Drill> {
        self.episode.as_mut()?.drill.as_mut()
    }

    fn tell_drill(&mut self, text: String) {
        if let Some(d) = self.drill_mut() {
            let uplink = d.uplink.clone();
            self.tell(Notice::Drill { uplink, text });
        }
    }
}

#[cfg(test)]
mod tests;
