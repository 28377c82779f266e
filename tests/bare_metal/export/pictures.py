#!/usr/bin/env python3
"""Draws small pictures for `nunatak export --calibrate`: pictures.py FOLDER. The same bytes each time."""
import os
import struct
import sys
import zlib

COUNT, SIDE = 16, 32


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows):
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def main(folder):
    os.makedirs(folder, exist_ok=True)
    state = 1
    for number in range(COUNT):
        rows = []
        for y in range(SIDE):
            row = bytearray()
            for x in range(SIDE):
                state = (state * 1103515245 + 12345) % 2**31
                # Stripes and noise: bright and dark, even and rough.
                stripe = 160 if (x * (number % 3) + y) // (2 + number % 5) % 2 else 40
                row += bytes((stripe + (state >> shift) % 96) % 256 for shift in (4, 11, 18))
            rows.append(bytes(row))
        with open(os.path.join(folder, f"{number:02}.png"), "wb") as file:
            file.write(png(rows))


main(sys.argv[1])
