"""Scenarios of tunnels that take the router's traffic: WireGuard as an uplink, an exit node of the tailnet."""

import time
from contextlib import contextmanager

from . import byhand, losses, plan
from .hosts import wait_until
from .rescues import acts, faults, named_before
from .steps import (
    PATIENCE,
    await_quiet,
    expect,
    fail_back,
    linger,
    seconds,
    start_tailover,
    status,
)
from .wireguard import Tunnel

# What a dark uplink may be called, with what it leaves behind.
_DARK = {"F1-pinned-route", "F2-stuck-control", "F3-stale-paths"}

# With a hold of 10 s, and the uplink asked every second.
_BACK_WITHIN = 60

_ALL = "0.0.0.0/0,::/0"

# OpenWrt's zone for tailscale0, where the LAN uses an exit node.
_EXIT_NAT = """
table inet lab_exit {
    chain srcnat {
        type nat hook postrouting priority srcnat
        oifname tailscale0 masquerade
    }
}
"""


@contextmanager
def _wireguard(world, metric=None):
    """A tunnel over the first uplink, with a default of that metric or with halves of one."""
    tunnel = Tunnel(world.internet, world.router)
    try:
        tunnel.route(metric)
        yield tunnel
    finally:
        world.router.stop_tailover()
        tunnel.close()


def tunnel_is_chosen_last(world):
    """A tunnel comes after every real uplink, and is taken when nothing else gets out."""
    # By main's metrics it would be the second.
    with _wireguard(world, metric=15) as tunnel:
        start_tailover(world)
        names = [u["name"] for u in status(world)["uplinks"]]
        expect(names == [plan.ISP1.wan, plan.ISP2.wan, "vpn"], f"uplinks {names}")
        notes = [note for note in status(world)["warnings"] if "vpn" in note]
        expect(len(notes) == 1 and "is a tunnel over another uplink" in notes[0], f"notes {notes}")
        begun = broken = time.monotonic()
        world.isp1.blackhole()
        wait_until(lambda: world.marked_device() == plan.ISP2.device, 45, "the mark on the second")
        first = _back(world, broken)
        expect(world.watch.control_now() == {"isp2"}, "control is not on the second uplink")
        await_quiet(world)
        world.isp1.restore()
        wait_until(lambda: world.marked_device() == plan.ISP1.device, _BACK_WITHIN, "the way back")
        await_quiet(world)
        # A provider that lets nothing out but the tunnel, and no second one.
        broken = time.monotonic()
        world.isp1.only(plan.VPN[0])
        world.isp2.blackhole()
        wait_until(lambda: world.marked_device() == plan.TUNNEL_DEVICE, 45, "the mark in the tunnel")
        second = _back(world, broken)
        wait_until(lambda: _control_in(world, tunnel), PATIENCE, "control in the tunnel")
        await_quiet(world)
        world.isp1.restore()
        wait_until(lambda: world.marked_device() == plan.ISP1.device, _BACK_WITHIN, "the way back")
        await_quiet(world)
        expect(world.watch.restarts(begun) == 0, "tailscaled was restarted")
        named = set(named_before(world))
        expect(named <= _DARK, f"named {named}")
        return f"ping {seconds(first)} by the second uplink, {seconds(second)} by the tunnel"


def tunnel_with_mains_default(world):
    """A tunnel has main's default by halves: its far end dies and the mark goes around it, and back later."""
    with _wireguard(world) as tunnel:
        device = world.marked_device()
        expect(device == plan.TUNNEL_DEVICE, f"the mark leaves by {device}")
        byhand.nudge_and_renew(world.node, world.peer_address())
        wait_until(lambda: _control_in(world, tunnel), PATIENCE, "control in the tunnel")
        wait_until(lambda: world.pings.steady(4, 3), PATIENCE, "pings")
        start_tailover(world)
        expect(not acts(world), f"acted on a healthy tunnel: {acts(world)}")
        notes = status(world)["warnings"]
        for family in ("IPv4", "IPv6"):
            note = f"vpn ({plan.TUNNEL_DEVICE}) takes main's {family} default by halves"
            expect(any(n.startswith(note) for n in notes), f"notes {notes}")
        broken = time.monotonic()
        tunnel.far_end("down")
        wait_until(lambda: world.marked_device() == plan.ISP1.device, 45, "the mark around it")
        ping = _back(world, broken)
        wait_until(lambda: world.watch.control_now() == {"isp1"}, PATIENCE, "control around it")
        await_quiet(world)
        restored = time.monotonic()
        tunnel.far_end("up")
        wait_until(lambda: not _steered(world), _BACK_WITHIN, "the mark in the tunnel again")
        back = time.monotonic() - restored
        wait_until(lambda: _control_in(world, tunnel), PATIENCE, "control in the tunnel again")
        wait_until(lambda: world.pings.steady(4, 2) and world.pings.steady(6, 2), 15, "pings")
        await_quiet(world)
        gap = world.pings.worst_gap(restored, time.monotonic() - 0.5, 4)
        expect(gap <= 1.0, f"the way back cost pings for {gap:.1f} s")
        named = set(named_before(world))
        expect("F1-pinned-route" in named <= _DARK, f"named {named}")
        expect(world.watch.restarts(broken) == 0, "tailscaled was restarted")
        return (
            f"ping {seconds(ping)} after the far end's death, in the tunnel again {seconds(back)}"
            f" after its return, worst ping gap {gap:.1f} s"
        )


