"""What is done to the world, and what must come of it.

A scenario takes a settled World, does its harm, and raises Failed with a
sentence when something that must hold does not. Here are those without
tailover, which prove the lab itself, and the list of all.
"""

import time
from dataclasses import dataclass

from . import documented, drills, endurance, failback, footprint, losses, many, naming, nat64, plan, rescues
from . import rights, routers, tailscaled, troubles, tunnels, verdicts
from .hosts import wait_until
from .steps import (
    PATIENCE,
    expect,
    expect_back,
    expect_lan,
    fail_back,
    fail_over,
    seconds,
)

# The lab proves itself first: what it shows without tailover must be true.


def lab_is_real(world):
    """tailscaled runs at base 1300 beside mwan3's rules, in both families."""
    for family in ("-4", "-6"):
        rules = world.router.host.run(["ip", family, "rule", "show"])
        for pref in ("1310:", "1370:", "2061:", "3001:" if family == "-4" else "3002:"):
            expect(pref in rules, f"no ip {family} rule with pref {pref}")
    expect(world.marked_device() == "eth1", "tailscaled's packets do not leave by eth1")
    expect_lan(world)
    return "base 1300, mwan3's rules beside it"


def names_are_local(world):
    """An ISP's resolver answers its own customers and nobody else."""
    for isp, other in (plan.ISPS, reversed(plan.ISPS)):
        own = world.router.host.run(["sh", "-c", _lookup(isp.gateway, isp.device)], check=False)
        foreign = world.isps[other.name].host.run(["sh", "-c", _lookup(isp.gateway)], check=False)
        expect("answered" in own, f"{isp.name}'s resolver is silent for its customer")
        expect("answered" not in foreign, f"{isp.name}'s resolver answers a stranger")
    return "each resolver answers its own customer only"


def faults_of_an_isp(world):
    """Each fault that an ISP can have breaks what it is named after, and nothing else."""
    everything = {"name", "tcp", "tls", "small", "large"}
    broken = {
        "restore": set(),
        "names_dead": {"name"},
        "tls_broken": {"tls"},
        "mtu_black_hole": {"large"},
        "gateway_dead": everything,
    }
    for fault, expected in broken.items():
        getattr(world.isp1, fault)()
        for family in (4, 6):
            lost = everything - _passing(world, family)
            # A handshake needs large packets too, for the certificates.
            lost -= {"tls"} if fault == "mtu_black_hole" else set()
            expect(lost == expected, f"{fault} breaks {sorted(lost)} over IPv{family}")
        world.isp1.restore()
    world.isp1.lossy(50)
    ping = ["ping", "-n", "-q", "-c", "50", "-i", "0.02", "-W", "1", plan.IPIFY[0]]
    answered = int(world.router.host.run(ping, check=False).split(" received")[0].split()[-1])
    expect(1 <= answered <= 30, f"{answered} of 50 pings answered at 50 % loss each way")
    return f"{len(broken) - 1} faults as they should be; {answered} of 50 pings at 50 % loss each way"


def _passing(world, family):
    """What gets through from the router's first uplink to the outside now."""
    server = plan.IPIFY[0 if family == 4 else 1]
    resolver = plan.ISP1.gateway if family == 4 else plan.ISP1.gateway6
    open_tcp = f"import socket;s=socket.create_connection(('{server}',443),1.5)"
    tls = "import ssl;ssl._create_unverified_context().wrap_socket(s).version()"
    ping = f"ping -n -c 1 -W 1 -M dont {server} -s"
    tries = {
        "name": _lookup(resolver, plan.ISP1.device),
        "tcp": f'python3 -c "{open_tcp}"',
        "tls": f'python3 -c "{open_tcp};{tls}"',
        "small": f"{ping} 100",
        "large": f"{ping} 1352",
    }
    lines = [f"( {command} ) >/dev/null 2>&1 && echo {what} &" for what, command in tries.items()]
    return set(world.router.host.run(["sh", "-c", "\n".join([*lines, "wait"])]).split())


