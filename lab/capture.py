"""Counts what passes a device, by flow: run as `python3 -m lab.capture DEVICE FILE ADDRESS...`.

A program of its own, in an ISP's host, on the cable to its customer. The
addresses are the customer's. Once a second the sums are written to the file as
JSON, a row for each flow: protocol, the customer's port, the far address and
port, packets and bytes out, packets and bytes in. Bytes are those of IP packets,
headers included. ARP and neighbour discovery end at the ISP and are left out.
"""

import json
import os
import socket
import struct
import sys
import time

_ETH_P_ALL = 3
_HEADER = 14
_UDP, _TCP, _ICMP6 = socket.IPPROTO_UDP, socket.IPPROTO_TCP, socket.IPPROTO_ICMPV6
# Router and neighbour discovery (RFC 4861).
_DISCOVERY = range(133, 138)


def flow_of(frame, customer):
    """(protocol, near port, far address, far port), whether it is sent by the
    customer, and the packet's length; None for what is not counted."""
    kind = struct.unpack("!H", frame[12:14])[0]
    packet = frame[_HEADER:]
    if kind == 0x0800:
        start = (packet[0] & 15) * 4
        length = struct.unpack("!H", packet[2:4])[0]
        protocol, family, source, target = packet[9], socket.AF_INET, packet[12:16], packet[16:20]
    elif kind == 0x86DD:
        start = 40
        length = 40 + struct.unpack("!H", packet[4:6])[0]
        protocol, family, source, target = packet[6], socket.AF_INET6, packet[8:24], packet[24:40]
    else:
        return None
    source, target = socket.inet_ntop(family, source), socket.inet_ntop(family, target)
    ports = (0, 0)
    if protocol in (_UDP, _TCP):
        ports = struct.unpack("!HH", packet[start : start + 4])
    elif protocol == _ICMP6 and packet[start] in _DISCOVERY:
        return None
    if source in customer:
        return (protocol, ports[0], target, ports[1]), True, length
    if target in customer:
        return (protocol, ports[1], source, ports[0]), False, length
    return None


def main(device, file, customer):
    """Counts until killed."""
    handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    handle.bind((device, 0))
    handle.settimeout(0.5)
    flows = {}
    due = time.monotonic()
    while True:
        try:
            found = flow_of(handle.recv(65535), customer)
        except TimeoutError:
            found = None
        except (struct.error, IndexError):
            # Cut short: nobody's traffic.
            found = None
        if found:
            key, out, length = found
            row = flows.setdefault(key, [0, 0, 0, 0])
            row[0 if out else 2] += 1
            row[1 if out else 3] += length
        if time.monotonic() >= due:
            due = time.monotonic() + 1
            with open(f"{file}.new", "w") as draft:
                json.dump([[*key, *row] for key, row in flows.items()], draft)
            os.replace(f"{file}.new", file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
