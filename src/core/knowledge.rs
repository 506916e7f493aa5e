//! All that the core holds to be true of the router just now, with the questions asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::finding::Scope;
use super::flaws::Flaws;
use super::signs::Resending;
use super::starts::Starts;
use super::tailnet::{Epoch, Tailnet};
use super::uplink::{Family, Route, Uplink, Way};
use super::verdict::{Judgement, Verdict};
use super::{Hop, Pin, Steering, Time};

/// The kernel's route for the mark in one family, and what probes over it say.
#[derive(Clone, Debug, Default)]
pub struct Path {
    pub route: Option<Route>,
    pub judgement: Judgement,
    /// Shortest answer of the last round that had one, kept while the path is silent.
    pub usual_rtt: Option<Duration>,
    /// When a heartbeat went out that is still unanswered.
    pub beat_at: Option<Time>,
    /// When the last heartbeat went out.
    pub asked_at: Time,
}

/// Everything known. Fields are facts; methods are questions.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// The preferred first.
    pub uplinks: Vec<Uplink>,
    pub verdicts: BTreeMap<(String, Family), Judgement>,
    pub paths: [Path; 2],
    pub paths_read: Option<Time>,
    pub tailnet: Tailnet,
    pub tailnet_read: Option<Time>,
    /// Since when LocalAPI behaves as it does. A word on the bus begins a silence anew.
    pub api_since: Time,
    /// CPU time that tailscaled had used then.
    pub cpu_then: Duration,
    /// Since when tailscaled's process is stopped.
    pub halted_since: Option<Time>,
    /// Since when each look finds that its supervisor does not want it to run.
    pub left_alone_since: Option<Time>,
    pub starts: Starts,
    /// Files that name tailscale, as found when it was last started anew.
    pub hands: Vec<String>,
    /// Since when `Self.Online` is false; only once it was seen true with this pid, because small
    /// builds always say false.
    pub offline_since: Option<Time>,
    pub online_seen: bool,
    /// In this episode nothing reached the outside, and tailscaled was not made to try again since. It
    /// waits for up to 30 s between two tries (control/controlclient), however open the way is.
    pub kept_waiting: bool,
    /// Since when each look shows that the kernel lost something of tailscaled's.
    pub lost_since: Option<Time>,
    pub epoch: Epoch,
    pub steering: [Steering; 2],
    /// Old flows held by a mark, read when there was reason to.
    pub pins: Vec<Pin>,
    /// Devices that an event called down, for which family, and when.
    pub said_down: BTreeMap<(String, Family), Time>,
    /// Flows of tailscaled with unacknowledged data, at the last pulse.
    pub resending: Vec<Resending>,
    /// Oddities of the router that are no faults, a sentence each.
    pub warnings: Vec<String>,
    /// What a drill counts as shut.
    pub drilled: Option<Drilled>,
}

/// An uplink that counts as shut while a drill lasts, whatever its probes say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drilled {
    pub name: String,
    pub device: String,
    /// The families that have another way, and so are turned away from it.
    pub families: [bool; 2],
}

impl Knowledge {
    pub fn path(&self, family: Family) -> &Path {
        &self.paths[family.at()]
    }

    pub fn steering(&self, family: Family) -> &Steering {
        &self.steering[family.at()]
    }

    /// The judgement that a finding for `scope` belongs to.
    pub fn judgement_mut(&mut self, scope: &Scope) -> &mut Judgement {
        match scope {
            Scope::Path(f) => &mut self.paths[f.at()].judgement,
            Scope::Uplink(name, f) => self.verdicts.entry((name.clone(), *f)).or_default(),
        }
    }

    pub fn verdict(&self, name: &str, family: Family) -> Option<&Judgement> {
        self.verdicts.get(&(name.to_string(), family))
    }

