//! Routers of other kinds: one family alone, metered and twin uplinks, changing gateways.

use tailover::core::{Action, Stage};

use crate::world::{policy, Fault, World, S};
use crate::{comes_back, goes_dark, named, settled};

#[test]
fn a_family_without_anybody_to_ask_does_not_hold_up_the_other() {
    let mut w = World::new(policy(), 3);
    w.v6_untold = true;
    w.run(10 * S);
    goes_dark(&mut w, 0, Some(2000));
    w.run(20 * S);
    w.must_be_well();
    assert_eq!(*w.core.stage(), Stage::Quiet);
}

/// A world whose uplinks have these families, IPv4 and IPv6, settled.
pub fn with_families(has: [[bool; 2]; 2]) -> World {
    let mut w = World::new(policy(), 5);
    w.families(has);
    w.run(20 * S);
    assert!(w.well(), "{:?}", w.core.stage());
    assert_eq!(*w.core.stage(), Stage::Quiet);
    w.acts.clear();
    w.notices.clear();
    w
}

#[test]
fn what_hangs_on_a_dead_family_is_made_anew_over_the_other() {
    use tailover::core::Family::{V4, V6};
    for (dead, alive) in [(V4, V6), (V6, V4)] {
        let mut w = with_families([[true, true], [false, false]]);
        if dead == V6 {
            // Control has to sit on the family that dies.
            half(&mut w, V4, true);
            w.run(90 * S);
            half(&mut w, V4, false);
            w.run(90 * S);
            assert!(w.core.faults().is_empty(), "{:?}", w.core.faults());
        }
        w.acts.clear();
        w.notices.clear();
        half(&mut w, dead, true);
        // The families of one uplink take turns with the heartbeat.
        w.run(90 * S);
        assert!(w.well(), "{dead}: {:?} {:?}", w.core.stage(), named(&w));
        let from = w.control_from().expect("a control connection");
        assert_eq!(from.is_ipv6(), alive == V6);
        assert_eq!(named(&w), ["F2-stuck-control", "F3-stale-paths"]);
        assert!(!w.steered(), "there is nowhere else to go");
        assert_eq!(w.count(|a| *a == Action::Restart), 0);
        assert_eq!(w.count(|a| *a == Action::Renew), 1);
        assert_eq!(*w.core.stage(), Stage::Quiet);
        // Hours of it cost nothing more.
        w.acts.clear();
        w.run(7200 * S);
        assert_eq!(w.cures().count(), 0);
    }
}

pub fn half(w: &mut World, family: tailover::core::Family, dead: bool) {
    w.inject(Fault::Half {
        uplink: 0,
        family,
        dead,
    });
}

