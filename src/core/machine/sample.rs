//! A core that holds something to be true, and what it has ordered, for the unit tests.

use super::*;
use crate::core::sample::{policy, NOW, S, SINCE};

impl Core {
    /// A quiet core that holds this to be true and has ordered nothing yet.
    pub(super) fn knowing(k: Knowledge) -> Core {
        let mut core = Core::new(policy());
        core.k = k;
        core
    }

    /// The same, with nothing due for a quarter of an hour.
    pub(super) fn still(k: Knowledge) -> Core {
        let mut core = Core::knowing(k);
        let later = NOW + S * 900;
        for due in [
            &mut core.look_at,
            &mut core.beat_at,
            &mut core.other_at,
            &mut core.return_at,
            &mut core.recheck_at,
            &mut core.pulse_at,
            &mut core.connections_at,
            &mut core.ask_control_at,
        ] {
            *due = later;
        }
        core
    }

    /// The same in that stage of an episode that began at `SINCE`.
    pub(super) fn in_stage(k: Knowledge, stage: Stage) -> Core {
        let mut core = Core::knowing(k);
        core.begin_episode(SINCE, Origin::Path, "a sign".into());
        core.stage = stage;
        core.ordered();
        core
    }

    /// The same in the middle of an assessment begun at `SINCE`.
    pub(super) fn assessing(k: Knowledge) -> Core {
        let mut core = Core::in_stage(k, Stage::Quiet);
        core.enter_proving(SINCE, SINCE);
        core.ordered();
        core
    }

    /// What it has ordered since it was asked last; so with the three below.
    pub(super) fn ordered(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// The ways that it has asked, with which effort.
    pub(super) fn probes(&mut self) -> Vec<(Scope, Effort)> {
        let ordered = self.ordered().into_iter();
        let probes = ordered.filter_map(|a| match a {
            Action::Probe { scope, effort, .. } => Some((scope, effort)),
            _ => None,
        });
        probes.collect()
    }

    /// The ways that it has asked with that effort.
    pub(super) fn asked(&mut self, effort: Effort) -> Vec<Scope> {
        let probes = self.probes().into_iter();
        let asked = probes.filter(|(_, with)| *with == effort);
        asked.map(|(scope, _)| scope).collect()
    }

    /// What it has looked at.
    pub(super) fn looks(&mut self) -> Vec<Look> {
        let ordered = self.ordered().into_iter();
        let looks = ordered.filter_map(|a| match a {
            Action::Look(look) => Some(look),
            _ => None,
        });
        looks.collect()
    }
}