def _control_in(world, tunnel):
    sources = world.node.control_sources()
    return bool(sources) and sources <= set(tunnel.ours)


def _steered(world):
    steering = status(world)["steering"]
    return [family for family in ("ipv4", "ipv6") if steering[family] is not None]


def _back(world, since):
    """Waits for the tailnet; seconds from `since` until both families were pinged again."""

    def both():
        # The pings of the first second may have been answered before all was dark.
        times = [world.pings.back(since + 1, family) for family in (4, 6)]
        return None if None in times else 1 + max(times)

    return wait_until(both, PATIENCE, "the tailnet")


@contextmanager
def _exit_node(world):
    """The peer is the router's exit node, and the LAN's, which stays within reach."""
    peer = world.peer
    peer.host.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    world.router.host.run(["nft", "-f", "-"], input=_EXIT_NAT)
    try:
        peer.node.set("--advertise-exit-node")
        world.internet.approve_routes("peer", _ALL)
        wait_until(lambda: _offered(world), PATIENCE, "an exit node to choose")
        world.node.set(f"--exit-node={world.peer_address()}", "--exit-node-allow-lan-access")
        wait_until(lambda: _by_exit(world), PATIENCE, "the LAN's traffic by the exit node")
        held = losses.kernel(world)
        expect("throw 192.168.1.0/24" in held and "default dev tailscale0" in held, f"has {held}")
        yield
    finally:
        world.router.stop_tailover()
        world.node.set("--exit-node=", "--exit-node-allow-lan-access=false")
        world.internet.approve_routes("peer", "")
        peer.node.set("--advertise-exit-node=false")
        world.router.host.run(["nft", "delete", "table", "inet", "lab_exit"])
        peer.host.sysctl(ipv4__ip_forward=0, ipv6__conf__all__forwarding=0)


def _offered(world):
    peers = (world.node.status().get("Peer") or {}).values()
    return any(peer["ExitNodeOption"] for peer in peers)


def _by_exit(world):
    """Whether a client in the LAN reaches the outside, and with the exit node's address."""
    fetch = f"import urllib.request as u;print(u.urlopen('http://{plan.IPIFY[0]}/',timeout=2).read())"
    return plan.PEER[0] in world.router.lan.run(["python3", "-c", fetch], check=False)


def exit_node_and_dark(world):
    """The router uses an exit node, and its uplink goes dark without a word: all of it comes back."""
    with _exit_node(world):
        start_tailover(world)
        expect(not acts(world) and not faults(world), f"not healthy: {faults(world)}")
        broken = time.monotonic()
        world.isp1.blackhole()
        ping = _back(world, broken)
        wait_until(lambda: world.watch.control_back(broken, "isp2"), PATIENCE, "control")
        control = world.watch.control_back(broken, "isp2")
        wait_until(lambda: _by_exit(world), PATIENCE, "the LAN's traffic by the exit node")
        lan = time.monotonic() - broken
        await_quiet(world)
        linger(5)
        expect(not faults(world), f"then it named {faults(world)}")
        named = set(named_before(world))
        expect("F1-pinned-route" in named <= _DARK, f"named {named}")
        back = fail_back(world, "tailover")
        expect(back.control is not None, f"control did not return: {back}")
        expect(max(back.gap, back.gap6) <= 1.0, f"the way back cost pings: {back}")
        expect(_by_exit(world), "the LAN has lost the exit node")
        expect(world.watch.restarts(broken) == 0, "tailscaled was restarted")
        return (
            f"control {seconds(control)}, ping {seconds(ping)}, the LAN {seconds(lan)} after the"
            f" blackout; back again: {back}"
        )


def exit_node_and_mwan3_restart(world):
    """An exit node's default and throw routes are put back after a restart of mwan3."""
    with _exit_node(world):
        start_tailover(world)
        before = losses.kernel(world)
        since = time.monotonic()
        world.router.restart_mwan3()
        losses.await_mended(world, since)
        figures = losses.mended(world, since, before)
        expect(_by_exit(world), "the LAN does not go by the exit node")
        return figures
