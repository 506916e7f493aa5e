"""The cure as a person would do it with ip and curl: the lab's yardstick.

What tailover does is measured against this, and a scenario that fails with
this cure shows a fault of the lab.
"""

_PREFERENCE = 990
_TABLE = 7990
_MARK = "0x80000/0xff0000"


def steer(router, isp):
    """Moves tailscaled's mark to an uplink, both families."""
    for family, gateway in ((4, isp.gateway), (6, isp.gateway6)):
        rule = f"iif lo fwmark {_MARK}"
        router.host.sh(
            f"ip -{family} route replace default via {gateway} dev {isp.device} table {_TABLE}\n"
            f"ip -{family} rule add pref {_PREFERENCE} {rule} lookup main suppress_prefixlength 0\n"
            f"ip -{family} rule add pref {_PREFERENCE + 1} {rule} lookup {_TABLE}"
        )


def unsteer(router):
    """Takes the steering away; does nothing when there is none."""
    for family in (4, 6):
        for preference in (_PREFERENCE, _PREFERENCE + 1):
            router.host.run(["ip", f"-{family}", "rule", "del", "pref", preference], check=False)
        router.host.run(["ip", f"-{family}", "route", "flush", "table", _TABLE], check=False)


def nudge_and_renew(node, peer):
    """break-derp-conns, restun, a disco ping to the peer, `start {}`."""
    for action in ("break-derp-conns", "restun"):
        node.call("POST", f"debug?action={action}")
    try:
        node.call("POST", f"ping?ip={peer}&type=disco", timeout=0.2)
    except OSError:
        # The answer comes when the peer has answered; nobody waits for it here.
        pass
    node.call("POST", "start", "{}")
