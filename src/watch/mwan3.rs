//! Reads mwan3's configuration: its order of the uplinks, and its bits of the mark.
//!
//! `ubus call mwan3 status` shows only the members of a policy that are in use just now, so the
//! order among the others is in `/etc/config/mwan3` alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::uci::{self, Section};
use crate::config::values::integer;
use crate::config::Settings;
use crate::core::Family;
use crate::net::rtnetlink::Rule;

/// Where it is on a router.
pub const PATH: &str = "/etc/config/mwan3";

/// Members with a larger metric are left out by mwan3 (mwan3.sh, DEFAULT_LOWEST_METRIC).
const METRIC_MAX: u32 = 256;

/// An interface's place in the policy that traffic takes by default; the smaller is better: by
/// metric, then by weight.
pub type Rank = (u32, Reverse<u32>);

/// What tailover wants to know of it. Empty when mwan3 is not there or not to be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mwan3 {
    /// `mmx_mask` of its globals.
    pub mmx_mask: Option<u32>,
    ranks: BTreeMap<String, Rank>,
}

impl Mwan3 {
    /// Reads the text of the file. What is odd in it is passed over: a strange section must not
    /// hide the others.
    pub fn parse(text: &[u8]) -> Mwan3 {
        let (sections, _) = uci::parse(text);
        let mut mwan3 = Mwan3 {
            mmx_mask: of_kind(&sections, "globals")
                .find_map(|s| integer(&option(s, "mmx_mask")?.to_ascii_lowercase()))
                .filter(|mask| *mask != 0),
            ranks: BTreeMap::new(),
        };
        for family in Family::BOTH {
            let Some(policy) = default_policy(&sections, family) else {
                continue;
            };
            for member in words(policy, "use_member") {
                if let Some((interface, rank)) = member_of(&sections, family, &member) {
                    // One that is named twice counts where it is better.
                    let at = mwan3.ranks.entry(interface).or_insert(rank);
                    *at = rank.min(*at);
                }
            }
        }
        mwan3
    }

    /// The place of an interface; `None` where the default policy does not use it.
    pub fn rank(&self, interface: &str) -> Option<Rank> {
        self.ranks.get(interface).copied()
    }
}

/// Whether mwan3 runs, by its rules for marks: 2000 + id, 2061 and 2062 (mwan3.sh). A stop takes
/// them away.
pub fn runs(rules: &[Rule]) -> bool {
    rules
        .iter()
        .any(|r| (2001..=2062).contains(&r.priority) && r.mark.is_some())
}

/// The policy of the first rule that takes all traffic of a family, else the first policy.
fn default_policy(sections: &[Section], family: Family) -> Option<&Section> {
    let rule = of_kind(sections, "rule").find(|s| takes_all(s, family));
    let named = rule.and_then(|s| option(s, "use_policy"));
    let mut policies = of_kind(sections, "policy");
    match named {
        // `default`, `unreachable` and `blackhole` have no members, and no section either.
        Some(name) => policies.find(|s| s.name.as_deref() == Some(name)),
        None => policies.next(),
    }
}

fn takes_all(rule: &Section, family: Family) -> bool {
    let (own, all) = match family {
        Family::V4 => ("ipv4", "0.0.0.0/0"),
        Family::V6 => ("ipv6", "::/0"),
    };
    let unset = |name: &str| option(rule, name).is_none();
    let of_family = option(rule, "family").is_none_or(|f| f == own || f == "any");
    let anywhere = option(rule, "dest_ip").is_none_or(|to| to == all);
    let any_protocol = option(rule, "proto").is_none_or(|p| p == "all");
    of_family
        && anywhere
        && any_protocol
        && ["src_ip", "src_iface", "src_port", "dest_port", "ipset"]
            .into_iter()
            .all(unset)
}

