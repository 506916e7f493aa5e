"""What was seen on a real OpenWrt userland (procd, netifd, ubusd, rpcd, mwan3 2.12.2 with interval 2 and down 3),
1 to 5 runs each, with ISPs that answer the middle of a TCP connection with a reset: docs/faults.md."""

# (treatment, scenario): seconds to the tailnet, in the words of that record.
REAL = {
    ("policy", "blackhole"): "never (203 s)",
    ("mwan3-user", "blackhole"): "never, 1 restart",
    ("policy", "reject"): "never",
    ("mwan3-user", "reject"): "never",
    ("policy", "carrier"): "2.3-4.8",
    ("mwan3-user", "carrier"): "6.2-6.8",
    ("policy", "address"): "4.8-6.4, control 12-17",
    ("policy", "failback"): "2.2-4.5 lost",
    ("mwan3-user", "failback"): "6.3-7.4 lost",
    ("policy", "mwan3-restart"): "never",
    ("mwan3-user", "mwan3-restart"): "5.5",
    ("policy", "firewall"): "no loss",
    ("policy", "killed"): "6.0",
    ("policy", "hung"): "never",
}

# Why the lab may show something else.
WHY = """\
Where the two differ: the lab's ISPs drop the middle of a TCP connection without a word, as carrier-grade NAT does, so \
control that is stuck stays so; the record's answered with a reset, which heals it. The lab tracks both families of an \
uplink, so mwan3 speaks twice, and its hotplug calls come one after the other. The lab's peer has traffic all the time, so \
after a kill it begins a handshake before the new tailscaled is ready for it, and the next one 5 s later.
"""
