"""What a run has come to, from what was seen in it. Pure: no clock, no lab."""

from dataclasses import dataclass, field

# Pings are sent four times a second; a gap of so many is an outage and no hiccup.
GAP = 4
_PING = 0.25
# A control connection that is away for less was only renewed.
_RENEWED = 1.5
# How long the tailnet must have been well for an act to be one on a healthy tailnet.
_HEALTHY = 3.0
# An uplink needs a moment to be open, and an act a moment to be done.
_MARGIN = 0.5
# What ends or takes down tailscaled, in the words of its own commands and of tailover's history.
_HARSH = ("restart", "stop", "down")
# A family's steering is taken away: its packets go by main again.
UNSTEER = "unsteer"
# Acts that move the packets of one family, as tailover's history calls them.
_MOVES = {"steer IPv4": 4, "steer IPv6": 6}


@dataclass
class Seen:
    """What was seen: `pings` by family as (sent, answered or None), `samples` of control, `acts` on
    tailscaled as (when, what) or (when, what, the ISP that was left), the truth of the outside, and the
    instants of the run."""

    zero: float
    end: float
    pings: dict
    samples: list
    acts: list
    truth: object
    restarts: int = 0
    flows: int = 0
    flows_lost: int = 0


@dataclass
class Figures:
    """Seconds from `zero`; None for never. `wrong` are sentences."""

    control: float | None
    ping: float | None
    outage: float
    watched: float
    restarts: int
    flows: int
    flows_lost: int
    wrong: list = field(default_factory=list)


def of(seen):
    """The figures of a run."""
    pings = [back_for_good(seen.pings[family], seen.zero, seen.end) for family in (4, 6)]
    return Figures(
        control=control_for_good(seen),
        ping=None if None in pings else max(pings),
        outage=max(lost(seen.pings[family], seen.zero, seen.end) for family in (4, 6)),
        watched=seen.end - seen.zero,
        restarts=seen.restarts,
        flows=seen.flows,
        flows_lost=seen.flows_lost,
        wrong=wrong_acts(seen),
    )


def back_for_good(pings, zero, end):
    """Seconds from `zero` until the first answer after the last gap; 0 without a gap, None when the
    last gap did not end."""
    later = [ping for ping in pings if zero <= ping[0] <= end]
    back, missing = 0.0, 0
    for _, answered in later:
        if answered is None:
            missing += 1
            continue
        if missing >= GAP:
            back = answered - zero
        missing = 0
    return None if missing >= GAP or not later else back


def lost(pings, zero, end):
    """Seconds whose pings were not answered, all together."""
    return _PING * sum(answered is None for sent, answered in pings if zero <= sent <= end)


def control_for_good(seen):
    """Seconds from `zero` until control ran over an uplink that is open, and went on doing so."""
    back, away_since, good = None, seen.zero, False
    for sample in seen.samples:
        if not seen.zero <= sample.when <= seen.end:
            continue
        good_now = control_good(sample, seen.truth)
        if good_now and not good:
            if back is None or sample.when - away_since > _RENEWED:
                back = sample.when - seen.zero
        elif good and not good_now:
            away_since = sample.when
        good = good_now
    if not good and (back is None or seen.end - away_since > _RENEWED):
        return None
    # The first look comes a moment after the first instant.
    return 0.0 if back is not None and back < 2 * _PING else back


def control_good(sample, truth):
    """Whether the node is online and has a control connection that gets through: its packets leave by the
    uplink whose address they have, that uplink is open, and the other side still knows the connection."""
    reach, dead = truth.open_at(sample.when), truth.dead_ports(sample.when)
    return sample.online and any(
        isp == egress and isp in reach and port not in dead for isp, port, egress in sample.flows
    )


def healthy_at(when, seen):
    """Whether the tailnet was well for some seconds before, on the best uplink that was open."""
    if seen.truth.fault_within(when, _HEALTHY):
        return False
    before = [sample for sample in seen.samples if sample.when < when]
    if not before or not control_good(before[-1], seen.truth):
        return False
    best = seen.truth.open_at(when)[:1]
    if not any(isp in best for isp, _, _ in before[-1].flows):
        return False
    for family in (4, 6):
        span = [answered for sent, answered in seen.pings[family]
                if when - _HEALTHY - _MARGIN <= sent <= when - _MARGIN]
        # A third: at 20 % loss each way two thirds come back.
        if not span or sum(answered is not None for answered in span) < len(span) / 3:
            return False
    return True


def _moved_off_dead(when, what, off, seen):
    """Whether it moved one family off an uplink where that one is dead: the other may carry the tailnet to the
    peers that have it, and only to those. `off` is the ISP that the family's packets left by, where that is known."""
    family = _MOVES.get(what)
    best = [off] if off else seen.truth.open_at(when)[:1]
    return family is not None and any(seen.truth.dead(when, isp, family) for isp in best)


def _moves_nothing(when, what, seen):
    """Whether it took a steering away that main has caught up with: the tailnet leaves by the same uplink as before."""
    before = [sample for sample in seen.samples if sample.when < when]
    after = [sample for sample in seen.samples if sample.when > when + _RENEWED]
    if not (what.startswith(UNSTEER) and before and after):
        return False
    uplinks = [{egress for _, _, egress in sample.flows} for sample in (before[-1], after[0])]
    return uplinks[0] == uplinks[1]


def wrong_acts(seen):
    """A sentence for each act that was wrong: a restart while the outside was down, any on a healthy
    tailnet that does not move a dead family, mend what was lost, or take away what is of no use any more."""
    sentences = []
    to_mend = seen.truth.losses
    for when, what, *off in seen.acts:
        if when > seen.end:
            continue
        at = f"{what} at {when - seen.zero:+.1f} s"
        if what == "mend":
            to_mend -= 1
            if to_mend >= 0:
                continue
        if what.split()[0] in _HARSH and seen.truth.outside_down(when, _MARGIN):
            sentences.append(f"{at}, the outside down")
        elif healthy_at(when, seen) and not (
            _moved_off_dead(when, what, off[0] if off else None, seen) or _moves_nothing(when, what, seen)
        ):
            sentences.append(f"{at}, the tailnet healthy")
    return sentences
