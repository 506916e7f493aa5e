"""Counts what passes a device, by flow: run as `python3 -m lab.capture DEVICE FILE ADDRESS...`.

A program of its own, in an ISP's host, on the cable to its customer. The
addresses are the customer's. Once a second the sums are written to the file as
JSON, a row for each flow: protocol, the customer's port, the far address and
port, packets and bytes out, packets and bytes in. Bytes are those of IP packets,
headers included. An ICMP error counts for the flow that it answers. ARP and
neighbour discovery end at the ISP and are left out.
"""

import json
import os
import socket
import struct
import sys
import time

_ETH_P_ALL = 3
_HEADER = 14
_IPV4, _IPV6 = 0x0800, 0x86DD
_UDP, _TCP = socket.IPPROTO_UDP, socket.IPPROTO_TCP
_ICMP, _ICMP6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
# Errors quote the packet that they answer (RFC 792, RFC 4443).
_ERRORS = {_ICMP: (3, 11, 12), _ICMP6: (1, 2, 3, 4)}
# Router and neighbour discovery (RFC 4861).
_DISCOVERY = range(133, 138)


def flow_of(frame, customer):
    """(protocol, near port, far address, far port), whether it is sent by the
    customer, and the packet's length; None for what is not counted.

    Raises struct.error or IndexError for what is cut short.
    """
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind not in (_IPV4, _IPV6):
        return None
    packet = frame[_HEADER:]
    protocol, start, source, target, length = _header(kind, packet)
    if protocol == _ICMP6 and packet[start] in _DISCOVERY:
        return None
    sent = source in customer
    if not sent and target not in customer:
        return None
    if packet[start] in _ERRORS.get(protocol, ()):
        packet = packet[start + 8 :]
        protocol, start, source, target, _ = _header(kind, packet)
    ports = (0, 0)
    if protocol in (_UDP, _TCP):
        ports = struct.unpack("!HH", packet[start : start + 4])
    if source in customer:
        return (protocol, ports[0], target, ports[1]), sent, length
    return (protocol, ports[1], source, ports[0]), sent, length


def _header(kind, packet):
    """Protocol, where its header starts, source, target, and the length in all."""
    if kind == _IPV4:
        start = (packet[0] & 15) * 4
        length = struct.unpack("!H", packet[2:4])[0]
        protocol, family, source, target = packet[9], socket.AF_INET, packet[12:16], packet[16:20]
    else:
        start = 40
        length = 40 + struct.unpack("!H", packet[4:6])[0]
        protocol, family, source, target = packet[6], socket.AF_INET6, packet[8:24], packet[24:40]
    try:
        return protocol, start, *(socket.inet_ntop(family, a) for a in (source, target)), length
    except ValueError as problem:
        raise struct.error(str(problem)) from problem


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
