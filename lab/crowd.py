"""Puts nodes into headscale's database that are never online.

A program of its own, run beside a headscale that is stopped:
`python3 -m lab.crowd DATABASE COUNT`. Those of an earlier call are taken away.
"""

import secrets
import sqlite3
import sys


def crowd(database, count):
    """Copies of one node's row, with keys, names and addresses of their own."""
    database.row_factory = sqlite3.Row
    database.execute("DELETE FROM nodes WHERE hostname LIKE 'crowd%'")
    model = dict(database.execute("SELECT * FROM nodes ORDER BY id LIMIT 1").fetchone())
    first = database.execute("SELECT max(id) FROM nodes").fetchone()[0] + 1
    names = ", ".join(model)
    places = ", ".join("?" for _ in model)
    for number in range(count):
        name = f"crowd{number}"
        key = secrets.token_hex(32)
        row = model | {"id": first + number, "hostname": name, "given_name": name}
        row |= {"machine_key": f"mkey:{key}", "node_key": f"nodekey:{key}"}
        row |= {"disco_key": f"discokey:{key}", "endpoints": "[]"}
        row["ipv4"] = f"100.100.{number // 250}.{number % 250 + 1}"
        row["ipv6"] = f"fd7a:115c:a1e0::100:{number + 1:x}"
        database.execute(f"INSERT INTO nodes ({names}) VALUES ({places})", list(row.values()))


if __name__ == "__main__":
    with sqlite3.connect(sys.argv[1]) as opened:
        crowd(opened, int(sys.argv[2]))
