//! Leaving a metered uplink: its peers are moved off it once the tailnet is well on another.

use super::*;

/// How long peers are kept off. A peer that sends moves after 6.5 to 10 s (its trust, and its next
/// heartbeat); the rest is for those whose session wakes up meanwhile.
pub const LEAVE_FOR: Duration = Duration::from_secs(60);

/// Which metered devices carried the path, and which are being left.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave {
    /// Carried the path since peers were last moved off them.
    used: Vec<String>,
    /// Being left until then.
    under_way: Vec<String>,
    until: Time,
}

impl Core {
    /// After each step: takes down what carries the path, and has peers leave what does not any more.
    pub(super) fn mind_metered(&mut self, now: Time) {
        let on: Vec<String> = Family::BOTH
            .into_iter()
            .flat_map(|f| self.carriers(f))
            .collect();
        if self.leave.until <= now {
            self.leave.under_way.clear();
        }
        if self.leave.under_way.iter().any(|d| on.contains(d)) {
            // Its peers are needed there again. The other family's, too, come back for a while.
            self.leave.used.append(&mut self.leave.under_way);
            self.out.push(Action::Leave(Vec::new()));
        }
        let metered = self.k.uplinks.iter().filter(|u| u.metered);
        for u in metered.filter(|u| on.contains(&u.device)) {
            if !self.leave.used.contains(&u.device) {
                self.leave.used.push(u.device.clone());
            }
        }
        // Only from a tailnet that is well: peers need somewhere to go.
        if self.stage != Stage::Quiet || self.faults.iter().any(Fault::curable) {
            return;
        }
        let (stay, left) = std::mem::take(&mut self.leave.used)
            .into_iter()
            .partition::<Vec<_>, _>(|d| on.contains(d));
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
        self.out.push(Action::Leave(self.leave.under_way.clone()));
    }

    /// The devices that carry the path, or will as soon as the steering that was ordered is done.
    fn carriers(&self, family: Family) -> Vec<String> {
        let route = self.k.path(family).route.as_ref();
        let steered = self.k.steering[family.at()].to.as_ref();
        let of_route = route.map(|r| r.device.clone());
        of_route
            .into_iter()
            .chain(steered.map(|hop| hop.device.clone()))
            .collect()
    }
}
