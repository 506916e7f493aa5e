//! When peers are moved off a metered uplink, and when they are let alone.

use super::*;
use crate::core::sample::{route_by, well, MS, NOW, S};

/// The path of each family is by the uplink of that number.
fn go_by(core: &mut Core, uplinks: [usize; 2]) {
    for f in Family::BOTH {
        route_by(&mut core.k, f, uplinks[f.at()]);
    }
}

/// The second uplink is metered and carried the path; now the first does again, and all is well.
fn back() -> Core {
    let mut k = well();
    k.uplinks[1].metered = true;
    let mut core = Core::knowing(k);
    go_by(&mut core, [1, 1]);
    core.mind_metered(NOW - S * 100);
    go_by(&mut core, [0, 0]);
    core.leave.well_since = None;
    core.ordered();
    core
}

/// Which devices peers are to leave, if that is ordered anew.
fn left(core: &mut Core, now: Time) -> Option<Vec<String>> {
    core.mind_metered(now);
    let ordered = core.ordered().into_iter();
    let mut left = ordered.filter_map(|a| match a {
        Action::Leave(devices) => Some(devices),
        _ => None,
    });
    left.next()
}

#[test]
fn peers_leave_a_metered_uplink_once_the_tailnet_was_well_for_a_while() {
    let mut core = back();
    assert_eq!(left(&mut core, NOW), None);
    assert_eq!(left(&mut core, NOW + WELL_FOR - MS), None);
    let leaving = Some(vec!["eth2".to_string()]);
    assert_eq!(left(&mut core, NOW + WELL_FOR), leaving);
    assert_eq!(core.leave.until, NOW + WELL_FOR + LEAVE_FOR);
    assert_eq!(left(&mut core, NOW + WELL_FOR + MS), None, "once");
    // An uplink that costs nothing is let alone.
    let mut core = back();
    core.leave.used.clear();
    assert_eq!(left(&mut core, NOW + WELL_FOR), None);
}

#[test]
fn trouble_begins_the_wait_anew() {
    for trouble in [
        (|c: &mut Core| c.stage = Stage::Proving { since: NOW }) as fn(&mut Core),
        |c| {
            let evidence = String::new();
            c.faults = vec![Fault::StuckControl { evidence }];
        },
    ] {
        let mut core = back();
        left(&mut core, NOW);
        trouble(&mut core);
        assert_eq!(left(&mut core, NOW + WELL_FOR), None);
        (core.stage, core.faults) = (Stage::Quiet, Vec::new());
        assert_eq!(left(&mut core, NOW + WELL_FOR), None);
        assert!(left(&mut core, NOW + WELL_FOR * 2).is_some());
    }
    // What nobody can cure is no reason to stay.
    let mut core = back();
    core.faults = vec![Fault::Userspace];
    left(&mut core, NOW);
    assert!(left(&mut core, NOW + WELL_FOR).is_some());
}

#[test]
fn an_uplink_that_is_needed_again_is_not_left() {
    let leaving = || {
        let mut core = back();
        left(&mut core, NOW);
        assert!(left(&mut core, NOW + WELL_FOR).is_some());
        core
    };
    let then = NOW + WELL_FOR;
    let mut core = leaving();
    go_by(&mut core, [0, 1]);
    assert_eq!(left(&mut core, then + S), Some(vec![]));
    // It is left again when the path has gone from it again.
    go_by(&mut core, [0, 0]);
    assert_eq!(left(&mut core, then + S * 2), Some(vec!["eth2".into()]));
    // What was over already need not be taken back.
    for (late, taken_back) in [(LEAVE_FOR - MS, true), (LEAVE_FOR, false)] {
        let mut core = leaving();
        go_by(&mut core, [1, 1]);
        let said = left(&mut core, then + late);
        assert_eq!(said.is_some(), taken_back, "{late:?}");
    }
}

#[test]
fn an_uplink_carries_the_path_of_either_family_now_or_as_soon_as_it_is_steered() {
    let carries = |change: &dyn Fn(&mut Core)| {
        let mut core = Core::knowing(well());
        change(&mut core);
        ["eth1", "eth2"].map(|device| core.carries(device))
    };
    assert_eq!(carries(&|_| ()), [true, false]);
    assert_eq!(carries(&|c| go_by(c, [0, 1])), [true, true]);
    assert_eq!(carries(&|c| go_by(c, [1, 1])), [false, true]);
    let steered = |c: &mut Core| {
        c.k.steering[1].to = Knowledge::hop(&c.k.uplinks[1], Family::V6);
    };
    assert_eq!(carries(&steered), [true, true]);
}

#[test]
fn an_uplink_that_carries_the_path_for_long_is_noted_once() {
    let mut k = well();
    k.uplinks[0].metered = true;
    let mut core = Core::knowing(k);
    for second in 0..5 {
        assert_eq!(left(&mut core, NOW + S * second), None);
        assert_eq!(core.leave.used, ["eth1"]);
    }
}