def _lookup(server, device=None):
    """A shell command that asks a resolver for the control server's name."""
    question = "\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\011headscale\\3lab\\0\\0\\1\\0\\1"
    program = (
        f"import socket,sys;s=socket.socket(socket.AF_INET{'6' if ':' in server else ''},socket.SOCK_DGRAM);"
        "s.settimeout(1);"
        + (f"s.setsockopt(socket.SOL_SOCKET,25,b'{device}');" if device else "")
        + f"s.sendto(b'{question}',('{server}',53));s.recv(512);print('answered')"
    )
    return f'python3 -c "{program}" 2>&1'


def dead_without_cure(world):
    """mwan3's policy alone leaves the tailnet dead while the LAN goes on."""
    figures = fail_over(world, "nothing", patience=20)
    expect(figures.ping is None and figures.control is None, f"came back by itself: {figures}")
    expect(world.marked_device() == "eth1", "tailscaled's packets have moved by themselves")
    expect_lan(world)
    return str(figures)


def dead_without_cure_derp(world):
    """The same with a peer that has only relays."""
    return dead_without_cure(world)


def by_hand_direct(world):
    """The cure by hand brings a direct peer back."""
    return _by_hand(world)


def by_hand_derp(world):
    """The cure by hand brings a peer back that has only relays."""
    return _by_hand(world)


def _by_hand(world):
    figures = fail_over(world, "hand")
    expect_back(figures)
    back = fail_back(world, "hand")
    expect(back.control is not None, f"control did not return: {back}")
    return f"{figures}; back again: {back}"


def by_hand_names_cold(world):
    """The router has to look the control server up again, half its resolvers dead."""
    world.router.forget_names()
    figures = fail_over(world, "hand", patience=60)
    expect(figures.ping is not None and figures.control is not None, f"not back: {figures}")
    return str(figures)


def by_hand_rejected(world):
    """An uplink that answers with ICMP unreachable is overcome by hand too."""
    figures = fail_over(world, "hand", "reject")
    expect_back(figures)
    return str(figures)


def carrier_lost(world):
    """With the carrier the routes go, and tailscaled moves by itself."""
    figures = fail_over(world, "nothing", "link_down")
    expect(figures.ping is not None, f"not back: {figures}")
    return str(figures)


def new_address(world):
    """A silent change of the public address breaks paths that mend themselves."""
    changed = time.monotonic()
    world.isp1.new_address()
    wait_until(lambda: world.pings.back(changed + 0.5, 4) is not None, PATIENCE, "the tailnet")
    return f"ping {seconds(world.pings.back(changed + 0.5, 4))} after the change"


def portal_answers(world):
    """The portal answers in the outside's place and lets nothing else through."""
    world.isp1.portal()
    fetch = (
        "import urllib.request as u;"
        f"print(u.urlopen('http://{plan.DERPS[900][1]}/generate_204',timeout=2).status)"
    )
    seen = world.router.host.run(["python3", "-c", fetch], check=False).strip()
    expect(seen == "200", f"generate_204 behind the portal gave {seen or 'nothing'}")
    ping = ["ping", "-n", "-c", "1", "-W", "1", plan.HEADSCALE[0]]
    through = world.router.host.run(ping, check=False)
    expect(" 0 received" in through, "the portal lets a ping through")
    return "200 for generate_204, nothing else passes"


def control_down(world):
    """Without the control server the tailnet goes on over the paths it has."""
    world.internet.control_down()
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 10, 12, "ten seconds")
    gap = world.pings.worst_gap(since, time.monotonic() - 0.5, 4)
    expect(gap < 1.5, f"the tailnet paused for {gap:.1f} s")
    return f"worst ping gap {gap:.1f} s in 10 s"


@dataclass(frozen=True)
class Scenario:
    """One entry of `lab test`: the function, the peer's kind, whether it needs tailover,
    whether it is rare (run by `--all` only), how many restarts of tailscaled it may cost."""

    run: object
    peer: str = "direct"
    tailover: bool = False
    rare: bool = False
    restarts: int = 0

    @property
    def name(self):
        """The function's name, by which scenarios are picked."""
        return self.run.__name__