    /// Uplinks proved open at or after `since`, the preferred first; those over which the control
    /// server answers before those where it does not, and those without a flaw before the others.
    pub fn open_uplinks(&self, family: Family, since: Time) -> Vec<&Uplink> {
        let open = |u: &&Uplink| {
            !self.drilled(&u.device, family)
                && self
                    .verdict(&u.name, family)
                    .is_some_and(|j| j.open_since(since))
        };
        let mut found: Vec<&Uplink> = self.uplinks.iter().filter(open).collect();
        found.sort_by_key(|u| {
            let judgement = self.verdict(&u.name, family);
            let refused =
                judgement.is_some_and(|j| matches!(j.control, Some((Err(_), t)) if t >= since));
            (refused, judgement.is_some_and(|j| j.flaws.any()))
        });
        found
    }

    /// True when an uplink or the path is proved open at or after `since`.
    pub fn anything_open(&self, since: Time) -> bool {
        Family::BOTH
            .iter()
            .any(|f| self.path_is_open(*f, since) || !self.open_uplinks(*f, since).is_empty())
    }

    /// True when a drill counts that device as shut.
    pub fn drilled(&self, device: &str, family: Family) -> bool {
        self.drilled
            .as_ref()
            .is_some_and(|d| d.device == device && d.families[family.at()])
    }

    /// True when the path of `family` takes an uplink that a drill counts as shut.
    pub fn path_drilled(&self, family: Family) -> bool {
        let route = self.path(family).route.as_ref();
        route.is_some_and(|r| self.drilled(&r.device, family))
    }

    /// True when the path of `family` is proved open at or after `since`.
    pub fn path_is_open(&self, family: Family, since: Time) -> bool {
        self.path(family).judgement.open_since(since) && !self.path_drilled(family)
    }

    /// True when nothing got out by the path of `family` at or after `since`.
    pub fn path_is_shut(&self, family: Family, since: Time) -> bool {
        self.path(family).judgement.shut_since(since) || self.path_drilled(family)
    }

    /// True when each uplink and each path was probed since and none got out.
    pub fn everything_shut(&self, since: Time) -> bool {
        self.paths_read.is_some_and(|t| t >= since)
            && Family::BOTH.iter().all(|f| {
                let path = self.path(*f);
                let shut = |j: &Judgement| j.shut_since(since) || j.untold_since(since);
                (path.route.is_none() || self.path_drilled(*f) || shut(&path.judgement))
                    && self
                        .uplinks
                        .iter()
                        .filter(|u| u.way(*f).is_some() && !self.drilled(&u.device, *f))
                        .all(|u| self.verdict(&u.name, *f).is_some_and(shut))
            })
    }

    /// True when the path of each family that has one was judged since.
    pub fn paths_judged(&self, since: Time) -> bool {
        self.paths_read.is_some_and(|t| t >= since)
            && Family::BOTH
                .iter()
                .all(|f| self.path(*f).route.is_none() || self.path_judged(*f, since))
    }

    /// True when a round over the path of `family` has come to its end since.
    pub fn path_judged(&self, family: Family, since: Time) -> bool {
        let judgement = &self.path(family).judgement;
        judgement.open_since(since) || judgement.shut_since(since) || judgement.untold_since(since)
    }

    /// True when a path is proved open since.
    pub fn path_open(&self, since: Time) -> bool {
        Family::BOTH.iter().any(|f| self.path_is_open(*f, since))
    }

    /// An uplink held by a captive portal.
    pub fn portal_uplink(&self) -> Option<String> {
        self.verdicts
            .iter()
            .find(|(_, j)| j.verdict == Verdict::Portal)
            .map(|((name, _), _)| name.clone())
    }

    /// True when tailscaled could make a new control connection: the server answers, and so does
    /// a resolver, if its name is needed, and large packets pass. A new control client has forgotten
    /// the addresses that the old one knows (measured), so with dead names it is worse than none.
    pub fn control_within_reach(&self, since: Time) -> bool {
        let resolved = |p: &Path| p.judgement.resolved.is_some_and(|t| t >= since);
        self.control_answers(since) && self.paths.iter().any(resolved) && self.hindrance().is_none()
    }

