//! What the machine does next if nothing happens, for people.

use super::*;

impl Core {
    /// What comes next, and when, where that is known.
    pub fn outlook(&self, now: Time) -> (String, Option<Time>) {
        if let (Some(drilled), Some(due)) = (&self.k.drilled, self.drill_due()) {
            return (format!("end the drill of {}", drilled.name), Some(due));
        }
        match &self.stage {
            Stage::Proving { .. } => ("weigh the answers of the probes".into(), None),
            Stage::Curing { waiting, .. } => {
                let cures: Vec<String> = waiting.iter().map(Cure::to_string).collect();
                (format!("wait for {}", cures.join(", ")), None)
            }
            Stage::Verifying { until, .. } => (
                "look for another cure, unless the tailnet is well".into(),
                Some(*until),
            ),
            Stage::Resting { until, .. } => ("try again".into(), Some(*until)),
            Stage::Quiet => {
                let way = self.ways_back().into_iter().next();
                way.map_or_else(
                    || ("look at the path".into(), Some(self.beat_at)),
                    |(f, name)| self.return_outlook(now, f, &name),
                )
            }
        }
    }

    fn return_outlook(&self, now: Time, family: Family, name: &str) -> (String, Option<Time>) {
        let hold = self.hold();
        let text = format!("go back to {name} once it is open for {} s", hold.as_secs());
        let steady = self.k.verdict(name, family).and_then(|j| j.steady_since);
        (text, steady.map(|t| (t + hold).max(now)))
    }
}

#[cfg(test)]
mod tests;
