#!/usr/bin/env python3
"""Changes one byte of a tensor in a native file of weights.

    flip.py WEIGHTS.bin TENSOR
"""
import struct
import sys

path, tensor = sys.argv[1:]
data = bytearray(open(path, "rb").read())
count = struct.unpack_from("<I", data, 28)[0]
name_at = 192 + 40 * count
for i in range(count):
    entry = 192 + 40 * i
    unit, length = struct.unpack_from("<IH", data, entry + 16)
    name = data[name_at:name_at + length].decode()
    name_at += length
    if name == tensor:
        # A byte of the first number's mantissa, so that it stays a number.
        data[8 * unit + 1] ^= 0x10
        open(path, "wb").write(data)
        sys.exit()
sys.exit(f"{path}: no tensor {tensor}")