    /// What keeps tailscaled from making its connections anew over the ways of its paths: all of
    /// those that are open have it.
    pub fn hindrance(&self) -> Option<String> {
        let open = |f: &Family| self.path(*f).judgement.verdict.is_open();
        let mut ways = Family::BOTH.into_iter().filter(open);
        let first = self.way_flaws(ways.next()?).hinders()?;
        ways.all(|f| self.way_flaws(f).hinders().is_some())
            .then_some(first)
    }

    /// True when the control server answered over the way that the path takes now.
    pub fn control_answers(&self, since: Time) -> bool {
        self.path_judgements().any(|j| j.control_since(since))
    }

    /// Why the control server did not answer over the path, if that was tried since.
    pub fn control_failure(&self, since: Time) -> Option<String> {
        self.path_judgements().find_map(|j| match &j.control {
            Some((Err(why), t)) if *t >= since => Some(why.clone()),
            _ => None,
        })
    }

    /// Judgements of the paths and of the uplinks they use.
    fn path_judgements(&self) -> impl Iterator<Item = &Judgement> {
        Family::BOTH.into_iter().flat_map(move |f| {
            std::iter::once(&self.path(f).judgement).chain(self.uplink_in_use(f))
        })
    }

    /// What full rounds showed of the way that the path of `family` takes: of its uplink, where
    /// that is known to be open, because more is asked over it; else of the path itself.
    pub fn way_flaws(&self, family: Family) -> &Flaws {
        match self.uplink_in_use(family).filter(|j| j.verdict.is_open()) {
            Some(j) => &j.flaws,
            None => &self.path(family).judgement.flaws,
        }
    }

    /// True unless the router's own resolver was found not to answer.
    pub fn names_work(&self) -> bool {
        self.paths.iter().all(|p| p.judgement.flaws.names.is_none())
    }

    /// The uplink whose device the path of `family` uses.
    pub fn path_uplink(&self, family: Family) -> Option<&Uplink> {
        let route = self.path(family).route.as_ref()?;
        self.uplinks.iter().find(|u| u.device == route.device)
    }

    /// What is known of that uplink.
    pub fn uplink_in_use(&self, family: Family) -> Option<&Judgement> {
        self.verdict(&self.path_uplink(family)?.name, family)
    }

    /// Old flows of `family` that a mark leads by an uplink which is dead since.
    pub fn held(&self, family: Family, since: Time) -> impl Iterator<Item = &Pin> {
        self.pins.iter().filter(move |pin| {
            let mut uplinks = self.uplinks.iter().filter(|u| u.device == pin.device);
            let dead = |u: &Uplink| {
                self.verdict(&u.name, family)
                    .is_some_and(|j| j.shut_since(since))
            };
            Family::of(&pin.local) == family && uplinks.any(dead)
        })
    }

    /// `wan (eth1)` for a device of an uplink, else the device.
    pub fn name_device(&self, device: &str) -> String {
        match self.uplinks.iter().find(|u| u.device == device) {
            Some(u) => format!("{} ({device})", u.name),
            None => device.to_string(),
        }
    }

    /// The uplink by which the main table sends this family: slices first, then the lowest metric.
    pub fn main_default(&self, family: Family) -> Option<&Uplink> {
        self.uplinks
            .iter()
            .filter_map(|u| {
                let way = u.way(family)?;
                Some(((!way.sliced, way.metric?), u))
            })
            .min_by_key(|(order, _)| *order)
            .map(|(_, u)| u)
    }

    /// The hop by `uplink`, if it has a default route in `family`.
    pub fn hop(uplink: &Uplink, family: Family) -> Option<Hop> {
        uplink.way(family).map(|way: &Way| Hop {
            device: uplink.device.clone(),
            way: way.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
