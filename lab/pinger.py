"""Pings addresses four times a second and writes down what happened.

A program of its own, run on the peer: `python3 -m lab.pinger FILE ADDRESS...`.
SIGUSR1 makes it pause, SIGUSR2 makes it go on.
Lines: `s FAMILY NUMBER SECONDS` for sent, `r` for the answer; seconds of the
machine's monotonic clock.
"""

import os
import select
import signal
import socket
import struct
import sys
import time

INTERVAL = 0.25
_KINDS = {
    # family: (socket family, protocol, echo request, echo reply)
    4: (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
    6: (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129),
}


def checksum(data):
    """The internet checksum of RFC 1071; `data` has an even length."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(family, identifier, number):
    """An echo request. For IPv6 the kernel fills in the checksum (RFC 3542, 3.1)."""
    kind = _KINDS[family][2]
    head = struct.pack("!BBHHH", kind, 0, 0, identifier, number & 0xFFFF)
    return struct.pack("!BBHHH", kind, 0, checksum(head), identifier, number & 0xFFFF)


def main(file, addresses):
    """Pings until killed."""
    pausing = False

    def obey(number, _frame):
        nonlocal pausing
        pausing = number == signal.SIGUSR1

    signal.signal(signal.SIGUSR1, obey)
    signal.signal(signal.SIGUSR2, obey)
    identifier = os.getpid() & 0xFFFF
    sockets = {}
    for address in addresses:
        family = 6 if ":" in address else 4
        kind, protocol, _, _ = _KINDS[family]
        handle = socket.socket(kind, socket.SOCK_RAW, protocol)
        handle.setblocking(False)
        sockets[handle] = (family, address)
    number = 0
    due = time.monotonic()
    with open(file, "w", buffering=1) as log:
        while True:
            for handle, (family, address) in sockets.items():
                if pausing:
                    break
                log.write(f"s {family} {number} {time.monotonic():.4f}\n")
                try:
                    handle.sendto(request(family, identifier, number), (address, 0))
                except OSError:
                    # No route for the moment: a ping that was not answered.
                    pass
            number += 1
            due += INTERVAL
            while (left := due - time.monotonic()) > 0:
                for handle in select.select(list(sockets), [], [], left)[0]:
                    receive(handle, sockets[handle][0], identifier, log)


def receive(handle, family, identifier, log):
    """Writes down one answer of ours."""
    data = handle.recv(2048)
    if family == 4:
        data = data[(data[0] & 15) * 4 :]
    kind, _, _, owner, number = struct.unpack("!BBHHH", data[:8])
    if kind == _KINDS[family][3] and owner == identifier:
        log.write(f"r {family} {number} {time.monotonic():.4f}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
