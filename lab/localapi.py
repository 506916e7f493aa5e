"""The real tailscaled behind a LocalAPI that can be broken, run as a program in tailscaled's place.

    python3 -m lab.localapi MODE-FILE PROGRAM ARGUMENT...

It listens where tailscaled would and then becomes tailscaled, which listens where nobody else can look: so
the kernel names tailscaled's process as the listener (SO_PEERCRED), as it is without us. A child hands on
what is said, the way that the file says: see MODES.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

USUAL = "/run/tailscale/tailscaled.sock"
_HIDDEN = "/run/hidden"
_REAL = f"{_HIDDEN}/tailscaled.sock"

_CLONE_NEWNS = 0x20000
_PR_SET_PDEATHSIG = 1

_PLAIN = "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{}"
_GARBAGE = bytes(range(256)) * 8

# What an answer is in each mode; `pass` is the real one, `half` its first 200 bytes, `silent` none.
MODES = {
    "pass": None,
    "half": None,
    "silent": None,
    "garbage": _GARBAGE,
    # As if it were JSON to the end of the reader's patience.
    "endless": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"BackendState":"' + b"A" * 65536,
    "500": _PLAIN.format("500 Internal Server Error", 6, "broken").encode(),
    "403": _PLAIN.format("403 Forbidden", 6, "denied").encode(),
}


def become(mode_file, program, *arguments):
    """Listens, leaves a child that hands on, and becomes the program. Does not return."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs(os.path.dirname(USUAL), exist_ok=True)
    Path(USUAL).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(USUAL)
    # From here on the kernel holds this process for the listener.
    listener.listen(64)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    os.makedirs(_HIDDEN, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "hidden", _HIDDEN], check=True)
    parent = os.getpid()
    if os.fork() == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _serve(listener, Path(mode_file))
        os._exit(1)
    listener.close()
    os.execv(program, [program, f"--socket={_REAL}", *arguments])


def _serve(listener, mode_file):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_connection, args=(connection, mode_file), daemon=True).start()


def _mode(mode_file):
    try:
        return mode_file.read_text().strip()
    except FileNotFoundError:
        return "pass"


def _connection(connection, mode_file):
    """One connection. It ends when the mode changes, so that nobody goes on with an old one."""
    mode = _mode(mode_file)
    # Closes it under the threads that read from it.
    threading.Thread(target=_end_with_mode, args=(connection, mode, mode_file), daemon=True).start()
    with connection:
        try:
            if mode in ("pass", "half"):
                _hand_on(connection, 200 if mode == "half" else None)
                return
            connection.recv(65536)
            answer = MODES[mode]
            while mode == "endless":
                connection.sendall(answer)
                answer = b"A" * 65536
            if answer:
                connection.sendall(answer)
            else:
                # To the mode's end.
                connection.recv(1)
        except OSError:
            # The other side, or the mode, has ended it.
            pass


def _end_with_mode(connection, mode, mode_file):
    while connection.fileno() >= 0 and _mode(mode_file) == mode:
        time.sleep(0.1)
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It has ended before.
        pass


def _hand_on(connection, most):
    """Joins the connection with one to tailscaled; `most` is how many bytes of the answers go through."""
    with socket.socket(socket.AF_UNIX) as real:
        real.connect(_REAL)
        threading.Thread(target=_pump, args=(connection, real, None), daemon=True).start()
        _pump(real, connection, most)


def _pump(source, sink, most):
    try:
        while data := source.recv(65536):
            sink.sendall(data[:most])
            if most is not None and (most := most - len(data)) <= 0:
                break
    except OSError:
        # The other direction ends with it.
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


if __name__ == "__main__":
    become(*sys.argv[1:])
