"""The outside of the little world of these tests: every address, TCP on a few ports, and STUN.

    python3 outside.py DEVICE=ADDRESS/LENGTH...

It waits for the devices, which are put into its network namespace, and then says `ready`. A line
`dark DEVICE` or `light DEVICE` on standard input has that device lose its link, or have it again; `done`
answers it.
"""

import socket
import struct
import subprocess
import sys
import threading

PORTS = (53, 443)
STUN = 3478
# RFC 8489: header, magic cookie, XOR-MAPPED-ADDRESS.
COOKIE = 0x2112A442
IP_PKTINFO = 8


def ip(words):
    """Runs ip(8)."""
    subprocess.run(["ip", *words.split()], check=True)


def wait_for(devices):
    """Waits until they are in this namespace; the kernel tells of each new one."""
    monitor = subprocess.Popen(["ip", "monitor", "link"], stdout=subprocess.PIPE, text=True)
    while True:
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        if all(f" {device}@" in links for device in devices):
            break
        monitor.stdout.readline()
    monitor.kill()
    monitor.wait()


def accept(port):
    """Takes connections to any address, and keeps them until the other side closes."""
    with socket.create_server(("0.0.0.0", port), backlog=64) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=drain, args=(connection,), daemon=True).start()


def drain(connection):
    """Reads to the end."""
    with connection:
        try:
            while connection.recv(4096):
                pass
        except OSError:
            # Reset: as good an end as any.
            pass


def stun():
    """Answers binding requests from the address that was asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        server.bind(("0.0.0.0", STUN))
        while True:
            data, control, _, peer = server.recvmsg(2048, 256)
            if len(data) < 20 or data[:2] != b"\0\1":
                continue
            address = struct.unpack("!I", socket.inet_aton(peer[0]))[0] ^ COOKIE
            mapped = struct.pack("!HHBBHI", 0x20, 8, 0, 1, peer[1] ^ (COOKIE >> 16), address)
            answer = struct.pack("!HH", 0x101, len(mapped)) + data[4:20] + mapped
            # in_pktinfo: index, the local address to send from, the destination that was asked
            asked = control[0][2][8:12]
            own = struct.pack("=I4s4s", 0, asked, bytes(4))
            server.sendmsg([answer], [(socket.IPPROTO_IP, IP_PKTINFO, own)], 0, peer)


def main():
    """Sets the namespace up and serves until standard input ends."""
    devices = dict(word.split("=") for word in sys.argv[1:])
    ip("link set lo up")
    wait_for(devices)
    for device, address in devices.items():
        ip(f"addr add {address} dev {device}")
        ip(f"link set {device} up")
    # Every address is this machine's.
    ip("route add local 0.0.0.0/0 dev lo")
    for port in PORTS:
        threading.Thread(target=accept, args=(port,), daemon=True).start()
    threading.Thread(target=stun, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        word, device = line.split()
        ip(f"link set {device} {dict(dark='down', light='up')[word]}")
        print("done", flush=True)


if __name__ == "__main__":
    main()
