//! Names what is odd about a router and may surprise its owner, without being a fault.

use crate::config::Mark;
use crate::core::{Family, Uplink};
use crate::net::rtnetlink::{Action, Rule, TABLE_MAIN};

/// RT_TABLE_DEFAULT: tailscaled's own second rule sends its mark there.
const TABLE_DEFAULT: u32 = 253;

/// One sentence for each oddity.
pub fn oddities(rules: &[Rule], uplinks: &[Uplink], mark: Mark, own: u8) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for rule in rules.iter().filter(|r| r.protocol != own) {
        if let Some(table) = taken_by(rule, mark) {
            found.push(format!(
                "{rule} is not tailscale's and sends its mark {mark} to table {table}: another \
                 program (pbr?) uses the same mark, give it other bits"
            ));
        }
    }
    for u in uplinks {
        let name = format!("{} ({})", u.name, u.device);
        for family in Family::BOTH {
            if u.way(family).is_some_and(|w| w.sliced) {
                found.push(format!(
                    "{name} takes main's {family} default by halves of it, which come before any \
                     default"
                ));
            }
        }
        if u.vpn {
            found.push(format!(
                "{name} is a tunnel over another uplink; unless `list uplink` says otherwise it \
                 is chosen last"
            ));
        }
    }
    let mut rest = uplinks;
    while let Some((a, others)) = rest.split_first() {
        rest = others;
        for b in rest {
            for family in Family::BOTH {
                if let Some(ip) = shared(a, b, family) {
                    found.push(format!(
                        "{} and {} have the same address {ip}: flows of the one cannot be told \
                         from flows of the other",
                        a.name, b.name
                    ));
                }
            }
        }
    }
    found
}

/// The table that a rule of neither tailscale's nor ours sends the router's own packets with the
/// mark to.
fn taken_by(rule: &Rule, mark: Mark) -> Option<u32> {
    let (value, mask) = rule.mark?;
    let matches = (mark.value & mask == value) != rule.invert;
    let local = rule.iif.as_deref().is_none_or(|i| i == "lo");
    // A rule for packets without a mark has a mask that leaves tailscale's bits out.
    let aimed = mask & mark.mask != 0;
    match rule.action {
        Action::Table(TABLE_MAIN | TABLE_DEFAULT) => None,
        Action::Table(table) => (matches && aimed && local).then_some(table),
        _ => None,
    }
}

fn shared(a: &Uplink, b: &Uplink, family: Family) -> Option<std::net::IpAddr> {
    let (a, b) = (a.way(family)?, b.way(family)?);
    let both = |ip: &&std::net::IpAddr| b.addresses.contains(ip);
    a.addresses.iter().find(both).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Way;

    const MARK: Mark = Mark {
        value: 0x80000,
        mask: 0xff0000,
    };

    fn rule(priority: u32, mark: (u32, u32), table: u32) -> Rule {
        Rule {
            mark: Some(mark),
            protocol: 3,
            ..Rule::to_table(Family::V4, priority, table)
        }
    }

    #[test]
    fn only_a_foreign_rule_on_the_mark_is_named() {
        let ours = Rule {
            protocol: 122,
            ..rule(991, (0x80000, 0xff0000), 17400)
        };
        let invert = Rule {
            invert: true,
            ..rule(5270, (0x80000, 0xff0000), 52)
        };
        let lan = Rule {
            iif: Some("br-lan".into()),
            ..rule(30000, (0x80000, 0xff0000), 300)
        };
        let rules = [
            ours,
            invert,
            lan,
            rule(1310, (0x80000, 0xff0000), 254),
            rule(1330, (0x80000, 0xff0000), 253),
            rule(2001, (0x100, 0x3f00), 1),
            rule(29999, (0x70000, 0xff0000), 262),
            rule(29998, (0x80000, 0xff0000), 263),
        ];
        let got = oddities(&rules, &[], MARK, 122);
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(got[0].starts_with("IPv4 rule 29998 is not tailscale's"));
        assert!(got[0].contains("0x80000/0xff0000 to table 263"), "{got:?}");
    }

    #[test]
    fn tunnels_halved_defaults_and_twins_are_named() {
        let way = Way {
            addresses: vec![[192, 168, 8, 100].into()],
            metric: Some(0),
            ..Way::default()
        };
        let uplink = |name: &str| Uplink {
            name: name.into(),
            device: name.into(),
            v4: Some(way.clone()),
            ..Uplink::default()
        };
        let mut tunnel = uplink("tun0");
        tunnel.vpn = true;
        tunnel.v4 = Some(Way {
            sliced: true,
            ..Way::default()
        });
        let got = oddities(&[], &[uplink("wan"), tunnel, uplink("wanb")], MARK, 122);
        let about = |text: &str| got.iter().filter(|g| g.contains(text)).count();
        assert_eq!(got.len(), 3, "{got:?}");
        assert_eq!(about("halves"), 1);
        assert_eq!(about("tunnel over another"), 1);
        assert_eq!(about("wan and wanb have the same address 192.168.8.100"), 1);
    }
}
