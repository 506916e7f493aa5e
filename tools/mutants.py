"""The core, broken on purpose: a change for each promise, which the simulated weeks must notice by that promise.

`tools/reliability.py mutants` applies them to a copy, one at a time.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """`edits` are (file below src/core, the text there, the text instead); `sign` must be in what the weeks say."""

    name: str
    what: str
    promise: str
    sign: str
    edits: tuple

    def apply(self, root):
        """Changes the copy in `root`. Fails when the core has moved on, rather than changing nothing."""
        for file, old, new in self.edits:
            path = Path(root) / "src/core" / file
            text = path.read_text()
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {text.count(old)} times in src/core/{file}, not once:\n{old}")
            path.write_text(text.replace(old, new))


MUTANTS = [
    Mutant("outside", "a nudge while nothing reaches the outside",
           "1: no cure while no uplink reaches the outside",
           "promise 1: a cure while no uplink reaches the outside",
           (("machine/prove.rs", "                _ => self.rest(now, why),\n            };\n        }\n"
             "        if !self.k.anything_open(since) {",
             "                _ if self.rests == 4 => {\n                    self.rests += 1;\n"
             "                    self.cure(now, since, &[Cure::Nudge], &faults)\n                }\n"
             "                _ => self.rest(now, why),\n            };\n        }\n"
             "        if !self.k.anything_open(since) {"),)),
    Mutant("stopped", "that the user stopped Tailscale is not seen",
           "1: no cure when the user stopped it",
           "promise 1: a cure although the user stopped Tailscale",
           (("machine/prove.rs", "            return self.end(now, Outcome::NeedsPerson);",
             "            return self.cure(now, since, &[Cure::Renew], &faults);"),)),
    Mutant("control-down", "a renewal and a restart do not wait for the control server's answer",
           "1: no restart because the control server alone is down",
           "promise 1: a restart while the control server is down",
           (("knowledge.rs", "        self.control_answers(since) && self.paths.iter()",
             "        self.anything_open(since) && self.paths.iter()"),)),
    Mutant("mildest", "a stuck control connection is not renewed before the restart",
           "2: the mildest cure first", "promise 2: a restart before a milder cure",
           (("ladder.rs", "stuck && allowed.renew && tried.renew < MILD_TRIES && control",
             "stuck && allowed.renew && tried.renew > MILD_TRIES && control"),)),
    Mutant("fitting", "lost kernel state is not put back",
           "2: the mildest cure that fits", "",
           (("ladder.rs", "    allowed.mend && tried.mend < MILD_TRIES &&", "    allowed.mend && tried.mend > MILD_TRIES &&"),)),
    Mutant("cap", "one restart more in an hour than the cap allows",
           "3: a cap on the restarts of an hour", "promise 3: more restarts in an hour than allowed",
           (("budget.rs", "recent.len().checked_sub(cap)", "recent.len().checked_sub(cap + 1)"),)),
    Mutant("pause", "the pause after a restart is not waited for",
           "3: backoff between restarts", "promise 3: no pause between two restarts",
           (("budget.rs", "        if now < self.not_before {\n", "        if now < self.not_before.min(now) {\n"),)),
    Mutant("recall", "a daemon that begins anew counts its restarts from nothing",
           "3: the cap holds over the daemon's own death", "promise 3",
           (("machine/hear.rs", "Input::Restarted(ages) => self.budget.recall(now, &ages, &self.policy.limits),",
             "Input::Restarted(_) => {}"),)),
    Mutant("adopt", "what an earlier run steered is not taken over",
           "4: reconciled at start after a crash", "steered true",
           (("machine/hear.rs", "                    to: to.map(hop),\n", "                    to: to.map(hop).and(None),\n"),)),
    Mutant("kept", "what was kept for the flows of the old way stays",
           "4 and after: nothing stays steered that need not be", "steered true",
           (("machine/verify.rs", "if self.k.steering[f.at()].keep.take().is_some() {",
             "if self.k.steering[f.at()].keep.is_some() && now.is_zero() {"),)),
    Mutant("told", "an act without its line",
           "6: each act logs a line", "promise 6: an act without a line",
           (("machine/cure.rs", "        self.tell(Notice::Cure { cure, text: why });\n        self.out.push(action);",
             "        if cure != Cure::Renew {\n            self.tell(Notice::Cure { cure, text: why });\n        }\n"
             "        self.out.push(action);"),)),
    Mutant("hold", "back to the better uplink at its first answer",
           "7: going back needs a stable stretch", "promise 7: back to an uplink that was not stable",
           (("machine/quiet.rs", ".is_some_and(|t| now.saturating_sub(t) >= self.hold())",
             ".is_some_and(|t| now.saturating_sub(t) >= Duration::ZERO)"),)),
    Mutant("unseen", "only events tell of a dead uplink: no heartbeat, no sign, no word of tailscaled's",
           "a curable fault is cured in bounded time", "not cured within",
           (("machine/beat.rs", "        self.probe_path(now, family, Effort::Beat);\n", ""),
            ("machine/suspect.rs", "        if let Some(why) = sign {\n", "        if let Some(why) = sign.filter(|_| now.is_zero()) {\n"),
            ("machine/tailscaled.rs", "        suspicion(&self.k, now, self.control_down()).or_else(|| self.unheard())",
             "        let _ = self.unheard();\n        suspicion(&self.k, now, true)"))),
    Mutant("unasked", "a path that no round will tell of is not asked again",
           "a curable fault is cured in bounded time", "",
           (("machine/prove.rs", "        self.ask_unjudged(now, since);\n", ""),)),
    Mutant("narrow", "control is renewed, and tailscaled restarted, where large packets are lost",
           "1: no restart where it cannot help", "promise 1: a restart where no handshake comes to its end",
           (("flaws.rs", "        large.or(tls).map(|(what, why)| format!(\"{what} ({why})\"))",
             "        large.or(tls).map(|(what, why)| format!(\"{what} ({why})\")).filter(String::is_empty)"),)),
    Mutant("asleep", "what was asked before the router stood still counts afterwards",
           "1: no cure while no uplink reaches the outside", "promise 1: a cure while no uplink reaches the outside",
           (("machine/mod.rs", "> OVERSLEPT)", "> OVERSLEPT * 100_000)"),)),
    Mutant("tired", "what was tried is never tried again",
           "a curable fault is cured in bounded time", "not cured within",
           (("machine/verify.rs", "            if long || self.rests.is_multiple_of(4) {", "            if self.rests > 1_000_000 {"),
            ("machine/hear.rs", "                e.tried.steer = [0; 2];\n", ""))),
    Mutant("stay", "the mark never goes back",
           "after the last fault the system is unsteered", "steered true",
           (("machine/quiet.rs", "        if let Some((_, name)) = stable {", "        if let Some((_, name)) = stable.filter(|_| now.is_zero()) {"),)),
    Mutant("rehearsal", "a drill does not end",
           "after the last fault the system is unsteered", "",
           (("machine/drill.rs", "} else if self.drill_due().is_some_and(|t| t <= now) {",
             "} else if self.drill_due().is_some_and(|t| t.is_zero()) {"),)),
    Mutant("noise", "a healthy tailnet is nudged after each look",
           "after the last fault the system is silent", "acts",
           (("machine/quiet.rs", "        self.ask_control(now);\n",
             "        self.ask_control(now);\n        if self.look_at == now + self.policy.interval {\n"
             "            self.tell(Notice::Cure {\n                cure: Cure::Nudge,\n                text: String::new(),\n"
             "            });\n            self.out.push(Action::Nudge);\n        }\n"),)),
    Mutant("history", "ended episodes are all kept",
           "memory and history stay bounded", "grown",
           (("episode.rs", "        if self.episodes.len() == HISTORY {", "        if self.episodes.len() == usize::MAX {"),)),
    Mutant("memory", "acts of an episode are all kept, and noted again by each look",
           "memory and history stay bounded", "grown",
           (("machine/tailscaled.rs", "        self.loss_unread = false;\n        self.second_look_asked = false;\n",
             "        self.loss_unread = false;\n        self.second_look_asked = false;\n"
             "        self.k.warnings.push(format!(\"{now:?}\"));\n"),)),
]
