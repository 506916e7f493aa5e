#!/usr/bin/env python3
"""Cuts off an ELF file what no program header names, so what the kernel never reads: tools/trim.py FILE...

A linker's strip leaves sections there. On MIPS `.pdr`, a debugger's table of procedures, is an eighth of the
program; GNU strip takes it away, and a machine that builds for a router has none for its CPU.
"""

import struct
import sys
from pathlib import Path

# Of the ELF header, by class (1: 32 bits, 2: 64), as elf(5) has it: its layout from e_phoff on, and of a
# program header the places of p_offset and p_filesz.
HEADER = {1: (28, "IIIHHHHHH", 4, 16), 2: (32, "QQIHHHHHH", 8, 32)}
WORD = {1: "I", 2: "Q"}


def trimmed(data):
    """The bytes of the file without the sections behind its last segment, and without their table."""
    if data[:4] != b"\x7fELF" or len(data) < 52 or data[4] not in HEADER or data[5] not in (1, 2):
        raise ValueError("this is no ELF file")
    order = "<" if data[5] == 1 else ">"
    start, layout, offset_at, size_at = HEADER[data[4]]
    try:
        phoff, _, flags, ehsize, phentsize, phnum, shentsize, _, _ = struct.unpack_from(order + layout, data, start)
        end = phoff + phentsize * phnum
        for header in range(phoff, end, phentsize):
            offset, = struct.unpack_from(order + WORD[data[4]], data, header + offset_at)
            size, = struct.unpack_from(order + WORD[data[4]], data, header + size_at)
            end = max(end, offset + size)
    except (struct.error, ValueError) as error:
        raise ValueError(f"its headers are cut short: {error}") from None
    if phnum == 0 or end > len(data):
        raise ValueError("it has no segments, or less than they need")
    out = bytearray(data[:end])
    struct.pack_into(order + layout, out, start, phoff, 0, flags, ehsize, phentsize, phnum, shentsize, 0, 0)
    return bytes(out)


def main(paths):
    if not paths:
        sys.exit(__doc__.strip())
    for path in map(Path, paths):
        try:
            path.write_bytes(trimmed(path.read_bytes()))
        except (OSError, ValueError) as error:
            sys.exit(f"trim: {path}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