SCENARIOS = [
    Scenario(lab_is_real),
    Scenario(names_are_local),
    Scenario(faults_of_an_isp),
    Scenario(dead_without_cure),
    Scenario(by_hand_direct, rare=True),
    Scenario(by_hand_rejected, rare=True),
    Scenario(by_hand_names_cold, rare=True),
    Scenario(carrier_lost, rare=True),
    Scenario(new_address, rare=True),
    Scenario(portal_answers),
    Scenario(control_down),
    Scenario(rescues.failover_direct, tailover=True),
    Scenario(rescues.failover_rejected, tailover=True),
    Scenario(rescues.failover_portal, tailover=True),
    Scenario(rescues.dark_without_a_word, tailover=True),
    Scenario(rescues.carrier_lost_and_back, tailover=True),
    Scenario(rescues.new_public_address, tailover=True),
    Scenario(rescues.restart_of_mwan3, tailover=True),
    Scenario(rescues.backup_behind_portal, tailover=True),
    Scenario(rescues.all_down_no_cure, tailover=True),
    Scenario(rescues.both_down_then_backup, tailover=True),
    Scenario(rescues.backup_back_without_a_word, tailover=True, rare=True),
    Scenario(rescues.control_down_no_cure, tailover=True),
    Scenario(rescues.control_killed_no_cure, tailover=True, rare=True),
    Scenario(rescues.control_down_and_dark, tailover=True),
    Scenario(rescues.stopped_by_user, tailover=True),
    Scenario(rescues.hung_tailscaled, tailover=True, restarts=1),
    Scenario(rescues.killed_while_steered, tailover=True),
    Scenario(rescues.stopped_while_dark, tailover=True),
    Scenario(rescues.stopped_while_open, tailover=True),
    Scenario(rescues.upgrade_while_steered, tailover=True),
    Scenario(rescues.removed_while_dead, tailover=True),
    Scenario(rights.rights_are_needed, tailover=True),
    Scenario(rights.keys_stay, tailover=True),
    Scenario(rescues.check_changes_nothing, tailover=True),
    Scenario(documented.documented_commands, tailover=True),
    Scenario(drills.drill_wan, tailover=True),
    Scenario(drills.drill_interrupted, tailover=True),
    Scenario(rescues.ubusd_reborn, tailover=True),
    Scenario(rescues.hotplug_is_quick, tailover=True),
    Scenario(naming.naming_short, tailover=True),
    Scenario(verdicts.names_dead, tailover=True, rare=True),
    Scenario(verdicts.names_dead_and_forgotten, tailover=True, rare=True),
    Scenario(verdicts.tls_broken, tailover=True, rare=True),
    Scenario(verdicts.mtu_black_hole, tailover=True, rare=True),
    Scenario(verdicts.mtu_black_hole_and_control, tailover=True, rare=True),
    Scenario(verdicts.clock_before_certificates, tailover=True, rare=True),
    Scenario(verdicts.dark_with_a_wrong_clock, tailover=True, rare=True),
    Scenario(verdicts.portal_that_redirects, tailover=True, rare=True),
    Scenario(verdicts.portal_that_is_mute, tailover=True, rare=True),
    Scenario(verdicts.login_at_a_portal, tailover=True, rare=True),
    Scenario(verdicts.bursts_under_loss, tailover=True, rare=True),
    Scenario(footprint.idle_memory, tailover=True),
    Scenario(footprint.idle_cost, tailover=True, rare=True),
    Scenario(footprint.memory_of_a_crowd, tailover=True, rare=True, restarts=1),
    Scenario(footprint.memory_later, tailover=True, rare=True, restarts=1),
    Scenario(footprint.cost_longer, tailover=True, rare=True),
    Scenario(routers.backup_without_default, tailover=True),
    Scenario(routers.backup_with_ipv6_alone, tailover=True),
    Scenario(routers.one_family_dies, tailover=True),
    Scenario(routers.no_mwan3_at_all, tailover=True, rare=True, restarts=2),
    Scenario(routers.check_without_default, tailover=True, rare=True),
    Scenario(routers.backup_without_gateway, tailover=True, rare=True),
    Scenario(routers.two_uplinks_in_one_network, tailover=True, rare=True),
    Scenario(routers.one_family_dies_on_the_first, tailover=True, rare=True),
    Scenario(routers.new_gateway_while_steered, tailover=True, rare=True),
    Scenario(routers.metered_backup_is_left_alone, tailover=True, rare=True),
    Scenario(nat64.backup_with_nat64, tailover=True, rare=True),
    Scenario(nat64.first_with_nat64, tailover=True, rare=True),
    Scenario(nat64.nat64_alone, tailover=True, rare=True),
    # Two restarts are the scenario's own.
    Scenario(many.six_uplinks, tailover=True, rare=True, restarts=2),
    Scenario(many.two_that_share, tailover=True, rare=True, restarts=2),
    Scenario(tunnels.exit_node_and_dark, tailover=True, rare=True),
    Scenario(tunnels.exit_node_and_mwan3_restart, tailover=True, rare=True),
    Scenario(tunnels.tunnel_is_chosen_last, tailover=True, rare=True),
    Scenario(tunnels.tunnel_with_mains_default, tailover=True, rare=True),
    Scenario(losses.flush_by_mwan3, tailover=True),
    Scenario(losses.rules6_deleted, tailover=True),
    Scenario(losses.route_deleted, tailover=True),
    Scenario(losses.address_deleted, tailover=True),
    Scenario(losses.chains_deleted, tailover=True, restarts=1),
    Scenario(losses.firewall_reloads, tailover=True),
    Scenario(losses.netmap_changes, tailover=True),
    # The restarts of tailscaled are the scenario's own, but for one of the second.
    Scenario(losses.boot_race, tailover=True, restarts=3),
    Scenario(losses.boot_race_restart, tailover=True, rare=True, restarts=3),
    Scenario(losses.device_down, tailover=True, rare=True),
    Scenario(losses.flushed_before_start, tailover=True, rare=True),
    Scenario(losses.flushed_while_dark, tailover=True, rare=True),
    Scenario(losses.other_hand_on_tailscaled, tailover=True, rare=True, restarts=1),
    # A hung and a dead tailscaled are restarted, and so is what nobody mends.
    Scenario(naming.naming_singles, tailover=True, rare=True, restarts=5),
    Scenario(naming.naming_pairs, tailover=True, rare=True, restarts=10),
    Scenario(rescues.no_ubusd_at_all, tailover=True, rare=True),
    Scenario(rescues.killed_tailscaled, tailover=True, rare=True, restarts=1),
    Scenario(tailscaled.failover_old_tailscaled, tailover=True, rare=True, restarts=2),
    Scenario(tailscaled.failover_small_tailscaled, tailover=True, rare=True, restarts=2),
    Scenario(tailscaled.crash_loop, tailover=True, rare=True, restarts=8),
    Scenario(tailscaled.given_up_by_procd, tailover=True, rare=True, restarts=8),
    Scenario(tailscaled.restarted_by_others, tailover=True, rare=True, restarts=3),
    Scenario(tailscaled.upgraded_under_us, tailover=True, rare=True, restarts=3),
    Scenario(tailscaled.socket_elsewhere, tailover=True, rare=True, restarts=2),
    Scenario(rescues.only_restart_allowed, tailover=True, rare=True, restarts=3),
    Scenario(rescues.failover_rp_filter, tailover=True, rare=True),
    Scenario(rescues.failover_source_routes, tailover=True, rare=True),
    Scenario(failback.off_the_metered_backup, tailover=True),
    Scenario(failback.left_and_needed_again, tailover=True, rare=True),
    # Two restarts are the scenario's own.
    Scenario(failback.flows_held_by_mwan3, tailover=True, rare=True, restarts=2),
    Scenario(failback.marks_hold_nothing_while_steered, tailover=True),
    Scenario(failback.flapping, tailover=True, rare=True),
    # One that is killed, and one whose LocalAPI says garbage: the troubles' own.
    Scenario(troubles.troubles_short, tailover=True, restarts=3),
    Scenario(troubles.killed_ten_times, tailover=True),
    Scenario(troubles.killed_at_random, tailover=True, rare=True),
    Scenario(endurance.endurance_short, tailover=True, rare=True),
    Scenario(endurance.endurance, tailover=True, rare=True),
    Scenario(dead_without_cure_derp, peer="derp-only", rare=True),
    Scenario(by_hand_derp, peer="derp-only"),
    Scenario(rescues.failover_derp, peer="derp-only", tailover=True),
]
