"""One set of namespaces around the whole lab.

Every host, mount and process of the lab lives inside. When the sandbox's first
process ends, for whatever reason, the kernel ends and removes all of it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys

from .paths import HOSTS_FILE, SANDBOX_PID, STATE, TARGET, TREE

# The lab could not be brought up: worth one more try (EX_TEMPFAIL of sysexits.h).
NOT_UP = 75
# The exit code by which automake and meson too know a skipped test.
SKIPPED = 77

_NAMESPACES = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
# What is started so ends with this process even when it is killed, and its children with it.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]
_WAYS = {
    "user namespace": ["unshare", "--user", "--map-root-user", *_NAMESPACES],
    "root": ["unshare", *_NAMESPACES],
}

# What the lab needs of the kernel: a network namespace inside, a mount of its
# own, a TUN device, veth, forwarding, connection marks in both families.
_PROBE = """
set -e
mount -t tmpfs none /mnt
echo 1 > /proc/sys/net/ipv4/ip_forward
ip link add probe0 type veth peer name probe1
ip tuntap add dev probe2 mode tun
for f in iptables ip6tables; do
    $f -t mangle -A OUTPUT -m mark --mark 0/0x3f00 -j CONNMARK --restore-mark --nfmask 0x3f00 --ctmask 0x3f00
done
unshare --net --mount true
"""

# Begins in the tree and binds it as `.`: the tmpfs may have hidden its path.
# The binaries under test come in as descriptors 8 and 9, for the same reason.
_TAILOVER_FD = 8
_FETCH_FD = 9
_PRELUDE = """
set -e
# A host's table of TCP connections is as large as on a router with 128 MB, and its own (Linux 6.1). That of a large
# machine takes 10 ms to read, and all namespaces would read it.
entries=/proc/sys/net/ipv4/tcp_child_ehash_entries
if [ -e $entries ]; then echo 1024 > $entries; fi
mount -t tmpfs -o mode=755 lab {state}
mkdir {state}/tree
mount --no-canonicalize --bind . {state}/tree
if [ -e /proc/self/fd/8 ]; then
    cat /proc/self/fd/8 > {state}/tailover
    chmod 755 {state}/tailover
    exec 8<&-
fi
if [ -e /proc/self/fd/9 ]; then
    cat /proc/self/fd/9 > {state}/tailover-fetch
    chmod 755 {state}/tailover-fetch
    exec 9<&-
fi
cd {state}/tree
export TAILOVER_LAB_INSIDE=1
exec "$@"
"""

_TOOLS = ["setpriv", "unshare", "nsenter", "ip", "iptables", "ip6tables", "nft"]
_TOOLS += ["conntrack", "dnsmasq", "openssl"]


def inside():
    """Whether this process is already in the sandbox."""
    return os.environ.get("TAILOVER_LAB_INSIDE") == "1"


def enter(arguments, tailover=None):
    """Runs this program again inside the sandbox. Does not return.

    `tailover` is the path of the binary under test, or None; `tailover-fetch`
    is beside it, or it is tested without. Where no way into a sandbox works,
    exits with SKIPPED and says why.
    """
    lacking = [tool for tool in _TOOLS if not shutil.which(tool)]
    if lacking:
        _skip(f"missing programs: {', '.join(lacking)}")
    name, reasons = _choose()
    if name is None:
        _skip("; ".join(reasons))
    print(f"lab: isolated by {name}", flush=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    prelude = ["sh", "-c", _PRELUDE.format(state=STATE), "lab"]
    program = [sys.executable, "-m", "lab", *arguments]
    command = DIES_WITH_US + _WAYS[name] + prelude + program
    descriptors = ()
    if tailover:
        os.dup2(os.open(tailover, os.O_RDONLY), _TAILOVER_FD)
        descriptors = (_TAILOVER_FD,)
        fetch = tailover.with_name("tailover-fetch")
        if fetch.exists():
            os.dup2(os.open(fetch, os.O_RDONLY), _FETCH_FD)
            descriptors += (_FETCH_FD,)
    code = _run_child(command, descriptors)
    if code == NOT_UP:
        print("lab: *** THE LAB DID NOT COME UP; TRYING ONCE MORE ***", flush=True)
        code = _run_child(command, descriptors)
    # A child that ended by a signal has a negative code.
    sys.exit(code if code >= 0 else 128 - code)


def _run_child(command, descriptors):
    for descriptor in descriptors:
        # The child before has read it to its end.
        os.lseek(descriptor, 0, os.SEEK_SET)
    # A session of its own: Ctrl-C comes to this process alone, which ends the rest.
    child = subprocess.Popen(command, cwd=TREE, pass_fds=descriptors, start_new_session=True)
    SANDBOX_PID.write_text(str(child.pid))
    end_by_signals()
    try:
        return child.wait()
    finally:
        child.kill()
        SANDBOX_PID.unlink(missing_ok=True)


def end_by_signals():
    """Ctrl-C and its like end this process by an exception, so that each `finally` on the way ends what it began."""
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, lambda number, _: sys.exit(128 + number))


def _choose():
    reasons = []
    for name, command in _WAYS.items():
        if name == "root" and os.geteuid() != 0:
            reasons.append("root: not root")
            continue
        probe = subprocess.run(
            command + ["sh", "-c", _PROBE], capture_output=True, text=True, timeout=30
        )
        if probe.returncode == 0:
            return name, reasons
        last = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
        reasons.append(f"{name}: {last}")
    return None, reasons


def _skip(reason):
    print(f"lab: skipped, no sandbox here ({reason})", flush=True)
    sys.exit(SKIPPED)


def shell(host, command):
    """Runs a command in a host of the lab that `lab up` keeps running. Does not return."""
    try:
        outer = int(SANDBOX_PID.read_text())
        first = int(open(f"/proc/{outer}/task/{outer}/children").read().split()[0])
        hosts = json.loads(HOSTS_FILE.read_text())
    except (OSError, ValueError, IndexError):
        sys.exit("lab: no lab is running; start one with `lab up`")
    if host not in hosts:
        sys.exit(f"lab: no host {host}; there are {', '.join(hosts)}")
    user = ["--user", "--preserve-credentials"]
    same = os.readlink("/proc/self/ns/user") == os.readlink(f"/proc/{first}/ns/user")
    outside = ["nsenter", "-t", str(first), *([] if same else user), "--mount", "--pid", "--net"]
    within = ["nsenter", "-t", str(hosts[host]), "--mount", "--net"]
    command = outside + within + (command or ["bash"])
    os.execvp(command[0], command)
