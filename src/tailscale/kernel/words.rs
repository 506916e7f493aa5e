//! A list of things as a line for people.

/// So many members of a list are named, the rest is counted.
const NAMED: usize = 4;

/// `2 IPv4 routes of table 52 (A, B)`, or nothing for none.
pub(super) fn line(one: &str, many: &str, of: &str, members: Vec<String>) -> Option<String> {
    let count = members.len();
    let named = members.iter().take(NAMED).cloned();
    let mut named = named.collect::<Vec<_>>().join(", ");
    if count > NAMED {
        named.push_str(", ...");
    }
    match count {
        0 => None,
        1 => Some(format!("the {one} {named}{of}")),
        _ => Some(format!("{count} {many}{of} ({named})")),
    }
}