/// The interface and the rank of a member, if it is of that family and mwan3 uses it.
fn member_of(sections: &[Section], family: Family, name: &str) -> Option<(String, Rank)> {
    let called = |s: &&Section| s.name.as_deref() == Some(name);
    let member = of_kind(sections, "member").find(called)?;
    let interface = option(member, "interface")?;
    let called = |s: &&Section| s.name.as_deref() == Some(interface);
    let section = of_kind(sections, "interface").find(called)?;
    let own = match option(section, "family") {
        Some("ipv6") => Family::V6,
        _ => Family::V4,
    };
    let enabled = matches!(
        option(section, "enabled"),
        Some("1" | "on" | "yes" | "true" | "enabled")
    );
    let number = |name: &str| match option(member, name) {
        Some(text) => integer(text),
        None => Some(1),
    };
    let (metric, weight) = (number("metric")?, number("weight")?);
    let used = own == family && enabled && metric <= METRIC_MAX;
    used.then(|| (interface.to_string(), (metric, Reverse(weight))))
}

fn of_kind<'a>(sections: &'a [Section], kind: &str) -> impl Iterator<Item = &'a Section> {
    let kind = kind.to_string();
    sections.iter().filter(move |s| s.kind == kind)
}

/// The value of an option that counts: the last; an empty one is none.
fn option<'a>(section: &'a Section, name: &str) -> Option<&'a str> {
    let last = section.items.iter().rfind(|i| i.name == name)?;
    Some(last.value.as_str()).filter(|text| !text.is_empty())
}

/// The values of a list, which may also be written as one option of several words.
fn words(section: &Section, name: &str) -> Vec<String> {
    let items = section.items.iter().filter(|i| i.name == name);
    items
        .flat_map(|i| i.value.split_whitespace())
        .map(str::to_string)
        .collect()
}

/// The file, read again when it has changed.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// When it was changed, and its length; `None` when it is not there.
    stamp: Option<(SystemTime, u64)>,
    mwan3: Mwan3,
}

impl File {
    pub fn new(path: &Path) -> File {
        File {
            path: path.to_path_buf(),
            stamp: None,
            mwan3: Mwan3::default(),
        }
    }

    /// What it says now. One that cannot be read says nothing.
    pub fn read(&mut self) -> &Mwan3 {
        let found = std::fs::metadata(&self.path).ok();
        let stamp = found.and_then(|m| Some((m.modified().ok()?, m.len())));
        if stamp != self.stamp {
            self.stamp = stamp;
            self.mwan3 = match crate::config::read(&self.path) {
                Ok(text) => Mwan3::parse(&text),
                Err(_) => Mwan3::default(),
            };
        }
        &self.mwan3
    }

