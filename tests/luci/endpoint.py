"""A double of a router's web server, as far as LuCI's client talks to it: the /ubus of uhttpd-mod-ubus.

Calls of the object `tailover` go over the ubus socket to the real daemon, by the lab's `ubus` command.
What rpcd has (session, uci) is answered here, from the access file and the settings that are shipped or
that a test gives. The order of questions and the numbers of errors are those of uhttpd's ubus.c.

    python3 tests/luci/endpoint.py --ubus PROGRAM --socket PATH --config FILE [--luci FOLDER]

It prints its port. With --luci (a tree of openwrt/luci) the pages run on that client in place of the double.
What a test steers comes as JSON to /test: see Router.steer.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "openwrt/applications/luci-app-tailover"
HERE = ROOT / "tests/luci"

# uhttpd's ubus.c
OBJECT_NOT_FOUND = (-32000, "Object not found")
ACCESS_DENIED = (-32002, "Access denied")
TIMED_OUT = (-32003, "ubus request timed out")
INVALID = (-32600, "Invalid request")
NO_METHOD = (-32601, "Method not found")
# libubus' ubusmsg.h
OK, METHOD_NOT_FOUND, NOT_FOUND, PERMISSION_DENIED, TIMEOUT = 0, 3, 4, 6, 7

# What a login may do: its session, and the parts of the access file that it was granted.
LOGINS = {"write": ("read", "write"), "read": ("read",), "none": ()}
# What every login of LuCI may call, as luci-base's own access file says.
ALWAYS = {"session": ["access"], "uci": ["*"], "luci": ["getFeatures"], "file": ["list"]}

TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>tailover - LuCI</title>
<script>
const dark = window.matchMedia('(prefers-color-scheme: dark)');
const show = () => document.documentElement.setAttribute('data-darkmode', dark.matches);
dark.addEventListener('change', show);
show();
</script>
<meta name="viewport" content="initial-scale=1.0">
%(style)s
<link rel="icon" href="data:,">
<script src="/translations.js"></script>
<script src="/luci-static/resources/cbi.js"></script>
</head>
<body class="lang_en">
<header><a class="brand" href="#">router</a><ul class="nav" id="topmenu"></ul>
<div id="indicators" class="pull-right"></div></header>
<div id="maincontent" class="container"><div id="tabmenu"></div>
<script src="/luci-static/resources/luci.js"></script>
<script>L = new LuCI(%(env)s);</script>
<div id="view"><div class="spinning">Loading view…</div>
<script>L.require('ui').then((ui) => ui.instantiateView('%(view)s'));</script>
</div></div></body></html>
"""


class Refused(Exception):
    """A JSON-RPC error: its number and text."""


