//! Which fault each piece of evidence makes, and at which instant.

mod connections;
mod look;
mod outside;
mod tailscaled;
mod ways;

use super::*;
use crate::core::sample::{
    all_dark, control_silent, dark, drill_of_wan, flow, judged, stale, stuck, well, with, ASKED,
    CONTROL, MS, NOW, S, SINCE,
};
use crate::core::signs::Resending;
use crate::core::starts::Word;
use crate::core::tailnet::Process;
use crate::core::{Judgement, Pin};

fn ids(k: &Knowledge) -> Vec<&'static str> {
    ids_at(k, NOW)
}

fn ids_at(k: &Knowledge, now: Time) -> Vec<&'static str> {
    diagnose(k, now, SINCE).iter().map(Fault::id).collect()
}

/// With LocalAPI like that for so long.
fn silent(api: Api, span: Duration) -> Knowledge {
    let mut k = well();
    k.tailnet.api = api;
    k.api_since = NOW - span;
    k
}

#[test]
fn where_all_is_well_there_is_no_fault() {
    assert_eq!(ids(&well()), [""; 0]);
    assert_eq!(suspicion(&well(), NOW, false), None);
}
