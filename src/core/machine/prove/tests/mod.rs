//! What an assessment asks, and when it decides.

mod begin;
mod decide;
mod hasten;
mod restart;
mod wait;
mod weigh;

use super::*;
use crate::core::episode::Act;
use crate::core::sample::{
    all_dark, ask, dark, drill_of_wan, everywhere, flow, judged, lost, moment, route_by, stale,
    stuck, unasked, well, with, MS, NOW, S, SINCE,
};

/// Control is stuck as it is offline, on the address of the path.
fn broken() -> Knowledge {
    with(well(), |k| k.offline_since = Some(SINCE - S * 60))
}

/// Decides on what is found in it, and says to which stage that leads, and what is ordered.
fn decided(core: &mut Core) -> (&'static str, Vec<Action>) {
    let faults = diagnose(&core.k, NOW, SINCE);
    core.decide(moment(NOW), SINCE, faults);
    let ordered = core.ordered().into_iter();
    let acts = ordered.filter(|a| !matches!(a, Action::Tell(_) | Action::Look(_)));
    (core.stage.word(), acts.collect())
}
