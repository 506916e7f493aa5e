"""A DNS64 resolver (RFC 6147), run as a program of its own in a host.

It passes questions on to another resolver. A question for an IPv6 address that has
none is answered with the IPv4 addresses, each behind the NAT64's prefix of 96 bits.
Only over UDP, and only for messages without compression but of names, which is
all that the lab's resolvers send.
"""

import argparse
import ipaddress
import socket
import struct
import threading

_A, _AAAA = 1, 28


def question(message):
    """Where the question section ends, and its type."""
    at = 12
    while message[at]:
        at += 1 + message[at]
    return at + 5, struct.unpack_from("!H", message, at + 1)[0]


def answers(message):
    """Each answer as (type, ttl, data)."""
    at, _ = question(message)
    found = []
    for _ in range(struct.unpack_from("!H", message, 6)[0]):
        # A name is labels, and at most one pointer at its end (RFC 1035, section 4.1.4).
        while message[at] and message[at] < 0xC0:
            at += 1 + message[at]
        at += 2 if message[at] >= 0xC0 else 1
        kind, _, ttl, length = struct.unpack_from("!HHIH", message, at)
        found.append((kind, ttl, message[at + 10 : at + 10 + length]))
        at += 10 + length
    return found


def ask(upstream, message):
    """The resolver's answer. Raises OSError."""
    family = socket.AF_INET6 if ":" in upstream else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(3)
        asking.connect((upstream, 53))
        asking.send(message)
        return asking.recv(4096)


def resolve(upstream, prefix, message):
    """The answer to a question, made up where that is needed."""
    answer = ask(upstream, message)
    end, kind = question(message)
    if kind != _AAAA or any(found == _AAAA for found, _, _ in answers(answer)):
        return answer
    of_ipv4 = message[: end - 4] + struct.pack("!HH", _A, 1)
    # Without what follows the question, such as EDNS.
    of_ipv4 = of_ipv4[:6] + bytes(6) + of_ipv4[12:]
    made = [
        (ttl, prefix + data)
        for found, ttl, data in answers(ask(upstream, of_ipv4))
        if found == _A
    ]
    if not made:
        return answer
    # An answer without an error, recursion available, one question.
    head = message[:2] + struct.pack("!HHHHH", 0x8180, 1, len(made), 0, 0)
    text = head + message[12:end]
    for ttl, address in made:
        # 0xC00C points to the name of the question.
        text += struct.pack("!HHHIH", 0xC00C, _AAAA, 1, ttl, len(address)) + address
    return text


def main():
    """Serves until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="where it listens")
    parser.add_argument("upstream", help="the resolver that it asks")
    parser.add_argument("prefix", help="of the NAT64, without its length: 96 bits")
    options = parser.parse_args()
    prefix = ipaddress.IPv6Address(options.prefix).packed[:12]
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((options.address, 53))

    def serve(message, client):
        try:
            server.sendto(resolve(options.upstream, prefix, message), client)
        except (OSError, IndexError, struct.error):
            # Who asks will ask again.
            pass

    while True:
        threading.Thread(target=serve, args=server.recvfrom(4096), daemon=True).start()


if __name__ == "__main__":
    main()