class Router:
    """What the endpoint knows: the daemon's socket, the settings, who may what, what a test wants."""

    def __init__(self, said):
        self.ubus = [said.ubus, "-s", said.socket]
        self.config = Path(said.config)
        self.luci = Path(said.luci) if said.luci else None
        self.staged = None
        self.lock = threading.Lock()
        self.access = json.loads((APP / "root/usr/share/rpcd/acl.d/luci-app-tailover.json").read_text())
        # Steered by tests.
        self.steered = {}
        self.shown = 0
        self.calls = []

    def steer(self, order):
        """Takes what a test wants, and gives what was called since.

        `frames`: recorded states, of which the first is shown until an act (recover, drill) is called, and each
        other one until the order `{"next": true}`. `lacks`: methods, and `drops`: fields that an older
        daemon does not have. `fails`: method -> ubus status. `pid`: whom to send SIGHUP when settings are
        applied, as procd does.
        """
        with self.lock:
            if order == {"next": True}:
                self.shown += 1
            elif order is not None:
                self.steered = order
                self.staged = None
                self.shown = 0
            calls, self.calls = self.calls, []
            return {"calls": calls}

    # access

    def granted(self, session, scope, thing, function):
        """Whether rpcd's session.access would say yes."""
        groups = LOGINS.get(session.rstrip("0"))
        if groups is None:
            return False
        if scope == "ubus" and self._listed(ALWAYS, thing, function):
            return True
        if scope == "uci" and (thing, function) == ("luci", "read"):
            return True
        for group in groups:
            part = self.access["luci-app-tailover"].get(group, {}).get(scope, {})
            if scope == "uci" and thing in part and function == group:
                return True
            if scope == "ubus" and self._listed(part, thing, function):
                return True
        return False

    @staticmethod
    def _listed(part, thing, function):
        return function in part.get(thing, []) or "*" in part.get(thing, [])

    # calls

    def call(self, session, thing, method, words):
        """The `result` of a call: [status] or [status, data]. Raises Refused."""
        if thing not in (*ALWAYS, "tailover"):
            raise Refused(*OBJECT_NOT_FOUND)
        if thing == "tailover" and not self.lives():
            raise Refused(*OBJECT_NOT_FOUND)
        if not self.granted(session, "ubus", thing, method):
            raise Refused(*ACCESS_DENIED)
        result = self.answered(session, thing, method, words)
        # Only now: who waits for a call finds it done.
        with self.lock:
            self.calls.append([thing, method, words])
        return result

    def answered(self, session, thing, method, words):
        """The same of a call that is allowed."""
        if thing == "tailover":
            return self.tailover(method, words | {"ubus_rpc_session": session})
        if (thing, method) == ("session", "access"):
            can = self.granted(session, words["scope"], words["object"], words["function"])
            return [OK, {"access": can}]
        if thing == "uci":
            return self.uci(session, method, words)
        return [OK, {"entries": []} if thing == "file" else {}]

    def lives(self):
        """Whether the daemon's object is there."""
        if "frames" in self.steered:
            return True
        return subprocess.run([*self.ubus, "list", "tailover"], capture_output=True).returncode == 0

    def tailover(self, method, words):
        steered = self.steered
        if method in steered.get("lacks", []):
            return [METHOD_NOT_FOUND]
        if method in steered.get("fails", {}):
            return self.failed(steered["fails"][method])
        if "frames" in steered:
            return self.recorded(method, words)
        command = [*self.ubus, "-t", "60", "call", "tailover", method, json.dumps(words)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return self.failed(done.returncode)
        data = json.loads(done.stdout)
        for field in steered.get("drops", []):
            data.pop(field, None)
        return [OK, data] if data else [OK]

    @staticmethod
    def failed(status):
        if status == NOT_FOUND:
            raise Refused(*OBJECT_NOT_FOUND)
        if status == TIMEOUT:
            raise Refused(*TIMED_OUT)
        return [status]

    def recorded(self, method, words):
        """What the recorded states say. An act goes on to the second of them."""
        frames = self.steered["frames"]
        with self.lock:
            if method in ("drill", "recover") and not words.get("stop"):
                self.shown = 1
                return [OK]
            if method == "drill":
                return [OK]
            frame = frames[min(self.shown, len(frames) - 1)]
        if method == "check":
            return [OK, frame["status"] | {"would": self.steered.get("would", [])}]
        data = dict(frame[method])
        for field in self.steered.get("drops", []):
            data.pop(field, None)
        return [OK, data]

    # uci, as rpcd's plugin answers

    def uci(self, session, method, words):
        config = words.get("config")
        if (method, config) == ("get", "luci"):
            return [OK, {"values": {}}]
        right = "read" if method in ("get", "changes", "configs") else "write"
        if config and not self.granted(session, "uci", config, right):
            return [PERMISSION_DENIED]
        if config and config != "tailover":
            return [NOT_FOUND]
        with self.lock:
            now = self.staged or read_uci(self.config)
            if method == "get":
                return [OK, {"values": {"main": now}}]
            if method == "changes":
                return [OK, {"changes": {}}]
            now = dict(now)
            if method == "set":
                now.update(words["values"])
            elif method == "delete":
                for option in words.get("options") or [words["option"]]:
                    now.pop(option, None)
            else:
                return [METHOD_NOT_FOUND]
            self.staged = now
            return [OK]

    def apply(self):
        """Commits what was saved, and tells the daemon as procd's trigger does."""
        with self.lock:
            if self.staged is None:
                return False
            self.config.write_text(write_uci(self.staged))
            self.staged = None
            self.calls.append(["uci", "apply", {}])
        if pid := self.steered.get("pid"):
            os.kill(pid, signal.SIGHUP)
        return True


def read_uci(path):
    """The section `main` of such a file as this program and uci write it."""
    section = {".anonymous": False, ".type": "tailover", ".name": "main", ".index": 0}
    for line in path.read_text().splitlines():
        words = shlex.split(line, comments=True)
        if len(words) == 3 and words[0] == "option":
            section[words[1]] = words[2]
        elif len(words) == 3 and words[0] == "list":
            section.setdefault(words[1], []).append(words[2])
    return section


def write_uci(section):
    """As `uci export` quotes it (file.c of libuci)."""
    lines = ["config tailover 'main'"]
    for name, value in section.items():
        if name.startswith("."):
            continue
        word, values = ("list", value) if isinstance(value, list) else ("option", [value])
        for one in values:
            text = str(one).replace("'", "'\\''")
            lines.append(f"\t{word} {name} '{text}'")
    return "\n".join(lines) + "\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    router = None

    def log_message(self, *_):
        """Says nothing: the tests' output is for results."""

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/page":
            asked = {key: values[0] for key, values in parse_qs(url.query).items()}
            return self.send(200, self.page(**asked), "text/html")
        if url.path == "/translations.js":
            return self.send(200, "window.TR={};", "text/javascript")
        if url.path.startswith("/luci-static/"):
            return self.file(url.path.removeprefix("/luci-static/"))
        return self.send(404, "not found")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path.startswith(("/ubus", "/cgi-bin/luci/admin/ubus")):
            return self.send(200, json.dumps(self.rpc(json.loads(body))), "application/json")
        if path == "/test":
            return self.send(200, json.dumps(self.router.steer(json.loads(body))), "application/json")
        if path.startswith("/cgi-bin/luci/admin/uci/apply"):
            checked = path.endswith("rollback")
            if not self.router.apply():
                return self.send(204)
            return self.send(200, '{"token": "0"}', "application/json") if checked else self.send(204)
        if path.startswith("/cgi-bin/luci/admin/uci/"):
            return self.send(204)
        return self.send(404, "not found")

    def rpc(self, request):
        if isinstance(request, list):
            return [self.rpc(one) for one in request]
        reply = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            if request.get("method") == "list":
                return reply | {"result": {}}
            if request.get("method") != "call":
                raise Refused(*NO_METHOD)
            words = request.get("params", [])
            if len(words) != 4:
                raise Refused(*INVALID)
            return reply | {"result": self.router.call(*words)}
        except Refused as refused:
            code, text = refused.args
            return reply | {"error": {"code": code, "message": text}}

    def page(self, view, access="write"):
        session = access.ljust(32, "0")
        env = {
            "media": "/luci-static/bootstrap",
            "resource": "/luci-static/resources",
            "scriptname": "/cgi-bin/luci",
            "pathinfo": f"/admin/services/{view}",
            "documentroot": "/www",
            "requestpath": ["admin", "services", *view.split("/")],
            "dispatchpath": ["admin", "services", *view.split("/")],
            "pollinterval": 1,
            "ubuspath": "/ubus/",
            "sessionid": session,
            "token": "0",
            # As the dispatcher has it of the menu's `depends.acl`.
            "nodespec": {
                "satisfied": access != "none",
                "readonly": not self.router.granted(session, "uci", "tailover", "write"),
            },
            "apply_rollback": 90,
            "apply_holdoff": 0.01,
            "apply_timeout": 1,
            "apply_display": 0.1,
        }
        sheets = ["cascade.css"]
        if self.router.luci:
            sheets.append("mobile.css")
        style = "".join(f'<link rel="stylesheet" href="/luci-static/bootstrap/{name}">' for name in sheets)
        return PAGE % {"env": json.dumps(env), "view": view, "style": style}

    def file(self, name):
        places = [APP / "htdocs/luci-static"]
        luci = self.router.luci
        if luci:
            places.append(luci / "modules/luci-base/htdocs/luci-static")
            places.append(luci / "themes/luci-theme-bootstrap/htdocs/luci-static")
        else:
            places.append(HERE / "double")
        for place in places:
            path = (place / name).resolve()
            if path.is_relative_to(place) and path.is_file():
                return self.send(200, path.read_bytes(), TYPES.get(path.suffix, "application/octet-stream"))
        return self.send(404, "not found")

    def send(self, code, body=b"", kind="text/plain"):
        data = body.encode() if isinstance(body, str) else body
        self.send_response(code)
        if code != 204:
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text") else kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--ubus", required=True, help="the lab's ubus command")
    words.add_argument("--socket", required=True, help="ubusd's socket")
    words.add_argument("--config", required=True, help="the settings: /etc/config/tailover")
    words.add_argument("--luci", help="a tree of openwrt/luci, whose client is used in place of the double")
    Handler.router = Router(words.parse_args())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
