"""A small internet of real parts on one machine.

Two ISPs, a dual-homed router, a peer, a control server and two relays, each in
a network namespace of its own. Run `python3 -m lab --help` from the top of the
tree.
"""
