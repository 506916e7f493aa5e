//! Which ip rules tailscaled sets, and where.

use crate::core::Family;
use crate::net::rtnetlink::{Action, Rule, TABLE_MAIN};

use super::TABLE;

/// RT_TABLE_DEFAULT, the one behind main; empty on nearly every router.
const TABLE_DEFAULT: u32 = 253;

/// tailscaled's mark for its own packets, and its mask (tsconst.LinuxBypassMarkNum).
pub(super) const MARK: (u32, u32) = (0x80000, 0xff0000);

/// Where its rules begin when it sees mwan3's at its start.
pub(super) const AHEAD_OF_MWAN3: u32 = 1300;

/// Where its rules begin: there, and else.
const BASES: [u32; 2] = [AHEAD_OF_MWAN3, 5200];

/// Its rules of a family, counted from the base (baseIPRules). The last sends to [`TABLE`] what
/// the others did not catch; those have its mark.
const RULES: [(u32, Action); 4] = [
    (10, Action::Table(TABLE_MAIN)),
    (30, Action::Table(TABLE_DEFAULT)),
    (50, Action::Unreachable),
    (LAST, Action::Table(TABLE)),
];

const LAST: u32 = 70;

/// The four rules of a family.
pub(super) fn base_rules(family: Family, base: u32) -> impl Iterator<Item = Rule> {
    RULES.into_iter().map(move |(offset, action)| Rule {
        mark: (offset != LAST).then_some(MARK),
        action,
        protocol: 0,
        ..Rule::to_table(family, base.saturating_add(offset), TABLE)
    })
}

/// Whether this is one of tailscaled's rules at `base`. The mark is left open: it is tailscaled's
/// to change.
pub(super) fn is_rule_at(rule: &Rule, base: u32) -> bool {
    let placed =
        |(offset, action)| base.checked_add(offset) == Some(rule.priority) && rule.action == action;
    let narrow = rule.from.is_some() || rule.to.is_some();
    let bound = rule.iif.is_some() || rule.oif.is_some() || rule.invert;
    RULES.into_iter().any(placed) && !narrow && !bound
}

/// The base of tailscaled's rules, if any of them is there. A tailscaled that was killed leaves
/// its rules behind; those asked first are the ones that count.
pub fn base(rules: &[Rule]) -> Option<u32> {
    let used = |base: &u32| rules.iter().any(|r| is_rule_at(r, *base));
    BASES.into_iter().find(used)
}

/// Whether two rules do the same at the same place.
pub(super) fn same(a: &Rule, b: &Rule) -> bool {
    a.family == b.family
        && a.priority == b.priority
        && a.action == b.action
        && a.mark == b.mark
        && a.invert == b.invert
        && (&a.from, &a.to, &a.iif, &a.oif) == (&b.from, &b.to, &b.iif, &b.oif)
}

/// Rules that are asked before tailscaled's last one and send marked packets elsewhere: what they
/// catch does not reach the tailnet. Gives a mark that each of them matches.
pub fn ahead(rules: &[Rule]) -> Vec<u32> {
    let Some(base) = base(rules) else {
        return Vec::new();
    };
    let catches = |r: &&Rule| {
        r.family == Family::V4
            && r.priority < base.saturating_add(LAST)
            && matches!(r.action, Action::Table(t) if t != TABLE)
            && r.iif.is_none()
            && r.oif.is_none()
    };
    let mut marks: Vec<u32> = rules
        .iter()
        .filter(catches)
        .filter_map(|r| r.mark)
        .map(|(mark, _)| mark)
        .filter(|mark| *mark != 0 && *mark != MARK.0)
        .collect();
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// Whether a tailscaled that starts now would take the base that is ahead of mwan3's rules
/// (checkOpenWRTUsingMWAN3).
pub fn mwan3_shows(rules: &[Rule]) -> bool {
    let telling = |r: &Rule| {
        r.family == Family::V4
            && (2001..=2004).contains(&r.priority)
            && r.mark.is_some_and(|(mark, _)| mark != 0)
    };
    rules.iter().any(telling)
}