#[test]
fn a_backup_with_ipv6_alone_carries_the_tailnet_and_no_ipv4_fault_is_named() {
    let mut w = with_families([[true, true], [false, true]]);
    goes_dark(&mut w, 0, Some(2000));
    w.run(20 * S);
    assert!(w.well() && w.steered(), "{:?}", w.core.stage());
    assert!(w.control_from().is_some_and(|ip| ip.is_ipv6()));
    let moved: Vec<_> = w
        .acts
        .iter()
        .filter_map(|a| match &a.action {
            Action::Steer(f, s) => Some((*f, s.to.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [(tailover::core::Family::V6, true)]);
    let text = format!("{:?}", w.notices);
    assert!(!text.contains("IPv4 packets leave by"), "{text}");
    comes_back(&mut w, 0, Some(5000));
    w.run(90 * S);
    assert!(w.well() && !w.steered(), "{:?}", w.core.stage());
    assert_eq!(w.count(|a| *a == Action::Restart), 0);
}

#[test]
fn an_uplink_with_ipv6_alone_is_a_healthy_router() {
    let mut w = with_families([[false, true], [false, true]]);
    w.run(3600 * S);
    assert_eq!(w.cures().count(), 0);
    goes_dark(&mut w, 0, None);
    w.run(60 * S);
    assert!(w.well() && w.steered(), "{:?}", w.core.stage());
    assert_eq!(named(&w)[0], "F1-pinned-route");
}

#[test]
fn a_new_gateway_is_followed_while_steered_and_nothing_else_is_done() {
    let mut w = settled();
    goes_dark(&mut w, 0, Some(2000));
    w.run(20 * S);
    assert!(w.steered());
    w.acts.clear();
    w.inject(Fault::NewGateway { uplink: 1 });
    w.run(20 * S);
    let acts: Vec<_> = w.cures().map(|a| &a.action).collect();
    let [Action::Steer(_, steering)] = acts[..] else {
        panic!("{acts:?}");
    };
    let gateway = steering.to.as_ref().and_then(|h| h.way.gateway);
    assert_eq!(
        gateway,
        Some("192.0.2.66".parse().expect("the next gateway"))
    );
    assert!(w.well());
}

#[test]
fn a_metered_backup_is_asked_with_datagrams_until_it_is_used() {
    use tailover::core::{Effort, Scope};
    let mut w = World::new(policy(), 9);
    w.metered = Some(1);
    w.murmur();
    w.run(10 * S);
    let asked = |w: &World| -> Vec<Effort> {
        let efforts = w.acts.iter().filter_map(|a| match &a.action {
            Action::Probe {
                scope: Scope::Uplink(name, _),
                effort,
                ..
            } if name == "wanb" => Some(*effort),
            _ => None,
        });
        efforts.collect()
    };
    w.acts.clear();
    w.murmur();
    w.run(700 * S);
    assert_eq!(
        asked(&w),
        [Effort::Suspect, Effort::Beat, Effort::Beat],
        "at the assessment, and every five minutes"
    );
    w.acts.clear();
    goes_dark(&mut w, 0, Some(2000));
    w.run(20 * S);
    assert!(w.well() && w.steered());
    let efforts = asked(&w);
    let first = efforts.iter().position(|e| *e == Effort::Burst);
    assert!(first.is_some_and(|at| at > 0), "{efforts:?}");
}

#[test]
fn flows_of_an_uplink_are_stale_on_another_with_the_same_address() {
    use tailover::core::tailnet::{Api, Flow, Purpose, Tailnet};
    use tailover::core::{Input, Moment, Route, Uplink, Way};
    let own = "192.168.8.100".parse().expect("an address");
    let mut core = tailover::core::Core::new(policy());
    let mut step = |input| {
        let moment = Moment { now: S, dice: 0 };
        core.step(moment, input);
    };
    let modem = |name: &str| Uplink {
        name: name.into(),
        device: name.into(),
        v4: Some(Way {
            addresses: vec![own],
            ..Way::default()
        }),
        ..Uplink::default()
    };
    let by = |device: &str| {
        Input::Paths([
            Some(Route {
                device: device.into(),
                gateway: None,
                source: Some(own),
            }),
            None,
        ])
    };
    step(Input::Uplinks(vec![modem("eth1"), modem("eth2")]));
    step(by("eth1"));
    step(Input::Tailnet(Box::new(Tailnet {
        api: Api::Answers,
        flows: vec![Flow {
            purpose: Purpose::Control,
            local: (own, 4000).into(),
            remote: "198.51.100.10:443".parse().expect("an address"),
            established: true,
        }],
        ..Tailnet::default()
    })));
    step(by("eth2"));
    let standing = core.knowledge().standing(Purpose::Control);
    assert_eq!((standing.fresh, standing.stale), (0, Some(own)));
}

#[test]
fn a_metered_backup_whose_portal_was_passed_is_used_again() {
    let mut w = World::new(policy(), 1);
    w.metered = Some(1);
    w.run(10 * S);
    let dark = |uplink| Fault::Dark { uplink, told: None };
    let back = |uplink| Fault::Back {
        uplink,
        told: Some(100),
    };
    // Its plan is used up while it carries the tailnet.
    w.inject(dark(0));
    w.run(60 * S);
    w.inject(Fault::Portal { uplink: 1 });
    w.run(120 * S);
    w.inject(back(0));
    w.run(300 * S);
    assert!(w.well() && !w.steered());
    w.inject(back(1));
    w.run(600 * S);
    w.inject(dark(0));
    w.run(60 * S);
    w.must_be_well();
    assert!(w.broken.is_empty(), "{:?}", w.broken);
}