    /// mwan3's bits of the mark: those of the settings, or while they are the default ones mwan3's
    /// own word, unless that has bits of tailscale's mark.
    pub fn bits(&mut self, settings: &Settings) -> u32 {
        let usual = settings.mmx_mask == Settings::default().mmx_mask;
        let told = self.read().mmx_mask.filter(|_| usual);
        told.filter(|bits| bits & settings.mark.mask == 0)
            .unwrap_or(settings.mmx_mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three uplinks as people have them: two shared by weight, one for the worst day.
    const THREE: &str = "
config globals 'globals'
	option mmx_mask '0x7F00'

config interface 'wan'
	option enabled '1'
config interface 'wan-b'
	option enabled '1'
config interface 'wanb'
	option enabled '1'
config interface 'lte'
	option enabled '1'
	option family 'ipv4'
config interface 'wan6'
	option enabled '1'
	option family 'ipv6'
config interface 'off'
	option enabled '0'

config member 'wan_m1_w1'
	option interface 'wan'
	option metric '1'
	option weight '1'
config member 'wanb_m1_w3'
	option interface 'wanb'
	option metric '1'
	option weight '3'
config member 'lte_m2'
	option interface 'lte'
	option metric '2'
config member 'wan6_m1'
	option interface 'wan6'
config member 'off_m1'
	option interface 'off'
config member 'far'
	option interface 'wan'
	option metric '300'

config policy 'lte_only'
	list use_member 'lte_m2'
config policy 'balanced'
	list use_member 'far'
	list use_member 'wan_m1_w1'
	list use_member 'off_m1'
	list use_member 'nobody'
	list use_member 'lte_m2'
	list use_member 'wanb_m1_w3'
	list use_member 'wan6_m1'

config rule 'https'
	option dest_port '443'
	option proto 'tcp'
	option use_policy 'lte_only'
config rule 'kids'
	option src_ip '192.168.1.77'
	option use_policy 'lte_only'
config rule 'default_rule_v4'
	option dest_ip '0.0.0.0/0'
	option use_policy 'balanced'
	option family 'ipv4'
config rule 'default_rule_v6'
	option dest_ip '::/0'
	option use_policy 'balanced'
	option family 'ipv6'
";

    fn order(mwan3: &Mwan3) -> Vec<&str> {
        let mut names: Vec<&str> = mwan3.ranks.keys().map(String::as_str).collect();
        names.sort_by_key(|n| mwan3.ranks[*n]);
        names
    }

    #[test]
    fn the_policy_of_the_default_rule_orders_by_metric_and_weight() {
        let got = Mwan3::parse(THREE.as_bytes());
        assert_eq!(got.mmx_mask, Some(0x7f00));
        assert_eq!(got.rank("wan6"), Some((1, Reverse(1))));
        assert_eq!(order(&got), ["wanb", "wan", "wan6", "lte"]);
        assert_eq!(got.rank("off"), None);
        assert_eq!(got.rank("nobody"), None);
    }

    #[test]
    fn without_a_default_rule_the_first_policy_counts_and_a_builtin_one_orders_nothing() {
        let rules = THREE.find("config rule").expect("rules");
        assert_eq!(order(&Mwan3::parse(&THREE.as_bytes()[..rules])), ["lte"]);
        let builtin = format!(
            "{}\nconfig rule\n\toption use_policy 'default'\n",
            &THREE[..rules]
        );
        assert!(order(&Mwan3::parse(builtin.as_bytes())).is_empty());
    }

    #[test]
    fn sixty_uplinks_keep_their_order() {
        let mut text = String::from("config policy 'all'\n");
        for n in 0..60 {
            text += &format!("\tlist use_member 'm{n}'\n");
        }
        for n in 0..60 {
            text += &format!(
                "config member 'm{n}'\n\toption interface 'w{n}'\n\toption metric '{}'\n\
                 config interface 'w{n}'\n\toption enabled 'on'\n",
                60 - n
            );
        }
        let got = Mwan3::parse(text.as_bytes());
        let wanted: Vec<String> = (0..60).rev().map(|n| format!("w{n}")).collect();
        assert_eq!(order(&got), wanted);
    }

    #[test]
    fn a_broken_file_says_what_it_can_and_a_missing_one_nothing() {
        let broken = THREE.replace("option weight '3'", "option weight 'three");
        assert_eq!(Mwan3::parse(broken.as_bytes()).mmx_mask, Some(0x7f00));
        let mut file = File::new(Path::new("/nonexistent/mwan3"));
        assert_eq!(*file.read(), Mwan3::default());
    }

    #[test]
    fn the_file_is_read_again_when_it_changes_and_when_it_goes() {
        let name = format!("tailover-mwan3-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = File::new(&path);
        std::fs::write(&path, THREE).expect("a file");
        assert_eq!(file.read().mmx_mask, Some(0x7f00));
        std::fs::write(
            &path,
            "config globals 'globals'\n\toption mmx_mask '0xff00'\n",
        )
        .expect("a file");
        assert_eq!(file.read().mmx_mask, Some(0xff00));
        std::fs::remove_file(&path).expect("the file goes");
        assert_eq!(*file.read(), Mwan3::default());
    }

    proptest! {
        #[test]
        fn odd_files_never_panic(cut in 0..THREE.len(), at in 0..THREE.len(), byte in any::<u8>()) {
            let mut text = THREE.as_bytes()[..cut].to_vec();
            if let Some(b) = text.get_mut(at) {
                *b = byte;
            }
            Mwan3::parse(&text);
        }
    }
}
