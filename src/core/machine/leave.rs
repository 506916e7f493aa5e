//! Leaving a metered uplink: its peers are moved off it once the tailnet is well on another.

use super::*;

/// How long peers are kept off. A peer that sends moves after 6.5 to 10 s (its trust, and its next
/// heartbeat); the rest is for those whose session wakes up meanwhile.
pub const LEAVE_FOR: Duration = Duration::from_secs(60);

/// Peers are let alone for this long after the tailnet was seen well. tailscaled forgets where each
/// peer's packets come from when it is renewed, and learns it from their disco packets: kept off at
/// once, a peer was not heard for 15 s in two of five ways back.
const WELL_FOR: Duration = Duration::from_secs(10);

/// Which metered devices carried the path, and which are being left.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave {
    /// Carried the path since peers were last moved off them.
    used: Vec<String>,
    /// Being left until then.
    under_way: Vec<String>,
    until: Time,
    /// Nothing curable has been known since.
    well_since: Option<Time>,
}

impl Core {
    /// After each step: takes down what carries the path, and has peers leave what does not any more.
    pub(super) fn mind_metered(&mut self, now: Time) {
        if self.leave.until <= now {
            self.leave.under_way.clear();
        }
        if self.leave.under_way.iter().any(|d| self.carries(d)) {
            // Its peers are needed there again. Those of another one come back for a while, too.
            let back = std::mem::take(&mut self.leave.under_way);
            self.leave.used.extend(back);
            self.out.push(Action::Leave(Vec::new()));
        }
        for u in self.k.uplinks.iter().filter(|u| u.metered) {
            if self.carries(&u.device) && !self.leave.used.contains(&u.device) {
                self.leave.used.push(u.device.clone());
            }
        }
        // Only from a tailnet that is well: peers need somewhere to go.
        if self.stage != Stage::Quiet || self.faults.iter().any(Fault::curable) {
            self.leave.well_since = None;
            return;
        }
        let well_since = *self.leave.well_since.get_or_insert(now);
        if now.saturating_sub(well_since) < WELL_FOR {
            return;
        }
        let (stay, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leave.used)
            .into_iter()
            .partition(|d| self.carries(d));
        self.leave.used = stay;
        if left.is_empty() {
            return;
        }
        for device in &left {
            let name = self.k.name_device(device);
            self.tell(Notice::Leaving { name });
        }
        self.leave.under_way.extend(left);
        self.leave.until = now + LEAVE_FOR;
        let devices = self.leave.under_way.clone();
        self.out.push(Action::Leave(devices));
    }

    /// True when the path of a family leaves by `device`, or will as soon as the steering that was
    /// ordered is done.
    fn carries(&self, device: &str) -> bool {
        let routed = |f: Family| self.k.path(f).route.as_ref().map(|r| r.device.as_str());
        let steered = |f: Family| {
            self.k.steering[f.at()]
                .to
                .as_ref()
                .map(|h| h.device.as_str())
        };
        Family::BOTH
            .into_iter()
            .any(|f| routed(f) == Some(device) || steered(f) == Some(device))
    }
}

#[cfg(test)]
mod tests;
