"""A writer of apk-tools 3's database format, ADB, for one package.

The format: apk-v3(5) and src/adb.h of apk-tools. A value is a word of 32 bits, little endian: 4 bits of
type, 28 of the value itself or of its place. Objects and arrays are rows of such words, the first
one their number. Everything stands before what points to it; the root comes in the header.
"""

import hashlib
import struct
import zlib

# src/adb.h
_INT, _INT32, _INT64 = 0x1 << 28, 0x2 << 28, 0x3 << 28
_BLOB8, _BLOB16, _BLOB32 = 0x8 << 28, 0x9 << 28, 0xA << 28
_ARRAY, _OBJECT = 0xD << 28, 0xE << 28
_NULL = 0
_BLOCK_ADB, _BLOCK_DATA = 0, 2
_ALIGNMENT = 8
_MAGIC = b"ADB."
# src/apk_adb.h
_SCHEMA_PACKAGE = b"pckg"

# Fields of objects in the order of their numbers, from 1 (src/apk_adb.h).
INFO = "name version hashes description arch license origin maintainer url repo-commit build-time".split()
INFO += "installed-size file-size provider-priority depends provides replaces install-if".split()
INFO += "recommends layer tags".split()
ACL = "mode user group xattrs".split()
FILE = "name acl size mtime hash target".split()
FOLDER = "name acl files".split()
SCRIPTS = "trigger pre-install post-install pre-deinstall post-deinstall pre-upgrade post-upgrade".split()
PACKAGE = "info paths scripts triggers replaces-priority".split()
DEPENDENCY = "name version match".split()

# The package's own identity: the first bytes of the SHA-256 of the database with zeros in their place.
_IDENTITY = 20


class Database:
    """The bytes of a database under construction. Equal values are kept once."""

    def __init__(self):
        self._bytes = bytearray(8)
        self._known = {}

    def _put(self, data, alignment, shared=True):
        if shared and (data, alignment) in self._known:
            return self._known[data, alignment]
        self._bytes += bytes(-len(self._bytes) % alignment)
        place = len(self._bytes)
        self._bytes += data
        self._known[data, alignment] = place
        return place

    def integer(self, value):
        """A number from 0 up."""
        if value < 1 << 28:
            return _INT | value
        if value < 1 << 32:
            return _INT32 | self._put(struct.pack("<I", value), 4)
        return _INT64 | self._put(struct.pack("<Q", value), 4)

    def blob(self, data, shared=True):
        """Bytes or a text; nothing where it is empty."""
        data = data.encode() if isinstance(data, str) else data
        if not data:
            return _NULL
        if len(data) < 1 << 8:
            return _BLOB8 | self._put(struct.pack("<B", len(data)) + data, 1, shared)
        if len(data) < 1 << 16:
            return _BLOB16 | self._put(struct.pack("<H", len(data)) + data, 2, shared)
        return _BLOB32 | self._put(struct.pack("<I", len(data)) + data, 4, shared)

    def object(self, fields, **values):
        """An object of values by the fields' names, `-` written as `_`."""
        row = [values.pop(field.replace("-", "_"), _NULL) for field in fields]
        assert not values, values
        return self._row(_OBJECT, row)

    def array(self, values):
        """An array. Readers search in it, so its order matters: the caller sorts. It is written
        with the type of an object, as apk-tools does."""
        return self._row(_OBJECT, values)

    def _row(self, kind, values):
        while values and values[-1] == _NULL:
            values = values[:-1]
        if not values:
            return _NULL
        words = [len(values) + 1, *values]
        return kind | self._put(struct.pack(f"<{len(words)}I", *words), 4)

    def finish(self, root, identity):
        """The database with this root; `identity` is the blob that takes the digest's bytes."""
        self._bytes[:8] = struct.pack("<BBHI", 0, 0, 0, root)
        digest = hashlib.sha256(self._bytes).digest()[:_IDENTITY]
        place = (identity & 0x0FFFFFFF) + 1
        self._bytes[place : place + _IDENTITY] = digest
        return bytes(self._bytes)


def package(info, folders, scripts):
    """The bytes of an unsigned package, compressed.

    `info` has texts and numbers by the names of INFO; depends and provides are lists of (name,
    version or None). `folders` is a sorted list of (path, [(name, mode, mtime, data)]), the files
    sorted too. `scripts` has texts by the names of SCRIPTS. All is root's; folders have mode 755.
    """
    db = Database()

    def value(field, given):
        if field in ("depends", "provides"):
            return db.array([_dependency(db, *each) for each in sorted(given)])
        return db.integer(given) if isinstance(given, int) else db.blob(given)

    values = {field.replace("-", "_"): value(field, given) for field, given in info.items()}
    identity = db.blob(bytes(_IDENTITY), shared=False)
    rows = []
    for path, files in folders:
        members = [
            db.object(
                FILE,
                name=db.blob(name),
                acl=_acl(db, mode),
                size=db.integer(len(data)),
                mtime=db.integer(mtime),
                hash=db.blob(hashlib.sha256(data).digest()),
            )
            for name, mode, mtime, data in files
        ]
        folder = {"name": db.blob(path), "acl": _acl(db, 0o755), "files": db.array(members)}
        rows.append(db.object(FOLDER, **folder))
    texts = {field.replace("-", "_"): db.blob(text) for field, text in scripts.items()}
    root = db.object(
        PACKAGE,
        info=db.object(INFO, hashes=identity, **values),
        paths=db.array(rows),
        scripts=db.object(SCRIPTS, **texts),
    )
    out = _MAGIC + _SCHEMA_PACKAGE + _block(_BLOCK_ADB, db.finish(root, identity))
    for number, (_, files) in enumerate(folders, 1):
        for place, (_, _, _, data) in enumerate(files, 1):
            if data:
                out += _block(_BLOCK_DATA, struct.pack("<II", number, place) + data)
    return _deflate(out)


def _dependency(db, name, version):
    return db.object(DEPENDENCY, name=db.blob(name), version=db.blob(version or ""))


def _acl(db, mode):
    return db.object(ACL, mode=db.integer(mode), user=db.blob("root"), group=db.blob("root"))


def _block(kind, payload):
    size = 4 + len(payload)
    if size >= 1 << 30:
        raise ValueError("a block of more than 1 GiB")
    return struct.pack("<I", kind << 30 | size) + payload + bytes(-size % _ALIGNMENT)


def _deflate(data):
    # src/adb_comp.c: "ADBd" and a raw stream.
    stream = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return b"ADBd" + stream.compress(data) + stream.flush()
