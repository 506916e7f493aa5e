//! Invented histories: whatever happens, the promises hold.

use proptest::prelude::*;
use tailover::core::Stage;

use crate::world::{policy, Fault, World, MS, S};

fn told() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![Just(None), (50u16..10_000).prop_map(Some)]
}

fn fault() -> impl Strategy<Value = Fault> {
    let uplink = 0usize..2;
    prop_oneof![
        4 => (uplink.clone(), told()).prop_map(|(uplink, told)| Fault::Dark { uplink, told }),
        4 => (uplink.clone(), told()).prop_map(|(uplink, told)| Fault::Back { uplink, told }),
        1 => uplink.clone().prop_map(|uplink| Fault::Portal { uplink }),
        2 => (uplink.clone(), any::<bool>()).prop_map(|(uplink, up)| Fault::Carrier { uplink, up }),
        2 => uplink.prop_map(|uplink| Fault::NewPublic { uplink }),
        1 => (0usize..2).prop_map(|uplink| Fault::NewGateway { uplink }),
        2 => any::<bool>().prop_map(|up| Fault::Control { up }),
        1 => Just(Fault::UserStops),
        1 => Just(Fault::UserStarts),
        1 => Just(Fault::Crash),
        1 => Just(Fault::Hang),
        3 => any::<bool>().prop_map(|mendable| Fault::Lose { mendable }),
        3 => (0usize..2, 0u8..60).prop_map(|(uplink, stay)| Fault::Drill { uplink, stay }),
        1 => Just(Fault::DrillStop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// Promises 1 to 4 and 7 hold in every history, and once the last fault has gone the tailnet is
    /// well, the steering is gone, and tailover is silent.
    #[test]
    fn promises_hold(faults in proptest::collection::vec((0u64..90_000, fault()), 1..14), dice in any::<u32>()) {
        keeps_its_promises(faults, dice)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000,
        failure_persistence: None, ..ProptestConfig::default() })]

    /// The same when a drill begins on a healthy router and things happen within it, one soon after
    /// another.
    #[test]
    fn a_drill_at_any_instant_breaks_no_promise(
        stay in 0u8..20,
        faults in proptest::collection::vec((0u64..6_000, fault()), 1..8),
        dice in any::<u32>(),
    ) {
        let drill = (60_000, Fault::Drill { uplink: 0, stay });
        keeps_its_promises(std::iter::once(drill).chain(faults).collect(), dice)?;
    }
}

/// tailscaled is back after a crash, and in that instant its connections go out of date with the public
/// address: the daemon's next look is the first that sees them, and it is after the change.
#[test]
fn what_no_look_saw_before_the_address_changed_is_let_go_in_the_end() {
    let faults = vec![
        (60_000, Fault::Drill { uplink: 0, stay: 5 }),
        (
            1881,
            Fault::Dark {
                uplink: 1,
                told: None,
            },
        ),
        (1371, Fault::Crash),
        (2021, Fault::UserStops),
        (4979, Fault::NewPublic { uplink: 0 }),
    ];
    keeps_its_promises(faults, 3_157_879_764).expect("the promises");
}

fn keeps_its_promises(faults: Vec<(u64, Fault)>, dice: u32) -> Result<(), TestCaseError> {
    let mut w = World::new(policy(), dice);
    w.control_delay = MS * (90 + dice % 1500);
    if dice.is_multiple_of(2) {
        w.keepalives(S * (1 + dice / 2 % 60));
    }
    w.run(5 * S);
    for (gap, fault) in faults {
        w.run(MS * gap as u32);
        w.inject(fault);
    }
    w.run(60 * S);
    w.mend_all();
    // Time for the hold, grown eightfold by flaps, and for the longest pause between restarts.
    w.run(7200 * S);
    prop_assert!(w.broken.is_empty(), "{:#?}", w.broken);
    let (stage, faults) = (w.core.stage(), w.core.faults());
    prop_assert!(w.well(), "not well: {stage:?} {faults:?}");
    let steering = &w.core.knowledge().steering;
    prop_assert!(!w.steered(), "still steered: {stage:?} {steering:?}");
    prop_assert!(w.core.knowledge().drilled.is_none(), "a drill for ever");
    let quiet_since = w.now;
    w.run(3600 * S);
    let late: Vec<_> = w.cures().filter(|a| a.at > quiet_since).collect();
    prop_assert!(late.is_empty(), "acts on a healthy tailnet: {late:?}");
    prop_assert_eq!(w.core.stage().clone(), Stage::Quiet);
    Ok(())
}
