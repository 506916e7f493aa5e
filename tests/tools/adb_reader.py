"""A reader of apk-tools 3's packages that knows nothing of the writer in tools/package.

`read` gives what is in one; `dump` shows it as `apk adbdump` does, so that a dump which the real
program made can be compared. It refuses what apk refuses (src/adb.c, src/extract_v3.c).
"""

import hashlib
import struct
import zlib

# Names of the fields, and what is in them: a text, a number, bytes, octal digits, or a list of such.
_DEPENDENCY = ("dependency", ["name", "version", "match"])
_ACL = {"mode": "octal", "user": "text", "group": "text"}
_FILE = {"name": "text", "acl": _ACL, "size": "number", "mtime": "number", "hash": "bytes"}
_FOLDER = {"name": "text", "acl": _ACL, "files": [_FILE]}
_INFO = {"name": "text", "version": "text", "hashes": "bytes", "description": "text", "arch": "text"}
_INFO |= {"license": "text", "origin": "text", "maintainer": "text", "url": "text"}
_INFO |= {"repo-commit": "bytes", "build-time": "number", "installed-size": "number"}
_INFO |= {"file-size": "number", "provider-priority": "number"}
_INFO |= {name: [_DEPENDENCY] for name in ("depends", "provides", "replaces", "install-if", "recommends")}
_SCRIPTS = "trigger pre-install post-install pre-deinstall post-deinstall pre-upgrade post-upgrade"
_SCRIPTS = {name: "text" for name in _SCRIPTS.split()}
_PACKAGE = {"info": _INFO, "paths": [_FOLDER], "scripts": _SCRIPTS}


class Broken(Exception):
    """apk would not take it."""


def read(data):
    """The package as nested dicts and lists, each file with its `data`, and the sizes of the blocks.
    Raises Broken, or whatever a value that is none leads to."""
    if data[:4] != b"ADBd":
        raise Broken("not compressed by deflate")
    plain = zlib.decompress(data[4:], -15)
    if plain[:8] != b"ADB.pckg":
        raise Broken("no package")
    blocks = list(_blocks(plain[8:]))
    if not blocks or blocks[0][0] != 0 or any(kind != 2 for kind, _ in blocks[1:]):
        raise Broken("wrong blocks")
    database = blocks[0][1]
    if database[0] != 0:
        raise Broken("a version that is not compatible")
    package = _value(database, struct.unpack_from("<I", database, 4)[0], _PACKAGE)
    _give_data(package, [payload for _, payload in blocks[1:]])
    _check_identity(database, package)
    return package | {"blocks": [len(payload) for _, payload in blocks]}


def _blocks(data):
    while data:
        (word,) = struct.unpack_from("<I", data)
        kind, size = word >> 30, word & 0x3FFFFFFF
        padded = size + -size % 8
        if size < 4 or padded > len(data):
            raise Broken("a block of a wrong size")
        if any(data[size:padded]):
            raise Broken("padding that is not zero")
        yield kind, data[4:size]
        data = data[padded:]


def _give_data(package, payloads):
    """Each file that is not empty has a block, in the order of folders and files."""
    waiting = list(payloads)
    for number, folder in enumerate(package["paths"], 1):
        for place, file in enumerate(folder.get("files", []), 1):
            content = b""
            if file["size"]:
                head, content = waiting[0][:8], waiting.pop(0)[8:]
                if struct.unpack("<II", head) != (number, place):
                    raise Broken(f"data of another file than {file['name']}")
            if len(content) != file["size"] or hashlib.sha256(content).digest() != file["hash"]:
                raise Broken(f"wrong data in {file['name']}")
            file["data"] = content
    if waiting:
        raise Broken("data of no file")
    names = [folder.get("name", "") for folder in package["paths"]]
    if names != sorted(names):
        raise Broken("folders out of order")
    for folder in package["paths"]:
        files = [file["name"] for file in folder.get("files", [])]
        if files != sorted(files):
            raise Broken("files out of order")


def _check_identity(database, package):
    """The identity is the digest of the database with zeros in its place (src/app_mkpkg.c)."""
    own = package["info"]["hashes"]
    if database.count(own) != 1:
        raise Broken("an identity that is not unique")
    if hashlib.sha256(database.replace(own, bytes(len(own)))).digest()[: len(own)] != own:
        raise Broken("a wrong identity")


def _value(database, word, shape):
    kind, place = word >> 28, word & 0x0FFFFFFF
    if isinstance(shape, (dict, list, tuple)):
        if kind not in (0xD, 0xE):
            raise Broken(f"type {kind:x} for an object")
        if place % 4:
            raise Broken("an object that is not aligned")
        (number,) = struct.unpack_from("<I", database, place)
        words = struct.unpack_from(f"<{number - 1}I", database, place + 4)
        if isinstance(shape, list):
            return [_value(database, word, shape[0]) for word in words]
        if isinstance(shape, tuple):
            return _dependency(database, words)
        if number - 1 > len(shape):
            raise Broken("a field that nobody knows")
        fields = zip(shape, words)
        return {name: _value(database, word, shape[name]) for name, word in fields if word}
    if kind in (0x1, 0x2, 0x3):
        if shape not in ("number", "octal"):
            raise Broken("a number for a text")
        if kind == 0x1:
            return place
        return struct.unpack_from("<I" if kind == 0x2 else "<Q", database, place)[0]
    if kind not in (0x8, 0x9, 0xA):
        raise Broken(f"type {kind:x} for a value")
    width = {0x8: 1, 0x9: 2, 0xA: 4}[kind]
    if place % width:
        raise Broken("a length that is not aligned")
    (length,) = struct.unpack_from({1: "<B", 2: "<H", 4: "<I"}[width], database, place)
    content = database[place + width : place + width + length]
    if len(content) != length:
        raise Broken("a text beyond the end")
    return content if shape == "bytes" else content.decode()


def _dependency(database, words):
    name, version = [*words, 0, 0][:2]
    text = _value(database, name, "text")
    return f"{text}={_value(database, version, 'text')}" if version else text


def dump(package):
    """What `apk adbdump` prints of it."""
    first, *others = package["blocks"]
    lines = ["#%SCHEMA: 676B6370", f"# ADB block, size: {first}, compat: 0, ver: 0"]
    lines += [*_lines(package, _PACKAGE), *(f"# data block, size: {size}" for size in others)]
    return "".join(f"{line}\n" for line in lines)


def _lines(value, shape):
    for name, part in shape.items():
        if name not in value:
            continue
        inner = value[name]
        if isinstance(part, dict):
            yield f"{name}:"
            yield from ("  " + line for line in _lines(inner, part))
        elif isinstance(part, list):
            yield f"{name}: # {len(inner)} items"
            for item in inner:
                lines = list(_lines(item, part[0])) if isinstance(part[0], dict) else [item]
                yield f"  - {lines[0]}"
                yield from ("    " + line for line in lines[1:])
        elif part == "octal":
            yield f"{name}: 0{inner:o}"
        elif part == "bytes":
            yield f"{name}: {inner.hex()}"
        elif part == "text" and ("\n" in inner or len(inner) > 60):
            yield f"{name}: |"
            yield from ("  " + line for line in inner.rstrip("\n").split("\n"))
        else:
            yield f"{name}: {inner}"
